/**
 * Our nftables tables, kept equal to what the networks and published ports say. Each change is one transaction.
 * When a change is refused (somebody flushed the ruleset), the whole table is made anew from memory.
 */
import type { Nftables } from '../kernel/port.ts';
import type { Family } from './address.ts';
import type { ForwardChain } from './forward-chain.ts';
import {
  deleteTable,
  emptyTable,
  linkElements,
  mappingElements,
  networkElements,
  type FirewallNetwork,
  type LinkedPort,
  type PortMapping,
} from './ruleset.ts';

export class Firewall {
  readonly #nftables: Nftables;
  readonly #table: string;
  readonly #chain: ForwardChain;
  readonly #families: readonly Family[];
  readonly #forgetUdpFlows: (ports: readonly number[]) => Promise<void>;
  readonly #networks = new Map<string, FirewallNetwork>();
  readonly #mappings = new Map<string, readonly PortMapping[]>();
  readonly #links = new Map<string, readonly LinkedPort[]>();
  /** Families whose table exists. */
  readonly #made = new Set<Family>();
  #tail: Promise<unknown> = Promise.resolve();

  /** `families`: those whose tables are ours to make (--iptables, --ip6tables). */
  constructor(
    nftables: Nftables,
    table: string,
    chain: ForwardChain,
    families: readonly Family[],
    forgetUdpFlows: (ports: readonly number[]) => Promise<void>,
  ) {
    this.#forgetUdpFlows = forgetUdpFlows;
    this.#families = families;
    this.#nftables = nftables;
    this.#chain = chain;
    this.#table = table;
  }

  /** Replaces whatever the tables held (of a daemon before us) in one transaction. */
  load(
    networks: ReadonlyMap<string, FirewallNetwork>,
    mappings: ReadonlyMap<string, readonly PortMapping[]>,
  ): Promise<void> {
    return this.#queue(async () => {
      for (const [id, network] of networks) this.#networks.set(id, network);
      for (const [id, list] of mappings) this.#mappings.set(id, list);
      await this.#rebuild();
      await this.#chain.sync(this.#bridges());
    });
  }

  setNetwork(id: string, network: FirewallNetwork | null): Promise<void> {
    return this.#queue(async () => {
      const before = this.#networks.get(id);
      if (network === null) this.#networks.delete(id);
      else this.#networks.set(id, network);
      const needsTable = this.#families.some((family) => this.#needs(family) && !this.#made.has(family));
      const script = [...this.#made]
        .map(
          (family) =>
            (before === undefined ? '' : networkElements('delete', this.#table, family, before)) +
            (network === null ? '' : networkElements('add', this.#table, family, network)),
        )
        .join('');
      try {
        await this.#apply(needsTable ? null : script);
      } catch (error) {
        if (before === undefined) this.#networks.delete(id);
        else this.#networks.set(id, before);
        throw error;
      }
      await this.#chain.sync(this.#bridges());
    });
  }

  /** Replaces the published ports of one container. */
  setMappings(containerId: string, mappings: readonly PortMapping[]): Promise<void> {
    return this.#queue(async () => {
      const before = this.#mappings.get(containerId) ?? [];
      if (before.length === 0 && mappings.length === 0) return;
      if (mappings.length === 0) this.#mappings.delete(containerId);
      else this.#mappings.set(containerId, mappings);
      const script = [...this.#made]
        .map(
          (family) =>
            mappingElements('delete', this.#table, family, before) +
            mappingElements('add', this.#table, family, mappings),
        )
        .join('');
      try {
        await this.#apply(script);
      } catch (error) {
        this.#mappings.set(containerId, before);
        throw error;
      }
      // What is tracked goes where it went: to a container that is gone, or past one that is new.
      const udp = [...before, ...mappings].filter(({ protocol, nat }) => protocol === 'udp' && nat);
      if (udp.length > 0) await this.#forgetUdpFlows([...new Set(udp.map(({ hostPort }) => hostPort))]);
    });
  }

  /** Replaces what the legacy links of one container open to it. */
  async setLinks(containerId: string, links: readonly LinkedPort[]): Promise<void> {
    if (links.length === 0 && !this.#links.has(containerId)) return;
    await this.#queue(async () => {
      const before = this.#links.get(containerId) ?? [];
      if (links.length === 0) this.#links.delete(containerId);
      else this.#links.set(containerId, links);
      const script = [...this.#made]
        .map(
          (family) =>
            linkElements('delete', this.#table, family, before) + linkElements('add', this.#table, family, links),
        )
        .join('');
      await this.#apply(script);
    });
  }

  remove(): Promise<void> {
    return this.#queue(async () => {
      const script = [...this.#made].map((family) => deleteTable(this.#table, family)).join('');
      this.#made.clear();
      await this.#chain.remove();
      if (script !== '') await this.#nftables.run(script);
    });
  }

  #bridges(): string[] {
    return [...this.#networks.values()].map(({ bridge }) => bridge);
  }

  #needs(family: Family): boolean {
    return (
      family === 4 ||
      [...this.#networks.values()].some(({ subnets }) => subnets.some(({ subnet }) => subnet.family === family))
    );
  }

  async #apply(script: string | null): Promise<void> {
    if (script === null) return await this.#rebuild();
    if (script === '') return;
    try {
      await this.#nftables.run(script);
    } catch (error) {
      try {
        await this.#rebuild();
      } catch {
        throw error; // the first refusal says what was wrong
      }
    }
  }

  async #rebuild(): Promise<void> {
    let script = '';
    const families = this.#families.filter((family) => this.#needs(family));
    for (const family of families) {
      script += deleteTable(this.#table, family) + emptyTable(this.#table, family);
      for (const network of this.#networks.values()) script += networkElements('add', this.#table, family, network);
      script += mappingElements('add', this.#table, family, [...this.#mappings.values()].flat());
      script += linkElements('add', this.#table, family, [...this.#links.values()].flat());
    }
    if (script !== '') await this.#nftables.run(script);
    for (const family of families) this.#made.add(family);
  }

  /** One change at a time: a rebuild must see every change before it. */
  #queue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => {});
    return result;
  }
}
