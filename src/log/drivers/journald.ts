/** systemd's journal by its native protocol. Source: moby daemon/logger/journald (v28), systemd's JOURNAL_NATIVE_PROTOCOL. */
import { statSync } from 'node:fs';

import type { LogEntry } from '../port.ts';
import { refuse, textOf, type Destination, type DriverHost, type LogDriver, type MessageSource } from './driver.ts';

const SOCKET_PATH = '/run/systemd/journal/socket';

export const journald: LogDriver = {
  name: 'journald',
  options: ['labels', 'labels-regex', 'env', 'env-regex', 'tag'],
  unknown: (option) => `unknown log opt '${option}' for journald log driver`,
  check() {
    if (!hasJournal()) refuse('journald is not enabled on this host');
  },
  open: (source, host) => new Journald(source, host.sendDatagrams),
};

export function hasJournal(path = SOCKET_PATH): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isSocket() === true;
}

export class Journald implements Destination {
  readonly confirms = 'none';
  readonly lingerMs = 0;
  readonly isBroken = false;
  readonly #fields: Readonly<Record<string, string>>;
  readonly #sendDatagrams: DriverHost['sendDatagrams'];
  readonly #path: string;
  #ordinal = 0n;
  #of: readonly LogEntry[] | null = null;
  #sent = 0;

  constructor(source: MessageSource, sendDatagrams: DriverHost['sendDatagrams'], path = SOCKET_PATH) {
    const { subject, tag, attributes } = source;
    const own: Record<string, string> = {
      CONTAINER_ID: subject.containerId.slice(0, 12),
      CONTAINER_ID_FULL: subject.containerId,
      CONTAINER_NAME: subject.containerName,
      CONTAINER_TAG: tag,
      IMAGE_NAME: subject.imageName,
      SYSLOG_IDENTIFIER: tag,
    };
    for (const [key, value] of Object.entries(attributes)) {
      const name = fieldName(key);
      if (name !== '') own[name] = value;
    }
    this.#fields = own;
    this.#sendDatagrams = sendDatagrams;
    this.#path = path;
  }

  async send(batch: readonly LogEntry[]): Promise<void> {
    if (this.#of !== batch) {
      this.#of = batch;
      this.#sent = 0;
    }
    const messages = batch.slice(this.#sent).map((entry, i) => this.#message(entry, this.#ordinal + BigInt(i) + 1n));
    const taken = await this.#sendDatagrams(this.#path, messages);
    this.#sent += taken;
    this.#ordinal += BigInt(taken);
    if (this.#sent < batch.length) throw new Error('the journal does not take more for now');
    this.#of = null;
  }

  #message(entry: LogEntry, ordinal: bigint): Buffer {
    return formatFields({
      ...this.#fields,
      MESSAGE: textOf(entry),
      PRIORITY: entry.stream === 'stderr' ? '3' : '6',
      SYSLOG_TIMESTAMP: entry.time,
      CONTAINER_LOG_ORDINAL: String(ordinal),
      ...(entry.line.at(-1) === 0x0a ? {} : { CONTAINER_PARTIAL_MESSAGE: 'true' }),
    });
  }

  [Symbol.dispose](): void {}
}

/** Upper case, digits and underscores, not beginning with an underscore, at most 64. "": nothing is left of it. */
export function fieldName(key: string): string {
  return key
    .toUpperCase()
    .replace(/[^A-Z0-9]/g, '_')
    .replace(/^_+/, '')
    .slice(0, 64);
}

/** NAME=value\n, and where the value has newlines NAME\n, its length in 64 bits (little-endian), value\n. */
export function formatFields(fields: Readonly<Record<string, string>>): Buffer {
  const pieces: Buffer[] = [];
  for (const [name, value] of Object.entries(fields)) {
    if (!value.includes('\n')) {
      pieces.push(Buffer.from(`${name}=${value}\n`));
      continue;
    }
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(bytes.length));
    pieces.push(Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n'));
  }
  return Buffer.concat(pieces);
}
