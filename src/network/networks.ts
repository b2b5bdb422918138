/**
 * The networks of this engine: what there is, making and removing them, and the boot that makes the kernel equal to
 * the records. What containers do with them is in attachments.ts.
 * Source: moby daemon/network.go, daemon/libnetwork/controller.go (v28).
 */
import type { EndpointSpec, PortBinding } from '../core/container-spec.ts';
import { formatTime, type Clock } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';
import { newId, shortId } from '../core/id.ts';
import type { Logger } from '../core/log.ts';
import type { EventPublisher } from '../event/port.ts';
import type { Kernel } from '../kernel/port.ts';
import type { Collection } from '../store/port.ts';
import { formatSubnet, parseCidr, type Family, type Subnet } from './address.ts';
import type { Attachments } from './attachments.ts';
import { placeDefaultBridge, type Placement } from './default-bridge.ts';
import type { Firewall } from './firewall.ts';
import { ensureForwarding, HOST_NAMESPACE, type ForwardingOptions } from './forwarding.ts';
import type { HostFacts } from './host-facts.ts';
import { bridgeNameOf, LiveNetwork, localIpv6Pool, resolveIpam } from './live-network.ts';
import { checkParent, placeParent, subInterface } from './vlan-parent.ts';
import { bridgeOptions, checkSpec, enabledFamilies, idleConfigs, takesGateway, vlanOptions } from './network-spec.ts';
import { parseExposedPort, portKey } from './port-spec.ts';
import type { Attached, AttachRequest, EndpointState, Network, Networks, NetworkSpec, NetworkWish } from './port.ts';
import { fromRecord } from './publisher.ts';
import type { NetworkRecord, SandboxRecord } from './records.ts';
import { publishNetworkEvent, resolveNetwork } from './resolve.ts';
import type { Subnets } from './subnets.ts';

/** How often at most the FORWARD chain of iptables is looked at when containers start. */
const LOOK_MS = 10_000;

export interface NetworkState {
  readonly kernel: Kernel;
  readonly events: EventPublisher;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly networks: Collection<NetworkRecord>;
  readonly sandboxes: Collection<SandboxRecord>;
  readonly live: Map<string, LiveNetwork>;
  readonly subnets: Subnets;
  readonly firewall: Firewall;
  readonly attachments: Attachments;
  readonly facts: HostFacts;
  readonly defaultBridge: Placement['wishes'];
  /** --default-network-opt: by driver, options of networks that do not say otherwise. */
  readonly defaultOptions: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly forwarding: ForwardingOptions;
  /** Families that have our tables. */
  readonly tables: Readonly<Record<Family, boolean>>;
}

export class EngineNetworks implements Networks {
  readonly #state: NetworkState;
  /** Networks are made and removed one at a time. */
  #tail: Promise<unknown> = Promise.resolve();
  #lookedAtMs = -Infinity;

  constructor(state: NetworkState) {
    this.#state = state;
  }

  resolve(nameOrId: string): Network {
    return resolveNetwork(this.#state.live, nameOrId).network;
  }

  list(): readonly Network[] {
    return [...this.#state.live.values()].map(({ network }) => network);
  }

  create(asked: NetworkWish): Promise<{ readonly network: Network; readonly warning: string }> {
    return this.#queue(async () => {
      const driver = asked.driver === '' ? 'bridge' : asked.driver;
      const options = { ...this.#defaultOptions(driver, asked), ...asked.options };
      const families = enabledFamilies(asked, options);
      // What was said otherwise is no option of the network any more: it would look wrong.
      if (asked.enableIpv4 !== null) delete options['com.docker.network.enable_ipv4'];
      if (asked.enableIpv6 !== null) delete options['com.docker.network.enable_ipv6'];
      const spec: NetworkSpec = { ...asked, driver, options, ...families };
      checkSpec(spec);
      if (this.list().some(({ name }) => name === spec.name)) {
        throw new EngineError('NETWORK_NAME_TAKEN', `network with name ${spec.name} already exists`);
      }
      const effective = this.#withConfigFrom(spec);
      const id = newId();
      const { bridgeName, ownsBridge } = await this.#place(effective, id);
      const avoid = await this.#hostSubnets(new Set());
      const configs = effective.configOnly
        ? [...effective.ipam.configs]
        : resolveIpam(effective.ipam.configs, familiesOf(effective), this.#state.subnets, avoid, {
            localPool: this.#localPool(),
            takesGateway: (family) => takesGateway(effective, family),
          });
      if (effective.driver === 'bridge' && !effective.configOnly)
        this.#checkSingleSubnets(
          configs.map(({ subnet }) => subnet),
          configs,
        );
      const network: Network = {
        ...effective,
        driver: effective.configOnly ? 'null' : effective.driver,
        id,
        scope: 'local',
        createdAt: formatTime(this.#state.clock.wallNs()),
        bridgeName,
        ...idleConfigs(effective),
        ipam: { ...effective.ipam, driver: effective.ipam.driver === '' ? 'default' : effective.ipam.driver, configs },
      };
      const live = new LiveNetwork({ network, ownsBridge });
      this.#state.networks.put(id, live.toRecord(), { durable: true });
      try {
        await this.#realize(live);
        await this.#state.firewall.setNetwork(id, live.firewall());
      } catch (error) {
        await this.#dismantle(live).catch(() => {});
        this.#releaseSubnets(live);
        this.#state.networks.delete(id);
        throw error;
      }
      this.#state.live.set(id, live);
      this.#event(network, 'create', {});
      return { network, warning: '' };
    });
  }

