/** Splunk's HTTP Event Collector. Source: moby daemon/logger/splunk (v28). */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

import { AT_START, flag, refuseAtStart, requireBool, type Options } from '../option-values.ts';
import type { LogEntry } from '../port.ts';
import {
  RefusedForGood,
  textOf,
  type Destination,
  type DriverHost,
  type LogDriver,
  type MessageSource,
} from './driver.ts';
import { HttpClient } from './http-client.ts';

const EVENT_PATH = '/services/collector/event/1.0';
const LINGER_MS = 1000;
const compress = promisify<Buffer, { level: number }, Buffer>(gzip);

export const splunk: LogDriver = {
  name: 'splunk',
  options: [
    'splunk-url', 'splunk-token', 'splunk-source', 'splunk-sourcetype', 'splunk-index', 'splunk-capath', 'splunk-caname',
    'splunk-insecureskipverify', 'splunk-format', 'splunk-verify-connection', 'splunk-gzip', 'splunk-gzip-level',
    'splunk-index-acknowledgment', 'env', 'env-regex', 'labels', 'labels-regex', 'tag',
  ], // prettier-ignore
  unknown: (option) => `unknown log opt '${option}' for splunk log driver`,
  check(options) {
    urlOf(options);
    if (options['splunk-token'] === undefined) refuseAtStart('splunk: splunk-token is expected');
    for (const name of ['insecureskipverify', 'verify-connection', 'gzip', 'index-acknowledgment'])
      requireBool(options[`splunk-${name}`] ?? '', AT_START);
    const format = options['splunk-format'];
    if (format !== undefined && !['inline', 'json', 'raw'].includes(format))
      refuseAtStart(`Unknown format specified ${format}, supported formats are inline, json and raw`);
    const level = options['splunk-gzip-level'];
    if (level !== undefined && !/^(?:-1|\d)$/.test(level))
      refuseAtStart(`not supported level '${level}' for splunk-gzip-level (supported values between -1 and 9)`);
    const authority = options['splunk-capath'];
    if (authority !== undefined) readAuthority(authority);
  },
  open: (source, host) => new Splunk(source, host),
};

function urlOf(options: Options): URL {
  const text = options['splunk-url'];
  if (text === undefined) refuseAtStart('splunk: splunk-url is expected');
  const expected = `splunk: expected format scheme://dns_name_or_ip:port for splunk-url`;
  if (!URL.canParse(text)) refuseAtStart(`splunk: failed to parse ${text} as url value in splunk-url`);
  const url = new URL(text);
  if (!['http:', 'https:'].includes(url.protocol) || url.pathname !== '/' || url.search !== '' || url.hash !== '')
    refuseAtStart(expected);
  url.pathname = EVENT_PATH;
  return url;
}

function readAuthority(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return refuseAtStart(`open ${path}: no such file or directory`);
  }
}

class Splunk implements Destination {
  readonly confirms = 'answer';
  readonly lingerMs = LINGER_MS;
  readonly isBroken = false;
  readonly #source: MessageSource;
  readonly #host: string;
  readonly #url: URL;
  readonly #client: HttpClient;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(source: MessageSource, { hostname }: DriverHost) {
    const { options } = source;
    this.#source = source;
    this.#host = hostname;
    this.#url = urlOf(options);
    const authority = options['splunk-capath'];
    this.#client = new HttpClient({
      rejectUnauthorized: !flag(options, 'splunk-insecureskipverify'),
      ...(authority !== undefined && { ca: readAuthority(authority) }),
      ...(options['splunk-caname'] !== undefined && { servername: options['splunk-caname'] }),
    });
    this.#headers = {
      authorization: `Splunk ${options['splunk-token'] ?? ''}`,
      ...(flag(options, 'splunk-gzip') && { 'content-encoding': 'gzip' }),
      ...(flag(options, 'splunk-index-acknowledgment') && { 'x-splunk-request-channel': randomUUID() }),
    };
  }

  async send(batch: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    const { options } = this.#source;
    const messages = batch.flatMap((entry) => this.#message(entry) ?? []);
    if (messages.length === 0) return;
    let body = Buffer.from(messages.join(''));
    if (flag(options, 'splunk-gzip'))
      body = Buffer.from(await compress(body, { level: Number(options['splunk-gzip-level'] ?? -1) }));
    const { status, body: said } = await this.#client.send('POST', this.#url, this.#headers, body, signal);
    if (status === 200) return;
    const message = `splunk: failed to send event - ${status} - ${said.slice(0, 500)}`;
    // HEC answers 400 for a body that it cannot take, and 413 for one that is too large: it will never.
    if (status === 400 || status === 413) throw new RefusedForGood(message);
    throw new Error(message);
  }

  /** null: HEC takes no event without text. */
  #message(entry: LogEntry): string | null {
    const { options } = this.#source;
    const event = this.#event(entry);
    if (event === null) return null;
    const optional = (name: string, key: string): Record<string, string> =>
      (options[name] ?? '') === '' ? {} : { [key]: options[name] as string };
    const rest = JSON.stringify({
      time: `${entry.timeNs / 1_000_000_000n}.${String((entry.timeNs / 1000n) % 1_000_000n).padStart(6, '0')}`,
      host: this.#host,
      ...optional('splunk-source', 'source'),
      ...optional('splunk-sourcetype', 'sourcetype'),
      ...optional('splunk-index', 'index'),
    });
    return `{"event":${event},${rest.slice(1)}`;
  }

  /** As JSON. A line that is JSON goes in as it is: numbers keep their digits, members their order. */
  #event(entry: LogEntry): string | null {
    const { options, tag, attributes } = this.#source;
    const format = options['splunk-format'] ?? 'inline';
    const line = textOf(entry);
    if (format === 'raw') {
      if (line.trim() === '') return null;
      const pairs = Object.entries(attributes).map(([key, value]) => `${key}=${value} `);
      return JSON.stringify(`${tag === '' ? '' : `${tag} `}${pairs.join('')}${line}`);
    }
    const text = format === 'json' && isJson(line) ? line.trim() : JSON.stringify(line);
    const rest = JSON.stringify({
      source: entry.stream,
      ...(tag !== '' && { tag }),
      ...(Object.keys(attributes).length > 0 && { attrs: attributes }),
    });
    return `{"line":${text},${rest.slice(1)}`;
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }
}

function isJson(line: string): boolean {
  try {
    JSON.parse(line);
    return true;
  } catch {
    return false;
  }
}
