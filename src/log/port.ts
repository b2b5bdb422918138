/** Container output on disk: who writes it (the shim) and who reads it (log/) agree here. */

/** Docker's json-file format. Rotated files are path.1, path.2 … (newest first), with .gz when compressed. */
export interface LogFileOptions {
  readonly path: string;
  /** Rotate before a line would make the file larger; null: never. */
  readonly maxSizeBytes: number | null;
  /** Files kept, the current one included; at least 1. */
  readonly maxFiles: number;
  /** Written into each line as "attrs" when not empty. */
  readonly attributes: Readonly<Record<string, string>>;
}

export interface LogReadOptions {
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Wall clock in nanoseconds; entries from `sinceNs` on, up to and with `untilNs`. null: no bound. */
  readonly sinceNs: bigint | null;
  readonly untilNs: bigint | null;
  /** The last N entries only; null: all. */
  readonly tail: number | null;
  readonly follow: boolean;
}

export interface LogEntry {
  readonly stream: 'stdout' | 'stderr';
  /** The bytes as the container wrote them, with the newline if there was one; at most 16 KiB. */
  readonly line: Buffer;
  readonly timeNs: bigint;
  /** As in the file: RFC 3339 with nanoseconds. */
  readonly time: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/**
 * Batches of entries, so that a reader pays for a chunk and not for a line. Ends after the last entry, or when
 * following, once `ended` is aborted and everything written was handed over, or when `signal` is aborted.
 */
export type ReadLog = (
  file: LogFileOptions,
  options: LogReadOptions,
  signals: { readonly signal: AbortSignal; readonly ended: AbortSignal },
) => AsyncIterable<LogEntry[]>;
