/** Builds the networks of this engine out of its records. Nothing of the kernel is touched before recover(). */
import { readFile, mkdir } from 'node:fs/promises';

import { formatTime, type Clock } from '../core/clock.ts';
import { newId } from '../core/id.ts';
import type { Logger } from '../core/log.ts';
import type { EventPublisher } from '../event/port.ts';
import type { Kernel } from '../kernel/port.ts';
import type { Store } from '../store/port.ts';
import { formatAddress } from './address.ts';
import { Attachments } from './attachments.ts';
import { Resolvers } from './dns/resolvers.ts';
import { FileWriter } from './file-writer.ts';
import { Firewall } from './firewall.ts';
import { ForwardChain } from './forward-chain.ts';
import { HOST_NAMESPACE } from './forwarding.ts';
import { HostFacts } from './host-facts.ts';
import { HostPorts, type BindPort } from './host-ports.ts';
import { Interfaces } from './interfaces.ts';
import { LiveNetwork } from './live-network.ts';
import { MTU_DEFAULT } from './network-spec.ts';
import { EngineNetworks } from './networks.ts';
import type { Network, Networks } from './port.ts';
import { Publisher } from './publisher.ts';
import { relayTcp, relayUdp } from './relay.ts';
import { decodeNetwork, decodeSandbox, type NetworkRecord } from './records.ts';
import { publishNetworkEvent, resolveNetwork } from './resolve.ts';
import { tableName } from './ruleset.ts';
import { DEFAULT_POOLS, defaultPool, Subnets } from './subnets.ts';

export interface NetworksOptions {
  readonly execRoot: string;
  readonly kernel: Kernel;
  readonly store: Store;
  readonly events: EventPublisher;
  readonly clock: Clock;
  readonly logger: Logger;
  /**
   * The default bridge's interface; also names our nftables tables, so that several daemons can live on one host.
   * "none": there is no default bridge.
   */
  readonly bridgeName?: string;
  /** "172.30.0.1/16": the default bridge's address; "" takes the next free default pool. */
  readonly bip?: string;
  /** --fixed-cidr: where the default bridge's containers get their addresses. */
  readonly fixedCidr?: string;
  /** --default-address-pool base=…,size=… */
  readonly defaultAddressPools?: readonly { readonly base: string; readonly size: number }[];
  readonly mtu?: number;
  /** --ip: where ports without an address are published. */
  readonly hostBindingAddress?: string;
  /** --ip-forward: net.ipv4.ip_forward is set to 1 at boot. */
  readonly ipForward?: boolean;
  /** --ip-forward-no-drop: the policy of iptables' FORWARD is left as it is when forwarding is switched on. */
  readonly ipForwardNoDrop?: boolean;
  /** --icc of the default bridge. */
  readonly icc?: boolean;
  /** --ip-masq of the default bridge. */
  readonly ipMasquerade?: boolean;
  /** --userland-proxy: published ports of containers without IPv6 are carried from IPv6 by this process. */
  readonly userlandProxy?: boolean;
  /** --iptables: false leaves the host's packet filter alone. Nothing is published, masqueraded or isolated then. */
  readonly firewall?: boolean;
}

/** --bridge=none */
const NO_BRIDGE = 'none';
/** What a host that cannot be asked has. Source: Documentation/networking/ip-sysctl.rst */
const EPHEMERAL_DEFAULT = { first: 32_768, last: 60_999 };

