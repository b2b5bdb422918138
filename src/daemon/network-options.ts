/** The daemon's options about networks: the table, and what it means. Source: dockerd(8), moby daemon/config (v28). */
import { isIP } from 'node:net';

import { EngineError } from '../core/engine-error.ts';
import type { NetworksOptions } from '../network/open-networks.ts';
import type { Option, Values } from './options.ts';

const group = 'Network';

export const NETWORK_OPTIONS = [
  {
    flag: 'bridge',
    short: 'b',
    kind: 'text',
    fallback: 'longshore0',
    group,
    help: 'Name of the default bridge; one that is there already is used as it is; "none" for no default network',
  },
  {
    flag: 'bip',
    kind: 'text',
    fallback: '',
    group,
    help: "The default bridge's address, 172.17.0.1/16; chosen from what is free if not given",
  },
  { flag: 'bip6', kind: 'text', fallback: '', group, help: "The default bridge's IPv6 address, fd00::1/64" },
  { flag: 'ipv6', kind: 'flag', fallback: false, group, help: 'The default bridge has IPv6' },
  {
    flag: 'fixed-cidr',
    kind: 'text',
    fallback: '',
    group,
    help: 'Part of the bridge subnet that containers get addresses from',
  },
  { flag: 'fixed-cidr-v6', kind: 'text', fallback: '', group, help: 'The same of its IPv6 subnet' },
  {
    flag: 'default-gateway',
    kind: 'text',
    fallback: '',
    group,
    help: 'Where default routes of containers on the default bridge lead, if not to the bridge',
  },
  { flag: 'default-gateway-v6', kind: 'text', fallback: '', group, help: 'The same of IPv6' },
  {
    flag: 'default-address-pool',
    kind: 'list',
    key: 'default-address-pools',
    fallback: [],
    group,
    help: 'Subnets of networks, base=10.10.0.0/16,size=24',
  },
  {
    flag: 'default-network-opt',
    kind: 'maps',
    key: 'default-network-opts',
    fallback: {},
    group,
    help: 'Option of networks of a driver that do not say otherwise, driver=name=value',
  },
  { flag: 'mtu', kind: 'number', fallback: 1500, group, help: 'MTU of the default bridge' },
  {
    flag: 'ip',
    kind: 'text',
    fallback: '0.0.0.0',
    group,
    help: 'Host address of published ports on the default bridge that name none',
  },
  { flag: 'icc', kind: 'flag', fallback: true, group, help: 'Containers on the default bridge reach each other' },
  {
    flag: 'ip-masq',
    kind: 'flag',
    fallback: true,
    group,
    help: 'Containers on the default bridge reach outside with the host address',
  },
  {
    flag: 'iptables',
    kind: 'flag',
    fallback: true,
    group,
    help: 'Packet filter rules for IPv4 (nftables); false: docs/networks.md',
  },
  { flag: 'ip6tables', kind: 'flag', fallback: true, group, help: 'Packet filter rules for IPv6' },
  {
    flag: 'firewall-backend',
    kind: 'text',
    fallback: 'nftables',
    group,
    help: 'nftables is the one there is',
  },
  {
    flag: 'allow-direct-routing',
    kind: 'flag',
    fallback: false,
    group,
    help: "Published ports can be reached at the container's own address too",
  },
  {
    flag: 'userland-proxy',
    kind: 'flag',
    fallback: true,
    group,
    help: 'Carry connections to published ports where the kernel cannot redirect them',
  },
  { flag: 'ip-forward', kind: 'flag', fallback: true, group, help: 'Switch on forwarding' },
  {
    flag: 'ip-forward-no-drop',
    kind: 'flag',
    fallback: false,
    group,
    help: "Leave the policy of iptables' FORWARD when switching on forwarding",
  },
  {
    flag: 'host-gateway-ip',
    kind: 'list',
    key: 'host-gateway-ips',
    fallback: [],
    group,
    help: 'What host-gateway stands for in --add-host, at most one of IPv4 and one of IPv6; else the default bridge',
  },
  { flag: 'dns', kind: 'list', fallback: [], group, help: 'DNS server of containers' },
  { flag: 'dns-opt', kind: 'list', key: 'dns-opts', fallback: [], group, help: 'DNS option of containers' },
  { flag: 'dns-search', kind: 'list', fallback: [], group, help: 'DNS search domain of containers' },
] as const satisfies readonly Option[];

