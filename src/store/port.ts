/** Durable records (SQLite, WAL). Rooms above see collections of JSON values and never SQL. */
import type { EventJournal } from '../event/port.ts';

export interface Store extends AsyncDisposable {
  /**
   * `decode` checks what was read and throws on a record it cannot take: that record is set aside (kept, with the
   * reason, for `longshore doctor`) and left out.
   */
  collection<T>(name: string, decode: (value: unknown) => T): Collection<T>;
  readonly journal: EventJournal;
  /** Records that could not be read since the store was made. */
  setAside(): readonly SetAside[];
}

export interface Collection<T> {
  /** All records, by key, in order of insertion. Read once at boot; the room keeps its own map. */
  load(): Map<string, T>;
  /** Synchronous. `durable`: on disk when it returns, even if power fails (creation and removal); else soon after. */
  put(key: string, record: T, options?: { readonly durable?: boolean }): void;
  delete(key: string, options?: { readonly durable?: boolean }): void;
}

export interface SetAside {
  readonly collection: string;
  readonly key: string;
  readonly why: string;
  readonly at: string;
}
