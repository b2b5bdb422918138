/** A line over 16 KiB comes in pieces, and only the last has its newline: what Docker tells services about that. */
import { randomBytes } from 'node:crypto';

import type { LogEntry } from '../port.ts';

export interface Piece {
  readonly id: string;
  /** From 1. */
  readonly ordinal: number;
  readonly isLast: boolean;
}

interface Open {
  readonly id: string;
  readonly ordinal: number;
}

export class PartialLines {
  readonly #open = new Map<LogEntry['stream'], Open>();

  /** What each entry of a batch is a piece of; null: a whole line. The same until sent() says how many went. */
  of(batch: readonly LogEntry[]): readonly (Piece | null)[] {
    const open = new Map(this.#open);
    return batch.map(({ line, stream }) => {
      const isLast = line.at(-1) === 0x0a;
      const before = open.get(stream);
      if (isLast && before === undefined) return null;
      const now = { id: before?.id ?? randomBytes(32).toString('hex'), ordinal: (before?.ordinal ?? 0) + 1 };
      if (isLast) open.delete(stream);
      else open.set(stream, now);
      return { ...now, isLast };
    });
  }

  /** The first `count` entries of the batch are gone, as these pieces. */
  sent(batch: readonly LogEntry[], pieces: readonly (Piece | null)[], count = batch.length): void {
    for (const [i, { stream }] of batch.slice(0, count).entries()) {
      const piece = pieces[i] ?? null;
      if (piece === null || piece.isLast) this.#open.delete(stream);
      else this.#open.set(stream, piece);
    }
  }
}
