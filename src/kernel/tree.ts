/**
 * Removes a directory tree that somebody hostile filled: never follows a link, never enters a mount, holds a bounded
 * number of descriptors however deep it is, and lets other calls through. Source: openat2(2), getdents64(2),
 * unlinkat(2). Worker thread only.
 */
import { basename, dirname, join } from 'node:path';

import { decodeFileName, encodeFileName } from '../core/file-name.ts';

import {
  AT_REMOVEDIR,
  AT_SYMLINK_NOFOLLOW,
  check,
  checkAsync,
  closeFile,
  native,
  O_CLOEXEC,
  O_PATH,
  openFile,
  randomBytes,
  SYSCALL,
  text,
} from './libc.ts';
import { ERRNO, isErrno, KernelError, quoted } from './kernel-error.ts';
import { Lane } from './lane.ts';
import { openHow } from './place.ts';

const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const RESOLVE_NO_XDEV = 1;
const RESOLVE_NO_SYMLINKS = 4;
const DT_DIRECTORY = 4;
const STATX_BLOCKS = 0x400;
const STATX_BYTES = 256;
const STATX_BLOCKS_OFFSET = 0x30;
const BLOCK_BYTES = 512;
/** Freeing a file's blocks takes time in proportion; larger files go on a pool thread. */
const QUICK_FILE_BYTES_MAX = 64 * 1024 * 1024;
const ENTRIES_BYTES = 32_768;
const TURN_MS_MAX = 3;
/** Directories open at once. What lies deeper is moved up to the top and removed from there. */
const DEPTH_MAX = 64;
/** Somebody may still write into it: look again this often. */
const SWEEPS_MAX = 8;

const largeFileLane = new Lane({ name: 'unlinkat', width: 1, waitMsMax: 600_000 });

interface Entry {
  /** Ends in NUL: names are bytes, not text. */
  readonly name: Buffer;
  readonly isDirectory: boolean;
}

/** Missing is fine. @throws {KernelError} that names the path: EXDEV at a mount point, EPERM at an immutable file. */
export async function removeTree(path: string): Promise<void> {
  text(path, 'unlinkat');
  const name = basename(path);
  if (!path.startsWith('/') || name === '' || name === '.' || name === '..') {
    throw new KernelError(
      'unlinkat',
      ERRNO.EINVAL,
      quoted(path),
      'not an absolute path of something that can be removed',
    );
  }
  let parent: number;
  try {
    parent = openFile(dirname(path), O_PATH | O_DIRECTORY);
  } catch (error) {
    if (isErrno(error, ERRNO.ENOENT, ERRNO.ENOTDIR)) return;
    throw error;
  }
  try {
    await new TreeRemoval(parent, dirname(path)).remove(cName(name));
  } finally {
    closeFile(parent);
  }
}

class TreeRemoval {
  readonly #parent: number;
  readonly #parentPath: string;
  #turnStartedMs = performance.now();
  /** The top directory of the tree while it is open. */
  #top = -1;
  #moved = 0;

  constructor(parent: number, parentPath: string) {
    this.#parent = parent;
    this.#parentPath = parentPath;
  }

