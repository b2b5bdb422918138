/**
 * Containers on networks: one sandbox per running container, with its namespace, interfaces, ports, files and names.
 * The record is written before the kernel is touched and deleted after; what undoes a failed start is detach() itself.
 * Source: moby daemon/container_operations.go, daemon/libnetwork/sandbox_linux.go, endpoint.go (v28).
 */
import { access } from 'node:fs/promises';

import type { EndpointSpec } from '../core/container-spec.ts';
import { EngineError, messageOf } from '../core/engine-error.ts';
import { shortId } from '../core/id.ts';
import type { Logger } from '../core/log.ts';
import type { Kernel } from '../kernel/port.ts';
import type { Collection } from '../store/port.ts';
import { parseAddress } from './address.ts';
import { allocateEndpoint, defaultGateways, gatewayOf, namesOf } from './endpoint.ts';
import { ENDPOINT_DEFAULT } from './endpoint-spec.ts';
import type { FilePlan, FileWriter } from './file-writer.ts';
import type { Interfaces } from './interfaces.ts';
import { LegacyLinks, type LegacyLinksOptions } from './legacy-links.ts';
import type { LiveNetwork } from './live-network.ts';
import type { Attached, AttachRequest, EndpointState, Network } from './port.ts';
import type { Publisher } from './publisher.ts';
import { newSandbox, type EndpointRecord, type SandboxRecord } from './records.ts';
import type { Resolvers } from './dns/resolvers.ts';

export interface AttachmentOptions extends LegacyLinksOptions {
  readonly kernel: Kernel;
  readonly execRoot: string;
  readonly sandboxes: Collection<SandboxRecord>;
  readonly interfaces: Interfaces;
  readonly publisher: Publisher;
  readonly resolvers: Resolvers;
  readonly files: FileWriter;
  readonly logger: Logger;
  readonly resolve: (nameOrId: string) => LiveNetwork;
  /** See PublishTarget. */
  readonly relaysIpv6: () => boolean;
  /** --allow-direct-routing */
  readonly directRouting: boolean;
  readonly onEvent: (network: Network, action: 'connect' | 'disconnect', containerId: string) => void;
}

export class Attachments {
  readonly #options: AttachmentOptions;
  readonly #live = new Map<string, SandboxRecord>();
  /** Containers whose `connect` events are out and whose `disconnect` events are not. */
  readonly #told = new Set<string>();
  /** Last change per container: connect and disconnect wait for each other. */
  readonly #tails = new Map<string, Promise<unknown>>();
  readonly #links: LegacyLinks;

  constructor(options: AttachmentOptions) {
    this.#options = options;
    this.#links = new LegacyLinks(options, this.#live);
  }

  get(containerId: string): SandboxRecord | undefined {
    return this.#live.get(containerId);
  }

