/**
 * Unpacks an archive into a directory of a container, which may be running, hostile, and full of links. Every path
 * is resolved by the kernel inside `root` (openat2, RESOLVE_IN_ROOT), so links lead where they lead for the
 * container and never further.
 * Source: moby pkg/archive Unpack (what replaces what, and the words of the refusals).
 */
import { close, lstat as lstatCallback, type BigIntStats } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { posix } from 'node:path';
import { promisify } from 'node:util';

import { EngineError } from '../core/engine-error.ts';
import { fsPath } from '../core/file-name.ts';
import type { FileOperation, Files } from '../kernel/port.ts';

import { baseOf, cleanEntryName, cleanLinkTarget, parentOf, refuse } from './archive-path.ts';
import type { ByteSource } from './byte-source.ts';
import { FileBatch } from './file-batch.ts';
import { writeContent } from './file-writer.ts';
import { TarReader, type TarEntry } from './tar-reader.ts';
import { isCode, openDirectoryInRoot, type OpenDirectory } from './tree-path.ts';

export interface ExtractIntoOptions {
  readonly source: ByteSource;
  readonly files: Files;
  readonly root: string;
  /** A directory inside root: absolute as the container sees it. */
  readonly target: string;
  readonly noOverwriteDirNonDir: boolean;
  /** Who gets everything; undefined: as the archive says. */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
}

const SMALL_BYTES_MAX = 256 * 1024;
const O_WRONLY_CREAT_EXCL_NOFOLLOW = 0o1 | 0o100 | 0o200 | 0o400000;
const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const lstat = promisify(lstatCallback) as (path: string | Buffer, options: { bigint: true }) => Promise<BigIntStats>;
const closeFd = promisify(close);

/** @throws IMAGE_ARCHIVE_INVALID naming the entry; what was unpacked before it stays, as with Docker */
export async function extractInto(options: ExtractIntoOptions): Promise<void> {
  const extraction = new IntoExtraction(options);
  const reader = new TarReader(options.source);
  try {
    for (let entry; (entry = await reader.next()) !== null;) await extraction.add(entry, reader);
    await extraction.finish();
  } finally {
    await extraction.settle();
  }
}

class IntoExtraction {
  readonly #options: ExtractIntoOptions;
  readonly #batch: FileBatch;
  /** Directories made here: nothing is in them that this archive did not bring. */
  readonly #fresh = new Set<string>();
  /** What was put into fresh directories. */
  readonly #made = new Set<string>();
  /** Symbolic links of this archive, by name: nothing of it goes through them. */
  readonly #links = new Set<string>();
  readonly #directoryTimes = new Map<string, bigint>();
  #parent: { readonly path: string; readonly directory: OpenDirectory } | null = null;

  constructor(options: ExtractIntoOptions) {
    this.#options = options;
    this.#batch = new FileBatch(options.files, options.root);
  }

