/**
 * Reads a log for somebody who must get all of it once, in order, over rotations and restarts: batches of whole lines, each
 * with the position behind it. The file that is being read is held open, so that rotation cannot take it away; what
 * rotation took before it was opened is counted.
 */
import { stat } from 'node:fs/promises';

import type { Cursor } from './cursor.ts';
import { JsonLineParser } from './json-line.ts';
import { closeAll, findSame, inodeOf, openLogFiles, readChunks, signatureOf, type LogFile } from './log-files.ts';
import { isMissing } from './missing.ts';
import type { LogEntry, LogFileOptions } from './port.ts';

/** Of one batch; a longer line is a batch alone. */
const BATCH_BYTES = 64 * 1024;
/** A line that has no end within this was not written by us; it is dropped and counted. */
const LINE_BYTES_MAX = 1024 * 1024;
const NEWLINE = 0x0a;
const MISSES_MAX = 3;

export interface Batch {
  readonly entries: readonly LogEntry[];
  /** Behind each of them, in the file that they are from. */
  readonly offsets: readonly number[];
  /** Behind the last entry. */
  readonly cursor: Cursor;
}

/** The entries from `begin` to before `end`, as a batch of their own. */
export function partOf({ entries, offsets, cursor }: Batch, begin: number, end: number): Batch {
  const offset = end === entries.length ? cursor.offset : (offsets[end - 1] as number);
  return { entries: entries.slice(begin, end), offsets: offsets.slice(begin, end), cursor: { ...cursor, offset } };
}

export class CursorReader implements AsyncDisposable {
  readonly #options: LogFileOptions;
  #current: LogFile | null = null;
  #offset = 0;
  #signature = '';
  /** Of a compressed file: what comes behind the offset. */
  #inflated: { readonly chunks: AsyncIterator<Buffer>; rest: Buffer } | null = null;
  /** Once the log is to be removed: the files still to be read. null: they are looked up. */
  #held: LogFile[] | null = null;
  /** Newer files that were seen, and how large: to know what was lost. */
  readonly #seen = new Map<bigint, number>();
  #droppedBytes: number;
  #gaps: number;
  /** Since the last file was begun. */
  #hasLost = false;

  private constructor(options: LogFileOptions, cursor: Cursor) {
    this.#options = options;
    this.#droppedBytes = cursor.droppedBytes;
    this.#gaps = cursor.gaps;
  }

  static async open(options: LogFileOptions, cursor: Cursor): Promise<CursorReader> {
    const reader = new CursorReader(options, cursor);
    const files = await openLogFiles(options);
    let index = cursor.signature === '' ? 0 : -1;
    for (let i = files.length - 1; i >= 0 && index < 0; i--) {
      // oxlint-disable-next-line no-await-in-loop
      if ((await signatureOf(files[i] as LogFile)) === cursor.signature) index = i;
    }
    const isFound = index >= 0 && cursor.signature !== '';
    // How much went with the file is not known any more, only that something did.
    if (index < 0 && files.length > 0) reader.#gaps++;
    const [current = null, ...others] = files.splice(Math.max(index, 0));
    await closeAll([...files, ...others]);
    reader.#setCurrent(current, isFound ? cursor.offset : 0);
    return reader;
  }

  /** Of the file that is being read; null: there is none yet. */
  get inode(): bigint | null {
    return this.#current?.inode ?? null;
  }

