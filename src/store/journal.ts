/** The event journal: a bounded table, trimmed in steps, read in pages. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';

import type { EngineEvent, EventJournal } from '../event/port.ts';

const ROWS_MAX = 100_000;
/** Rows over the limit that are left before old ones are deleted, so that deleting is rare. */
const SLACK = 1_000;
const PAGE = 256;

interface Row {
  readonly sequence: number;
  readonly time_ns: bigint;
  readonly json: string;
}

export class SqliteJournal implements EventJournal {
  readonly #insert: StatementSync;
  readonly #trim: StatementSync;
  readonly #page: StatementSync;
  readonly #last: StatementSync;
  readonly #rowsMax: number;
  #sinceTrim = 0;

  constructor(database: DatabaseSync, rowsMax: number = ROWS_MAX) {
    this.#rowsMax = rowsMax;
    this.#insert = database.prepare('INSERT INTO event (sequence, time_ns, json) VALUES (?, ?, ?)');
    this.#trim = database.prepare('DELETE FROM event WHERE sequence <= ?');
    this.#page = database.prepare(
      'SELECT sequence, time_ns, json FROM event WHERE sequence > ? AND time_ns >= ? AND time_ns <= ? ORDER BY sequence LIMIT ?',
    );
    this.#page.setReadBigInts(true);
    this.#last = database.prepare('SELECT max(sequence) AS last FROM event');
  }

  append(event: EngineEvent): void {
    const { type, action, actor } = event;
    this.#insert.run(event.sequence, event.timeNs, JSON.stringify({ type, action, actor }));
    if (++this.#sinceTrim < SLACK) return;
    this.#sinceTrim = 0;
    this.#trim.run(event.sequence - this.#rowsMax);
  }

  *read(sinceNs: bigint | null, untilNs: bigint | null, afterSequence = 0): Generator<EngineEvent> {
    const until = untilNs ?? 2n ** 63n - 1n;
    for (let after = BigInt(afterSequence); ;) {
      const rows = this.#page.all(after, sinceNs ?? 0n, until, PAGE) as unknown as Row[];
      for (const row of rows) {
        const { type, action, actor } = JSON.parse(row.json) as Pick<EngineEvent, 'type' | 'action' | 'actor'>;
        yield { type, action, actor, scope: 'local', timeNs: row.time_ns, sequence: Number(row.sequence) };
      }
      if (rows.length < PAGE) return;
      after = BigInt(rows.at(-1)!.sequence);
    }
  }

  lastSequence(): number {
    return (this.#last.get() as { last: number | null }).last ?? 0;
  }
}
