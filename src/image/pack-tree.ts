/** Makes a tar of a directory tree, with flat memory: owners, modes, nanoseconds, hard links, devices, xattrs. */
import { constants, type BigIntStats } from 'node:fs';
import { open, readlink } from 'node:fs/promises';

import { decodeFileName, fsPath } from '../core/file-name.ts';
import { toContainer, type IdMap } from '../core/id-map.ts';
import type { Files } from '../kernel/port.ts';

import { readAhead } from './read-ahead.ts';
import { encodeHeader, padding, type EntryType, type TarHeader } from './tar-header.ts';
import { isGone, type TreeEntry } from './walk-tree.ts';

export interface PackEntry extends TreeEntry {
  /** Its name in the archive; directories without the slash. */
  readonly name: string;
}

const CHUNK_BYTES = 64 * 1024;
const READ_BYTES = 256 * 1024;
const END_BYTES = 1024;
const SMALL_BYTES_MAX = 256 * 1024;
const READ_AHEAD_COUNT = 16;
const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
/** Of overlayfs's and the host's own attributes none belongs into an archive. */
const XATTRS_KEPT = /^(?:user\.|security\.capability$|system\.posix_acl_)/;

/** What is to be written of one entry. */
interface Loaded {
  readonly entry: PackEntry;
  readonly header: TarHeader;
  /** null: there is none, or it is large and read while it is written. */
  readonly content: Buffer | null;
}

export class TarPacker {
  readonly #files: Files;
  readonly #ids: IdMap;
  /** Names of files with several links, by device and inode. */
  readonly #links = new Map<string, string>();
  #waiting: Buffer[] = [];
  #waitingBytes = 0;

  /** Owners are told as containers of `ids` see them. */
  constructor(files: Files, ids: IdMap) {
    this.#files = files;
    this.#ids = ids;
  }

  /** The files of one run, read ahead of each other. */
  async *run(entries: readonly PackEntry[]): AsyncGenerator<Buffer> {
    for await (const loaded of readAhead(entries, (entry) => this.#load(entry), READ_AHEAD_COUNT))
      yield* this.#write(loaded);
  }

  /** Sockets are left out, as tar and Docker do. */
  async *entry(entry: PackEntry): AsyncGenerator<Buffer> {
    yield* this.#write(await this.#load(entry));
  }

  /** An entry that stands for no file of the tree. */
  async *made(
    header: Partial<TarHeader> & Pick<TarHeader, 'name' | 'type'>,
    content: Buffer = Buffer.alloc(0),
  ): AsyncGenerator<Buffer> {
    const whole: TarHeader = {
      mode: 0,
      uid: 0,
      gid: 0,
      mtimeNs: 0n,
      linkName: '',
      major: 0,
      minor: 0,
      xattrs: new Map(),
      ...header,
      sizeBytes: content.length,
    };
    yield* this.#put(encodeHeader(whole));
    if (content.length > 0) {
      yield* this.#put(content);
      yield* this.#put(padding(content.length));
    }
  }

  /** The header of a file whose content the caller puts with raw(). */
  async *raw(bytes: Buffer): AsyncGenerator<Buffer> {
    yield* this.#put(bytes);
  }

  async *end(): AsyncGenerator<Buffer> {
    this.#waiting.push(Buffer.alloc(END_BYTES));
    yield Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  async #load(entry: PackEntry): Promise<Loaded | null> {
    const type = entryTypeOf(entry.stat);
    if (type === null) return null;
    const header = await this.#header(entry, type);
    if (header === null) return null;
    if (header.type !== 'file' || header.sizeBytes === 0) return { header, content: null, entry };
    if (header.sizeBytes > SMALL_BYTES_MAX) return { header, content: null, entry };
    const file = await openSame(entry);
    if (file === null) return null;
    try {
      const content = Buffer.alloc(header.sizeBytes); // zeros where it became shorter meanwhile
      for (let at = 0; at < content.length;) {
        const { bytesRead } = await file.read(content, at, content.length - at, at);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
      return { header, content, entry };
    } finally {
      await file.close();
    }
  }

  async *#write(loaded: Loaded | null): AsyncGenerator<Buffer> {
    if (loaded === null) return;
    const { header, content, entry } = loaded;
    if (content !== null || header.type !== 'file' || header.sizeBytes === 0) {
      yield* this.#put(encodeHeader(header));
      if (content === null) return;
      yield* this.#put(content);
      yield* this.#put(padding(content.length));
      return;
    }
    const file = await openSame(entry);
    if (file === null) return;
    try {
      yield* this.#put(encodeHeader(header));
      let left = header.sizeBytes;
      while (left > 0) {
        const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, left));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
        if (bytesRead === 0) break;
        left -= bytesRead;
        yield* this.#put(buffer.subarray(0, bytesRead));
      }
      // It became shorter meanwhile: zeros keep the archive readable.
      for (; left > 0; left -= Math.min(left, READ_BYTES)) yield* this.#put(Buffer.alloc(Math.min(left, READ_BYTES)));
      yield* this.#put(padding(header.sizeBytes));
    } finally {
      await file.close();
    }
  }