export async function openNetworks(options: NetworksOptions): Promise<Networks> {
  const { kernel, store, events, clock, logger } = options;
  const bridgeName = options.bridgeName ?? 'longshore0';
  const mtu = options.mtu ?? MTU_DEFAULT;
  const networks = store.collection<NetworkRecord>('networks', (value) =>
    new LiveNetwork(decodeNetwork(value), mtu).toRecord(),
  );
  const sandboxes = store.collection('network-sandboxes', decodeSandbox);
  const [ephemeral] = await Promise.all([
    ephemeralPorts(),
    mkdir(`${options.execRoot}/netns`, { recursive: true, mode: 0o700 }),
  ]);

  const live = new Map<string, LiveNetwork>();
  for (const [id, record] of networks.load()) live.set(id, new LiveNetwork(record, mtu));
  if (bridgeName === NO_BRIDGE) for (const [id, { isDefaultBridge }] of live) if (isDefaultBridge) live.delete(id);
  for (const network of predefined(options, bridgeName, mtu)) {
    const existing = [...live.values()].find((other) => other.network.name === network.name);
    // What a user set by the daemon's options holds from the next start on; its ID and its subnet stay.
    const record: NetworkRecord =
      existing === undefined
        ? { network, ownsBridge: true }
        : {
            network: {
              ...network,
              id: existing.network.id,
              createdAt: existing.network.createdAt,
              ipam: existing.network.ipam,
            },
            ownsBridge: true,
          };
    live.set(record.network.id, new LiveNetwork(record, mtu));
    if (JSON.stringify(existing?.toRecord()) !== JSON.stringify(record))
      networks.put(record.network.id, record, { durable: existing === undefined });
  }

  const nftables = options.firewall === false ? { run: async () => '' } : kernel.nftables;
  const chain = new ForwardChain(nftables, tableName(bridgeName), logger);
  const firewall = new Firewall(nftables, tableName(bridgeName), chain);
  const publisher = new Publisher(new HostPorts(bindInHost(kernel, clock), ephemeral), firewall, logger);
  const facts = new HostFacts(() => clock.nowMs());
  const files = new FileWriter(
    facts,
    () => [...live.values()].find(({ isDefaultBridge }) => isDefaultBridge)?.network.ipam.configs[0]?.gateway ?? '',
  );
  const resolvers = new Resolvers({
    kernel,
    clock,
    logger,
    byId: (id) => live.get(id),
    sandbox: (containerId) => attachments.get(containerId),
  });
  const interfaces = new Interfaces({
    kernel,
    clock,
    logger,
    byId: (id) => live.get(id),
    isBridgeFiltered: () => facts.isBridgeFiltered,
  });
  const attachments: Attachments = new Attachments({
    kernel,
    execRoot: options.execRoot,
    sandboxes,
    interfaces,
    publisher,
    resolvers,
    files,
    logger,
    resolve: (nameOrId) => resolveNetwork(live, nameOrId),
    byId: (id) => live.get(id),
    relaysIpv6: () => (options.userlandProxy ?? true) && facts.hasIpv6,
    onEvent: (network, action, container) => publishNetworkEvent(events, network, action, { container }),
  });
  const pools = options.defaultAddressPools?.map(({ base, size }) => defaultPool(base, size)) ?? [];
  return new EngineNetworks({
    kernel,
    events,
    clock,
    logger,
    networks,
    sandboxes,
    live,
    subnets: new Subnets(pools.length === 0 ? DEFAULT_POOLS : pools),
    firewall,
    attachments,
    facts,
    mtu,
    bip: options.bip ?? '',
    fixedCidr: options.fixedCidr ?? '',
    forwarding: {
      kernel,
      logger,
      chain,
      enabled: options.ipForward ?? true,
      keepsOpen: options.ipForwardNoDrop ?? false,
    },
  });
}

/** bridge, host and none, as Docker shows them. */
function predefined(options: NetworksOptions, bridgeName: string, mtu: number): Network[] {
  const createdAt = formatTime(options.clock.wallNs());
  const make = (name: string, driver: string, more: Partial<Network>): Network => ({
    id: newId(),
    name,
    driver,
    createdAt,
    scope: 'local',
    internal: false,
    attachable: false,
    ingress: false,
    enableIpv4: true,
    enableIpv6: false,
    ipam: { driver: 'default', options: null, configs: [] },
    options: {},
    labels: {},
    configOnly: false,
    configFrom: '',
    bridgeName: '',
    ...more,
  });
  const bridgeOptions = {
    'com.docker.network.bridge.default_bridge': 'true',
    'com.docker.network.bridge.enable_icc': String(options.icc ?? true),
    'com.docker.network.bridge.enable_ip_masquerade': String(options.ipMasquerade ?? true),
    'com.docker.network.bridge.host_binding_ipv4': options.hostBindingAddress ?? '0.0.0.0',
    'com.docker.network.bridge.name': bridgeName,
    'com.docker.network.driver.mtu': String(mtu),
  };
  const always = [make('host', 'host', {}), make('none', 'null', {})];
  return bridgeName === NO_BRIDGE
    ? always
    : [make('bridge', 'bridge', { bridgeName, options: bridgeOptions }), ...always];
}

function bindInHost(kernel: Kernel, clock: Clock): BindPort {
  return async (protocol, { address, relayTo }, port) => {
    // The kernel port makes no SCTP sockets: such a port is checked against containers alone.
    if (protocol === 'sctp') return { close: async () => {} };
    const { fd } = await kernel.network.bindSocket({
      namespace: HOST_NAMESPACE,
      type: protocol,
      address: formatAddress(address),
      port,
    });
    if (relayTo === null) return { close: () => kernel.processes.closeDescriptor(fd) };
    return protocol === 'tcp' ? await relayTcp(fd, relayTo) : await relayUdp(fd, relayTo, clock);
  };
}

async function ephemeralPorts(): Promise<{ first: number; last: number }> {
  try {
    const [first, last] = (await readFile('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'))
      .trim()
      .split(/\s+/)
      .map(Number);
    if (first !== undefined && last !== undefined && first > 0 && last >= first && last <= 65_535)
      return { first, last };
  } catch {
    // An odd host; the kernel's own default stands.
  }
  return EPHEMERAL_DEFAULT;
}
