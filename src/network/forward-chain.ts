/**
 * Our bridges in the FORWARD chain of iptables. What one table accepts another may still drop, so where somebody filters
 * there (dockerd sets the policy to DROP, an administrator or ufw has rules), one jump to a chain of ours stands in it,
 * as Docker's stand: behind DOCKER-USER, else first. Where nobody filters, nothing is written.
 *
 * Into a bridge everything may go that our own table lets through, which sees the packet too. Out of one everything may
 * go but to bridges of other engines: their own rules decide about those.
 */
import type { Logger } from '../core/log.ts';
import type { Nftables } from '../kernel/port.ts';
import type { Family } from './address.ts';

/** Bridges that other engines make, as nft patterns. */
const OTHERS = ['docker0', 'br-*', 'podman*', 'cni*', 'virbr*', 'lxcbr*', 'lxdbr*', 'incusbr*'];
const WORD = { 4: 'ip', 6: 'ip6' } as const;
const PREFIX = 'LONGSHORE-';

export interface ForwardState {
  readonly drops: boolean;
  /** Somebody else's rules stand there. */
  readonly filters: boolean;
  /** Handle of our jump; null: there is none. */
  readonly jump: string | null;
  /** Handle of the rule that ours comes behind; null: it comes first. */
  readonly behind: string | null;
}

export class ForwardChain {
  readonly #nftables: Nftables;
  readonly #chain: string;
  readonly #logger: Logger;
  readonly #families: readonly Family[];
  #bridges: readonly string[] = [];
  #tail: Promise<unknown> = Promise.resolve();

  /** `table`: the name of our own tables, so that several daemons have a chain each. */
  constructor(nftables: Nftables, table: string, logger: Logger, families: readonly Family[]) {
    this.#families = families;
    this.#nftables = nftables;
    this.#logger = logger;
    this.#chain = chainName(table);
  }

  /** Makes the chain say just these bridges, if it is needed. Never throws: our networks work on without it. */
  sync(bridges: readonly string[] = this.#bridges): Promise<void> {
    this.#bridges = bridges;
    return this.#queue(async () => {
      for (const ip of this.#families.map((family) => WORD[family])) {
        const state = await this.#look(ip);
        if (state === null || (state.jump === null && !state.drops && !state.filters)) continue;
        await this.#nftables.run(chainScript(ip, this.#chain, this.#bridges, state));
      }
    }).catch((error: unknown) => {
      this.#logger.warn({ err: error }, 'the FORWARD chain of iptables may drop what containers send');
    });
  }

  /** Whoever switches forwarding on makes a router of the host: as dockerd's, what nobody lets through is dropped then. */
  closeRouter(family: Family): Promise<void> {
    const ip = WORD[family];
    return this.#queue(async () => {
      if (!this.#families.includes(family)) return;
      await this.#nftables.run(
        `add table ${ip} filter\nadd chain ${ip} filter FORWARD { type filter hook forward priority filter; policy drop; }\n`,
      );
    });
  }

  remove(): Promise<void> {
    return this.#queue(async () => {
      for (const ip of this.#families.map((family) => WORD[family])) {
        const state = await this.#look(ip);
        if (state?.jump == null) continue;
        await this.#nftables.run(
          `delete rule ${ip} filter FORWARD handle ${state.jump}\nflush chain ${ip} filter ${this.#chain}\ndelete chain ${ip} filter ${this.#chain}\n`,
        );
      }
    });
  }

  /** null: the family has no such chain. */
  async #look(ip: 'ip' | 'ip6'): Promise<ForwardState | null> {
    try {
      return parseForward(await this.#nftables.run(`list chain ${ip} filter FORWARD`), this.#chain);
    } catch {
      return null; // nft says "No such file or directory"
    }
  }

  #queue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => {});
    return result;
  }
}

/** "LONGSHORE-FORWARD", or "LONGSHORE-" and the bridge for a further daemon; iptables takes 28 characters. */
export function chainName(table: string): string {
  return table === 'longshore' ? `${PREFIX}FORWARD` : `${PREFIX}${table.slice('longshore_'.length)}`.slice(0, 28);
}

/** What `nft -a list chain` says. */
export function parseForward(listing: string, chain: string): ForwardState {
  let drops = false;
  let filters = false;
  let jump: string | null = null;
  let behind: string | null = null;
  for (const line of listing.split('\n')) {
    if (/^\s*type filter hook/.test(line)) drops = /policy drop/.test(line);
    const handle = /^\t\t.*# handle (\d+)$/.exec(line)?.[1];
    if (handle === undefined) continue;
    const target = /\b(?:jump|goto) (\S+)/.exec(line)?.[1] ?? '';
    if (target === chain) jump = handle;
    else if (!target.startsWith(PREFIX)) filters = true;
    if (target === 'DOCKER-USER') behind = handle;
  }
  return { drops, filters, jump, behind };
}

/** Rules that iptables can show: it refuses a table in which it finds others. */
export function chainScript(ip: 'ip' | 'ip6', chain: string, bridges: readonly string[], state: ForwardState): string {
  const rule = (text: string): string => `add rule ${ip} filter ${chain} ${text}\n`;
  const lines = [
    `add chain ${ip} filter ${chain}\nflush chain ${ip} filter ${chain}\n`,
    ...bridges.map((bridge) => rule(`oifname "${bridge}" counter accept`)),
    ...OTHERS.map((pattern) => rule(`oifname "${pattern}" counter return`)),
    ...bridges.map((bridge) => rule(`iifname "${bridge}" counter accept`)),
  ];
  if (state.jump === null) {
    const place =
      state.behind === null
        ? `insert rule ${ip} filter FORWARD`
        : `add rule ${ip} filter FORWARD handle ${state.behind}`;
    lines.push(`${place} counter jump ${chain}\n`);
  }
  return lines.join('');
}
