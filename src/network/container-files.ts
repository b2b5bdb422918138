/**
 * The text of a container's resolv.conf, hosts and hostname files. Pure.
 * Source: moby daemon/libnetwork/internal/resolvconf and etchosts (v28).
 */
import { EngineError } from '../core/engine-error.ts';
import { isLoopback, parseAddress } from './address.ts';

export const INTERNAL_RESOLVER = '127.0.0.11';
const FALLBACK_SERVERS = ['8.8.8.8', '8.8.4.4'];
const FALLBACK_SERVERS_V6 = ['2001:4860:4860::8888', '2001:4860:4860::8844'];

export interface ResolvConf {
  readonly servers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
  /** Lines with other keywords. */
  readonly other: readonly string[];
}

/** What the container (or else the daemon) was told; null: nothing. */
export interface DnsWishes {
  readonly servers: readonly string[] | null;
  readonly search: readonly string[] | null;
  readonly options: readonly string[] | null;
}

/** A server for the internal resolver. */
export interface Upstream {
  readonly address: string;
  /** Asked from the host's namespace: its address means something there only. */
  readonly fromHost: boolean;
}

export function parseResolvConf(text: string): ResolvConf {
  const servers: string[] = [];
  const options: string[] = [];
  const other: string[] = [];
  let search: string[] = [];
  for (const line of text.split('\n')) {
    const fields = line.trim().split(/\s+/);
    const keyword = fields[0]!;
    if (keyword === '' || keyword.startsWith('#') || keyword.startsWith(';')) continue;
    const rest = fields.slice(1);
    if (keyword === 'nameserver') {
      const server = rest[0] ?? '';
      if (parseAddress(server.replace(/%.*$/, '')) !== null) servers.push(server);
    } else if (keyword === 'search' || keyword === 'domain') {
      if (rest.length > 0) search = rest;
    } else if (keyword === 'options') options.push(...rest);
    else other.push(line);
  }
  return { servers, search, options, other };
}

/** For networks without a resolver of ours: the host's file without what works on the host only. */
export function legacyResolvConf(host: ResolvConf, wishes: DnsWishes, ipv6: boolean): string {
  const merged = merge(host, wishes);
  let usedDefault = false;
  let servers = merged.servers;
  if (wishes.servers === null) {
    servers = servers.filter((server) => worksInContainer(server, ipv6));
    if (servers.length === 0) {
      usedDefault = true;
      servers = ipv6 ? [...FALLBACK_SERVERS, ...FALLBACK_SERVERS_V6] : FALLBACK_SERVERS;
    }
  }
  return format({ ...merged, servers }, wishes, { transform: 'legacy', usedDefault, upstreams: [] });
}

export function hostResolvConf(host: ResolvConf, wishes: DnsWishes): string {
  return format(merge(host, wishes), wishes, { transform: '', usedDefault: false, upstreams: [] });
}

/** For networks with our resolver at 127.0.0.11, and whom that one asks. */
export function internalResolvConf(
  host: ResolvConf,
  wishes: DnsWishes,
  ipv6: boolean,
): { readonly text: string; readonly upstreams: readonly Upstream[] } {
  const merged = merge(host, wishes);
  let upstreams: Upstream[] = merged.servers.map((address) => ({
    address,
    fromHost: wishes.servers === null && !worksInContainer(address, ipv6),
  }));
  const usedDefault = upstreams.length === 0;
  if (usedDefault) upstreams = FALLBACK_SERVERS.map((address) => ({ address, fromHost: false }));
  const valid = merged.options.filter((option) => !option.startsWith('ndots') || /^ndots:\d+$/.test(option));
  const options = valid.some((option) => option.startsWith('ndots:')) ? valid : [...valid, 'ndots:0'];
  const text = format({ ...merged, servers: [INTERNAL_RESOLVER], options }, wishes, {
    transform: 'internal resolver',
    usedDefault,
    upstreams,
  });
  return { text, upstreams };
}

/** `extra`: "name:address", with host-gateway resolved. `own`: the container's addresses and the names it has there. */
export function hostsFile(extra: readonly HostsLine[], own: readonly HostsLine[]): string {
  const fixed = [
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::\tip6-localnet',
    'ff00::\tip6-mcastprefix',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
  ];
  return `${[...fixed, ...[...extra, ...own].map(({ address, names }) => `${address}\t${names}`)].join('\n')}\n`;
}

export interface HostsLine {
  readonly address: string;
  readonly names: string;
}

/**
 * "name:address" (or "name=address") → its lines; "host-gateway" stands for the host, by one address of each family.
 * @throws HOST_UNSUPPORTED where the host has none for containers
 */
export function extraHost(text: string, hostGateways: readonly string[]): HostsLine[] {
  const cut = text.search(/[:=]/);
  const names = text.slice(0, cut);
  const address = text.slice(cut + 1).replace(/^\[(.*)\]$/, '$1');
  if (address !== 'host-gateway') return [{ names, address }];
  if (hostGateways.length === 0)
    throw new EngineError('HOST_UNSUPPORTED', 'unable to derive the IP value for host-gateway');
  return hostGateways.map((gateway) => ({ names, address: gateway }));
}

function worksInContainer(server: string, ipv6: boolean): boolean {
  const address = parseAddress(server);
  return address !== null && !isLoopback(address) && (address.family === 4 || ipv6);
}

function merge(host: ResolvConf, wishes: DnsWishes): ResolvConf {
  return {
    servers: wishes.servers ?? host.servers,
    search: wishes.search?.filter((domain) => domain !== '.') ?? host.search,
    options: wishes.options ?? host.options,
    other: host.other,
  };
}

function format(
  conf: ResolvConf,
  wishes: DnsWishes,
  origin: { readonly transform: string; readonly usedDefault: boolean; readonly upstreams: readonly Upstream[] },
): string {
  const lines = [
    '# Generated by Longshore.',
    '# This file can be edited; it will not be changed again once it was.',
    '',
    ...conf.servers.map((server) => `nameserver ${server}`),
  ];
  if (conf.search.length > 0) lines.push(`search ${conf.search.join(' ')}`);
  if (conf.options.length > 0) lines.push(`options ${conf.options.join(' ')}`);
  lines.push(
    ...conf.other,
    '',
    `# Based on host file: '/etc/resolv.conf'${origin.transform === '' ? '' : ` (${origin.transform})`}`,
  );
  if (origin.usedDefault) lines.push('# Used default nameservers.');
  if (origin.upstreams.length > 0) {
    lines.push(
      `# ExtServers: [${origin.upstreams.map(({ address, fromHost }) => (fromHost ? `host(${address})` : address)).join(' ')}]`,
    );
  }
  const overrides = [
    wishes.servers === null ? [] : ['nameservers'],
    wishes.search === null ? [] : ['search'],
    wishes.options === null ? [] : ['options'],
  ].flat();
  lines.push(`# Overrides: [${overrides.join(' ')}]`);
  return `${lines.join('\n')}\n`;
}
