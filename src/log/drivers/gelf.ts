/** Graylog's GELF 1.1 over UDP (compressed, in chunks) and TCP (NUL-terminated). Source: moby daemon/logger/gelf, Graylog's page on GELF. */
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { deflate, gzip } from 'node:zlib';

import { refuse, type Options } from '../option-values.ts';
import type { LogEntry } from '../port.ts';
import { isTransportUrl, parseAddress, type Address } from './address.ts';
import { UdpSender } from './datagram.ts';
import {
  textOf,
  type Destination,
  type DriverHost,
  type LogDriver,
  type MessageSource,
  type RetryLimits,
} from './driver.ts';
import { StreamConnection } from './stream-connection.ts';

const CHUNK_BYTES = 1420; // what go-gelf sends: an Ethernet frame
const CHUNK_HEAD_BYTES = 12;
const CHUNKS_MAX = 128;
/** go-gelf's. */
const TCP_RECONNECTS = 3;
const LEVEL_ERROR = 3;
const LEVEL_INFO = 6;

const compressGzip = promisify<Buffer, { level: number }, Buffer>(gzip);
const compressZlib = promisify<Buffer, { level: number }, Buffer>(deflate);

export const gelf: LogDriver = {
  name: 'gelf',
  options: [
    'gelf-address', 'gelf-compression-level', 'gelf-compression-type', 'gelf-tcp-max-reconnect',
    'gelf-tcp-reconnect-delay', 'tag', 'labels', 'labels-regex', 'env', 'env-regex',
  ], // prettier-ignore
  unknown: (option) => `unknown log opt ${JSON.stringify(option)} for gelf log driver`,
  check(options) {
    const { scheme } = addressOf(options['gelf-address'] ?? '');
    for (const [key, value] of Object.entries(options)) {
      const unknown = `unknown value ${JSON.stringify(value)} for log opt ${JSON.stringify(key)} for gelf log driver`;
      if (key.startsWith('gelf-compression-') && scheme !== 'udp') refuse('compression is only supported on UDP');
      if (key === 'gelf-compression-level' && !/^(?:-1|\d)$/.test(value)) refuse(unknown);
      if (key === 'gelf-compression-type' && !['gzip', 'zlib', 'none'].includes(value)) refuse(unknown);
      if (key.startsWith('gelf-tcp-')) {
        if (scheme !== 'tcp') refuse(`${JSON.stringify(key)} is only valid for TCP`);
        if (!/^\d+$/.test(value)) refuse(`${JSON.stringify(key)} must be a positive integer`);
      }
    }
  },
  open: (source, host) => openGelf(source, host),
};

function addressOf(text: string): Address & { readonly port: number } {
  if (text === '') refuse('gelf-address is a required parameter');
  if (!isTransportUrl(text)) refuse(`gelf-address should be in form proto://address, got ${text}`);
  const address = parseAddress(text);
  if (address === null || !['tcp', 'udp'].includes(address.scheme)) refuse('gelf: endpoint needs to be TCP or UDP');
  const { port } = address;
  if (port === null) refuse('gelf: please provide gelf-address as proto://host:port');
  return { ...address, port };
}

function openGelf(source: MessageSource, host: DriverHost): Destination {
  const { options } = source;
  const { scheme, host: name, port } = addressOf(options['gelf-address'] ?? '');
  const format = formatter(source, host.hostname);
  if (scheme === 'tcp')
    return new GelfOverTcp(format, new StreamConnection({ kind: 'tcp', host: name, port }), reconnectsOf(options));
  const level = Number(options['gelf-compression-level'] ?? 1); // go-gelf: flate.BestSpeed
  const type = options['gelf-compression-type'] ?? 'gzip';
  const compress = (bytes: Buffer): Promise<Buffer> => {
    if (type === 'none') return Promise.resolve(bytes);
    return type === 'gzip' ? compressGzip(bytes, { level }) : compressZlib(bytes, { level });
  };
  return new GelfOverUdp(format, new UdpSender(name, port), compress);
}

/** Docker's defaults count only along with one of the options: who asks for nothing loses nothing. */
function reconnectsOf(options: Options): RetryLimits | null {
  const { 'gelf-tcp-max-reconnect': most, 'gelf-tcp-reconnect-delay': delayS } = options;
  if (most === undefined && delayS === undefined) return null;
  return { attempts: Number(most ?? TCP_RECONNECTS), waitMs: Number(delayS ?? 1) * 1000 };
}

type Format = (entry: LogEntry) => Buffer;

function formatter({ subject, tag, attributes }: MessageSource, hostname: string): Format {
  const extra: Record<string, string> = {
    _command: subject.command.join(' '),
    _container_id: subject.containerId,
    _container_name: subject.containerName,
    _created: subject.createdAt,
    _image_id: subject.imageId,
    _image_name: subject.imageName,
    _tag: tag,
  };
  for (const [key, value] of Object.entries(attributes)) extra[key.startsWith('_') ? key : `_${key}`] = value;
  return (entry) =>
    Buffer.from(
      JSON.stringify({
        version: '1.1',
        host: hostname,
        short_message: textOf(entry),
        timestamp: Number(entry.timeNs / 1_000_000n) / 1000,
        level: entry.stream === 'stderr' ? LEVEL_ERROR : LEVEL_INFO,
        ...extra,
      }),
    );
}

class GelfOverTcp implements Destination {
  readonly confirms = 'connection';
  readonly lingerMs = 0;
  readonly retry: RetryLimits | null;
  readonly #format: Format;
  readonly #connection: StreamConnection;

  constructor(format: Format, connection: StreamConnection, retry: RetryLimits | null) {
    this.#format = format;
    this.#connection = connection;
    this.retry = retry;
  }

  get isBroken(): boolean {
    return this.#connection.isBroken;
  }

  async send(batch: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    const end = Buffer.of(0);
    await this.#connection.write(Buffer.concat(batch.flatMap((entry) => [this.#format(entry), end])), signal);
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }
}

class GelfOverUdp implements Destination {
  readonly confirms = 'none';
  readonly lingerMs = 0;
  readonly isBroken = false;
  readonly #format: Format;
  readonly #sender: UdpSender;
  readonly #compress: (bytes: Buffer) => Promise<Buffer>;

  constructor(format: Format, sender: UdpSender, compress: (bytes: Buffer) => Promise<Buffer>) {
    this.#format = format;
    this.#sender = sender;
    this.#compress = compress;
  }

  async send(batch: readonly LogEntry[]): Promise<void> {
    for (const entry of batch) {
      // oxlint-disable-next-line no-await-in-loop
      for (const datagram of chunksOf(await this.#compress(this.#format(entry)))) await this.#sender.send(datagram);
    }
  }

  [Symbol.dispose](): void {
    this.#sender[Symbol.dispose]();
  }
}

/** 16 KiB of a line with everything escaped still fits into 128 chunks. */
function chunksOf(message: Buffer): Buffer[] {
  if (message.length <= CHUNK_BYTES) return [message];
  const size = CHUNK_BYTES - CHUNK_HEAD_BYTES;
  const count = Math.ceil(message.length / size);
  if (count > CHUNKS_MAX) return []; // no GELF server takes it
  const id = randomBytes(8);
  return Array.from({ length: count }, (_, i) =>
    Buffer.concat([Buffer.of(0x1e, 0x0f), id, Buffer.of(i, count), message.subarray(i * size, (i + 1) * size)]),
  );
}
