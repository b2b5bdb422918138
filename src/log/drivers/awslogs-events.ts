/**
 * Lines become events of CloudWatch Logs: each line one, or with a pattern all lines from one that matches to the next.
 * Source: moby daemon/logger/awslogs (v28), the limits of PutLogEvents. Pure.
 */
import { compileGoRegExp, type GoRegExp } from '../go-regexp.ts';
import { AT_START, type Options } from '../option-values.ts';
import type { LogEntry } from '../port.ts';
import { textOf } from './driver.ts';

/** Of one request: 1 MiB with 26 bytes for each event, 10,000 events, 24 hours. */
const EVENT_OVERHEAD_BYTES = 26;
const REQUEST_BYTES_MAX = 1_048_576;
const EVENTS_MAX = 10_000;
const SPAN_MS_MAX = 24 * 3_600_000 - 1;
/** Of one event's text. */
const EVENT_BYTES_MAX = 262_144 - EVENT_OVERHEAD_BYTES;

/** What strftime's directives stand for in a line. */
const DIRECTIVES: Readonly<Record<string, string>> = {
  a: '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)',
  A: '(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day',
  w: '[0-6]',
  d: '(?:0[1-9]|[12]\\d|3[01])',
  b: '(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)',
  B: '(?:January|February|March|April|May|June|July|August|September|October|November|December)',
  m: '(?:0[1-9]|1[0-2])',
  Y: '\\d{4}',
  y: '\\d{2}',
  H: '(?:[01]\\d|2[0-3])',
  I: '(?:0\\d|1[0-2])',
  p: '[AP]M',
  M: '[0-5]\\d',
  S: '[0-5]\\d',
  f: '\\d{6}',
  z: '[+-]\\d{4}',
  Z: '[A-Z]{1,4}T',
  j: '(?:[0-2]\\d\\d|3[0-5]\\d|36[0-6])',
  L: '\\.\\d{3}',
};

export interface AwsEvent {
  readonly timestampMs: number;
  readonly message: string;
  /** Of the log, that are in it. */
  readonly lines: number;
}

/** null: each line is an event. @throws {EngineError} LOG_OPTION_INVALID */
export function multilinePattern(options: Options): GoRegExp | null {
  const format = options['awslogs-datetime-format'] ?? '';
  const pattern =
    format === ''
      ? (options['awslogs-multiline-pattern'] ?? '')
      : format.replace(/%(.)/gs, (_, directive: string) => DIRECTIVES[directive] ?? '');
  if (pattern === '') return null;
  return compileGoRegExp(
    pattern,
    `${AT_START}awslogs could not parse multiline pattern key ${JSON.stringify(pattern)}: `,
  );
}

/** An event that is not whole yet. */
export interface OpenEvent {
  readonly timestampMs: number;
  readonly text: string;
  readonly bytes: number;
  readonly lines: number;
}

/**
 * Continues `open` (null: nothing is open) with a batch. `next`: what is open behind it; `heldFrom`: the entry of the batch
 * where that began, 0 if before it. An event that is older than `ageMs` when a line comes is whole, as in Docker.
 */
export function assembleEvents(
  batch: readonly LogEntry[],
  pattern: GoRegExp,
  ageMs: number,
  open: OpenEvent | null,
): { readonly events: readonly AwsEvent[]; readonly next: OpenEvent | null; readonly heldFrom: number } {
  const events: AwsEvent[] = [];
  let current = open;
  let heldFrom = 0;
  for (const [i, entry] of batch.entries()) {
    const line = textOf(entry);
    const bytes = Buffer.byteLength(line) + 1;
    const timestampMs = Number(entry.timeNs / 1_000_000n);
    const isWhole =
      current !== null &&
      (pattern.test(line) || current.bytes + bytes > EVENT_BYTES_MAX || timestampMs - current.timestampMs >= ageMs);
    if (current !== null && isWhole) {
      events.push(closed(current));
      current = null;
    }
    if (current === null) heldFrom = i;
    current = {
      timestampMs: current?.timestampMs ?? timestampMs,
      text: `${current?.text ?? ''}${line}\n`,
      bytes: (current?.bytes ?? 0) + bytes,
      lines: (current?.lines ?? 0) + 1,
    };
  }
  return { events, next: current, heldFrom };
}

export function closed({ timestampMs, text, lines }: OpenEvent): AwsEvent {
  return { timestampMs, message: text, lines };
}

/** Empty lines are no events. */
export function lineEvents(batch: readonly LogEntry[]): AwsEvent[] {
  return batch.flatMap((entry) => {
    const message = textOf(entry);
    return message === '' ? [] : { timestampMs: Number(entry.timeNs / 1_000_000n), message, lines: 1 };
  });
}

/** As many events a request as the service takes, in the order of their times. */
export function* requestsOf(events: readonly AwsEvent[]): Generator<AwsEvent[]> {
  let request: AwsEvent[] = [];
  let sizeBytes = 0;
  for (const event of events.toSorted((a, b) => a.timestampMs - b.timestampMs)) {
    const bytes = Buffer.byteLength(event.message) + EVENT_OVERHEAD_BYTES;
    const first = request[0];
    if (
      first !== undefined &&
      (sizeBytes + bytes > REQUEST_BYTES_MAX ||
        request.length === EVENTS_MAX ||
        event.timestampMs - first.timestampMs > SPAN_MS_MAX)
    ) {
      yield request;
      request = [];
      sizeBytes = 0;
    }
    request.push(event);
    sizeBytes += bytes;
  }
  if (request.length > 0) yield request;
}
