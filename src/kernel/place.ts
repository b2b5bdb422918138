/**
 * Where a file operation happens: a directory's descriptor and a name in it. With a root, the directories on the
 * way are resolved as a process chrooted there would see them, so that no link in a hostile tree leads out.
 * Source: openat2(2), Linux 5.6. Worker thread only.
 */
import {
  AT_FDCWD,
  check,
  closeFile,
  native,
  O_CLOEXEC,
  O_PATH,
  openFile,
  pathText,
  SYSCALL,
  text,
  type Text,
} from './libc.ts';
import { ERRNO, isErrno, KernelError, quoted } from './kernel-error.ts';

const RESOLVE_NO_MAGICLINKS = 2;
const RESOLVE_BENEATH = 8;
const RESOLVE_IN_ROOT = 0x10;
const OPEN_HOW_BYTES = 24;
const O_DIRECTORY = 0o200000;
/** A rename on the way makes openat2 give up with EAGAIN. */
const TRIES_MAX = 64;

export interface Place {
  readonly directoryFd: number;
  readonly name: Text;
  /** The same place as one path, for calls that have no "at" form. Its last component is still not followed. */
  readonly path: string;
}

/** openat2's struct open_how. */
export function openHow(flags: number, mode: number, resolve: number): Buffer {
  const how = Buffer.alloc(OPEN_HOW_BYTES);
  how.writeBigUInt64LE(BigInt(flags >>> 0), 0);
  how.writeBigUInt64LE(BigInt(mode >>> 0), 8);
  how.writeBigUInt64LE(BigInt(resolve), 16);
  return how;
}

/** Finds places below one root, or anywhere for null; close it after use. */
export class Places implements Disposable {
  readonly #root: string | null;
  readonly #rootFd: number;
  #last: { readonly directory: string; readonly fd: number } | null = null;

  constructor(root: string | null) {
    this.#root = root;
    this.#rootFd = root === null ? -1 : openFile(root, O_PATH | O_DIRECTORY);
  }

  /** The place holds until the next call. */
  find(path: string): Place {
    text(path, 'openat2');
    if (this.#root === null) return { directoryFd: AT_FDCWD, name: pathText(path, 'openat2'), path };
    const trimmed = path.replace(/\/+$/, '');
    const slash = trimmed.lastIndexOf('/');
    const name = trimmed.slice(slash + 1);
    if (name === '' || name === '.' || name === '..')
      throw new KernelError(
        'openat2',
        ERRNO.EINVAL,
        `${quoted(this.#root)}, ${quoted(path)}`,
        'no name in a directory',
      );
    const directoryFd = this.#directory(trimmed.slice(0, slash + 1));
    return { directoryFd, name: pathText(name, 'openat2'), path: `/proc/self/fd/${directoryFd}/${name}` };
  }

  /** A place that lives beside the next one (the target of a hard link). */
  findApart<T>(path: string, use: (place: Place) => T): T {
    using apart = new Places(this.#root);
    return use(apart.find(path));
  }

  [Symbol.dispose](): void {
    if (this.#last !== null) closeFile(this.#last.fd);
    this.#last = null;
    closeFile(this.#rootFd);
  }

  #directory(directory: string): number {
    if (this.#last?.directory === directory) return this.#last.fd;
    const fd = openInRootHere(
      this.#rootFd,
      directory === '' ? '/' : directory,
      O_PATH | O_DIRECTORY,
      0,
      () => `${quoted(this.#root ?? '')}, ${quoted(directory)}`,
    );
    if (this.#last !== null) closeFile(this.#last.fd);
    this.#last = { directory, fd };
    return fd;
  }
}

function openInRootHere(rootFd: number, path: string, flags: number, mode: number, detail: () => string): number {
  // SAFETY: `how` and its size belong together; the kernel reads exactly that many bytes.
  const how = openHow(flags | O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
  for (let tries = 1; ; tries++) {
    try {
      return check(
        native.openat2(SYSCALL.openat2, rootFd, pathText(path, 'openat2'), how, how.length),
        'openat2',
        detail,
      );
    } catch (error) {
      if (!isErrno(error, ERRNO.EAGAIN) || tries === TRIES_MAX) throw error;
    }
  }
}

/** For openInRoot, which runs on a pool thread: a file system that a container brought (FUSE) may never answer. */
export const IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
export const BENEATH = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
export { TRIES_MAX as OPEN_TRIES_MAX };
