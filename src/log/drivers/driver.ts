/** What a driver for a log service is: options that are checked when a container is made, and a way to send batches. */
import type { LogSubject } from '../log-attributes.ts';
import type { Options } from '../option-values.ts';
import type { LogEntry } from '../port.ts';

export interface LogDriver {
  readonly name: string;
  /** Its own options, without `mode`, `max-buffer-size` and `cache-…`. */
  readonly options: readonly string[];
  /** Docker's words for an option that it does not know. */
  unknown(option: string): string;
  /** @throws {EngineError} LOG_OPTION_INVALID, OPTION_UNSUPPORTED */
  check(options: Options): void;
  /** Never connects: that comes with the first batch. */
  open(message: MessageSource, host: DriverHost): Destination;
}

/** What the messages of one container are made of. */
export interface MessageSource {
  readonly options: Options;
  readonly subject: LogSubject;
  /** The expanded tag, or the container's short ID; "" where the user asked for none. */
  readonly tag: string;
  /** Labels and variables that were selected. */
  readonly attributes: Readonly<Record<string, string>>;
}

/** What drivers need of the host; daemon/ fills it in. */
export interface DriverHost {
  readonly hostname: string;
  /** The daemon's environment: credentials of clouds. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Sends on an AF_UNIX datagram socket, which Node cannot; how many were taken. See the kernel's port. */
  readonly sendDatagrams: (path: string, messages: readonly Uint8Array[], large?: 'error' | 'memfd') => Promise<number>;
}

export interface Destination extends Disposable {
  /**
   * What a resolved send() means: "answer": the service has the batch; "connection": a live connection took it, and it may
   * be lost with that connection; "none": it was sent (datagrams).
   */
  readonly confirms: 'answer' | 'connection' | 'none';
  /** How long to wait for more before a small batch is sent: for services where each batch is a request. */
  readonly lingerMs: number;
  /** The connection that took the last batch is gone. Only of `confirms` "connection". */
  readonly isBroken: boolean;
  /** null: it is tried until it works, after waits that grow. */
  readonly retry?: RetryLimits | null;
  /** All of the batch, in order. A rejected send may have delivered a part of it. */
  send(batch: readonly LogEntry[], signal: AbortSignal): Promise<Sent | void>;
  /** Sends what is held. Only of destinations that hold something. */
  flush?(signal: AbortSignal): Promise<Sent | void>;
  /** What is held will come again. */
  discard?(): void;
}

/** What the user asked for. */
export interface RetryLimits {
  /** Before the first try again; it grows from there. */
  readonly waitMs: number;
  /** What still fails then is dropped and counted. */
  readonly attempts: number;
}

export interface Sent {
  /** How many lines the service refused for good, while it took the others. */
  readonly refused?: number;
  /** From this entry of the batch on they are held: the beginning of an event whose end is still to come. */
  readonly heldFrom?: number;
}

/**
 * A batch that the service will never take, however often it is sent (too large, not valid). It is sent again in parts, so
 * that one line takes no other with it; what is refused alone is dropped and counted.
 */
export class RefusedForGood extends Error {
  override readonly name = 'RefusedForGood';
}

/** The line as services want it: without its newline. */
export function textOf(entry: LogEntry): string {
  const { line } = entry;
  return line.toString('utf8', 0, line.at(-1) === 0x0a ? line.length - 1 : line.length);
}
