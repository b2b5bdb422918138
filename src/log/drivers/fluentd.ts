/**
 * Fluentd's forward protocol over tcp, tls or unix: one Forward-mode message a batch, acknowledged if asked for.
 * Source: moby daemon/logger/fluentd (v28), Fluentd's Forward Protocol Specification v1.
 */
import { randomBytes } from 'node:crypto';

import type { LogEntry } from '../port.ts';
import { isTransportUrl, parseAddress, parseAuthority } from './address.ts';
import { checkBool, flag, refuse, textOf, type Destination, type LogDriver, type MessageSource } from './driver.ts';
import { EventTime, pack } from './msgpack.ts';
import { StreamConnection, type StreamTarget } from './stream-connection.ts';

const PORT = 24224;
const HOST = '127.0.0.1';
/** {"ack": "…"} of ours is 36 bytes. */
const ANSWER_BYTES_MAX = 4096;
const DURATION =
  /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h)(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))*$|^0$/;

export const fluentd: LogDriver = {
  name: 'fluentd',
  options: [
    'env', 'env-regex', 'labels', 'labels-regex', 'tag', 'fluentd-address', 'fluentd-async',
    'fluentd-async-reconnect-interval', 'fluentd-buffer-limit', 'fluentd-max-retries', 'fluentd-request-ack',
    'fluentd-retry-wait', 'fluentd-sub-second-precision', 'fluentd-write-timeout',
  ], // prettier-ignore
  unknown: (option) => `unknown log opt '${option}' for fluentd log driver`,
  check(options) {
    targetOf(options['fluentd-address'] ?? '');
    for (const name of ['fluentd-async', 'fluentd-request-ack', 'fluentd-sub-second-precision'])
      checkBool(options, name);
    const limit = options['fluentd-buffer-limit'] ?? '';
    if (limit !== '' && !/^\d+(?:\.\d+)? ?[kmgtp]?i?b?$/i.test(limit)) refuse(`invalid size: '${limit}'`);
    const retries = options['fluentd-max-retries'] ?? '';
    if (retries !== '' && !/^\d+$/.test(retries))
      refuse(`strconv.ParseUint: parsing ${JSON.stringify(retries)}: invalid syntax`);
    for (const name of ['fluentd-retry-wait', 'fluentd-async-reconnect-interval', 'fluentd-write-timeout']) {
      const text = options[name] ?? '';
      if (text !== '' && !DURATION.test(text)) refuse(`time: invalid duration ${JSON.stringify(text)}`);
    }
  },
  open: (source) => new Fluentd(source),
};

function targetOf(text: string): StreamTarget {
  if (text === '') return { kind: 'tcp', host: HOST, port: PORT };
  const invalid = `invalid fluentd-address ${text}: `;
  if (!isTransportUrl(text)) {
    const plain = parseAuthority(text);
    if (plain === null) refuse(`${invalid}not HOST:PORT`);
    return { kind: 'tcp', host: plain.host || HOST, port: plain.port ?? PORT };
  }
  const address = parseAddress(text);
  if (address === null) refuse(`${invalid}not PROTO://HOST:PORT`);
  const { scheme, host, port, path } = address;
  if (scheme === 'unix') {
    if (path === '') refuse('path is empty');
    return { kind: 'unix', path };
  }
  if (path !== '') refuse(`${invalid}should not contain a path element: ${path}`);
  if (scheme === 'tcp') return { kind: 'tcp', host: host || HOST, port: port ?? PORT };
  if (scheme === 'tls')
    return { kind: 'tls', options: async () => ({ host: host || HOST, port: port ?? PORT, servername: host }) };
  return refuse(`unsupported scheme: '${scheme}'`);
}

class Fluentd implements Destination {
  readonly confirms: 'answer' | 'connection';
  readonly lingerMs = 0;
  readonly #connection: StreamConnection;
  readonly #source: MessageSource;
  readonly #hasFraction: boolean;
  #partial: { readonly id: string; ordinal: number } | null = null;

  constructor(source: MessageSource) {
    this.#source = source;
    this.#hasFraction = flag(source.options, 'fluentd-sub-second-precision');
    this.confirms = flag(source.options, 'fluentd-request-ack') ? 'answer' : 'connection';
    this.#connection = new StreamConnection(targetOf(source.options['fluentd-address'] ?? ''));
  }

  get isBroken(): boolean {
    return this.#connection.isBroken;
  }

  async send(batch: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    const before = this.#partial === null ? null : { ...this.#partial };
    try {
      const events = batch.map((entry) => [this.#timeOf(entry), this.#recordOf(entry)] as const);
      const { tag } = this.#source;
      if (this.confirms === 'connection') {
        await this.#connection.write(pack([tag, events, { size: events.length }]), signal);
        return;
      }
      const chunk = randomBytes(16).toString('base64');
      const answered = this.#answer(chunk, signal);
      answered.catch(() => {});
      await this.#connection.write(pack([tag, events, { size: events.length, chunk }]), signal);
      await answered;
    } catch (error) {
      this.#partial = before;
      throw error;
    }
  }

  #timeOf({ timeNs }: LogEntry): EventTime | number {
    return this.#hasFraction ? new EventTime(timeNs) : Number(timeNs / 1_000_000_000n);
  }

  #recordOf(entry: LogEntry): Record<string, string> {
    const { subject, attributes } = this.#source;
    return {
      container_id: subject.containerId,
      container_name: `/${subject.containerName}`,
      source: entry.stream,
      log: textOf(entry),
      ...attributes,
      ...this.#partialOf(entry),
    };
  }

  /** A line over 16 KiB comes in pieces, and only the last has its newline. */
  #partialOf({ line }: LogEntry): Record<string, string> {
    const isWhole = line.at(-1) === 0x0a;
    if (isWhole && this.#partial === null) return {};
    this.#partial ??= { id: randomBytes(32).toString('hex'), ordinal: 0 };
    this.#partial.ordinal++;
    const { id, ordinal } = this.#partial;
    if (isWhole) this.#partial = null;
    return { partial_message: 'true', partial_id: id, partial_ordinal: String(ordinal), partial_last: String(isWhole) };
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
