/**
 * Legacy links (`--link` on the default bridge): a line of the hosts file and, where the bridge keeps its containers
 * apart (--icc=false), the way to the other's exposed ports. On networks of users the resolver knows links.
 * Source: moby daemon/libnetwork/drivers/bridge/link.go (v28).
 */
import type { NetworkById } from './endpoint.ts';
import type { Firewall } from './firewall.ts';
import { parseExposedPort } from './port-spec.ts';
import type { EndpointState } from './port.ts';
import type { SandboxRecord } from './records.ts';
import type { LinkedPort } from './ruleset.ts';

export interface LegacyLinksOptions {
  readonly firewall: Pick<Firewall, 'setLinks'>;
  readonly byId: NetworkById;
}

export class LegacyLinks {
  readonly #options: LegacyLinksOptions;
  readonly #live: ReadonlyMap<string, SandboxRecord>;

  constructor(options: LegacyLinksOptions, live: ReadonlyMap<string, SandboxRecord>) {
    this.#options = options;
    this.#live = live;
  }

  /** For the hosts file. */
  lines(sandbox: SandboxRecord): { address: string; names: string }[] {
    return sandbox.links.flatMap(({ containerId, aliases }) => {
      const shared = onDefaultBridge(this.#live.get(containerId));
      return shared === null ? [] : [{ address: shared.ipv4Address, names: aliases.join(' ') }];
    });
  }

  /** Who knows this one by a link. */
  parents({ containerId: id }: SandboxRecord): SandboxRecord[] {
    return [...this.#live.values()].filter(({ links }) => links.some(({ containerId }) => containerId === id));
  }

  async open(sandbox: SandboxRecord): Promise<void> {
    await this.#options.firewall.setLinks(sandbox.containerId, this.#ports(sandbox, null));
  }

  /** It is about to leave, and its address is another's soon. */
  async close(sandbox: SandboxRecord): Promise<void> {
    const { firewall } = this.#options;
    await firewall.setLinks(sandbox.containerId, []);
    for (const parent of this.parents(sandbox))
      await firewall.setLinks(parent.containerId, this.#ports(parent, sandbox.containerId));
  }

  #ports(sandbox: SandboxRecord, gone: string | null): LinkedPort[] {
    const own = sandbox.links.length === 0 ? null : onDefaultBridge(sandbox);
    const network = own === null ? undefined : this.#options.byId(own.networkId);
    if (own === null || network?.bridge?.icc !== false) return [];
    const { bridgeName } = network.network;
    return sandbox.links.flatMap(({ containerId }) => {
      const other = containerId === gone ? undefined : this.#live.get(containerId);
      const to = onDefaultBridge(other)?.ipv4Address;
      if (other === undefined || to === undefined) return [];
      const ports = other.exposedPorts.flatMap(parseExposedPort);
      return ports.map(({ protocol, port }) => ({ bridge: bridgeName, from: own.ipv4Address, to, protocol, port }));
    });
  }
}

function onDefaultBridge(sandbox: SandboxRecord | undefined): EndpointState | null {
  const state = sandbox?.endpoints.find(({ networkName }) => networkName === 'bridge')?.state;
  return state === undefined || state.ipv4Address === '' ? null : state;
}