  attach(request: AttachRequest): Promise<Attached> {
    return this.#queue(request.containerId, async () => {
      if (this.#live.has(request.containerId)) await this.#detach(request.containerId);
      try {
        return await this.#attach(request);
      } catch (error) {
        await this.#undo(request.containerId);
        throw wrap('failed to set up container networking', error);
      }
    });
  }

  detach(containerId: string): Promise<void> {
    return this.#queue(containerId, () => this.#detach(containerId));
  }

  tellConnected(containerId: string): void {
    if (this.#told.has(containerId)) return;
    this.#told.add(containerId);
    this.#tell(containerId, 'connect');
  }

  tellDisconnected(containerId: string): void {
    if (this.#told.delete(containerId)) this.#tell(containerId, 'disconnect');
  }

  connect(
    containerId: string,
    containerName: string,
    network: LiveNetwork,
    spec: EndpointSpec,
  ): Promise<EndpointState> {
    return this.#queue(containerId, async () => {
      const sandbox = this.#needOwn(containerId);
      if (sandbox.endpoints.some(({ state }) => state.networkId === network.network.id)) {
        throw new EngineError(
          'ENDPOINT_CONFLICT',
          `endpoint with name ${containerName} already exists in network ${network.network.name}`,
        );
      }
      const endpoint = allocateEndpoint(sandbox, network, spec);
      const changed = this.#save({ ...sandbox, endpoints: [...sandbox.endpoints, endpoint] });
      try {
        await this.#options.interfaces.plug(changed, endpoint, network, []);
        network.join({ containerId, endpoint });
        await this.#settle(changed, sandbox);
      } catch (error) {
        await this.#unplug(this.#live.get(containerId) ?? changed, endpoint).catch((cleanup: unknown) => {
          this.#options.logger.error(
            { containerId, err: cleanup },
            'an endpoint of a failed connect could not be given back',
          );
        });
        throw error;
      }
      this.#options.onEvent(network.network, 'connect', containerId);
      return endpoint.state;
    });
  }

  disconnect(containerId: string, network: LiveNetwork): Promise<void> {
    return this.#queue(containerId, async () => {
      const sandbox = this.#live.get(containerId);
      const endpoint = sandbox?.endpoints.find(({ state }) => state.networkId === network.network.id);
      if (sandbox === undefined || endpoint === undefined) {
        throw new EngineError(
          'ENDPOINT_CONFLICT',
          `container ${containerId} is not connected to network ${network.network.name}`,
        );
      }
      this.#needOwn(containerId);
      await this.#unplug(sandbox, endpoint);
      this.#options.onEvent(network.network, 'disconnect', containerId);
    });
  }

  /** Boot, before anything runs: claims what the records of live containers say. */
  remember(sandbox: SandboxRecord): void {
    this.#live.set(sandbox.containerId, sandbox);
    this.#told.add(sandbox.containerId);
    for (const endpoint of sandbox.endpoints) {
      const network = this.#options.byId(endpoint.state.networkId);
      if (network === undefined) continue;
      for (const address of [endpoint.state.ipv4Address, endpoint.state.ipv6Address]) {
        try {
          network.adopt(address);
        } catch (error) {
          this.#options.logger.warn(
            { containerId: sandbox.containerId, address, err: error },
            'an address is recorded twice',
          );
        }
      }
      network.join({ containerId: sandbox.containerId, endpoint });
    }
  }

  /** Boot, when the rules are loaded: sockets that went with the daemon before us. */
  async revive(containerId: string): Promise<void> {
    const sandbox = this.#live.get(containerId);
    if (sandbox === undefined) return;
    const { files } = this.#options;
    files.assume(sandbox.filesDir, this.#filesOf(sandbox));
    await this.#options.publisher.adopt(containerId, sandbox.mappings);
    await this.#links.open(sandbox);
    if (sandbox.resolverPort === 0 || sandbox.namespacePath === null) return;
    // After a reboot of the host the record is all that is left; who finds the container dead gives it back.
    if (!(await exists(sandbox.namespacePath))) return;
    const resolverPort = await this.#options.resolvers.start(sandbox, sandbox.resolverPort);
    if (resolverPort !== sandbox.resolverPort) this.#save({ ...sandbox, resolverPort });
  }

  /** What a container that is gone left behind. */
  async forget(sandbox: SandboxRecord): Promise<void> {
    this.#live.set(sandbox.containerId, sandbox);
    await this.#queue(sandbox.containerId, () => this.#release(sandbox));
  }

  /** The daemon ends: what it holds open is closed, what containers use in the kernel stays. */
  async close(): Promise<void> {
    const { interfaces, publisher, resolvers } = this.#options;
    await Promise.all([publisher.close(), resolvers.close(), interfaces.close()]);
  }

  renamed(containerId: string, name: string): void {
    const sandbox = this.#live.get(containerId);
    if (sandbox === undefined) return;
    const endpoints = sandbox.endpoints.map((endpoint) => {
      const network = this.#options.byId(endpoint.state.networkId);
      const changed = {
        ...endpoint,
        state: {
          ...endpoint.state,
          dnsNames: namesOf({ ...sandbox, containerName: name }, network, endpoint.state.spec),
        },
      };
      network?.leave(containerId);
      network?.join({ containerId, endpoint: changed });
      return changed;
    });
    this.#save({ ...sandbox, containerName: name, endpoints });
  }

  unlink(containerId: string, alias: string): Promise<void> {
    return this.#queue(containerId, async () => {
      const sandbox = this.#live.get(containerId);
      if (sandbox === undefined) return;
      const links = sandbox.links.filter(({ aliases: [first] }) => first !== alias);
      if (links.length === sandbox.links.length) return;
      const changed = this.#save({ ...sandbox, links });
      await Promise.all([
        this.#options.files.rewrite(sandbox.filesDir, this.#filesOf(changed)),
        this.#links.open(changed),
      ]);
    });
  }

  async #attach(request: AttachRequest): Promise<Attached> {
    const { byId, files } = this.#options;
    const kind = kindOf(request.mode);
    const shared = kind === 'shared' ? this.#live.get(request.mode.slice('container:'.length)) : undefined;
    if (kind === 'shared') return this.#attachShared(request, shared);

    let sandbox = this.#save(newSandbox(request, kind, `${this.#options.execRoot}/netns/${request.containerId}`));
    for (const { network, spec } of this.#wishes(request)) {
      const endpoint = allocateEndpoint(sandbox, network, spec);
      sandbox = this.#remember({ ...sandbox, endpoints: [...sandbox.endpoints, endpoint] });
      network.join({ containerId: request.containerId, endpoint });
    }
    this.#save(sandbox);

    const gateway = gatewayOf(sandbox, byId);
    const plan = this.#filesOf(sandbox);
    const written = files.write(sandbox.filesDir, plan);
    const published = this.#publish(sandbox, gateway);
    const plugged = this.#options.interfaces.plugAll(sandbox, request);
    // All must have ended before anything is undone.
    const outcomes = await Promise.allSettled([written, published, plugged]);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    sandbox = { ...sandbox, mappings: await published, upstreams: plan.upstreams };
    this.#remember(sandbox);
    if (this.#needsResolver(sandbox))
      sandbox = { ...sandbox, resolverPort: await this.#options.resolvers.start(sandbox, 0) };
    this.#save(sandbox);
    await this.#tellLinked(sandbox);
    return this.#attached(sandbox, sandbox.filesDir);
  }

  #attachShared(request: AttachRequest, other: SandboxRecord | undefined): Attached {
    const otherId = request.mode.slice('container:'.length);
    if (other === undefined) {
      throw new EngineError('CONTAINER_NOT_RUNNING', `cannot join network of a non running container: ${otherId}`);
    }
    const sandbox = this.#save({
      ...newSandbox(request, 'shared', other.namespacePath),
      filesDir: other.filesDir,
      endpoints: [],
    });
    return this.#attached(sandbox, other.filesDir);
  }

  #attached(sandbox: SandboxRecord, filesDir: string): Attached {
    return {
      namespacePath: sandbox.namespacePath,
      endpoints: new Map(sandbox.endpoints.map(({ networkName, state }) => [networkName, state])),
      resolvConfPath: `${filesDir}/resolv.conf`,
      hostsPath: `${filesDir}/hosts`,
      hostnamePath: `${filesDir}/hostname`,
    };
  }

  /** The network of the mode first, then the others by name. */
  #wishes(request: AttachRequest): { network: LiveNetwork; spec: EndpointSpec }[] {
    const first = this.#options.resolve(request.mode === 'default' || request.mode === '' ? 'bridge' : request.mode);
    const wishes = new Map<string, { network: LiveNetwork; spec: EndpointSpec }>([
      [first.network.id, { network: first, spec: ENDPOINT_DEFAULT }],
    ]);
    const others: { network: LiveNetwork; spec: EndpointSpec }[] = [];
    for (const [key, spec] of Object.entries(request.endpoints)) {
      const network = this.#options.resolve(key === 'default' ? 'bridge' : key);
      if (network.network.id === first.network.id) wishes.set(first.network.id, { network, spec });
      else others.push({ network, spec });
    }
    others.sort((a, b) => (a.network.network.name < b.network.network.name ? -1 : 1));
    for (const wish of others) wishes.set(wish.network.network.id, wish);
    if (wishes.size > 1) for (const { network } of wishes.values()) checkCombination(network);
    return [...wishes.values()];
  }

  /** The network that the default route goes through publishes the ports. */
  async #publish(sandbox: SandboxRecord, gateway: EndpointRecord | null): Promise<SandboxRecord['mappings']> {
    const network = gateway === null ? undefined : this.#options.byId(gateway.state.networkId);
    if (gateway === null || network === undefined || network.bridge === null || network.network.internal) return [];
    const addresses = [gateway.state.ipv4Address, gateway.state.ipv6Address]
      .map(parseAddress)
      .filter((address) => address !== null);
    try {
      return await this.#options.publisher.publish(sandbox, {
        addresses,
        hostBinding: network.bridge.hostBinding,
        gatewayMode: network.bridge.gatewayMode,
        relayIpv6: this.#options.relaysIpv6(),
        direct: this.#options.directRouting ? 'everybody' : network.bridge.trusted.length > 0 ? 'trusted' : undefined,
      });
    } catch (error) {
      throw wrap(
        `driver failed programming external connectivity on endpoint ${sandbox.containerName} (${gateway.state.endpointId})`,
        error,
      );
    }
  }

  /** After endpoints of a live container changed: default route, ports, names and files follow. */
  async #settle(sandbox: SandboxRecord, before: SandboxRecord): Promise<void> {
    const { byId, publisher, resolvers, files, kernel } = this.#options;
    let changed = sandbox;
    const gateway = gatewayOf(sandbox, byId);
    const routes = defaultGateways(sandbox, byId);
    if (sandbox.namespacePath !== null && routes.join() !== defaultGateways(before, byId).join()) {
      await kernel.network.setDefaultRoutes(sandbox.namespacePath, routes);
    }
    if (gateway?.state.endpointId !== gatewayOf(before, byId)?.state.endpointId) {
      await publisher.withdraw(sandbox.containerId);
      changed = this.#save({ ...changed, mappings: [] });
      changed = this.#save({ ...changed, mappings: await this.#publish(changed, gateway) });
    }
    const plan = this.#filesOf(changed);
    await files.rewrite(changed.filesDir, plan);
    changed = { ...changed, upstreams: plan.upstreams };
    if (this.#needsResolver(changed) && changed.resolverPort === 0)
      changed = { ...changed, resolverPort: await resolvers.start(changed, 0) };
    await this.#tellLinked(this.#save(changed));
  }

  async #unplug(sandbox: SandboxRecord, endpoint: EndpointRecord): Promise<void> {
    const rest = {
      ...sandbox,
      endpoints: sandbox.endpoints.filter(({ state }) => state.endpointId !== endpoint.state.endpointId),
    };
    await this.#options.interfaces.unplug(sandbox, endpoint);
    this.#save(rest);
    this.#leave(sandbox.containerId, endpoint);
    await this.#settle(rest, sandbox);
  }

  async #detach(containerId: string): Promise<void> {
    const sandbox = this.#live.get(containerId);
    if (sandbox === undefined) return;
    this.tellDisconnected(containerId);
    await this.#release(sandbox);
  }

  #tell(containerId: string, action: 'connect' | 'disconnect'): void {
    for (const { state } of this.#live.get(containerId)?.endpoints ?? []) {
      const network = this.#options.byId(state.networkId);
      if (network !== undefined) this.#options.onEvent(network.network, action, containerId);
    }
  }

  /** Gives everything back. Each step is tried whatever the others say; the record goes last. */
  async #release(sandbox: SandboxRecord): Promise<void> {
    const { containerId, namespacePath } = sandbox;
    const { files, interfaces, publisher, resolvers, sandboxes } = this.#options;
    const isShared = [...this.#live.values()].some(
      (other) => other.kind === 'shared' && other.namespacePath === namespacePath,
    );
    const outcomes = await Promise.allSettled([
      publisher.withdraw(containerId),
      this.#links.close(sandbox),
      resolvers.stop(containerId),
      interfaces.letGo(sandbox, isShared),
    ]);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    for (const endpoint of sandbox.endpoints) this.#leave(containerId, endpoint);
    this.#live.delete(containerId);
    this.#told.delete(containerId);
    sandboxes.delete(containerId);
    if (sandbox.kind !== 'shared') files.forget(sandbox.filesDir);
  }

  async #undo(containerId: string): Promise<void> {
    const sandbox = this.#live.get(containerId);
    if (sandbox === undefined) return;
    try {
      await this.#release(sandbox);
    } catch (error) {
      // The first error is the user's; the record stays, so that the next start or boot tries again.
      this.#options.logger.error({ containerId, err: error }, 'the network of a failed start could not be given back');
    }
  }

  #leave(containerId: string, { state }: EndpointRecord): void {
    const network = this.#options.byId(state.networkId);
    if (network === undefined) return;
    network.leave(containerId);
    network.release(state.ipv4Address);
    network.release(state.ipv6Address);
  }

  /** Containers that are linked to this one have its address in their hosts file, and reach its ports. */
  async #tellLinked(sandbox: SandboxRecord): Promise<void> {
    await this.#links.open(sandbox);
    for (const parent of this.#links.parents(sandbox)) {
      await this.#options.files.rewrite(parent.filesDir, this.#filesOf(parent));
      await this.#links.open(parent);
    }
  }

  #filesOf(sandbox: SandboxRecord): FilePlan {
    const context = { internal: this.#needsResolver(sandbox), links: this.#links.lines(sandbox) };
    return this.#options.files.plan(sandbox, context);
  }

  #needsResolver(sandbox: SandboxRecord): boolean {
    return (
      sandbox.kind === 'own' &&
      sandbox.endpoints.some(({ state }) => this.#options.byId(state.networkId)?.isUserDefined === true)
    );
  }

  #needOwn(containerId: string): SandboxRecord {
    const sandbox = this.#live.get(containerId);
    if (sandbox === undefined)
      throw new EngineError('CONTAINER_NOT_RUNNING', `container ${shortId(containerId)} is not running`);
    switch (sandbox.kind) {
      case 'own':
        return sandbox;
      case 'host':
        throw new EngineError(
          'NETWORK_SPEC_INVALID',
          'container cannot be disconnected from host network or connected to host network',
        );
      case 'none':
        throw new EngineError(
          'NETWORK_SPEC_INVALID',
          'container cannot be connected to multiple networks with one of the networks in private (none) mode',
        );
      case 'shared':
        throw new EngineError(
          'NETWORK_SPEC_INVALID',
          'container sharing network namespace with another container or host cannot be connected to any other network',
        );
    }
  }

  #remember(sandbox: SandboxRecord): SandboxRecord {
    this.#live.set(sandbox.containerId, sandbox);
    return sandbox;
  }

  #save(sandbox: SandboxRecord): SandboxRecord {
    this.#options.sandboxes.put(sandbox.containerId, sandbox);
    return this.#remember(sandbox);
  }

  #queue<T>(containerId: string, work: () => Promise<T>): Promise<T> {
    const result = (this.#tails.get(containerId) ?? Promise.resolve()).then(work);
    const tail = result
      .catch(() => {})
      .then(() => {
        if (this.#tails.get(containerId) === tail) this.#tails.delete(containerId);
      });
    this.#tails.set(containerId, tail);
    return result;
  }
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

function kindOf(mode: string): SandboxRecord['kind'] {
  if (mode === 'host' || mode === 'none') return mode;
  return mode.startsWith('container:') ? 'shared' : 'own';
}

function checkCombination(network: LiveNetwork): void {
  if (network.network.driver === 'host') {
    throw new EngineError(
      'NETWORK_SPEC_INVALID',
      'container cannot be disconnected from host network or connected to host network',
    );
  }
  if (network.network.name === 'none') {
    throw new EngineError(
      'NETWORK_SPEC_INVALID',
      'container cannot be connected to multiple networks with one of the networks in private (none) mode',
    );
  }
}

function wrap(prefix: string, error: unknown): unknown {
  if (error instanceof EngineError) return new EngineError(error.code, `${prefix}: ${error.message}`, { cause: error });
  return new EngineError('HOST_UNSUPPORTED', `${prefix}: ${messageOf(error)}`, { cause: error });
}
