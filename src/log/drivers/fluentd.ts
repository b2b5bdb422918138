/**
 * Fluentd's forward protocol over tcp, tls or unix: one Forward-mode message a batch, acknowledged if asked for.
 * Source: moby daemon/logger/fluentd (v28), Fluentd's Forward Protocol Specification v1.
 */
import { randomBytes } from 'node:crypto';
import { isIP } from 'node:net';

import { parseSize, refuse, requireBool, requireDurationMs, type Options } from '../option-values.ts';
import type { LogEntry } from '../port.ts';
import { textOf, type Destination, type LogDriver, type MessageSource, type RetryLimits } from './driver.ts';
import { EventTime, pack, type Packable } from './msgpack.ts';
import { PartialLines, type Piece } from './partial.ts';
import { StreamConnection, type StreamTarget } from './stream-connection.ts';

const PORT = 24224;
const HOST = '127.0.0.1';
/** {"ack": "…"} of ours is 36 bytes. */
const ANSWER_BYTES_MAX = 4096;
const RETRY_WAIT_MS = 1000;
const RETRIES_MAX = 2 ** 31 - 1;

export const fluentd: LogDriver = {
  name: 'fluentd',
  options: [
    'env', 'env-regex', 'labels', 'labels-regex', 'tag', 'fluentd-address', 'fluentd-async',
    'fluentd-async-reconnect-interval', 'fluentd-buffer-limit', 'fluentd-max-retries', 'fluentd-request-ack',
    'fluentd-retry-wait', 'fluentd-sub-second-precision', 'fluentd-write-timeout',
  ], // prettier-ignore
  unknown: (option) => `unknown log opt '${option}' for fluentd log driver`,
  check: (options) => void settingsOf(options),
  open: (source) => new Fluentd(source),
};

interface Settings {
  readonly target: StreamTarget;
  readonly hasFraction: boolean;
  readonly wantsAck: boolean;
  readonly writeMs: number | null;
  readonly reconnectMs: number | null;
  readonly retry: RetryLimits | null;
}

/** @throws {EngineError} LOG_OPTION_INVALID */
function settingsOf(options: Options): Settings {
  const text = (name: string): string => options[`fluentd-${name}`] ?? '';
  const target = targetOf(text('address'));
  const limit = text('buffer-limit');
  if (limit !== '' && parseSize(limit, 1024) === null) refuse(`invalid size: '${limit}'`);
  const waitMs = text('retry-wait') === '' ? RETRY_WAIT_MS : requireDurationMs(text('retry-wait'));
  const retries = text('max-retries');
  if (retries !== '' && !/^\d+$/.test(retries))
    refuse(`strconv.ParseUint: parsing ${JSON.stringify(retries)}: invalid syntax`);
  if (Number(retries) > RETRIES_MAX) refuse('invalid fluentd-max-retries: value out of range');
  requireBool(text('async'));
  const hasFraction = requireBool(text('sub-second-precision'));
  const wantsAck = requireBool(text('request-ack'));
  const isLimited = text('retry-wait') !== '' || retries !== '';
  return {
    target,
    hasFraction,
    wantsAck,
    writeMs: writeTimeoutOf(text('write-timeout')),
    reconnectMs: reconnectIntervalOf(text('async-reconnect-interval')),
    retry: isLimited ? { waitMs, attempts: retries === '' ? Infinity : Number(retries) } : null,
  };
}

/** null: never by itself. */
function reconnectIntervalOf(text: string): number | null {
  const invalid = 'invalid value for fluentd-async-reconnect-interval: ';
  const ms = text === '' ? 0 : requireDurationMs(text, invalid);
  if (ms === 0) return null;
  if (ms < 100 || ms > 10_000) refuse(`${invalid}value (${JSON.stringify(text)}) must be between 100ms and 10s`);
  return ms;
}

/** null: as long as any batch may take. */
function writeTimeoutOf(text: string): number | null {
  const invalid = 'invalid value for fluentd-write-timeout: value must be a duration';
  const ms = text === '' ? 0 : requireDurationMs(text, `${invalid}: `);
  if (ms < 0) refuse(`${invalid} that is non-negative`);
  return ms === 0 ? null : ms;
}

