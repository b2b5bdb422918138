/**
 * Reads a container's log: past entries over all rotated files, then, if asked, what is written from now on. Follows by
 * inotify on the log's directory; never polls. A rotation while following neither loses nor doubles a line: the old file
 * is read to its end by its descriptor, and then its successors in order.
 */
import { basename, dirname } from 'node:path';

import { JsonLineParser } from './json-line.ts';
import { closeAll, findSame, findTail, inodeOf, openLogFiles, readChunks, type LogFile } from './log-files.ts';
import type { LogEntry, LogFileOptions, LogReadOptions, ReadLog } from './port.ts';
import { watchDirectory } from './watch-directory.ts';

/** A line that has no end within this was not written by us; it is dropped. */
const LINE_BYTES_MAX = 1024 * 1024;

type Signals = Parameters<ReadLog>[2];

export const readLog: ReadLog = (file, options, signals) => new LogReading(file, options, signals).run();

class LogReading {
  readonly #file: LogFileOptions;
  readonly #options: LogReadOptions;
  readonly #signals: Signals;
  readonly #parser = new JsonLineParser();
  /** A line that is not whole yet: it waits for its rest. */
  #rest: Buffer = Buffer.alloc(0);
  #isDropping = false;
  /** How far the followed file was read. */
  #at = 0;
  /** An entry beyond `untilNs` was met. */
  #isPast = false;

  constructor(file: LogFileOptions, options: LogReadOptions, signals: Signals) {
    this.#file = file;
    this.#options = options;
    this.#signals = signals;
  }

