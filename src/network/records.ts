/** What network/ keeps in the store, and the checks of what is read from it. */
import type { PortBinding } from '../core/container-spec.ts';
import { parseAddress, parseCidr } from './address.ts';
import type { DnsWishes, Upstream } from './container-files.ts';
import type { AttachRequest, EndpointState, Network } from './port.ts';
import type { Protocol } from './ruleset.ts';

export interface NetworkRecord {
  readonly network: Network;
  readonly ownsBridge: boolean;
}

/** One container's place on one network. Written before the kernel is touched, so that a crash leaves nothing unknown. */
export interface EndpointRecord {
  readonly networkName: string;
  /** The host's end of the pair; "" where there is none. */
  readonly hostInterface: string;
  readonly state: EndpointState;
}

/** A published port as recorded (addresses as text). */
export interface MappingRecord {
  readonly protocol: Protocol;
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly containerAddress: string;
  readonly containerPort: number;
  readonly nat: boolean;
  readonly direct?: 'everybody' | 'trusted';
}

/** The network side of one run of a container. */
export interface SandboxRecord {
  readonly containerId: string;
  readonly containerName: string;
  readonly kind: 'own' | 'host' | 'none' | 'shared';
  readonly namespacePath: string | null;
  readonly filesDir: string;
  readonly hostname: string;
  readonly domainname: string;
  readonly dns: DnsWishes;
  readonly extraHosts: readonly string[];
  readonly links: readonly { readonly containerId: string; readonly aliases: readonly string[] }[];
  readonly exposedPorts: readonly string[];
  readonly portBindings: Readonly<Record<string, readonly PortBinding[]>>;
  readonly publishAllPorts: boolean;
  /** In the order of their interfaces. */
  readonly endpoints: readonly EndpointRecord[];
  readonly mappings: readonly MappingRecord[];
  /** Where the resolver listens in the namespace; 0: there is none. */
  readonly resolverPort: number;
  readonly upstreams: readonly Upstream[];
}

export function decodeNetwork(value: unknown): NetworkRecord {
  const record = object(value);
  const network = object(record['network']);
  text(network, 'id');
  text(network, 'name');
  text(network, 'driver');
  object(network['options']);
  const { configs } = object(network['ipam']);
  if (!Array.isArray(configs)) throw new Error('ipam.configs is not a list');
  for (const config of configs) {
    if (parseCidr(text(object(config), 'subnet')) === null) throw new Error('a subnet is not in CIDR notation');
  }
  return value as NetworkRecord;
}

export function decodeSandbox(value: unknown): SandboxRecord {
  const record = object(value);
  for (const key of ['containerId', 'containerName', 'kind', 'filesDir']) text(record, key);
  for (const key of ['endpoints', 'mappings', 'upstreams', 'links']) {
    if (!Array.isArray(record[key])) throw new Error(`${key} is not a list`);
  }
  for (const value of record['mappings'] as unknown[]) {
    const mapping = object(value);
    for (const key of ['hostAddress', 'containerAddress']) {
      if (parseAddress(text(mapping, key)) === null) throw new Error(`${key} is not an address`);
    }
  }
  for (const endpoint of record['endpoints'] as unknown[]) text(object(object(endpoint)['state']), 'networkId');
  return value as SandboxRecord;
}

function object(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('not an object');
  return value as Record<string, unknown>;
}

function text(record: Record<string, unknown>, key: string): string {
  const value = record[key];
  if (typeof value !== 'string') throw new Error(`${key} is not a text`);
  return value;
}

/** Of a request to attach, before anything of it was taken. */
export function newSandbox(
  request: AttachRequest,
  kind: SandboxRecord['kind'],
  namespacePath: string | null,
): SandboxRecord {
  const given = (list: readonly string[] | null): readonly string[] | null =>
    list === null || list.length === 0 ? null : list;
  return {
    containerId: request.containerId,
    containerName: request.containerName,
    kind,
    namespacePath: kind === 'host' ? null : namespacePath,
    filesDir: request.filesDir,
    hostname: request.hostname,
    domainname: request.domainname,
    dns: { servers: given(request.dns), search: given(request.dnsSearch), options: given(request.dnsOptions) },
    extraHosts: request.extraHosts ?? [],
    links: request.links,
    exposedPorts: request.exposedPorts,
    portBindings: request.portBindings,
    publishAllPorts: request.publishAllPorts,
    endpoints: [],
    mappings: [],
    resolverPort: 0,
    upstreams: [],
  };
}
