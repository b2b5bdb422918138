/**
 * Copies a tree exactly: owners, modes, times, extended attributes, links and nodes. Content goes through libuv's pool
 * (copy_file_range, or a reflink where the file system can), everything else in batches to the kernel's worker.
 */
import { constants, type BigIntStats } from 'node:fs';
import { copyFile, lstat, readdir, readlink } from 'node:fs/promises';

import type { FileOperation, Files } from '../kernel/port.ts';

/** Copies under way at a time: more would take libuv's pool from the rest of the engine. */
const COPIES_AT_ONCE = 2;
const BATCH_LENGTH = 256;
const NS_PER_MS = 1_000_000n;

export async function copyTree(source: string, target: string, files: Files): Promise<void> {
  await new TreeCopy(files).copy(source, target);
}

class TreeCopy {
  readonly #files: Files;
  /** "device:inode" of files with several names → the first copy. */
  readonly #linked = new Map<string, string>();
  /** Directories in the order they were met; finished from the last to the first, or their times would change again. */
  readonly #directories: { readonly path: string; readonly source: string; readonly stats: BigIntStats }[] = [];

  constructor(files: Files) {
    this.#files = files;
  }

  async copy(source: string, target: string): Promise<void> {
    this.#directories.push({ path: target, source, stats: await lstat(source, { bigint: true }) });
    for (let index = 0; index < this.#directories.length; index++) {
      const { source: from, path } = this.#directories[index]!;
      await this.#copyEntries(from, path);
    }
    const last: FileOperation[] = [];
    for (const { path, source: from, stats } of this.#directories.toReversed())
      last.push(...(await this.#metadata(from, path, stats)));
    await this.#run(last);
  }

  async #copyEntries(source: string, target: string): Promise<void> {
    const make: FileOperation[] = [];
    const contents: { readonly from: string; readonly to: string }[] = [];
    const finish: FileOperation[] = [];
    const links: FileOperation[] = [];
    for (const name of await readdir(source)) {
      const from = `${source}/${name}`;
      const path = `${target}/${name}`;
      const stats = await lstat(from, { bigint: true });
      const first = this.#firstName(stats, path);
      if (first !== null) {
        links.push({ kind: 'link', path, target: first });
        continue;
      }
      if (stats.isDirectory()) {
        make.push({ kind: 'mkdir', path, mode: 0o700 });
        this.#directories.push({ path, source: from, stats });
        continue;
      }
      if (stats.isSymbolicLink()) make.push({ kind: 'symlink', path, target: await readlink(from) });
      else if (stats.isFile()) contents.push({ from, to: path });
      else if (stats.isSocket()) continue; // means nothing without who listens
      else
        make.push({ kind: 'node', path, mode: Number(stats.mode), major: major(stats.rdev), minor: minor(stats.rdev) });
      finish.push(...(await this.#metadata(from, path, stats)));
    }
    await this.#run(make);
    await copyContents(contents);
    await this.#run([...finish, ...links]);
  }

  /** Owner before mode (it clears setuid) and before attributes (it clears capabilities); times last. */
  async #metadata(source: string, path: string, stats: BigIntStats): Promise<FileOperation[]> {
    const operations: FileOperation[] = [{ kind: 'chown', path, uid: Number(stats.uid), gid: Number(stats.gid) }];
    if (!stats.isSymbolicLink()) operations.push({ kind: 'chmod', path, mode: Number(stats.mode & 0o7777n) });
    for (const name of await this.#files.listXattr(source)) {
      if (name.startsWith('trusted.overlay.')) continue; // the snapshot's own
      const value = await this.#files.getXattr(source, name);
      if (value !== null) operations.push({ kind: 'xattr', path, name, value });
    }
    operations.push({
      kind: 'times',
      path,
      accessNs: nanoseconds(stats.atimeNs, stats.atimeMs),
      modifyNs: nanoseconds(stats.mtimeNs, stats.mtimeMs),
    });
    return operations;
  }

  #firstName(stats: BigIntStats, path: string): string | null {
    if (stats.isDirectory() || stats.nlink < 2n) return null;
    const key = `${stats.dev}:${stats.ino}`;
    const first = this.#linked.get(key);
    if (first === undefined) this.#linked.set(key, path);
    return first ?? null;
  }

  async #run(operations: readonly FileOperation[]): Promise<void> {
    for (let start = 0; start < operations.length; start += BATCH_LENGTH)
      await this.#files.batch(operations.slice(start, start + BATCH_LENGTH));
  }
}

async function copyContents(contents: readonly { readonly from: string; readonly to: string }[]): Promise<void> {
  const queue = contents[Symbol.iterator]();
  const work = async (): Promise<void> => {
    for (const { from, to } of queue) await copyFile(from, to, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
  };
  await Promise.all(Array.from({ length: COPIES_AT_ONCE }, work));
}

function nanoseconds(ns: bigint | undefined, ms: bigint): bigint {
  return ns ?? ms * NS_PER_MS;
}

/** As glibc's gnu_dev_major and gnu_dev_minor. */
function major(device: bigint): number {
  return Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n));
}
function minor(device: bigint): number {
  return Number((device & 0xffn) | ((device >> 12n) & 0xffffff00n));
}
