/**
 * Checks one endpoint of a container against its network. Pure.
 * Source: moby daemon/container_operations.go validateEndpointSettings, api/types/network/endpoint.go (v28).
 */
import type { EndpointSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import { contains, parseAddress, parseCidr, type Family } from './address.ts';
import { joinErrors } from './network-spec.ts';
import type { Network } from './port.ts';

export const ENDPOINT_DEFAULT: EndpointSpec = {
  ipv4Address: '',
  ipv6Address: '',
  linkLocalIps: null,
  links: null,
  aliases: null,
  macAddress: '',
  driverOpts: null,
  gwPriority: 0,
};

/** @throws NETWORK_SPEC_INVALID "invalid config for network x: invalid endpoint settings:\n…" */
export function checkEndpoint(network: Network, spec: EndpointSpec): void {
  const errors = endpointErrors(network, spec);
  if (errors.length === 0) return;
  throw new EngineError(
    'NETWORK_SPEC_INVALID',
    `invalid config for network ${network.name}: invalid endpoint settings:\n${joinErrors(errors)}`,
  );
}

function endpointErrors(network: Network, spec: EndpointSpec): string[] {
  const errors: string[] = [];
  const predefined = ['bridge', 'host', 'none'].includes(network.name);
  if (predefined && (spec.ipv4Address !== '' || spec.ipv6Address !== '')) {
    errors.push('user specified IP address is supported on user defined networks only');
  }
  if (predefined && (spec.aliases ?? []).length > 0) {
    errors.push('network-scoped alias is supported only for containers in user defined networks');
  }
  if (spec.macAddress !== '' && parseMac(spec.macAddress) === null)
    errors.push(`invalid MAC address: ${spec.macAddress}`);
  for (const text of spec.linkLocalIps ?? []) {
    if (text !== '' && parseAddress(text) === null) errors.push(`invalid link-local IP address: ${text}`);
  }
  if (!predefined)
    errors.push(...addressErrors(network, spec.ipv4Address, 4), ...addressErrors(network, spec.ipv6Address, 6));
  return errors;
}

function addressErrors(network: Network, text: string, family: Family): string[] {
  if (text === '') return [];
  const address = parseAddress(text);
  if (address === null || address.family !== family) return [`invalid IPv${family} address: ${text}`];
  const subnets = network.ipam.configs
    .map(({ subnet }) => parseCidr(subnet)?.subnet)
    .filter((subnet) => subnet !== undefined);
  if (subnets.some((subnet) => contains(subnet, address))) return [];
  return [`no configured subnet contains IP address ${text}`];
}

/** "02:42:ac:11:00:02", also with dashes → lower case with colons; null when it is none. */
export function parseMac(text: string): string | null {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)) return null;
  return text.toLowerCase().replaceAll('-', ':');
}
