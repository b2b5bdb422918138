/**
 * Reads a tar stream entry by entry, with flat memory: ustar, PAX, GNU long names, the sparse formats of GNU tar.
 * Every byte that is not an entry's content goes to `onRaw`, so that the stream can be put together again.
 * Source: POSIX.1-2024 pax; GNU tar manual ("Storing Sparse Files"); Go's archive/tar for what is refused.
 */
import { EngineError } from '../core/engine-error.ts';

import type { ByteSource } from './byte-source.ts';
import {
  BLOCK_BYTES,
  decodeHeader,
  decodeName,
  decodePax,
  malformed,
  parsePaxTime,
  SPARSE_MAP,
  typeOf,
  type RawHeader,
  type TarHeader,
} from './tar-header.ts';

/** Part of a sparse file that has data. */
export interface Segment {
  readonly offset: number;
  readonly length: number;
}

export interface TarEntry extends TarHeader {
  /** Bytes of content in the archive: less than sizeBytes for sparse files. */
  readonly storedBytes: number;
  /** The stored bytes go to these places, one after the other; null: it is not sparse. */
  readonly sparse: readonly Segment[] | null;
}

/** As Go's: nobody has that much in a name or in PAX records. */
const EXTENSION_BYTES_MAX = 1024 * 1024;
const SEGMENTS_MAX = 1_000_000;
const XATTR_PREFIX = 'SCHILY.xattr.';

export class TarReader {
  readonly #source: ByteSource;
  readonly #onRaw: (bytes: Buffer) => Promise<void> | void;
  #contentLeft = 0;
  #paddingLeft = 0;

  /** A promise from `onRaw` holds the reader back. */
  constructor(source: ByteSource, onRaw: (bytes: Buffer) => Promise<void> | void = () => {}) {
    this.#source = source;
    this.#onRaw = onRaw;
  }

