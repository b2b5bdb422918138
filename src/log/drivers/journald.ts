/** systemd's journal by its native protocol. Source: moby daemon/logger/journald (v28), systemd's JOURNAL_NATIVE_PROTOCOL. */
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';

import { refuseAtStart } from '../option-values.ts';
import type { LogEntry } from '../port.ts';
import { textOf, type Destination, type DriverHost, type LogDriver, type MessageSource } from './driver.ts';
import { PartialLines, type Piece } from './partial.ts';
import { UnixDatagrams } from './unix-datagrams.ts';

/** Another for tests, and for daemons in containers. */
const SOCKET_PATH = process.env['LONGSHORE_JOURNAL_SOCKET'] || '/run/systemd/journal/socket';

export const journald: LogDriver = {
  name: 'journald',
  options: ['labels', 'labels-regex', 'env', 'env-regex', 'tag'],
  unknown: (option) => `unknown log opt '${option}' for journald log driver`,
  check() {
    if (!hasJournal()) refuseAtStart('journald is not enabled on this host');
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
  readonly #datagrams: UnixDatagrams;
  readonly #path: string;
  readonly #pieces = new PartialLines();
  /** Tells the ordinals of this run of the driver from others'. */
  readonly #epoch = randomBytes(32).toString('hex');
  #ordinal = 0n;

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
    this.#datagrams = new UnixDatagrams(sendDatagrams, 'memfd');
    this.#path = path;
  }

  send(batch: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    let pieces: readonly (Piece | null)[] = [];
    const format = (left: readonly LogEntry[]): Buffer[] => {
      pieces = this.#pieces.of(left);
      return left.map((entry, i) => this.#message(entry, this.#ordinal + BigInt(i) + 1n, pieces[i] ?? null));
    };
    return this.#datagrams.send(this.#path, batch, signal, format, (left, count) => {
      this.#pieces.sent(left, pieces, count);
      this.#ordinal += BigInt(count);
    });
  }

  #message(entry: LogEntry, ordinal: bigint, piece: Piece | null): Buffer {
    return formatFields({
      ...this.#fields,
      MESSAGE: textOf(entry),
      PRIORITY: entry.stream === 'stderr' ? '3' : '6',
      SYSLOG_TIMESTAMP: entry.time,
      ...(piece !== null && {
        CONTAINER_PARTIAL_ID: piece.id,
        CONTAINER_PARTIAL_ORDINAL: String(piece.ordinal),
        CONTAINER_PARTIAL_LAST: String(piece.isLast),
        ...(!piece.isLast && { CONTAINER_PARTIAL_MESSAGE: 'true' }),
      }),
      CONTAINER_LOG_EPOCH: this.#epoch,
      CONTAINER_LOG_ORDINAL: String(ordinal),
    });
  }

  [Symbol.dispose](): void {}
}

/** Upper case, digits and underscores, not beginning with an underscore, at most 64. "": nothing is left of it. */
export function fieldName(key: string): string {
  return key
    .replace(/[a-z]/g, (letter) => letter.toUpperCase())
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