/** @throws {EngineError} LOG_OPTION_INVALID */
function targetOf(text: string): StreamTarget {
  if (text === '') return { kind: 'tcp', host: HOST, port: PORT };
  const invalid = (because: string): never => refuse(`invalid fluentd-address (${text}): ${because}`);
  const match = /^([^:/?#]*):\/\/([^/?#]*)(.*)$/.exec(text.includes('://') ? text : `tcp://${text}`);
  const [, scheme = '', authority = '', path = ''] = match ?? [];
  if (scheme === '') invalid(`parse ${JSON.stringify(text)}: missing protocol scheme`);
  if (scheme === 'unix') {
    if (/^\/*$/.test(path)) invalid('path is empty');
    return { kind: 'unix', path };
  }
  if (scheme !== 'tcp' && scheme !== 'tls') invalid(`unsupported scheme: '${scheme}'`);
  if (path !== '') invalid('should not contain a path element');
  const [, bracketed, name, portText = ''] = /^(?:\[([^\]]*)\]|([^:]*))(?::(.*))?$/.exec(authority) ?? [];
  if ((bracketed ?? name) === undefined || !/^\d*$/.test(portText))
    invalid(`parse ${JSON.stringify(text)}: invalid port ${JSON.stringify(`:${portText}`)} after host`);
  if (Number(portText) > 65_535)
    invalid(`invalid port: strconv.ParseUint: parsing ${JSON.stringify(portText)}: value out of range`);
  const host = bracketed || name || HOST;
  const port = portText === '' ? PORT : Number(portText);
  if (scheme === 'tcp') return { kind: 'tcp', host, port };
  return { kind: 'tls', options: async () => ({ host, port, servername: isIP(host) === 0 ? host : '' }) };
}

class Fluentd implements Destination {
  readonly confirms: 'answer' | 'connection';
  readonly lingerMs = 0;
  readonly retry: RetryLimits | null;
  readonly #connection: StreamConnection;
  readonly #source: MessageSource;
  readonly #settings: Settings;
  readonly #pieces = new PartialLines();

  constructor(source: MessageSource) {
    this.#source = source;
    this.#settings = settingsOf(source.options);
    const { target, wantsAck, retry, reconnectMs } = this.#settings;
    this.confirms = wantsAck ? 'answer' : 'connection';
    this.retry = retry;
    this.#connection = new StreamConnection(target, reconnectMs);
  }

  get isBroken(): boolean {
    return this.#connection.isBroken;
  }

  async send(batch: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    const pieces = this.#pieces.of(batch);
    const events = batch.map((entry, i) => [this.#timeOf(entry), this.#recordOf(entry, pieces[i] ?? null)] as const);
    const { tag } = this.#source;
    const option: Record<string, Packable> = { size: events.length };
    let answered = Promise.resolve();
    if (this.confirms === 'answer') {
      const chunk = randomBytes(16).toString('base64');
      option['chunk'] = chunk;
      answered = this.#answer(chunk, signal);
      answered.catch(() => {});
    }
    const { writeMs } = this.#settings;
    const inTime = writeMs === null ? signal : AbortSignal.any([signal, AbortSignal.timeout(writeMs)]);
    await this.#connection.write(pack([tag, events, option]), inTime);
    await answered;
    this.#pieces.sent(batch, pieces);
  }

  #timeOf({ timeNs }: LogEntry): EventTime | number {
    return this.#settings.hasFraction ? new EventTime(timeNs) : Number(timeNs / 1_000_000_000n);
  }

  #recordOf(entry: LogEntry, piece: Piece | null): Record<string, string> {
    const { subject, attributes } = this.#source;
    return {
      container_id: subject.containerId,
      container_name: `/${subject.containerName}`,
      source: entry.stream,
      log: textOf(entry),
      ...attributes,
      ...(piece !== null && {
        partial_message: 'true',
        partial_id: piece.id,
        partial_ordinal: String(piece.ordinal),
        partial_last: String(piece.isLast),
      }),
    };
  }

  /** The server answers {"ack": chunk}; anything else means that the connection is of no use. */
  #answer(chunk: string, signal: AbortSignal): Promise<void> {
    const expected = pack({ ack: chunk });
    return new Promise((resolve, reject) => {
      let got = Buffer.alloc(0);
      const abort = (): void => {
        this.#connection.reset();
        reject(new Error('fluentd does not acknowledge'));
      };
      signal.addEventListener('abort', abort, { once: true });
      this.#connection.onData = (bytes) => {
        got = Buffer.concat([got, bytes]);
        if (got.includes(expected)) {
          signal.removeEventListener('abort', abort);
          resolve();
        } else if (got.length > ANSWER_BYTES_MAX) abort();
      };
    });
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }
}
