/** Durable records (SQLite, WAL). Rooms above see collections of JSON values and never SQL. */
import type { EventJournal } from '../event/port.ts';

export interface Store extends AsyncDisposable {
  /**
   * `decode` checks what was read and throws on a record it cannot take: that record is set aside (kept, with the
   * reason, for `longshore doctor`) and left out.
   */
  collection<T>(name: string, decode: (value: unknown) => T): Collection<T>;
  readonly journal: EventJournal;
  /** What happened to each container and why. */
  readonly history: History;
  /** Records that could not be read since the store was made. */
  setAside(): readonly SetAside[];
}

export interface Collection<T> {
  /** All records, by key, in order of insertion. Read once at boot; the room keeps its own map. */
  load(): Map<string, T>;
  /** Synchronous. `durable`: on disk when it returns, even if power fails (creation and removal); else soon after. */
  put(key: string, record: T, options?: WriteOptions): void;
  delete(key: string, options?: WriteOptions): void;
}

export interface WriteOptions {
  readonly durable?: boolean;
  /** Further writes to this store (its history) that are made together with this one, or not at all. Never throws. */
  readonly also?: () => void;
}

/** Bounded for each key and in all; the first entry of a key stays as long as the key. */
export interface History {
  append(key: string, entry: object, timeNs: bigint): void;
  /** In order. */
  read(key: string): readonly HistoryEntry[];
  /** It is gone; what happened to it can be read for a day more, and found by `label`. */
  close(key: string, label: string, timeNs: bigint): void;
  /** Newest first. */
  closed(): readonly ClosedHistory[];
}

export interface HistoryEntry {
  readonly sequence: number;
  readonly timeNs: bigint;
  readonly entry: unknown;
}

export interface ClosedHistory {
  readonly key: string;
  readonly label: string;
  readonly timeNs: bigint;
}

export interface SetAside {
  readonly collection: string;
  readonly key: string;
  readonly why: string;
  readonly at: string;
}
