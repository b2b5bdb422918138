/**
 * `compress=true` and `cache-compress=true`: packs the rotated files of one container's log while it runs. The copy is made here, beside the file;
 * who rotates the log (the shim) puts it into the file's place, so that no rotation comes between. What is not packed when
 * the run ends is packed in the next one. One file at a time, and nothing waits for it.
 */
import { constants } from 'node:fs';
import { open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';

import type { Clock } from '../core/clock.ts';
import { messageOf } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import { isMissing } from './missing.ts';
import type { LogFileOptions } from './port.ts';
import { watchDirectory } from './watch-directory.ts';

/** How long the one who rotates may take to put a copy into its place. */
const REPLACED_MS_MAX = 5000;

export interface CompressorOptions {
  readonly containerId: string;
  readonly file: LogFileOptions;
  /** Tells who rotates; false: nobody does now. */
  readonly replace: (inode: bigint) => boolean;
  /** The file that is sent to a service now: it and newer ones stay as they are. 'none': no file is kept for that. */
  readonly unsentFrom?: () => bigint | 'none' | 'unknown';
  readonly clock: Clock;
  readonly logger: Logger;
}

export class Compressor implements AsyncDisposable {
  readonly #options: CompressorOptions;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #hasNews = true;
  #wake: () => void = () => {};

  constructor(options: CompressorOptions) {
    this.#options = options;
    this.#loop = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { file, logger, containerId } = this.#options;
    const prefix = `${basename(file.path)}.`;
    // Rotated files and copies, not the log itself: that changes with each line.
    const watcher = watchDirectory(dirname(file.path), (name) => {
      if (name !== null && !name.startsWith(prefix)) return;
      this.#hasNews = true;
      this.#wake();
    });
    try {
      await this.#removeCopies();
      while (!this.#stop.signal.aborted) {
        this.#hasNews = false;
        const inode = await this.#oldestPlain(); // oxlint-disable-line no-await-in-loop
        if (inode !== null) await this.#pack(inode); // oxlint-disable-line no-await-in-loop
        else await this.#changed(); // oxlint-disable-line no-await-in-loop
      }
    } catch (error) {
      if (!this.#stop.signal.aborted)
        logger.warn({ containerId, error: messageOf(error) }, 'log: rotated files stay as they are');
    } finally {
      watcher?.close();
      await this.#removeCopies().catch(() => {});
    }
  }

  /**
   * The file stays open until the copy was taken: its inode is how it is known, and must not become another file's
   * meanwhile. It may be gone already: a file that is being replaced is still there for a moment after its copy was taken.
   */
  async #pack(inode: bigint): Promise<void> {
    const base = `${this.#options.file.path}.${inode}`;
    const handle = await this.#openInode(inode);
    if (handle === null) return;
    try {
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
      const to = (await open(`${base}.part`, flags, 0o640)).createWriteStream();
      const from = handle.createReadStream({ autoClose: false, start: 0 });
      await pipeline(from, createGzip(), to, { signal: this.#stop.signal });
      // Under the name that is taken only once it is whole, whoever asked for it.
      await rename(`${base}.part`, `${base}.tmp`);
      if (this.#options.replace(inode)) return await this.#gone(`${base}.tmp`);
    } finally {
      await handle.close();
    }
    // The run is about to begin, or to end.
    await rm(`${base}.tmp`, { force: true });
    await this.#pause();
  }

  async #pause(): Promise<void> {
    let isOver = false;
    using _timer = this.#options.clock.setTimer(REPLACED_MS_MAX, () => {
      isOver = true;
      this.#wake();
    });
    while (!isOver && !this.#stop.signal.aborted) {
      this.#hasNews = false;
      await this.#changed(() => isOver); // oxlint-disable-line no-await-in-loop
    }
    this.#hasNews = true;
  }

  /** Until the copy was taken. */
  async #gone(copy: string): Promise<void> {
    let isLate = false;
    using _timer = this.#options.clock.setTimer(REPLACED_MS_MAX, () => {
      isLate = true;
      this.#wake();
    });
    while (!this.#stop.signal.aborted && (await stat(copy).catch(() => null)) !== null) {
      if (isLate) throw new Error('a packed file was not put into its place');
      this.#hasNews = false;
      await this.#changed(() => isLate); // oxlint-disable-line no-await-in-loop
    }
  }

  async #changed(isOver: () => boolean = () => false): Promise<void> {
    if (this.#hasNews || isOver() || this.#stop.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  /** null: every rotated file is packed. */
  async #oldestPlain(): Promise<bigint | null> {
    const { path, maxFiles } = this.#options.file;
    const unsent = this.#options.unsentFrom?.() ?? 'none';
    if (unsent === 'unknown') return null;
    let isSent = unsent === 'none' || (await inodeIfThere(path)) === unsent;
    let found: bigint | null = null;
    for (let i = 1; i < maxFiles; i++) {
      // oxlint-disable-next-line no-await-in-loop
      const plain = await inodeIfThere(`${path}.${i}`);
      if (plain !== null && isSent) found = plain;
      if (plain === unsent) isSent = true;
      // oxlint-disable-next-line no-await-in-loop
      if (plain === null && (await inodeIfThere(`${path}.${i}.gz`)) === null) break;
    }
    return found;
  }

  /** By whatever name it has now. */
  async #openInode(inode: bigint): Promise<Awaited<ReturnType<typeof open>> | null> {
    const { path, maxFiles } = this.#options.file;
    for (let i = 1; i < maxFiles; i++) {
      try {
        const handle = await open(`${path}.${i}`, constants.O_RDONLY | constants.O_NOFOLLOW); // oxlint-disable-line no-await-in-loop
        if ((await handle.stat({ bigint: true })).ino === inode) return handle; // oxlint-disable-line no-await-in-loop
        await handle.close(); // oxlint-disable-line no-await-in-loop
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    }
    return null;
  }

  /** Of a daemon that died at it. */
  async #removeCopies(): Promise<void> {
    const { path } = this.#options.file;
    const directory = dirname(path);
    for (const name of await readdir(directory).catch(() => [])) {
      if (!name.startsWith(`${basename(path)}.`) || !/\.\d+\.(?:part|tmp)$/.test(name)) continue;
      await rm(join(directory, name), { force: true }); // oxlint-disable-line no-await-in-loop
    }
  }
}

async function inodeIfThere(path: string): Promise<bigint | null> {
  try {
    return (await stat(path, { bigint: true })).ino;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}
