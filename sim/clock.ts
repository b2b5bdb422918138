/** Virtual time: a queue of what is due, and a clock over it. Nothing here waits for real time. */
import type { Clock } from '../src/core/clock.ts';

interface Entry {
  readonly atMs: number;
  readonly order: number;
  run: (() => void) | null;
}

/** 2026-11-22T00:00:00Z */
const ORIGIN_NS = 1_795_305_600_000_000_000n;

export class Timeline implements Clock {
  #nowMs = 0;
  #order = 0;
  readonly #heap: Entry[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  wallNs(): bigint {
    return ORIGIN_NS + BigInt(Math.round(this.#nowMs * 1000)) * 1000n;
  }

  setTimer(delayMs: number, run: () => void): Disposable {
    const entry: Entry = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, run };
    this.#push(entry);
    return {
      [Symbol.dispose]: () => {
        entry.run = null;
      },
    };
  }

  /** Milliseconds until the next entry; null: nothing is due, ever. */
  untilNext(): number | null {
    while (this.#heap[0] !== undefined && this.#heap[0].run === null) this.#pop();
    const next = this.#heap[0];
    return next === undefined ? null : next.atMs - this.#nowMs;
  }

  /** Runs the next entry. */
  step(): void {
    const next = this.#pop();
    if (next === undefined) return;
    this.#nowMs = next.atMs;
    next.run?.();
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const up = (at - 1) >> 1;
      if (!isBefore(entry, heap[up] as Entry)) break;
      heap[at] = heap[up] as Entry;
      at = up;
    }
    heap[at] = entry;
  }

  #pop(): Entry | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || first === last) return first;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && isBefore(heap[down + 1] as Entry, heap[down] as Entry)) down += 1;
      if (!isBefore(heap[down] as Entry, last)) break;
      heap[at] = heap[down] as Entry;
      at = down;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