  async add(entry: TarEntry, reader: TarReader): Promise<void> {
    const name = cleanEntryName(entry.name);
    if (name === '') {
      this.#checkOverwrite(entry, true, this.#options.target);
      return; // the target stays as it is, whatever the entry is
    }
    const parent = this.#path(parentOf(name));
    this.#checkAbove(entry, name);
    await this.#ensureDirectory(entry, parentOf(name));
    const path = this.#path(name);
    if (entry.type === 'symlink') this.#checkSymlink(entry, path);
    const isKept = await this.#makeRoom(entry, parent, name);
    if (entry.type === 'directory') {
      this.#links.delete(name);
      return await this.#directory(entry, name, path, isKept);
    }
    if (this.#fresh.has(parent)) this.#made.add(path);
    if (entry.type === 'symlink') this.#links.add(name);
    else this.#links.delete(name);
    switch (entry.type) {
      case 'file':
        await this.#file(entry, path, reader);
        break;
      case 'link':
        await this.#link(entry, path);
        return;
      case 'symlink':
        await this.#batch.push({ kind: 'symlink', path, target: entry.linkName });
        break;
      case 'character':
        await this.#batch.push({ kind: 'node', path, mode: S_IFCHR | 0o600, major: entry.major, minor: entry.minor });
        break;
      case 'block':
        await this.#batch.push({ kind: 'node', path, mode: S_IFBLK | 0o600, major: entry.major, minor: entry.minor });
        break;
      case 'fifo':
        await this.#batch.push({ kind: 'node', path, mode: S_IFIFO | 0o600, major: 0, minor: 0 });
        break;
      case 'other':
        throw refuse(entry.name, 'is of a type that cannot be unpacked');
    }
    await this.#attributes(entry, path);
    await this.#batch.push({ kind: 'times', path, accessNs: entry.mtimeNs, modifyNs: entry.mtimeNs });
  }

  async finish(): Promise<void> {
    for (const [path, modifyNs] of this.#directoryTimes) {
      await this.#batch.push({ kind: 'times', path, accessNs: modifyNs, modifyNs });
    }
    await this.#batch.finish();
  }

  async settle(): Promise<void> {
    await this.#batch.settle();
    await this.#parent?.directory[Symbol.asyncDispose]();
    this.#parent = null;
  }

  #path(name: string): string {
    return posix.join(this.#options.target, name);
  }

  /** True when a directory is there that stays. Anything else that is in the way goes. */
  async #makeRoom(entry: TarEntry, parent: string, name: string): Promise<boolean> {
    const path = this.#path(name);
    if (this.#fresh.has(path)) return await this.#replaceFresh(entry, path);
    if (this.#fresh.has(parent) && !this.#made.has(path)) return false;
    await this.#batch.drain();
    const directory = await this.#openParent(parent);
    const at = `${directory.at}/${baseOf(name)}`;
    let there: BigIntStats;
    try {
      there = await lstat(fsPath(at), { bigint: true });
    } catch (error) {
      if (isCode(error, 'ENOENT')) return false;
      throw error;
    }
    this.#checkOverwrite(entry, there.isDirectory(), path);
    if (there.isDirectory() && entry.type === 'directory') return true;
    if (there.isDirectory()) await this.#options.files.removeTree(at);
    else await unlink(fsPath(at));
    return false;
  }

  async #replaceFresh(entry: TarEntry, path: string): Promise<boolean> {
    this.#checkOverwrite(entry, true, path);
    if (entry.type === 'directory') return true;
    throw refuse(entry.name, 'would replace a directory of the same archive');
  }

  #checkOverwrite(entry: TarEntry, isDirectoryThere: boolean, path: string): void {
    if (!this.#options.noOverwriteDirNonDir || isDirectoryThere === (entry.type === 'directory')) return;
    const [old, replacement] = isDirectoryThere ? ['directory', 'non-directory'] : ['non-directory', 'directory'];
    throw new EngineError(
      'CONTAINER_PATH_INVALID',
      `cannot overwrite ${old} ${JSON.stringify(path)} with ${replacement} ${JSON.stringify(this.#options.target)}`,
    );
  }

  /** Links that the container has lead where they lead; an archive that brings its own could send what follows anywhere. */
  #checkAbove(entry: TarEntry, name: string): void {
    if (this.#links.size === 0) return;
    for (let above = parentOf(name); above !== ''; above = parentOf(above)) {
      if (this.#links.has(above))
        throw refuse(entry.name, `lies below ${JSON.stringify(above)}, a symbolic link of the same archive`);
    }
  }

  /** As moby: a relative one may not point out of the target directory. */
  #checkSymlink(entry: TarEntry, path: string): void {
    const { target } = this.#options;
    const pointsAt = posix.join(posix.dirname(path), entry.linkName);
    const top = posix.join(target, '/');
    if (pointsAt === target || `${pointsAt}/`.startsWith(top)) return;
    throw refuse(
      entry.name,
      `leads out of the target directory: invalid symlink ${JSON.stringify(path)} -> ${JSON.stringify(entry.linkName)}`,
    );
  }

  async #ensureDirectory(entry: TarEntry, name: string): Promise<void> {
    const path = this.#path(name);
    if (name === '' || this.#fresh.has(path) || this.#parent?.path === path) return;
    try {
      await this.#batch.drain();
      await this.#openParent(path);
    } catch (error) {
      if (!(error instanceof EngineError) || error.code !== 'CONTAINER_PATH_NOT_FOUND') throw error;
      if (isCode(error.cause, 'ENOTDIR'))
        throw refuse(entry.name, `lies below ${JSON.stringify(name)}, which is not a directory`);
      await this.#ensureDirectory(entry, parentOf(name));
      const { uid, gid } = this.#options.owner ?? { uid: 0, gid: 0 };
      await this.#batch.push({ kind: 'mkdir', path, mode: 0o755 });
      await this.#batch.push({ kind: 'chown', path, uid, gid });
      this.#fresh.add(path);
    }
  }

  async #openParent(path: string): Promise<OpenDirectory> {
    if (this.#parent?.path === path) return this.#parent.directory;
    const directory = await openDirectoryInRoot(this.#options.files, this.#options.root, path);
    await this.#parent?.directory[Symbol.asyncDispose]();
    this.#parent = { path, directory };
    return directory;
  }

  async #directory(entry: TarEntry, name: string, path: string, isKept: boolean): Promise<void> {
    if (!isKept) {
      await this.#batch.push({ kind: 'mkdir', path, mode: 0o700 });
      this.#fresh.add(this.#path(name));
      this.#made.add(path);
    }
    this.#directoryTimes.set(path, entry.mtimeNs);
    await this.#attributes(entry, path);
  }

  async #file(entry: TarEntry, path: string, reader: TarReader): Promise<void> {
    if (entry.sparse === null && entry.sizeBytes <= SMALL_BYTES_MAX) {
      await this.#batch.push({ kind: 'file', path, mode: 0o600, content: await reader.bytes() });
      return;
    }
    await this.#batch.drain();
    const fd = await this.#options.files.openInRoot(this.#options.root, path, O_WRONLY_CREAT_EXCL_NOFOLLOW, 0o600);
    try {
      await writeContent(fd, entry, reader);
    } finally {
      await closeFd(fd);
    }
  }

  /** Its target is what this archive, or the container, has inside the target directory. */
  async #link(entry: TarEntry, path: string): Promise<void> {
    const target = cleanLinkTarget(entry.name, entry.linkName);
    this.#checkAbove(entry, target);
    await this.#batch.push({ kind: 'link', path, target: this.#path(target) });
  }

  async #attributes(entry: TarEntry, path: string): Promise<void> {
    const { uid, gid } = this.#options.owner ?? entry;
    const operations: FileOperation[] = [{ kind: 'chown', path, uid, gid }];
    if (entry.type !== 'symlink') operations.push({ kind: 'chmod', path, mode: entry.mode });
    for (const operation of operations) await this.#batch.push(operation);
    for (const [name, value] of entry.xattrs) {
      if (!name.startsWith('trusted.')) this.#batch.later(path, name, value);
    }
  }
}