  async #header({ at, stat, name }: PackEntry, type: EntryType): Promise<TarHeader | null> {
    let linkName = '';
    let sizeBytes = type === 'file' ? Number(stat.size) : 0;
    let written = type;
    if (stat.nlink > 1n && type !== 'directory') {
      const key = `${stat.dev}:${stat.ino}`;
      const first = this.#links.get(key);
      if (first === undefined) this.#links.set(key, name);
      else {
        written = 'link';
        linkName = first;
        sizeBytes = 0;
      }
    }
    try {
      if (written === 'symlink') linkName = decodeFileName(await readlink(fsPath(at), { encoding: 'buffer' }));
      return {
        name: type === 'directory' ? `${name}/` : name,
        type: written,
        mode: Number(stat.mode), // with the bits of its type, as Docker writes them
        ...toContainer(this.#ids, { uid: Number(stat.uid), gid: Number(stat.gid) }),
        sizeBytes,
        mtimeNs: stat.mtimeNs,
        linkName,
        ...deviceNumbers(type, stat.rdev),
        xattrs: written === 'link' || written === 'symlink' ? new Map() : await this.#xattrs(at),
      };
    } catch (error) {
      if (isGone(error)) return null;
      throw error;
    }
  }

  async #xattrs(at: string): Promise<Map<string, Buffer>> {
    const found = new Map<string, Buffer>();
    for (const name of (await this.#files.listXattr(at)).toSorted()) {
      if (!XATTRS_KEPT.test(name)) continue;
      const value = await this.#files.getXattr(at, name);
      if (value !== null) found.set(name, value);
    }
    return found;
  }

  /** Small pieces travel together. */
  *#put(bytes: Buffer): Generator<Buffer> {
    if (bytes.length === 0) return;
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (this.#waitingBytes < CHUNK_BYTES) return;
    const chunk = this.#waiting.length === 1 ? bytes : Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#waitingBytes = 0;
    yield chunk;
  }
}

/** null for sockets. */
export function entryTypeOf(stat: BigIntStats): EntryType | null {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  if (stat.isSymbolicLink()) return 'symlink';
  if (stat.isCharacterDevice()) return 'character';
  if (stat.isBlockDevice()) return 'block';
  return stat.isFIFO() ? 'fifo' : null;
}

/** glibc's gnu_dev_major and gnu_dev_minor. */
export function deviceNumbers(type: EntryType, rdev: bigint): { major: number; minor: number } {
  if (type !== 'character' && type !== 'block') return { major: 0, minor: 0 };
  return {
    major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn)),
    minor: Number((rdev & 0xffn) | ((rdev >> 12n) & ~0xffn)),
  };
}

/** null when another file, or none, is there by now. */
async function openSame({ at, stat }: TreeEntry): Promise<Awaited<ReturnType<typeof open>> | null> {
  let file;
  try {
    file = await open(fsPath(at), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
  const now = await file.stat({ bigint: true });
  if (now.isFile() && now.ino === stat.ino) return file;
  await file.close();
  return null;
}
