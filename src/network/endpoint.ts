/**
 * A container's place on a network, decided in memory: addresses, names, and which of several leads out.
 * Source: moby daemon/libnetwork/endpoint.go, sandbox.go (v28).
 */
import { randomBytes } from 'node:crypto';

import type { EndpointSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import { newId, shortId } from '../core/id.ts';
import { formatAddress, type Address, type Family } from './address.ts';
import { checkEndpoint, parseMac } from './endpoint-spec.ts';
import type { LiveNetwork } from './live-network.ts';
import type { EndpointState } from './port.ts';
import type { EndpointRecord, SandboxRecord } from './records.ts';

/** Takes addresses; touches memory only. */
export function allocateEndpoint(sandbox: SandboxRecord, network: LiveNetwork, spec: EndpointSpec): EndpointRecord {
  const { name, id, driver, configOnly, internal } = network.network;
  if (network.removing) throw new EngineError('NETWORK_NOT_FOUND', `network ${name} not found`);
  if (configOnly)
    throw new EngineError('NETWORK_PREDEFINED', `configuration network "${name}" cannot be used to attach containers`);
  checkEndpoint(network.network, spec);
  const v4 = network.allocate(4, spec.ipv4Address);
  let v6: ReturnType<LiveNetwork['allocate']> = null;
  try {
    v6 = network.allocate(6, spec.ipv6Address);
  } catch (error) {
    if (v4 !== null) network.release(formatAddress(v4.address));
    throw error;
  }
  const hasLink = driver === 'bridge' || network.vlan !== null;
  const hasGateway =
    hasLink && !internal && network.vlan?.mode !== 'l3' && network.vlan?.mode !== 'l3s' && driver !== 'null';
  const prefix = network.bridge?.interfacePrefix ?? 'eth';
  const state: EndpointState = {
    networkId: id,
    endpointId: newId(),
    spec,
    gateway: hasGateway && v4 !== null && network.bridge?.inhibitIpv4 !== true ? v4.gateway : '',
    ipv4Address: v4 === null ? '' : formatAddress(v4.address),
    ipv4PrefixLength: v4?.prefixLength ?? 0,
    ipv6Gateway: hasGateway && v6 !== null ? v6.gateway : '',
    ipv6Address: v6 === null ? '' : formatAddress(v6.address),
    ipv6PrefixLength: v6?.prefixLength ?? 0,
    macAddress: hasLink ? (parseMac(spec.macAddress) ?? macOf(v4?.address ?? null)) : '',
    dnsNames: namesOf(sandbox, network, spec),
    interfaceName: hasLink
      ? spec.driverOpts?.['com.docker.network.endpoint.ifname'] || freeInterface(sandbox, prefix)
      : '',
  };
  // 15 characters at most; random, because the name of a pair that is going away may live a little longer.
  const hostInterface = driver === 'bridge' ? `veth${randomBytes(4).toString('hex').slice(0, 7)}` : '';
  return { networkName: name, hostInterface, state };
}

export type NetworkById = (id: string) => LiveNetwork | undefined;

/** The endpoint that leads out and publishes the ports: the one of the IPv4 default route, else of the IPv6 one. */
export function gatewayOf(sandbox: SandboxRecord, byId: NetworkById): EndpointRecord | null {
  return gatewayFor(4, sandbox, byId) ?? gatewayFor(6, sandbox, byId);
}

/** Default routes through one endpoint (each family has its own best), or through all of them. */
export function defaultGateways(sandbox: SandboxRecord, byId: NetworkById, through?: EndpointRecord): string[] {
  return ([4, 6] as const).flatMap((family) => {
    const endpoint = gatewayFor(family, sandbox, byId);
    if (endpoint === null || (through !== undefined && endpoint.state.endpointId !== through.state.endpointId))
      return [];
    const gateway = family === 4 ? endpoint.state.gateway : endpoint.state.ipv6Gateway;
    return gateway === '' ? [] : [gateway];
  });
}

/** Highest priority, then the first by name (as Docker's). */
function gatewayFor(family: Family, sandbox: SandboxRecord, byId: NetworkById): EndpointRecord | null {
  const candidates = sandbox.endpoints.filter(({ state }) => {
    const network = byId(state.networkId);
    if (network === undefined || network.network.internal) return false;
    const [gateway, address] =
      family === 4 ? [state.gateway, state.ipv4Address] : [state.ipv6Gateway, state.ipv6Address];
    // Beyond layer 2 the device itself leads out.
    const leadsOut = network.vlan !== null && network.vlan.parent !== '' && /^l3s?$/.test(network.vlan.mode);
    return gateway !== '' || (leadsOut && address !== '');
  });
  candidates.sort(
    (a, b) => b.state.spec.gwPriority - a.state.spec.gwPriority || (a.networkName < b.networkName ? -1 : 1),
  );
  return candidates[0] ?? null;
}

export function addressesOf(state: EndpointState): { address: string; prefixLength: number }[] {
  const addresses = [
    { address: state.ipv4Address, prefixLength: state.ipv4PrefixLength },
    { address: state.ipv6Address, prefixLength: state.ipv6PrefixLength },
    ...(state.spec.linkLocalIps ?? []).map((address) => ({ address, prefixLength: address.includes(':') ? 64 : 16 })),
  ];
  return addresses.filter(({ address }) => address !== '');
}

/**
 * From the IPv4 address, as Docker did before v28: a container that gets the address of one that is gone is then
 * reached at once, without waiting for the neighbours' caches. Random where there is no IPv4.
 */
function macOf(address: Address | null): string {
  if (address === null)
    return Buffer.concat([Buffer.of(0x02), randomBytes(5)])
      .toString('hex')
      .replace(/(..)(?=.)/g, '$1:');
  return `02:42:${address.value
    .toString(16)
    .padStart(8, '0')
    .replace(/(..)(?=.)/g, '$1:')}`;
}

/** Name, aliases, short ID, host name: what other containers can look up. null where there is no resolver. */
export function namesOf(
  sandbox: Pick<SandboxRecord, 'containerId' | 'containerName' | 'hostname'>,
  network: LiveNetwork | undefined,
  spec: EndpointSpec,
): readonly string[] | null {
  if (network?.isUserDefined !== true) return null;
  const names = [sandbox.containerName, ...(spec.aliases ?? []), shortId(sandbox.containerId), sandbox.hostname];
  return [...new Set(names.filter((name) => name !== ''))];
}

function freeInterface(sandbox: SandboxRecord, prefix: string): string {
  const taken = new Set(sandbox.endpoints.map(({ state }) => state.interfaceName));
  for (let number = 0; ; number++) if (!taken.has(`${prefix}${number}`)) return `${prefix}${number}`;
}
