/**
 * Namespaces and interfaces of containers. What must be gone at once goes with its namespace (a tenth of the time that
 * the kernel takes for a link); what something else keeps alive is swept after a while.
 */
import type { Clock } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import type { Kernel } from '../kernel/port.ts';
import type { Family } from './address.ts';
import { addressesOf, defaultGateways, gatewayOf } from './endpoint.ts';
import { sysctlsOf } from './endpoint-spec.ts';
import type { LiveNetwork } from './live-network.ts';
import type { AttachRequest } from './port.ts';
import type { EndpointRecord, SandboxRecord } from './records.ts';

export interface InterfacesOptions {
  readonly kernel: Kernel;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly byId: (id: string) => LiveNetwork | undefined;
  /** br_netfilter is on: a bridge redirects a published port among its own ports. */
  readonly isBridgeFiltered: () => Readonly<Record<Family, boolean>>;
}

const SWEEP_MS = 1000;

export class Interfaces {
  readonly #options: InterfacesOptions;
  readonly #kernel: Kernel;
  /** The host's ends of pairs whose namespaces were let go. */
  readonly #leaving = new Set<string>();
  #sweep: Disposable | null = null;

  constructor(options: InterfacesOptions) {
    this.#options = options;
    this.#kernel = options.kernel;
  }

  /** Makes the namespace with all its interfaces. */
  async plugAll(
    sandbox: SandboxRecord,
    { sysctls, namespaceSource }: Pick<AttachRequest, 'sysctls' | 'namespaceSource'>,
  ): Promise<void> {
    const path = sandbox.namespacePath;
    if (path === null) return;
    const { network: links } = this.#kernel;
    await links.createNamespace(path, namespaceSource);
    if (sandbox.endpoints.some(({ state }) => state.interfaceName !== '')) {
      // No link-local address on interfaces of networks without IPv6, as Docker's; the kernel room turns it on where asked.
      await links.setSysctlIn(path, 'net/ipv6/conf/default/disable_ipv6', '1').catch(() => {});
    }
    for (const endpoint of sandbox.endpoints) {
      const network = this.#options.byId(endpoint.state.networkId);
      if (network === undefined)
        throw new EngineError('NETWORK_NOT_FOUND', `network ${endpoint.networkName} not found`);
      await this.plug(sandbox, endpoint, network, defaultGateways(sandbox, this.#options.byId, endpoint));
    }
    for (const [name, value] of Object.entries(sysctls)) {
      if (!/^net[./]/.test(name)) continue;
      await links.setSysctlIn(path, name, value).catch((error: unknown) => {
        throw sysctlError(name, error);
      });
    }
  }

  async plug(
    sandbox: SandboxRecord,
    { hostInterface, state }: EndpointRecord,
    network: LiveNetwork,
    gateways: readonly string[],
  ): Promise<void> {
    const namespace = sandbox.namespacePath;
    if (namespace === null || state.interfaceName === '') return;
    const { network: links } = this.#kernel;
    const filtered = this.#options.isBridgeFiltered();
    const common = {
      namespace,
      containerName: state.interfaceName,
      mac: state.macAddress,
      addresses: addressesOf(state),
      gateways,
    };
    if (network.bridge !== null) {
      await links.connectVeth({
        ...common,
        hostName: hostInterface,
        bridge: network.network.bridgeName,
        mtu: network.bridge.mtu,
        // Where bridged packets pass the forward chain, that keeps ports apart, and lets what was published through.
        isolated: !network.bridge.icc && !(filtered[4] && filtered[6]),
        hairpin: filtered[4] || filtered[6],
      });
    } else if (network.vlan !== null) {
      const { mode, mtu, parent } = network.vlan;
      const kind = network.network.driver === 'macvlan' ? 'macvlan' : 'ipvlan';
      const defaultByDevice =
        kind === 'ipvlan' &&
        mode !== 'l2' &&
        !network.network.internal &&
        gatewayOf(sandbox, this.#options.byId)?.state.networkId === network.network.id;
      await links.connectVlan({
        ...common,
        kind,
        mode,
        parent: parent === '' ? network.network.bridgeName : parent,
        mtu,
        defaultByDevice,
      });
    }
    for (const setting of sysctlsOf(state.spec)) await this.#setEndpointSysctl(namespace, state.interfaceName, setting);
  }

  async #setEndpointSysctl(namespace: string, interfaceName: string, setting: string): Promise<void> {
    const at = setting.indexOf('=');
    const parts = setting.slice(0, at).split('.');
    if (at < 0 || parts.length !== 5) {
      const format = at < 0 ? 'name=value' : 'net.X.Y.IFNAME.Z';
      throw new EngineError('NETWORK_SPEC_INVALID', `expected sysctl '${setting}' to have format ${format}`);
    }
    const path = parts.with(3, interfaceName).join('/');
    await this.#kernel.network.setSysctlIn(namespace, path, setting.slice(at + 1)).catch((error: unknown) => {
      const { code } = error as { readonly code?: string };
      const why = {
        ENOENT: `/proc/sys/${path} is not a sysctl file`,
        EINVAL: `unable to write to '/proc/sys/${path}': write /proc/sys/${path}: invalid argument`,
      }[code ?? ''];
      throw why === undefined ? error : new EngineError('RUNTIME_START_FAILED', why, { cause: error });
    });
  }

