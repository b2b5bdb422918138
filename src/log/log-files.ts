/** The files of one log, opened together: the current one and the rotated ones, oldest first, each once. */
import { createHash } from 'node:crypto';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';

import { isMissing } from './missing.ts';
import type { LogFileOptions } from './port.ts';

const CHUNK_BYTES = 256 * 1024;
const BACKWARD_BYTES = 64 * 1024;
const NEWLINE = 0x0a;
/** A set of files that was renamed while it was opened is opened again; a log that rotates this fast is read as it is. */
const OPEN_ATTEMPTS = 20;
/** One file may be on its way to its next name; two in a row are the end. */
const MISSES_MAX = 3;
/** Of the first line; the longest that the shim writes is about 100 kB. */
const SIGNATURE_BYTES_MAX = 256 * 1024;

export interface LogFile {
  readonly handle: FileHandle;
  readonly isCompressed: boolean;
  readonly inode: bigint;
}

/** Oldest first; the last is `path` itself if there is one. The caller closes them. */
export async function openLogFiles(options: LogFileOptions): Promise<LogFile[]> {
  for (let attempt = 1; ; attempt++) {
    const files: LogFile[] = [];
    let first: LogFile | null = null;
    // From the newest: a rotation in between shows as one inode met twice, or as another that is the newest.
    for (let i = 0, misses = 0; i < options.maxFiles && misses < MISSES_MAX; i++) {
      const name = i === 0 ? options.path : `${options.path}.${i}`;
      // oxlint-disable-next-line no-await-in-loop
      const file = (await tryOpen(name, false)) ?? (i === 0 ? null : await tryOpen(`${name}.gz`, true));
      if (i === 0) first = file;
      if (file !== null) files.push(file);
      else misses++;
    }
    // A file that was packed in between has another inode: without a rotation it has no other place.
    const newest = await inodeOf(options.path); // oxlint-disable-line no-await-in-loop
    const isSame = newest === (first === null ? null : first.inode);
    if (isSame && new Set(files.map((file) => file.inode)).size === files.length) return files.toReversed();
    if (attempt === OPEN_ATTEMPTS) return await withoutDoubles(files); // oxlint-disable-line no-await-in-loop
    await closeAll(files); // oxlint-disable-line no-await-in-loop
  }
}

/** Oldest first, each content once, plain or packed. */
async function withoutDoubles(files: readonly LogFile[]): Promise<LogFile[]> {
  const seen = new Set<string>();
  const unique: LogFile[] = [];
  for (const file of files.toReversed()) {
    const signature = await signatureOf(file); // oxlint-disable-line no-await-in-loop
    if (signature !== '' && seen.has(signature)) await file.handle.close(); // oxlint-disable-line no-await-in-loop
    else unique.push(file);
    seen.add(signature);
  }
  return unique;
}

export async function closeAll(files: readonly LogFile[]): Promise<void> {
  await Promise.all(files.map((file) => file.handle.close()));
}

