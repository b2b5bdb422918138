/** Container output on disk: who writes it (the shim) and who reads it (log/) agree here. */
import type { LogDriver, MessageSource } from './drivers/driver.ts';

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

/** Of the forwarding of one container's log to a service. */
export interface ForwardingStatus {
  readonly driver: string;
  /** Since the daemon started. */
  readonly sentLines: number;
  /** Refused by the service for good, and not sent again. */
  readonly refusedLines: number;
  /** Of the log, that rotation took before it was sent: at least this much, over all time. */
  readonly droppedBytes: number;
  /** How often it did. */
  readonly gaps: number;
  /** "": the service took the last batch. */
  readonly lastError: string;
}

/** Of all containers with one driver since the daemon started; removed ones too. They only grow. */
export interface LogCounters {
  readonly driver: string;
  readonly sentLines: number;
  /** As the containers wrote them. */
  readonly sentBytes: number;
  /** Refused by the service for good, or given up. */
  readonly refusedLines: number;
  /** Of logs, that rotation took before they were sent: at least this much. */
  readonly droppedBytes: number;
  /** Times that a batch could not be sent; most were sent later. */
  readonly failures: number;
}

/**
 * What the daemon does about a log beyond the writing: sends it to a service, packs rotated files. Other logs are not its
 * concern; nothing here is ever waited for.
 */
export interface LogTending {
  /** Before the first output of a run, and for what an earlier run left. Idempotent. */
  begin(containerId: string, log: TendedLog): void;
  /** No more output comes until the next begin(). */
  end(containerId: string): void;
  /** Before the log's files are removed; resolves when they may be. */
  remove(containerId: string): Promise<void>;
  /** null: nothing of it is forwarded. */
  status(containerId: string): ForwardingStatus | null;
  /** Of each driver that forwarded something, for metrics. */
  counters(): readonly LogCounters[];
}

/** Made by tendedLog() of log-options.ts. */
export interface TendedLog {
  readonly file: LogFileOptions;
  readonly service: { readonly driver: LogDriver; readonly source: MessageSource } | null;
  readonly compress: boolean;
}