  /** Takes one interface of a live container away. */
  async unplug(sandbox: SandboxRecord, { state }: EndpointRecord): Promise<void> {
    if (sandbox.namespacePath === null || state.interfaceName === '') return;
    await this.#kernel.network.removeLinkIn(sandbox.namespacePath, state.interfaceName);
  }

  /** `isShared`: another container lives in the namespace, so that it stays and its interfaces must be taken. */
  async letGo(sandbox: SandboxRecord, isShared: boolean): Promise<void> {
    if (sandbox.namespacePath === null || sandbox.kind === 'shared') return;
    const names = sandbox.endpoints.map(({ hostInterface }) => hostInterface).filter((name) => name !== '');
    if (isShared) await Promise.all(names.map((name) => this.#kernel.network.removeLink(name)));
    await this.#kernel.network.removeNamespace(sandbox.namespacePath);
    if (isShared || names.length === 0) return;
    for (const name of names) this.#leaving.add(name);
    this.#sweep ??= this.#options.clock.setTimer(SWEEP_MS, () => {
      this.#sweep = null;
      void this.#sweepLinks();
    });
  }

  /** At the end of the daemon: nothing is waited for any more. */
  async close(): Promise<void> {
    this.#sweep?.[Symbol.dispose]();
    this.#sweep = null;
    await this.#sweepLinks();
  }

  /** A process that was moved elsewhere, or a socket of ours, can keep a namespace and with it an address alive. */
  async #sweepLinks(): Promise<void> {
    const names = [...this.#leaving];
    this.#leaving.clear();
    if (names.length === 0) return;
    try {
      const present = new Set((await this.#kernel.network.links()).map(({ name }) => name));
      for (const name of names) if (present.has(name)) await this.#kernel.network.removeLink(name);
    } catch (error) {
      this.#options.logger.error({ names, err: error }, 'interfaces of containers that are gone could not be removed');
    }
  }
}

/** In the words of the runtime, which sets them for Docker. */
function sysctlError(name: string, cause: unknown): unknown {
  const { code } = cause as { readonly code?: string };
  const file = `/proc/sys/${name.includes('/') ? name : name.replaceAll('.', '/')}`;
  const why = { ENOENT: `open ${file}: no such file or directory`, EINVAL: `write ${file}: invalid argument` };
  const message = why[code as keyof typeof why];
  return message === undefined ? cause : new EngineError('RUNTIME_START_FAILED', message, { cause });
}