/** null: there is no such file. */
async function tryOpen(path: string, isCompressed: boolean): Promise<LogFile | null> {
  try {
    const handle = await open(path, 'r');
    return { handle, isCompressed, inode: (await handle.stat({ bigint: true })).ino };
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** The inode that `path` names now; null: none. */
export async function inodeOf(path: string): Promise<bigint | null> {
  try {
    return (await stat(path, { bigint: true })).ino;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** The content from `offset` on (of the uncompressed bytes), in chunks that the consumer may keep and change. */
export async function* readChunks(
  file: LogFile,
  offset: number,
  end = Number.POSITIVE_INFINITY,
): AsyncGenerator<Buffer> {
  if (file.isCompressed) {
    yield* readCompressed(file, offset);
    return;
  }
  yield* readPlain(file, offset, end);
}

async function* readPlain(file: LogFile, offset: number, end: number): AsyncGenerator<Buffer> {
  for (let at = offset; at < end;) {
    const chunk = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, end - at));
    const { bytesRead } = await file.handle.read(chunk, 0, chunk.length, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield chunk.subarray(0, bytesRead);
  }
}

async function* readCompressed(file: LogFile, offset: number): AsyncGenerator<Buffer> {
  // Not a ReadStream of the handle: destroying one closes the handle, which is read more than once.
  const source = Readable.from(readPlain(file, 0, Number.POSITIVE_INFINITY));
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  // A file cut short by a crash ends there; what was whole in it was handed over.
  source.on('error', (error) => gunzip.destroy(error));
  let skip = offset;
  try {
    for await (const chunk of source.pipe(gunzip) as AsyncIterable<Buffer>) {
      const rest = chunk.subarray(Math.min(skip, chunk.length));
      skip -= chunk.length - rest.length;
      if (rest.length > 0) yield Buffer.from(rest);
    }
  } catch {
    return;
  } finally {
    source.destroy();
  }
}

/**
 * Where the last `lines` whole lines of the files begin: index of the file and offset in it. Counted backwards from the
 * end (`size`: that of the newest file), so that a small tail of a large log costs one block.
 */
export async function findTail(
  files: readonly LogFile[],
  lines: number,
  size: number,
): Promise<{ readonly index: number; readonly offset: number }> {
  let wanted = lines;
  for (let index = files.length - 1; index >= 0; index--) {
    const file = files[index] as LogFile;
    // oxlint-disable-next-line no-await-in-loop
    const found = file.isCompressed
      ? await tailOfCompressed(file, wanted)
      : // oxlint-disable-next-line no-await-in-loop
        await tailOfPlain(file, wanted, index === files.length - 1 ? size : (await file.handle.stat()).size);
    if (found.offset >= 0) return { index, offset: found.offset };
    wanted -= found.lines;
  }
  return { index: 0, offset: 0 };
}

type TailInFile = { readonly offset: number; readonly lines: number };

/** offset -1: the file has fewer lines, `lines` of them. */
async function tailOfPlain(file: LogFile, wanted: number, size: number): Promise<TailInFile> {
  if (wanted === 0) return { offset: await lastLineEnd(file, size), lines: 0 };
  let newlines = 0;
  const block = Buffer.allocUnsafe(BACKWARD_BYTES);
  for (let end = size; end > 0;) {
    const begin = Math.max(0, end - BACKWARD_BYTES);
    // oxlint-disable-next-line no-await-in-loop
    const { bytesRead } = await file.handle.read(block, 0, end - begin, begin);
    for (
      let at = block.lastIndexOf(NEWLINE, bytesRead - 1);
      at >= 0;
      at = at === 0 ? -1 : block.lastIndexOf(NEWLINE, at - 1)
    ) {
      newlines++;
      if (newlines === wanted + 1) return { offset: begin + at + 1, lines: wanted };
    }
    end = begin;
  }
  return newlines === wanted ? { offset: 0, lines: wanted } : { offset: -1, lines: newlines };
}

/** Behind the last newline: a half-written line is still to come. */
async function lastLineEnd(file: LogFile, size: number): Promise<number> {
  const block = Buffer.allocUnsafe(BACKWARD_BYTES);
  for (let end = size; end > 0;) {
    const begin = Math.max(0, end - BACKWARD_BYTES);
    // oxlint-disable-next-line no-await-in-loop
    const { bytesRead } = await file.handle.read(block, 0, end - begin, begin);
    const at = bytesRead === 0 ? -1 : block.lastIndexOf(NEWLINE, bytesRead - 1);
    if (at >= 0) return begin + at + 1;
    end = begin;
  }
  return 0;
}

/** Twice through: once to count, once to find the line. */
async function tailOfCompressed(file: LogFile, wanted: number): Promise<TailInFile> {
  let total = 0;
  for await (const chunk of readCompressed(file, 0)) total += countNewlines(chunk);
  if (total < wanted) return { offset: -1, lines: total };
  let skip = total - wanted;
  let base = 0;
  for await (const chunk of readCompressed(file, 0)) {
    for (let at = -1; ;) {
      if (skip === 0) return { offset: base + at + 1, lines: wanted };
      at = chunk.indexOf(NEWLINE, at + 1);
      if (at < 0) break;
      skip--;
    }
    base += chunk.length;
  }
  return { offset: base, lines: wanted };
}

function countNewlines(chunk: Buffer): number {
  let count = 0;
  for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

/**
 * Of the first line, which has a time in nanoseconds: the same for a file and its compressed copy, and for no other file
 * of the log. "": there is no whole line yet.
 */
export async function signatureOf(file: LogFile): Promise<string> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of readChunks(file, 0, SIGNATURE_BYTES_MAX)) {
    const end = chunk.indexOf(NEWLINE);
    hash.update(end < 0 ? chunk : chunk.subarray(0, end));
    bytes += chunk.length;
    if (end >= 0 || bytes >= SIGNATURE_BYTES_MAX) return hash.digest('hex').slice(0, 32);
  }
  return '';
}

/** Index of the file that `former` is now, perhaps compressed in between; -1: it was deleted by later rotations. */
export async function findSame(files: readonly LogFile[], former: LogFile): Promise<number> {
  const same = files.findIndex((file) => file.inode === former.inode);
  if (same >= 0 || !files.some((file) => file.isCompressed)) return same;
  const signature = await signatureOf(former);
  for (let i = files.length - 1; i >= 0; i--) {
    const file = files[i] as LogFile;
    // oxlint-disable-next-line no-await-in-loop
    if (file.isCompressed && (await signatureOf(file)) === signature) return i;
  }
  return -1;
}
