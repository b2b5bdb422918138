/**
 * Checks one endpoint of a container against its network. Pure.
 * Source: moby daemon/container_operations.go validateEndpointSettings, api/types/network/endpoint.go (v28).
 */
import type { EndpointSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import { contains, isUnspecified, parseAddress, parseCidr, type Family } from './address.ts';
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
  if (spec.macAddress !== '' && parseMac(spec.macAddress) === null) {
    throw new EngineError(
      'NETWORK_SPEC_INVALID',
      `invalid config for network ${network.name}: invalid MAC address ${spec.macAddress}`,
    );
  }
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
  for (const [text, family] of [
    [spec.ipv4Address, 4],
    [spec.ipv6Address, 6],
  ] as const) {
    const address = parseAddress(text);
    if (text !== '' && (address === null || address.family !== family || isUnspecified(address)))
      errors.push(`invalid IPv${family} address: ${text}`);
  }
  for (const text of spec.linkLocalIps ?? []) {
    const address = parseAddress(text);
    if (text !== '' && (address === null || isUnspecified(address)))
      errors.push(`invalid link-local IP address: ${text}`);
  }
  errors.push(...rangeErrors(network, spec.ipv4Address, 4), ...rangeErrors(network, spec.ipv6Address, 6));
  for (const sysctl of sysctlsOf(spec)) {
    const [, family, , name, rest] = sysctl.split('.');
    if (rest !== undefined && /^(ipv4|ipv6|mpls)$/.test(family!) && /^(IFNAME|ifname)$/.test(name!)) continue;
    errors.push(
      `unrecognised network interface sysctl '${sysctl}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'`,
    );
  }
  return errors;
}

function rangeErrors(network: Network, text: string, family: Family): string[] {
  const address = parseAddress(text);
  if (address === null || address.family !== family) return [];
  const given = [...network.ipam.configs, ...(network.idleConfigs ?? [])]
    .filter(({ chosen }) => chosen !== true)
    .map(({ subnet }) => parseCidr(subnet)?.subnet);
  const subnets = given.filter((subnet) => subnet?.family === family);
  if (subnets.length === 0)
    return ['user specified IP address is supported only when connecting to networks with user configured subnets'];
  if (subnets.some((subnet) => contains(subnet!, address))) return [];
  return [`no configured subnet or ip-range contain the IP address ${text}`];
}

/** "net.X.Y.IFNAME.Z=V", for the interface of the endpoint; clients may write IFNAME in lower case. */
export function sysctlsOf({ driverOpts }: EndpointSpec): string[] {
  return driverOpts?.['com.docker.network.endpoint.sysctls']?.split(',') ?? [];
}

/** "02:42:ac:11:00:02", also with dashes → lower case with colons; null when it is none. */
export function parseMac(text: string): string | null {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)) return null;
  return text.toLowerCase().replaceAll('-', ':');
}