  /** The next entry; null at the end, when the whole stream was read. What is left of the one before is skipped. */
  async next(): Promise<TarEntry | null> {
    await this.#finishEntry();
    let pax = new Map<string, Buffer>();
    let longName: string | null = null;
    let longLink: string | null = null;
    for (;;) {
      const raw = await this.#header();
      if (raw === null) return null;
      switch (raw.flag) {
        case 'x':
          pax = decodePax(await this.#extension(raw));
          break;
        case 'g':
          await this.#extension(raw); // global records: no tool that makes images uses them, and Docker skips them
          break;
        case 'L':
          longName = cString(await this.#extension(raw));
          break;
        case 'K':
          longLink = cString(await this.#extension(raw));
          break;
        default:
          return await this.#entry(raw, pax, longName, longLink);
      }
    }
  }

  /** The current entry's content, once. */
  async *content(): AsyncGenerator<Buffer> {
    for (let part; (part = await this.chunk()) !== null;) yield part;
  }

  /** The next part of the current entry's content; null at its end. */
  async chunk(): Promise<Buffer | null> {
    if (this.#contentLeft === 0) return null;
    const part = await this.#source.some(this.#contentLeft);
    if (part === null) throw cutShort();
    this.#contentLeft -= part.length;
    return part;
  }

  /** The rest of the current entry's content, in memory of its own. */
  async bytes(): Promise<Buffer> {
    const length = this.#contentLeft;
    const whole = Buffer.allocUnsafeSlow(length); // not pooled: it may be sent to another thread, which copies its whole buffer
    for (let at = 0; at < length;) {
      const part = await this.chunk();
      if (part === null) throw cutShort();
      at += part.copy(whole, at);
    }
    return whole;
  }

  async #finishEntry(): Promise<void> {
    while ((await this.chunk()) !== null);
    // The docker CLI ends a context that it amends (build -f -) right after the last content, without padding or trailer;
    // Go's reader takes that for the end, and so does this one.
    if (this.#paddingLeft > 0) await this.#raw(await this.#source.take(this.#paddingLeft));
    this.#paddingLeft = 0;
  }

  async #header(): Promise<RawHeader | null> {
    const block = await this.#source.take(BLOCK_BYTES);
    if (block.length === 0) return null; // no trailer: as GNU tar and Go, take it for the end
    if (block.length < BLOCK_BYTES) throw cutShort();
    const raw = decodeHeader(block);
    await this.#raw(block);
    if (raw !== null) return raw;
    // Two blocks of zeros end the archive; one alone does too. The rest belongs to the stream's digest.
    for (let part; (part = await this.#source.some(64 * 1024)) !== null;) await this.#raw(part);
    return null;
  }

  async #extension(raw: RawHeader): Promise<Buffer> {
    if (raw.sizeBytes < 0 || raw.sizeBytes > EXTENSION_BYTES_MAX) throw malformed();
    const content = await this.#exactly(raw.sizeBytes);
    await this.#raw(content);
    this.#paddingLeft = paddingOf(raw.sizeBytes);
    const copy = Buffer.from(content);
    await this.#finishEntry();
    return copy;
  }

  async #entry(
    raw: RawHeader,
    pax: ReadonlyMap<string, Buffer>,
    longName: string | null,
    longLink: string | null,
  ): Promise<TarEntry> {
    const paxText = (key: string): string | null => {
      const value = pax.get(key);
      return value === undefined || value.length === 0 ? null : decodeName(value);
    };
    const paxNumber = (key: string): number | null => {
      const value = paxText(key);
      if (value !== null && !/^\d{1,15}$/.test(value)) throw malformed();
      return value === null ? null : Number(value);
    };
    const name = paxText('GNU.sparse.name') ?? paxText('path') ?? longName ?? raw.name;
    const type = typeOf(raw.flag, name);
    let stored = type === 'file' || type === 'other' ? (paxNumber('size') ?? raw.sizeBytes) : 0;
    if (stored < 0) throw malformed();
    const padded = paddingOf(stored);
    const mtime = paxText('mtime');
    const xattrs = new Map<string, Buffer>();
    for (const [key, value] of pax) if (key.startsWith(XATTR_PREFIX)) xattrs.set(key.slice(XATTR_PREFIX.length), value);
    let size = stored;
    let sparse: Segment[] | null = null;
    if (raw.flag === 'S') ({ sparse, size } = await this.#oldSparse());
    this.#contentLeft = stored;
    this.#paddingLeft = padded;
    if (pax.has('GNU.sparse.major') || pax.has('GNU.sparse.size')) {
      size = paxNumber('GNU.sparse.realsize') ?? paxNumber('GNU.sparse.size') ?? malformedNumber();
      const map = paxText(SPARSE_MAP);
      sparse = map === null ? await this.#sparseMap() : pairs(map.split(','));
      stored = this.#contentLeft;
    }
    if (sparse !== null) checkSparse(sparse, stored, size, name);
    return {
      name,
      type,
      mode: raw.mode,
      sizeBytes: size,
      storedBytes: stored,
      sparse,
      xattrs,
      uid: paxNumber('uid') ?? raw.uid,
      gid: paxNumber('gid') ?? raw.gid,
      mtimeNs: mtime === null ? BigInt(raw.mtimeS) * 1_000_000_000n : parsePaxTime(mtime),
      linkName: paxText('linkpath') ?? longLink ?? raw.linkName,
      major: raw.major,
      minor: raw.minor,
    };
  }

  /** GNU's old format: four segments in the header, more in blocks behind it. */
  async #oldSparse(): Promise<{ sparse: Segment[]; size: number }> {
    const sparse: Segment[] = [];
    const field = (block: Buffer, at: number): number => {
      if ((block[at]! & 0x80) !== 0) return Number(block.readBigUInt64BE(at + 4));
      return parseInt(block.toString('latin1', at, at + 12).replace(/[^0-7].*$/s, ''), 8) || 0;
    };
    const read = (block: Buffer, at: number, count: number): void => {
      for (let i = 0; i < count; i++) {
        if (block[at + 24 * i] === 0) return;
        sparse.push({ offset: field(block, at + 24 * i), length: field(block, at + 24 * i + 12) });
      }
    };
    const header = this.#lastHeader;
    read(header, 386, 4);
    const size = field(header, 483);
    for (let more = header[482] !== 0; more;) {
      const block = Buffer.from(await this.#exactly(BLOCK_BYTES));
      await this.#raw(block);
      read(block, 0, 21);
      more = block[504] !== 0;
      if (sparse.length > SEGMENTS_MAX) throw malformed();
    }
    return { sparse, size };
  }

  /** PAX format 1.0: the map is text in front of the data, filled up to a block. */
  async #sparseMap(): Promise<Segment[]> {
    let textBytes = '';
    let wanted = 1;
    for (;;) {
      if (this.#contentLeft < BLOCK_BYTES) throw malformed();
      const block = await this.#exactly(BLOCK_BYTES);
      this.#contentLeft -= BLOCK_BYTES;
      await this.#raw(block);
      textBytes += block.toString('latin1');
      const lines = textBytes.split('\n');
      if (lines.length > 1) wanted = 1 + 2 * Number(lines[0]);
      if (!(wanted <= 1 + 2 * SEGMENTS_MAX)) throw malformed();
      if (lines.length > wanted) return pairs(lines.slice(1, wanted));
    }
  }

  async #exactly(length: number): Promise<Buffer> {
    const bytes = await this.#source.take(length);
    if (bytes.length < length) throw cutShort();
    return bytes;
  }

  #lastHeader: Buffer = Buffer.alloc(0);

  async #raw(bytes: Buffer): Promise<void> {
    if (bytes.length === BLOCK_BYTES) this.#lastHeader = bytes;
    const wait = this.#onRaw(bytes);
    if (wait !== undefined) await wait;
  }
}

function pairs(numbers: readonly string[]): Segment[] {
  const segments: Segment[] = [];
  if (numbers.length === 1 && numbers[0] === '') return segments;
  if (numbers.length % 2 !== 0 || !numbers.every((part) => /^\d{1,15}$/.test(part))) throw malformed();
  for (let i = 0; i < numbers.length; i += 2)
    segments.push({ offset: Number(numbers[i]), length: Number(numbers[i + 1]) });
  return segments;
}

function checkSparse(sparse: readonly Segment[], stored: number, size: number, name: string): void {
  let at = 0;
  let total = 0;
  for (const { offset, length } of sparse) {
    if (offset < at || offset + length > size) throw wrongSparse(name);
    at = offset + length;
    total += length;
  }
  if (total !== stored) throw wrongSparse(name);
}

function wrongSparse(name: string): EngineError {
  return new EngineError('IMAGE_ARCHIVE_INVALID', `archive/tar: invalid sparse map of ${JSON.stringify(name)}`);
}

function malformedNumber(): never {
  throw malformed();
}

function paddingOf(sizeBytes: number): number {
  return (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES;
}

function cString(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return decodeName(end === -1 ? bytes : bytes.subarray(0, end));
}

/** Go's io.ErrUnexpectedEOF, as Docker shows it. */
function cutShort(): EngineError {
  return new EngineError('IMAGE_ARCHIVE_INVALID', 'unexpected EOF');
}