  async *run(): AsyncGenerator<LogEntry[]> {
    // Listens before it reads, so that nothing written in between goes unnoticed.
    using changes = this.#options.follow ? new DirectoryChanges(this.#file.path, this.#signals) : null;
    const files = await openLogFiles(this.#file);
    try {
      yield* this.#readPast(files, changes);
    } finally {
      await closeAll(files);
    }
  }

  async *#readPast(files: LogFile[], changes: DirectoryChanges | null): AsyncGenerator<LogEntry[]> {
    const { tail } = this.#options;
    // Without follow the end is where it was at the beginning: a container that writes faster than its log is read
    // would never let this end. The last lines are those before it, too: not one more than was asked for.
    const current = files.at(-1);
    const end = current === undefined || current.isCompressed ? 0 : (await current.handle.stat()).size;
    const start = tail === null ? { index: 0, offset: 0 } : await findTail(files, tail, end);
    let offset = start.offset;
    for (const file of files.slice(start.index)) {
      const isLast = file === current;
      if (isLast && changes !== null && !file.isCompressed) break;
      yield* this.#entries(readChunks(file, offset, isLast && !file.isCompressed ? end : undefined));
      if (this.#isDone()) return;
      this.#dropRest();
      offset = 0;
    }
    if (changes !== null) yield* this.#follow(files, start.index === files.length - 1 ? start.offset : 0, changes);
  }

  /** From `offset` of the newest file on. Its handle is one of `files`, where later ones are added and old ones closed. */
  async *#follow(files: LogFile[], offset: number, changes: DirectoryChanges): AsyncGenerator<LogEntry[]> {
    this.#at = offset;
    for (;;) {
      changes.clear();
      const isEnded = this.#signals.ended.aborted;
      const current = files.at(-1);
      yield* this.#newEntries(current);
      if (this.#isDone()) return;
      if ((await inodeOf(this.#file.path)) !== (current?.inode ?? null)) {
        // Renamed, so that nothing more is written to it: what came since the last look is the end of it.
        yield* this.#newEntries(current);
        if (this.#isDone()) return;
        if (await this.#advance(files)) {
          yield* this.#entriesOfAll(files);
          if (this.#isDone()) return;
          this.#at = 0;
          continue;
        }
      }
      if (isEnded) return;
      await changes.next();
      if (this.#isDone()) return;
    }
  }

  async *#newEntries(current: LogFile | undefined): AsyncGenerator<LogEntry[]> {
    if (current === undefined || current.isCompressed) return;
    for (;;) {
      // Read up to the size that it has, so that a chunk is as large as what is new.
      const { size } = await current.handle.stat();
      if (size === this.#at) return;
      if (size < this.#at) {
        this.#at = 0; // truncated by somebody: starts anew
        this.#dropRest();
      }
      for await (const chunk of readChunks(current, this.#at, size)) {
        this.#at += chunk.length;
        yield* this.#entries([chunk]);
        if (this.#isDone()) return;
      }
    }
  }

  /**
   * After a rotation: `files` becomes the former current file and its successors. False when there is none yet (between
   * two renames).
   */
  async #advance(files: LogFile[]): Promise<boolean> {
    const former = files.at(-1);
    const now = await openLogFiles(this.#file);
    if (former === undefined) {
      files.push(...now);
      return now.length > 0;
    }
    const at = await findSame(now, former);
    if (now.length === 0 || at === now.length - 1) {
      await closeAll(now);
      return false;
    }
    const successors = now.slice(at + 1);
    await closeAll(now.slice(0, at + 1));
    await closeAll(files.splice(0));
    files.push(...successors);
    this.#dropRest();
    return true;
  }

  /** All but the last, which is followed; unless it is packed, as nothing more comes to it then. */
  async *#entriesOfAll(files: readonly LogFile[]): AsyncGenerator<LogEntry[]> {
    for (const file of files) {
      if (file === files.at(-1) && !file.isCompressed) return;
      yield* this.#entries(readChunks(file, 0));
      if (this.#isDone()) return;
      this.#dropRest();
    }
  }

  async *#entries(chunks: AsyncIterable<Buffer> | Iterable<Buffer>): AsyncGenerator<LogEntry[]> {
    for await (const chunk of chunks) {
      const entries = this.#select(this.#parse(chunk));
      if (entries.length > 0) yield entries;
      if (this.#isDone()) return;
    }
  }

  #parse(chunk: Buffer): LogEntry[] {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    if (this.#isDropping) {
      const at = bytes.indexOf(0x0a);
      if (at < 0) return [];
      bytes = bytes.subarray(at + 1);
      this.#isDropping = false;
    }
    const entries: LogEntry[] = [];
    const used = this.#parser.parse(bytes, entries);
    this.#rest = used === bytes.length ? Buffer.alloc(0) : bytes.subarray(used);
    if (this.#rest.length > LINE_BYTES_MAX) {
      this.#isDropping = true;
      this.#rest = Buffer.alloc(0);
    }
    return entries;
  }

  #select(entries: LogEntry[]): LogEntry[] {
    const { stdout, stderr, sinceNs, untilNs } = this.#options;
    if (stdout && stderr && sinceNs === null && untilNs === null) return entries;
    const selected: LogEntry[] = [];
    for (const entry of entries) {
      if (sinceNs !== null && entry.timeNs < sinceNs) continue;
      if (untilNs !== null && entry.timeNs > untilNs) {
        this.#isPast = true;
        break;
      }
      if (entry.stream === 'stdout' ? stdout : stderr) selected.push(entry);
    }
    return selected;
  }

  /** A file that ends with half a line will not get its rest any more. */
  #dropRest(): void {
    this.#rest = Buffer.alloc(0);
    this.#isDropping = false;
  }

  #isDone(): boolean {
    return this.#isPast || this.#signals.signal.aborted;
  }
}

/** Wakes when something happens to the log's files, or when one of the signals is aborted. */
class DirectoryChanges implements Disposable {
  #changed = false;
  #wake: (() => void) | null = null;
  readonly #stop: () => void;

  constructor(path: string, signals: Signals) {
    const name = basename(path);
    const touch = (): void => this.touch();
    const watcher = watchDirectory(dirname(path), (changed) => {
      if (changed === null || changed.startsWith(name)) touch();
    });
    signals.signal.addEventListener('abort', touch);
    signals.ended.addEventListener('abort', touch);
    this.#stop = () => {
      watcher?.close();
      signals.signal.removeEventListener('abort', touch);
      signals.ended.removeEventListener('abort', touch);
    };
  }

  clear(): void {
    this.#changed = false;
  }

  touch(): void {
    this.#changed = true;
    this.#wake?.();
  }

  async next(): Promise<void> {
    if (this.#changed) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = null;
  }

  [Symbol.dispose](): void {
    this.#stop();
    this.touch();
  }
}