  remove(nameOrId: string): Promise<Network> {
    return this.#queue(async () => {
      const live = resolveNetwork(this.#state.live, nameOrId);
      const { network } = live;
      if (!live.isUserDefined)
        throw new EngineError('NETWORK_PREDEFINED', `${network.name} is a pre-defined network and cannot be removed`);
      const dependants = this.list().filter(({ configFrom }) => configFrom === network.name);
      if (network.configOnly && dependants.length > 0) {
        throw new EngineError(
          'NETWORK_IN_USE',
          `error while removing network: configuration network "${network.name}" is in use`,
        );
      }
      if (live.members.size > 0) {
        const who = [...live.members.values()].map(({ containerId, endpoint }) => {
          const name = this.#state.attachments.get(containerId)?.containerName ?? containerId;
          return `name:"${name}" id:"${shortId(endpoint.state.endpointId)}"`;
        });
        throw new EngineError(
          'NETWORK_IN_USE',
          `error while removing network: network ${network.name} has active endpoints (${who.join(', ')})`,
        );
      }
      live.removing = true; // no endpoint comes from here on
      try {
        await this.#state.firewall.setNetwork(network.id, null);
        await this.#dismantle(live);
      } catch (error) {
        live.removing = false;
        throw error;
      }
      this.#releaseSubnets(live);
      this.#state.live.delete(network.id);
      this.#state.networks.delete(network.id, { durable: true });
      this.#event(network, 'destroy', {});
      return network;
    });
  }

  async attach(request: AttachRequest): Promise<Attached> {
    await this.#state.facts.refresh();
    this.#lookAtForwardChain();
    return await this.#state.attachments.attach(request);
  }

  tellConnected(containerId: string): void {
    this.#state.attachments.tellConnected(containerId);
  }

  tellDisconnected(containerId: string): void {
    this.#state.attachments.tellDisconnected(containerId);
  }

  async detach(containerId: string): Promise<void> {
    await this.#state.attachments.detach(containerId);
  }

  async connect(
    containerId: string,
    containerName: string,
    network: Network,
    endpoint: EndpointSpec,
  ): Promise<EndpointState> {
    await this.#state.facts.refresh();
    return await this.#state.attachments.connect(
      containerId,
      containerName,
      resolveNetwork(this.#state.live, network.id),
      endpoint,
    );
  }

  async disconnect(containerId: string, network: Network): Promise<void> {
    await this.#state.facts.refresh();
    await this.#state.attachments.disconnect(containerId, resolveNetwork(this.#state.live, network.id));
  }

  /** recover() knows all that run; a container that it was not told of has no network that could be known again. */
  async adopt(containerId: string): Promise<void> {
    if (this.#state.attachments.get(containerId) === undefined) {
      this.#state.logger.warn({ containerId }, 'a running container has no record of its network');
    }
  }

  endpoints(containerId: string): ReadonlyMap<string, EndpointState> {
    const sandbox = this.#state.attachments.get(containerId);
    return new Map((sandbox?.endpoints ?? []).map(({ networkName, state }) => [networkName, state]));
  }

  members(
    networkId: string,
  ): readonly { readonly containerId: string; readonly containerName: string; readonly endpoint: EndpointState }[] {
    return [...(this.#state.live.get(networkId)?.members.values() ?? [])].map(({ containerId, endpoint }) => ({
      containerId,
      containerName: this.#state.attachments.get(containerId)?.containerName ?? '',
      endpoint: endpoint.state,
    }));
  }

  ports(containerId: string): Readonly<Record<string, readonly PortBinding[]>> {
    const sandbox = this.#state.attachments.get(containerId);
    if (sandbox === undefined || sandbox.kind !== 'own') return {};
    const ports: Record<string, PortBinding[]> = {};
    for (const container of sandbox.exposedPorts.flatMap(parseExposedPort)) ports[portKey(container)] = [];
    for (const { protocol, containerPort, hostAddress, hostPort } of sandbox.mappings) {
      (ports[portKey({ protocol, port: containerPort })] ??= []).push({
        hostIp: hostAddress,
        hostPort: hostPort === 0 ? '' : String(hostPort),
      });
    }
    return ports;
  }

  renamed(containerId: string, name: string): void {
    this.#state.attachments.renamed(containerId, name);
  }

  unlink(containerId: string, alias: string): Promise<void> {
    return this.#state.attachments.unlink(containerId, alias);
  }

  async recover(live: ReadonlySet<string>): Promise<void> {
    const { attachments, firewall, sandboxes, logger } = this.#state;
    const records = [...sandboxes.load().values()];
    const bridgeId = this.#defaultBridge()?.network.id;
    await this.#placeDefaultBridge(
      records.some(
        ({ containerId, endpoints }) =>
          live.has(containerId) && endpoints.some(({ state }) => state.networkId === bridgeId),
      ),
    );
    await Promise.all(
      records
        .filter(({ containerId }) => !live.has(containerId))
        .map((sandbox) =>
          attachments
            .forget(sandbox)
            .catch((error: unknown) =>
              logger.error(
                { containerId: sandbox.containerId, err: error },
                'the network of a container that is gone could not be given back',
              ),
            ),
        ),
    );
    const alive = records.filter(({ containerId }) => live.has(containerId));
    for (const sandbox of alive) attachments.remember(sandbox);
    if (alive.length > 0) await this.#state.facts.refresh();

    await ensureForwarding(4, this.#state.forwarding);
    const networks = [...this.#state.live.values()];
    const outcomes = await Promise.allSettled(networks.map((network) => this.#realize(network)));
    for (const [index, outcome] of outcomes.entries()) {
      // One broken network must not keep the daemon from starting; containers on it fail to start and say why.
      if (outcome.status === 'rejected')
        logger.error({ network: networks[index]?.network.name, err: outcome.reason }, 'a network could not be made');
    }
    await firewall.load(
      new Map(
        networks.flatMap((network) => (network.firewall() === null ? [] : [[network.network.id, network.firewall()!]])),
      ),
      new Map(alive.map(({ containerId, mappings }) => [containerId, mappings.map(fromRecord)])),
    );
    await Promise.all(
      alive.map(({ containerId }) =>
        attachments
          .revive(containerId)
          .catch((error: unknown) =>
            logger.error({ containerId, err: error }, 'the network of a container could not be taken up again'),
          ),
      ),
    );
  }

  async shutdown({ keep }: { readonly keep: boolean }): Promise<void> {
    await this.#state.attachments.close();
    if (keep) return;
    await this.#state.firewall.remove();
    await Promise.all([...this.#state.live.values()].map((live) => this.#dismantle(live, true)));
  }

  /** Another engine that came up since, or a firewall that was reloaded, may drop what we forward. Nobody waits for it. */
  #lookAtForwardChain(): void {
    const nowMs = this.#state.clock.nowMs();
    if (nowMs - this.#lookedAtMs < LOOK_MS) return;
    this.#lookedAtMs = nowMs;
    void this.#state.forwarding.chain.sync();
  }

  /** Makes what the kernel lacks of a network. Idempotent. */
  async #realize(live: LiveNetwork): Promise<void> {
    const { kernel } = this.#state;
    const { network, bridge, vlan } = live;
    if (vlan !== null && vlan.parent === '') {
      // moby makes a "dummy" link for such a network; a bridge without ports does the same.
      await kernel.network.ensureBridge({ name: network.bridgeName, mtu: vlan.mtu, addresses: [] });
    } else if (vlan !== null && network.bridgeName !== '') {
      await kernel.network.ensureVlanLink({ name: vlan.parent, ...subInterface(vlan.parent)! });
    }
    if (bridge === null) return;
    const addresses = live.pools.flatMap(({ subnet }, index) => {
      const gateway = network.ipam.configs[index]!.gateway;
      const mode = bridge.gatewayMode[subnet.family];
      if (gateway === '' || mode === 'isolated' || (subnet.family === 4 && bridge.inhibitIpv4)) return [];
      return [{ address: gateway, prefixLength: subnet.prefixLength }];
    });
    if (addresses.some(({ address }) => address.includes(':'))) await ensureForwarding(6, this.#state.forwarding);
    const mtu = live.ownsBridge ? bridge.mtu : null;
    await kernel.network.ensureBridge({ name: network.bridgeName, mtu, addresses });
    if (network.enableIpv6) {
      // While its link-local address is tentative the bridge asks for no neighbour: a second without IPv6 at every start.
      await kernel.network.setSysctlIn(HOST_NAMESPACE, `net/ipv6/conf/${network.bridgeName}/accept_dad`, '0');
    }
    if (!this.#state.tables[4]) return;
    // Lets 127.0.0.1 reach published ports without a proxy; the table's guard chain keeps containers out of it.
    await kernel.network.setSysctlIn(HOST_NAMESPACE, `net/ipv4/conf/${network.bridgeName}/route_localnet`, '1');
  }

  /** A VLAN that was made for several networks goes with the last one, or with all of them. */
  async #dismantle(live: LiveNetwork, all = false): Promise<void> {
    const { network, ownsBridge } = live;
    if (network.bridgeName === '' || !ownsBridge) return;
    const isShared = this.list().some(({ id, bridgeName }) => id !== network.id && bridgeName === network.bridgeName);
    if (all || !isShared) await this.#state.kernel.network.removeLink(network.bridgeName);
  }

  /** While containers run on it (`isUsed`) it stays where they are. */
  async #placeDefaultBridge(isUsed: boolean): Promise<void> {
    const live = this.#defaultBridge();
    const { subnets, kernel, networks } = this.#state;
    const avoid = await this.#hostSubnets(new Set(this.list().map(({ bridgeName }) => bridgeName)));
    for (const network of this.#state.live.values()) {
      if (network !== live) for (const { subnet } of network.pools) this.#claim(network, subnet);
    }
    if (live === undefined) return;
    const { network, ownsBridge } = live;
    const configs = placeDefaultBridge({
      families: familiesOf(network),
      wishes: this.#state.defaultBridge,
      kept: network.ipam.configs,
      found: ownsBridge ? [] : await this.#addressesOf(network.bridgeName),
      isUsed,
      avoid,
      subnets,
      localPool: this.#localPool(),
    });
    // A bridge of an earlier run would keep its old address beside the new one.
    const gateways = (list: Network['ipam']['configs']): string => list.map(({ gateway }) => gateway).join();
    const moved = network.ipam.configs.length > 0 && gateways(network.ipam.configs) !== gateways(configs);
    if (moved && ownsBridge && !isUsed) await kernel.network.removeLink(network.bridgeName);
    if (JSON.stringify(configs) === JSON.stringify(network.ipam.configs)) return;
    live.setConfigs({ ...network, ipam: { ...network.ipam, configs } });
    networks.put(network.id, live.toRecord());
  }

  async #addressesOf(bridgeName: string): Promise<string[]> {
    const { network } = this.#state.kernel;
    const [links, addresses] = await Promise.all([network.links(), network.addresses()]);
    const index = links.find(({ name }) => name === bridgeName)?.index;
    return addresses
      .filter((one) => one.index === index && !one.address.startsWith('fe80:'))
      .map(({ address, prefixLength }) => `${address}/${prefixLength}`);
  }

  #claim(network: LiveNetwork, subnet: Subnet): void {
    try {
      this.#state.subnets.claim(subnet);
    } catch (error) {
      this.#state.logger.warn(
        { network: network.network.name, subnet: formatSubnet(subnet), err: error },
        'two networks overlap',
      );
    }
  }

  /** What the host uses, the interfaces in `ours` left out. */
  async #hostSubnets(ours: ReadonlySet<string>): Promise<Subnet[]> {
    const { network } = this.#state.kernel;
    const [links, addresses, routes] = await Promise.all([network.links(), network.addresses(), network.routes()]);
    const skipped = new Set(links.filter(({ name }) => ours.has(name)).map(({ index }) => index));
    const used = addresses.flatMap(({ address, prefixLength, index }) => {
      const parsed = parseCidr(`${address}/${prefixLength}`);
      return parsed === null ? [] : [{ subnet: parsed.subnet, isOurs: skipped.has(index) }];
    });
    const own = new Set(used.filter(({ isOurs }) => isOurs).map(({ subnet }) => formatSubnet(subnet)));
    const routed = routes.flatMap((route) => parseCidr(route)?.subnet ?? []);
    return [
      ...used.filter(({ isOurs }) => !isOurs).map(({ subnet }) => subnet),
      ...routed.filter((subnet) => !own.has(formatSubnet(subnet))),
    ];
  }

  #withConfigFrom(spec: NetworkSpec): NetworkSpec {
    if (spec.configFrom === '') return spec;
    const source = this.list().find(({ name, id }) => name === spec.configFrom || id === spec.configFrom);
    if (source === undefined)
      throw new EngineError('NETWORK_NOT_FOUND', `configuration network "${spec.configFrom}" not found`);
    if (!source.configOnly)
      throw new EngineError('NETWORK_PREDEFINED', `network "${spec.configFrom}" is not a configuration network`);
    return {
      ...spec,
      configFrom: source.name,
      ipam: source.ipam,
      options: source.options,
      enableIpv6: source.enableIpv6,
      labels: { ...source.labels, ...spec.labels },
    };
  }

  /** A network made after a configuration network has that one's options alone. */
  #defaultOptions(driver: string, { configFrom, configOnly }: NetworkWish): Readonly<Record<string, string>> {
    const { defaultOptions } = this.#state;
    return configFrom === '' && !configOnly && Object.hasOwn(defaultOptions, driver) ? defaultOptions[driver]! : {};
  }

  /** The host's interface that belongs to the network ("": none does), and whether we make it. */
  async #place(spec: NetworkSpec, id: string): Promise<{ readonly bridgeName: string; readonly ownsBridge: boolean }> {
    if (spec.configOnly) return { bridgeName: '', ownsBridge: true };
    const links = await this.#state.kernel.network.links();
    const exists = (wanted: string): boolean => links.some(({ name }) => name === wanted);
    if (spec.driver === 'macvlan' || spec.driver === 'ipvlan') {
      const { parent, mode } = vlanOptions(spec.driver, spec.options);
      if (parent === '') return { bridgeName: `dm-${shortId(id)}`, ownsBridge: true };
      checkParent(spec.driver, parent, mode, this.#state.live.values());
      return { bridgeName: placeParent(parent, exists, this.list()), ownsBridge: true };
    }
    const bridgeName = spec.driver === 'bridge' ? bridgeOptions(spec.options).name || bridgeNameOf(id) : '';
    const clash = this.list().find((other) => bridgeName !== '' && other.bridgeName === bridgeName);
    if (clash !== undefined) {
      throw new EngineError(
        'NETWORK_IN_USE',
        `cannot create network (${bridgeName}): conflicts with network ${clash.id} (${clash.bridgeName}): networks have same bridge name`,
      );
    }
    return { bridgeName, ownsBridge: !exists(bridgeName) };
  }

  #checkSingleSubnets(texts: readonly string[], configs: Network['ipam']['configs']): void {
    for (const family of [4, 6] as const) {
      if (texts.filter((text) => parseCidr(text)?.subnet.family === family).length <= 1) continue;
      for (const { subnet } of configs) this.#state.subnets.release(parseCidr(subnet)!.subnet);
      throw new EngineError('ADDRESS_UNAVAILABLE', "bridge driver doesn't support multiple subnets");
    }
  }

  #releaseSubnets(live: LiveNetwork): void {
    for (const { subnet } of live.pools) this.#state.subnets.release(subnet);
  }

  /** None with --bridge=none. */
  #defaultBridge(): LiveNetwork | undefined {
    return [...this.#state.live.values()].find(({ isDefaultBridge }) => isDefaultBridge);
  }

  #localPool(): Subnet {
    return localIpv6Pool(resolveNetwork(this.#state.live, 'none').network.id);
  }

  #event(network: Network, action: 'create' | 'destroy', more: Record<string, string>): void {
    publishNetworkEvent(this.#state.events, network, action, more);
  }

  #queue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => {});
    return result;
  }
}

/** Those that have addresses. */
function familiesOf(spec: Pick<NetworkSpec, 'enableIpv4' | 'enableIpv6' | 'ipam'>): Family[] {
  if (spec.ipam.driver === 'null') return [];
  return [...(spec.enableIpv4 ? ([4] as const) : []), ...(spec.enableIpv6 ? ([6] as const) : [])];
}
