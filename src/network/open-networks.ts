/** Builds the networks of this engine out of its records. Nothing of the kernel is touched before recover(). */
import { readFile, mkdir } from 'node:fs/promises';

import { formatTime, type Clock } from '../core/clock.ts';
import { NO_REMAP, rootOf, type IdMap } from '../core/id-map.ts';
import { newId } from '../core/id.ts';
import type { Logger } from '../core/log.ts';
import type { EventPublisher } from '../event/port.ts';
import type { Kernel } from '../kernel/port.ts';
import type { Store } from '../store/port.ts';
import { formatAddress, type Family } from './address.ts';
import { Attachments } from './attachments.ts';
import type { BridgeWish } from './default-bridge.ts';
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
  /** --bip, --fixed-cidr, --default-gateway and their IPv6 kin: where the default bridge lives. */
  readonly defaultBridge?: Readonly<Record<Family, BridgeWish>>;
  /** --ipv6: the default bridge has IPv6. */
  readonly ipv6?: boolean;
  /** --default-address-pool base=…,size=… */
  readonly defaultAddressPools?: readonly { readonly base: string; readonly size: number }[];
  /** Of the default bridge; other networks have their option. */
  readonly mtu?: number;
  /** --default-network-opt: by driver. */
  readonly defaultNetworkOptions?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** --host-gateway-ip: what host-gateway stands for; none: the default bridge. */
  readonly hostGateways?: readonly string[];
  /** --allow-direct-routing: published ports are reached at the container's own address too. */
  readonly directRouting?: boolean;
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
  /**
   * --iptables, --ip6tables: without its tables a family is neither masqueraded nor isolated, and published ports are
   * carried by this process.
   */
  readonly tables?: Readonly<Record<Family, boolean>>;
  /** Whose root may write to its /etc/hosts and so on. */
  readonly ids?: IdMap;
}

const NO_WISH: BridgeWish = { bip: '', fixedCidr: '', gateway: '' };
const BRIDGE_DEFAULT = 'longshore0';
/** --bridge=none */
const NO_BRIDGE = 'none';
/** What a host that cannot be asked has. Source: Documentation/networking/ip-sysctl.rst */
const EPHEMERAL_DEFAULT = { first: 32_768, last: 60_999 };

export async function openNetworks(options: NetworksOptions): Promise<Networks> {
  const { kernel, store, events, clock, logger } = options;
  const bridgeName = options.bridgeName ?? BRIDGE_DEFAULT;
  const networks = store.collection<NetworkRecord>('networks', (value) =>
    new LiveNetwork(decodeNetwork(value)).toRecord(),
  );
  const sandboxes = store.collection('network-sandboxes', decodeSandbox);
  const [ephemeral, links] = await Promise.all([
    ephemeralPorts(),
    kernel.network.links(),
    mkdir(`${options.execRoot}/netns`, { recursive: true, mode: 0o700 }),
  ]);

  const live = new Map<string, LiveNetwork>();
  for (const [id, record] of networks.load()) live.set(id, new LiveNetwork(record));
  if (bridgeName === NO_BRIDGE) for (const [id, { isDefaultBridge }] of live) if (isDefaultBridge) live.delete(id);
  for (const network of predefined(options, bridgeName)) {
    const existing = [...live.values()].find((other) => other.network.name === network.name);
    // What a user set by the daemon's options holds from the next start on; its ID and its subnet stay.
    const record: NetworkRecord =
      existing === undefined
        ? { network, ownsBridge: ownsBridge(network, existing, links) }
        : {
            network: {
              ...network,
              id: existing.network.id,
              createdAt: existing.network.createdAt,
              ipam: existing.network.ipam,
            },
            ownsBridge: ownsBridge(network, existing, links),
          };
    live.set(record.network.id, new LiveNetwork(record));
    if (JSON.stringify(existing?.toRecord()) !== JSON.stringify(record))
      networks.put(record.network.id, record, { durable: existing === undefined });
  }

  const redirected = options.tables ?? { 4: true, 6: true };
  const families = ([4, 6] as const).filter((family) => redirected[family]);
  const chain = new ForwardChain(kernel.nftables, tableName(bridgeName), logger, families);
  const firewall = new Firewall(kernel.nftables, tableName(bridgeName), chain, families, async (ports) => {
    await kernel.network.forgetUdpFlows(ports).catch((error: unknown) => {
      logger.warn({ ports, err: error }, 'UDP flows may go on to where these ports led before');
    });
  });
  const relays = options.userlandProxy ?? true;
  const publisher = new Publisher(new HostPorts(bindInHost(kernel, clock), ephemeral), firewall, logger, {
    redirected,
    relays,
  });
  const facts = new HostFacts(() => clock.nowMs());
  const files = new FileWriter(
    facts,
    () => {
      if (options.hostGateways !== undefined && options.hostGateways.length > 0) return options.hostGateways;
      const { configs } = [...live.values()].find(({ isDefaultBridge }) => isDefaultBridge)?.network.ipam ?? {
        configs: [],
      };
      return configs.map(({ gateway }) => gateway).filter((gateway) => gateway !== '');
    },
    rootOf(options.ids ?? NO_REMAP),
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
    firewall,
    resolvers,
    files,
    logger,
    resolve: (nameOrId) => resolveNetwork(live, nameOrId),
    byId: (id) => live.get(id),
    relaysIpv6: () => relays && facts.hasIpv6,
    directRouting: options.directRouting ?? false,
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
    defaultBridge: options.defaultBridge ?? { 4: NO_WISH, 6: NO_WISH },
    defaultOptions: options.defaultNetworkOptions ?? {},
    tables: redirected,
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
function predefined(options: NetworksOptions, bridgeName: string): Network[] {
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
    'com.docker.network.driver.mtu': String(options.mtu ?? MTU_DEFAULT),
  };
  const always = [make('host', 'host', {}), make('none', 'null', {})];
  return bridgeName === NO_BRIDGE
    ? always
    : [make('bridge', 'bridge', { bridgeName, options: bridgeOptions, enableIpv6: options.ipv6 ?? false }), ...always];
}

/** A bridge that was there before our first run with it is not ours: it keeps its addresses, and stays when we go. */
function ownsBridge(
  { bridgeName }: Network,
  existing: LiveNetwork | undefined,
  links: readonly { readonly name: string }[],
): boolean {
  if (bridgeName === '' || bridgeName === BRIDGE_DEFAULT) return true;
  if (existing?.network.bridgeName === bridgeName) return existing.ownsBridge;
  return !links.some(({ name }) => name === bridgeName);
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
    return protocol === 'tcp' ? await relayTcp(fd, relayTo) : await relayUdp(fd, address.family, relayTo, clock);
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
