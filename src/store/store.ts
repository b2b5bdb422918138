/**
 * Durable records and the journal, in one SQLite file (node:sqlite, WAL). Writes are synchronous and take some
 * 25 us with synchronous=NORMAL (they survive a crash of the daemon); `durable` ones switch to FULL for that
 * commit (some 0.5 ms; they survive a power cut). Source of the figures: shared prototypes, 6-sqlite.
 */
import { mkdirSync, renameSync, existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

import { formatTime, type Clock } from '../core/clock.ts';
import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import { SqliteHistory, type HistoryLimits } from './history.ts';
import { SqliteJournal } from './journal.ts';
import type { Collection, SetAside, Store, WriteOptions } from './port.ts';
import { migrate } from './schema.ts';

export interface StoreOptions {
  /** ":memory:" keeps nothing. */
  readonly path: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Events kept; older ones go. */
  readonly journalRowsMax?: number;
  readonly historyLimits?: HistoryLimits;
}

/** A file that is no database is set aside as PATH.corrupt-TIME and a new one begun. */
export function openStore(options: StoreOptions): Store {
  if (options.path !== ':memory:') mkdirSync(dirname(options.path), { recursive: true, mode: 0o700 });
  try {
    return new SqliteStore(options);
  } catch (error) {
    if (options.path === ':memory:' || !isCorrupt(error)) throw storeFailed(options.path, error);
    const aside = `${options.path}.corrupt-${Number(options.clock.wallNs() / 1_000_000n)}`;
    renameSync(options.path, aside);
    for (const suffix of ['-wal', '-shm'])
      if (existsSync(options.path + suffix)) renameSync(options.path + suffix, aside + suffix);
    options.logger.error(
      { path: options.path, aside, error: messageOf(error) },
      'the database cannot be read: set aside, a new one was begun',
    );
    return new SqliteStore(options);
  }
}

class SqliteStore implements Store {
  readonly journal: SqliteJournal;
  readonly history: SqliteHistory;
  readonly #database: DatabaseSync;
  readonly #clock: Clock;
  readonly #logger: Logger;

  constructor({ path, clock, logger, journalRowsMax, historyLimits }: StoreOptions) {
    this.#clock = clock;
    this.#logger = logger;
    this.#database = new DatabaseSync(path);
    try {
      this.#database.exec(
        'PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=2000; PRAGMA cache_size=-512',
      );
      migrate(this.#database);
      this.journal = new SqliteJournal(this.#database, journalRowsMax);
      this.history = new SqliteHistory(this.#database, { clock, logger }, historyLimits);
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  collection<T>(name: string, decode: (value: unknown) => T): Collection<T> {
    return new SqliteCollection(this.#database, name, decode, (key, json, error) =>
      this.#setAside(name, key, json, error),
    );
  }

  setAside(): readonly SetAside[] {
    return this.#database
      .prepare('SELECT collection, key, why, at FROM set_aside ORDER BY rowid')
      .all() as unknown as SetAside[];
  }

  #setAside(collection: string, key: string, json: string, error: unknown): void {
    const why = messageOf(error);
    this.#logger.error({ collection, key, why }, 'a record cannot be read: set aside (see longshore doctor)');
    this.#database.exec('BEGIN');
    this.#database
      .prepare('INSERT INTO set_aside (collection, key, json, why, at) VALUES (?, ?, ?, ?, ?)')
      .run(collection, key, json, why, formatTime(this.#clock.wallNs()));
    this.#database.prepare('DELETE FROM record WHERE collection = ? AND key = ?').run(collection, key);
    this.#database.exec('COMMIT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#database.close();
  }
}

class SqliteCollection<T> implements Collection<T> {
  readonly #database: DatabaseSync;
  readonly #name: string;
  readonly #decode: (value: unknown) => T;
  readonly #onUnreadable: (key: string, json: string, error: unknown) => void;
  readonly #put;
  readonly #delete;

  constructor(
    database: DatabaseSync,
    name: string,
    decode: (value: unknown) => T,
    onUnreadable: (key: string, json: string, error: unknown) => void,
  ) {
    this.#database = database;
    this.#name = name;
    this.#decode = decode;
    this.#onUnreadable = onUnreadable;
    this.#put = database.prepare(
      'INSERT INTO record (collection, key, json) VALUES (?, ?, ?) ON CONFLICT (collection, key) DO UPDATE SET json = excluded.json',
    );
    this.#delete = database.prepare('DELETE FROM record WHERE collection = ? AND key = ?');
  }

  load(): Map<string, T> {
    const rows = this.#database
      .prepare('SELECT key, json FROM record WHERE collection = ? ORDER BY id')
      .all(this.#name) as { key: string; json: string }[];
    const records = new Map<string, T>();
    for (const { key, json } of rows) {
      try {
        records.set(key, this.#decode(JSON.parse(json)));
      } catch (error) {
        this.#onUnreadable(key, json, error);
      }
    }
    return records;
  }

  put(key: string, record: T, options: WriteOptions = {}): void {
    this.#write(options, () => this.#put.run(this.#name, key, JSON.stringify(record)));
  }

  delete(key: string, options: WriteOptions = {}): void {
    this.#write(options, () => this.#delete.run(this.#name, key));
  }

  #write({ durable = false, also }: WriteOptions, alone: () => void): void {
    const write = also === undefined ? alone : (): void => this.#together(alone, also);
    try {
      if (!durable) return write();
      this.#database.exec('PRAGMA synchronous=FULL');
      try {
        write();
      } finally {
        this.#database.exec('PRAGMA synchronous=NORMAL');
      }
    } catch (error) {
      throw storeFailed(this.#name, error);
    }
  }

  #together(write: () => void, also: () => void): void {
    this.#database.exec('BEGIN');
    try {
      write();
      also();
      this.#database.exec('COMMIT');
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
  }
}

function storeFailed(what: string, error: unknown): EngineError {
  return new EngineError('STORE_FAILED', `cannot write the engine's records (${what}): ${messageOf(error)}`, {
    cause: error,
  });
}

/** SQLITE_CORRUPT (11) and SQLITE_NOTADB (26). */
function isCorrupt(error: unknown): boolean {
  const code = (error as { errcode?: number }).errcode;
  return code !== undefined && [11, 26].includes(code & 0xff);
}