  get dropped(): { readonly bytes: number; readonly gaps: number } {
    return { bytes: this.#droppedBytes, gaps: this.#gaps };
  }

  /** null: nothing new for now. */
  async next(): Promise<Batch | null> {
    for (;;) {
      if (this.#current === null && !(await this.#advance())) return null;
      const entries: LogEntry[] = [];
      const offsets: number[] = [];
      const before = this.#offset;
      await this.#readLines(entries, offsets);
      if (entries.length > 0) return { entries, offsets, cursor: await this.#cursor() };
      if (this.#offset > before) continue; // corrupt lines only
      if (!(await this.#advance())) return null;
    }
  }

  /** Called when files were rotated while nothing is read: notes what is there, and counts what is not any more. */
  async look(): Promise<void> {
    if (this.#held !== null) return;
    const there = new Map<bigint, number>();
    for (let i = 0, misses = 0; i < this.#options.maxFiles && misses < MISSES_MAX; i++) {
      const path = i === 0 ? this.#options.path : `${this.#options.path}.${i}`;
      try {
        const { ino, size } = await stat(path, { bigint: true }); // oxlint-disable-line no-await-in-loop
        if (ino === this.#current?.inode) break; // older ones were read
        there.set(ino, Number(size));
      } catch (error) {
        if (!isMissing(error)) throw error;
        misses++; // one may be on its way to its next name
      }
    }
    this.#compare(there);
  }

  /** The log is about to be removed: what was not read stays open until it was. */
  async hold(): Promise<void> {
    if (this.#held !== null) return;
    const files = await openLogFiles(this.#options);
    const at = this.#current === null ? -1 : await findSame(files, this.#current);
    await closeAll(files.splice(0, at + 1));
    this.#held = files;
  }

  /** How much is still to be read from files that are held or named, about. */
  async leftBytes(): Promise<number> {
    let left = this.#current === null ? 0 : Number((await this.#current.handle.stat()).size) - this.#offset;
    for (const { handle } of this.#held ?? []) left += Number((await handle.stat()).size); // oxlint-disable-line no-await-in-loop
    return Math.max(0, left);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const files = [...(this.#current === null ? [] : [this.#current]), ...(this.#held ?? [])];
    this.#setCurrent(null, 0);
    this.#held = null;
    await closeAll(files);
  }

  /** Appends the entries of whole lines from the offset on, and where each ends. */
  async #readLines(entries: LogEntry[], offsets: number[]): Promise<void> {
    for (let wanted = BATCH_BYTES; ; wanted *= 4) {
      const bytes = await this.#peek(wanted);
      const end = bytes.lastIndexOf(NEWLINE) + 1;
      if (end > 0) {
        const ends: number[] = [];
        new JsonLineParser().parse(bytes.subarray(0, end), entries, ends);
        for (const at of ends) offsets.push(this.#offset + at);
        this.#consume(end);
        return;
      }
      if (bytes.length < wanted) return;
      if (bytes.length >= LINE_BYTES_MAX) {
        this.#consume(bytes.length);
        this.#droppedBytes += bytes.length;
      }
    }
  }

  /** Up to `wanted` bytes from the offset on; they are the caller's. */
  async #peek(wanted: number): Promise<Buffer> {
    const current = this.#current as LogFile;
    if (!current.isCompressed) {
      const { size } = await current.handle.stat();
      if (size < this.#offset) {
        this.#offset = 0; // truncated by somebody: starts anew
        this.#signature = '';
      }
      const bytes = Buffer.allocUnsafeSlow(Math.min(wanted, size - this.#offset));
      if (bytes.length === 0) return bytes;
      const { bytesRead } = await current.handle.read(bytes, 0, bytes.length, this.#offset);
      return bytes.subarray(0, bytesRead);
    }
    this.#inflated ??= { chunks: readChunks(current, this.#offset)[Symbol.asyncIterator](), rest: Buffer.alloc(0) };
    const inflated = this.#inflated;
    while (inflated.rest.length < wanted) {
      const { value, done } = await inflated.chunks.next(); // oxlint-disable-line no-await-in-loop
      if (done === true) break;
      inflated.rest = Buffer.concat([inflated.rest, value]);
    }
    return Buffer.from(inflated.rest.subarray(0, wanted));
  }

  #consume(bytes: number): void {
    this.#offset += bytes;
    if (this.#inflated !== null) this.#inflated.rest = this.#inflated.rest.subarray(bytes);
  }

  /** To the next file, when there will be nothing more in this one. False: there is none yet. */
  async #advance(): Promise<boolean> {
    if (this.#held !== null) {
      const next = this.#held.shift();
      if (next === undefined) return false;
      await this.#replaceCurrent(next);
      return true;
    }
    const former = this.#current;
    if (former !== null && (await inodeOf(this.#options.path)) === former.inode) return false;
    // Renamed, so nothing more is written to it; but something may have been since it was read.
    if (former !== null && !former.isCompressed && (await former.handle.stat()).size > this.#offset) {
      if ((await this.#peek(LINE_BYTES_MAX)).includes(NEWLINE)) return true;
    }
    const files = await openLogFiles(this.#options);
    const at = former === null ? -1 : await findSame(files, former);
    if (files.length === 0 || at === files.length - 1) {
      await closeAll(files);
      return false;
    }
    await this.look();
    if (this.#hasLost) this.#gaps++;
    this.#hasLost = false;
    const next = files[at + 1] as LogFile;
    await closeAll(files.filter((file) => file !== next));
    await this.#replaceCurrent(next);
    this.#seen.delete(next.inode);
    return true;
  }

  /** What was seen before and is not there any more is lost. A file only grows: a smaller one has got the inode of another. */
  #compare(there: ReadonlyMap<bigint, number>): void {
    for (const [inode, size] of this.#seen) {
      if ((there.get(inode) ?? -1) >= size) continue;
      this.#droppedBytes += size;
      this.#hasLost = true;
    }
    this.#seen.clear();
    for (const [inode, size] of there) this.#seen.set(inode, size);
  }

  async #replaceCurrent(next: LogFile): Promise<void> {
    const former = this.#current;
    this.#setCurrent(next, 0);
    await former?.handle.close();
  }

  #setCurrent(file: LogFile | null, offset: number): void {
    this.#current = file;
    this.#offset = offset;
    this.#signature = '';
    this.#inflated = null;
  }

  async #cursor(): Promise<Cursor> {
    if (this.#signature === '') this.#signature = await signatureOf(this.#current as LogFile);
    return { signature: this.#signature, offset: this.#offset, droppedBytes: this.#droppedBytes, gaps: this.#gaps };
  }
}
