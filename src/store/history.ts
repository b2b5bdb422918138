/**
 * What happened to things that have an end of their own, by key (a container's ID). Bounded thrice: so many entries a key
 * (the first stays), so many in all (the oldest of what is gone goes first), so long after the end of its key.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';

import type { Clock } from '../core/clock.ts';
import { messageOf } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import type { ClosedHistory, History, HistoryEntry } from './port.ts';

export interface HistoryLimits {
  readonly entriesMax: number;
  /** Of one key. */
  readonly keyEntriesMax: number;
  readonly closedMax: number;
}

const LIMITS: HistoryLimits = { entriesMax: 100_000, keyEntriesMax: 250, closedMax: 2_000 };
/** After its end a key is kept this long. */
const CLOSED_NS = 24n * 3_600n * 1_000_000_000n;
/** Entries of one key over its limit before old ones are deleted, so that deleting is rare. */
const KEY_SLACK = 50;
/** Likewise for all, and for what was closed. */
const SLACK = 500;

export class SqliteHistory implements History {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #limits: HistoryLimits;
  readonly #insert: StatementSync;
  readonly #trimKey: StatementSync;
  readonly #read: StatementSync;
  readonly #insertClosed: StatementSync;
  readonly #closed: StatementSync;
  readonly #database: DatabaseSync;
  /** Entries that a key may still take before it is trimmed; absent: not known, as nothing was added since the start. */
  readonly #room = new Map<string, number>();
  #sinceSweep = SLACK - 50; // soon after the start, but not in it

  constructor(database: DatabaseSync, { clock, logger }: { clock: Clock; logger: Logger }, limits = LIMITS) {
    this.#clock = clock;
    this.#logger = logger;
    this.#limits = limits;
    this.#database = database;
    this.#insert = database.prepare('INSERT INTO history (key, time_ns, json) VALUES (?, ?, ?)');
    this.#trimKey = database.prepare(
      `DELETE FROM history WHERE key = ?1
         AND sequence <= (SELECT sequence FROM history WHERE key = ?1 ORDER BY sequence DESC LIMIT 1 OFFSET ?2)
         AND sequence > (SELECT min(sequence) FROM history WHERE key = ?1)`,
    );
    this.#read = database.prepare('SELECT sequence, time_ns, json FROM history WHERE key = ? ORDER BY sequence');
    this.#read.setReadBigInts(true);
    this.#insertClosed = database.prepare(
      'INSERT OR REPLACE INTO history_closed (key, label, time_ns) VALUES (?, ?, ?)',
    );
    this.#closed = database.prepare('SELECT key, label, time_ns FROM history_closed ORDER BY time_ns DESC');
    this.#closed.setReadBigInts(true);
  }

  /** Never throws: that something cannot be told later must not keep it from being done. */
  append(key: string, entry: object, timeNs: bigint): void {
    this.#try(() => {
      this.#insert.run(key, timeNs, JSON.stringify(entry));
      const room = (this.#room.get(key) ?? 0) - 1;
      if (room < 0) this.#trimKey.run(key, this.#limits.keyEntriesMax - 1);
      this.#room.set(key, room < 0 ? KEY_SLACK : room);
      this.#sweepSometimes();
    });
  }

  read(key: string): readonly HistoryEntry[] {
    const rows = this.#read.all(key) as unknown as { sequence: bigint; time_ns: bigint; json: string }[];
    return rows.map(({ sequence, time_ns: timeNs, json }) => ({
      sequence: Number(sequence),
      timeNs,
      entry: JSON.parse(json),
    }));
  }

  /** Never throws. */
  close(key: string, label: string, timeNs: bigint): void {
    this.#try(() => {
      this.#insertClosed.run(key, label, timeNs);
      this.#room.delete(key);
      this.#sweepSometimes();
    });
  }

  closed(): readonly ClosedHistory[] {
    const rows = this.#closed.all() as unknown as { key: string; label: string; time_ns: bigint }[];
    return rows.map(({ key, label, time_ns: timeNs }) => ({ key, label, timeNs }));
  }

  #try(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#logger.warn({ error: messageOf(error) }, 'what happened to a container could not be noted');
    }
  }

  #sweepSometimes(): void {
    if (++this.#sinceSweep < SLACK) return;
    this.#sinceSweep = 0;
    const oldest = this.#clock.wallNs() - CLOSED_NS;
    for (const [index, { key, timeNs }] of this.closed().entries()) {
      if (timeNs < oldest || index >= this.#limits.closedMax) this.#forget(key);
    }
    // What is gone, oldest first; if that is not enough, whatever is oldest.
    const goneFirst = this.closed().toReversed();
    for (let over; (over = this.#count() - this.#limits.entriesMax) > 0;) {
      const gone = goneFirst.shift();
      if (gone !== undefined) this.#forget(gone.key);
      else {
        this.#database
          .prepare('DELETE FROM history WHERE sequence IN (SELECT sequence FROM history ORDER BY sequence LIMIT ?)')
          .run(over);
      }
    }
  }

  #count(): number {
    return (this.#database.prepare('SELECT count(*) AS count FROM history').get() as { count: number }).count;
  }

  #forget(key: string): void {
    this.#database.prepare('DELETE FROM history WHERE key = ?').run(key);
    this.#database.prepare('DELETE FROM history_closed WHERE key = ?').run(key);
  }
}
