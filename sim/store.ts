/**
 * Records that survive a crash of the daemon, and lose what was not synced when the power goes: a write that was not
 * durable may be undone, back to any point after the last one that was.
 */
import type { Collection, WriteOptions } from '../src/store/port.ts';

interface Write<T> {
  readonly key: string;
  readonly record: T | undefined;
}

export class Disk<T> {
  #synced = new Map<string, T>();
  #unsynced: Write<T>[] = [];
  #now = new Map<string, T>();

  write(key: string, record: T | undefined, durable: boolean): void {
    apply(this.#now, { key, record });
    this.#unsynced.push({ key, record });
    if (!durable) return;
    this.#synced = new Map(this.#now);
    this.#unsynced = [];
  }

  get(key: string): T | undefined {
    return this.#now.get(key);
  }

  /** Keeps the first `kept` of the writes that were not synced. */
  losePower(choose: (below: number) => number): void {
    const kept = choose(this.#unsynced.length + 1);
    const after = new Map(this.#synced);
    for (const write of this.#unsynced.slice(0, kept)) apply(after, write);
    this.#now = after;
    this.#synced = new Map(after);
    this.#unsynced = [];
  }

  /** As a daemon of one generation sees it; `alive` is asked before each access. */
  collection(
    alive: () => boolean,
    onPut: (key: string, before: T | undefined, record: T | undefined) => void,
  ): Collection<T> {
    const write = (key: string, record: T | undefined, { durable = false, also }: WriteOptions = {}): void => {
      if (!alive()) return;
      const before = this.get(key);
      this.write(key, record, durable);
      onPut(key, before, record);
      also?.(); // One transaction: no crash comes in between.
    };
    return {
      load: () => new Map(this.#now),
      put: (key, record, options) => write(key, record, options),
      delete: (key, options) => write(key, undefined, options),
    };
  }
}

function apply<T>(map: Map<string, T>, { key, record }: Write<T>): void {
  if (record === undefined) map.delete(key);
  else map.set(key, record);
}