  async remove(name: Buffer): Promise<void> {
    if (await this.#unlink(this.#parent, name, this.#parentPath)) return;
    await this.#directory(this.#parent, name, this.#parentPath, 0);
  }

  /** Empties and removes `name` in `parent`. Recursion ends at DEPTH_MAX. */
  async #directory(parent: number, name: Buffer, parentPath: string, depth: number): Promise<void> {
    const path = join(parentPath, shown(name));
    if (depth === DEPTH_MAX) return this.#moveUp(parent, name, path);
    const fd = openDirectory(parent, name, path);
    if (fd === null) return;
    if (depth === 0) this.#top = fd;
    try {
      for (let sweep = 1; ; sweep++) {
        const movedBefore = this.#moved;
        await this.#empty(fd, path, depth);
        if (removedDirectory(parent, name, path, sweep >= SWEEPS_MAX)) return;
        if (this.#moved > movedBefore) sweep = 0; // what was moved into the top is not a stranger's
        check(native.lseek(fd, 0, 0), 'lseek', () => quoted(path));
      }
    } finally {
      closeFile(fd);
    }
  }

  async #empty(fd: number, path: string, depth: number): Promise<void> {
    const buffer = Buffer.alloc(ENTRIES_BYTES);
    for (;;) {
      const size = check(native.getdents64(SYSCALL.getdents64, fd, buffer, buffer.length), 'getdents64', () =>
        quoted(path),
      );
      if (size === 0) return;
      for (const entry of parseEntries(buffer.subarray(0, size))) {
        await this.#yieldTurn();
        if (!entry.isDirectory && (await this.#unlink(fd, entry.name, path))) continue;
        await this.#directory(fd, entry.name, path, depth + 1);
      }
    }
  }

  /** False when it is a directory. Gone already is fine. */
  async #unlink(fd: number, name: Buffer, path: string): Promise<boolean> {
    const detail = (): string => quoted(join(path, shown(name)));
    try {
      if (bytesOf(fd, name) <= QUICK_FILE_BYTES_MAX) check(native.unlinkat(fd, name, 0), 'unlinkat', detail);
      else
        await largeFileLane.run(() =>
          checkAsync('unlinkat', detail, (done) => native.unlinkat.async(fd, name, 0, done)),
        );
      return true;
    } catch (error) {
      if (isErrno(error, ERRNO.ENOENT)) return true;
      if (isErrno(error, ERRNO.EISDIR)) return false;
      throw error;
    }
  }

  /** Out of a tree too deep to hold open, into its top, where the next sweep finds it. */
  #moveUp(parent: number, name: Buffer, path: string): void {
    const moved = `.moved-${randomBytes(12).toString('hex')}`;
    check(native.renameat(parent, name, this.#top, moved), 'renameat', () => `${quoted(path)}, ${quoted(moved)}`);
    this.#moved++;
  }

  async #yieldTurn(): Promise<void> {
    if (performance.now() - this.#turnStartedMs < TURN_MS_MAX) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#turnStartedMs = performance.now();
  }
}

/** null when it is gone. @throws {KernelError} EXDEV when something is mounted there. */
function openDirectory(parent: number, name: Buffer, path: string): number | null {
  const how = openHow(O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS);
  try {
    return check(
      native.openat2(SYSCALL.openat2, parent, name, how, how.length),
      'openat2',
      () => `${quoted(path)}, RESOLVE_NO_XDEV`,
    );
  } catch (error) {
    if (isErrno(error, ERRNO.ENOENT)) return null;
    throw error;
  }
}

/** False when something is in it still, unless that is to be the last word. */
function removedDirectory(parent: number, name: Buffer, path: string, isLast: boolean): boolean {
  try {
    check(native.unlinkat(parent, name, AT_REMOVEDIR), 'unlinkat', () => `${quoted(path)}, AT_REMOVEDIR`);
    return true;
  } catch (error) {
    if (isErrno(error, ERRNO.ENOENT)) return true;
    if (isErrno(error, ERRNO.ENOTEMPTY, ERRNO.EEXIST) && !isLast) return false;
    throw error;
  }
}

/** What the file occupies; 0 when that cannot be told. */
function bytesOf(fd: number, name: Buffer): number {
  // SAFETY: the kernel writes exactly struct statx, 256 bytes.
  const result = native.statx(fd, name, AT_SYMLINK_NOFOLLOW, STATX_BLOCKS, statxBuffer);
  return result < 0 ? 0 : Number(statxBuffer.readBigUInt64LE(STATX_BLOCKS_OFFSET)) * BLOCK_BYTES;
}
const statxBuffer = Buffer.alloc(STATX_BYTES);

/** struct linux_dirent64: inode u64, offset u64, length u16, type u8, name. "." and ".." are left out. */
function parseEntries(bytes: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt16LE(at + 16);
    const start = at + 19;
    const name = Buffer.from(bytes.subarray(start, bytes.indexOf(0, start) + 1));
    const plain = shown(name);
    if (plain !== '.' && plain !== '..') entries.push({ name, isDirectory: bytes[at + 18] === DT_DIRECTORY });
    at += length;
  }
  return entries;
}

function cName(name: string): Buffer {
  return Buffer.concat([encodeFileName(name), Buffer.alloc(1)]);
}

function shown(name: Buffer): string {
  return decodeFileName(name.subarray(0, name.length - 1));
}