export interface NetworkSettings {
  /** What network/ takes. */
  readonly networks: Omit<NetworksOptions, 'execRoot' | 'kernel' | 'store' | 'events' | 'clock' | 'logger'>;
  /** Containers that ask for none get these. */
  readonly dns: readonly string[];
  readonly dnsOptions: readonly string[];
  readonly dnsSearch: readonly string[];
}

const invalid = (message: string): EngineError => new EngineError('PARAMETER_INVALID', message);

/** `values` has a value of each. @throws PARAMETER_INVALID naming the flag */
export function networkSettings(values: Values): NetworkSettings {
  const v = values as Record<(typeof NETWORK_OPTIONS)[number]['flag'], never>;
  if (v['firewall-backend'] !== 'nftables' && v['firewall-backend'] !== '') {
    throw invalid(`--firewall-backend=${String(v['firewall-backend'])} is not supported: rules are nftables'`);
  }
  const gateway = (flag: 'default-gateway' | 'default-gateway-v6', family: 4 | 6): string => {
    if (v[flag] !== '' && isIP(v[flag]) !== family)
      throw invalid(`--${flag}: an IPv${family} address is needed: ${String(v[flag])}`);
    return v[flag];
  };
  return {
    networks: {
      bridgeName: v['bridge'],
      defaultBridge: {
        4: { bip: v['bip'], fixedCidr: v['fixed-cidr'], gateway: gateway('default-gateway', 4) },
        6: { bip: v['bip6'], fixedCidr: v['fixed-cidr-v6'], gateway: gateway('default-gateway-v6', 6) },
      },
      ipv6: v['ipv6'],
      defaultAddressPools: (v['default-address-pool'] as unknown[]).map(parsePool),
      defaultNetworkOptions: parseDefaults(v['default-network-opt']),
      mtu: v['mtu'],
      hostBindingAddress: ipAddress('ip', v['ip']),
      icc: v['icc'],
      ipMasquerade: v['ip-masq'],
      tables: { 4: v['iptables'], 6: v['ip6tables'] },
      directRouting: v['allow-direct-routing'],
      userlandProxy: v['userland-proxy'],
      ipForward: v['ip-forward'],
      ipForwardNoDrop: v['ip-forward-no-drop'],
      hostGateways: parseHostGateways(v['host-gateway-ip']),
    },
    dns: (v['dns'] as string[]).map((text) => ipAddress('dns', text)),
    dnsOptions: v['dns-opt'],
    dnsSearch: v['dns-search'],
  };
}

function ipAddress(flag: string, text: string): string {
  if (isIP(text) === 0) throw invalid(`--${flag}: ${text} is not an ip address`);
  return text;
}

function parseHostGateways(list: readonly string[]): string[] {
  const addresses = list.map((text) => ipAddress('host-gateway-ip', text));
  for (const family of [4, 6]) {
    if (addresses.filter((address) => isIP(address) === family).length > 1)
      throw invalid(`only one IPv${family} host gateway IP address can be specified`);
  }
  return addresses;
}

function parseDefaults(drivers: Readonly<Record<string, unknown>>): Record<string, Record<string, string>> {
  return Object.fromEntries(
    Object.entries(drivers).map(([driver, options]) => {
      if (typeof options !== 'object' || options === null)
        throw invalid(`default-network-opts: ${driver}: an object of options is needed`);
      return [driver, Object.fromEntries(Object.entries(options).map(([name, value]) => [name, String(value)]))];
    }),
  );
}

function parsePool(pool: unknown): { base: string; size: number } {
  const fields =
    typeof pool === 'string'
      ? Object.fromEntries(pool.split(',').map((part) => part.split('=', 2)))
      : (pool as Record<string, unknown>);
  const { base, size } = fields as { base?: unknown; size?: unknown };
  if (typeof base !== 'string' || !/^[\da-f.:]+\/\d+$/i.test(base) || !/^\d+$/.test(String(size))) {
    throw invalid(`invalid default-address-pool ${JSON.stringify(pool)}: base=10.10.0.0/16,size=24 is needed`);
  }
  return { base, size: Number(size) };
}
