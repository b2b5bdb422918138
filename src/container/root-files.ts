/**
 * A few files and directories inside a container's rootfs, found as the container would find them: links are
 * followed inside the root and never out of it (openat2 with RESOLVE_IN_ROOT, behind RootOpener).
 */
import { close, constants, fstat } from 'node:fs';
import { lchown, lstat, mkdir, open, readlink } from 'node:fs/promises';
import { posix } from 'node:path';
import { promisify } from 'node:util';

import { EngineError } from '../core/engine-error.ts';
import type { Owner } from '../core/id-map.ts';
import type { RootOpener } from './parts.ts';

const O_PATH = 0o10_000_000; // not in node:fs
const O_CLOEXEC = 0o2_000_000;
const DIRECTORY = O_PATH | O_CLOEXEC | constants.O_DIRECTORY;
const LINKS_MAX = 40; // as the kernel's
const IS_THERE = { target: null };

type Kind = 'directory' | 'file';

const statFd = promisify(fstat);
const closeFd = promisify(close);

export class RootFiles {
  readonly #opener: RootOpener;
  readonly #owner: Owner;

  /** `owner`: whose new directories are, the host's IDs of a container's root. */
  constructor(opener: RootOpener, owner: Owner) {
    this.#opener = opener;
    this.#owner = owner;
  }

  /**
   * "" where there is no such regular file. A container may put a device or a pipe there, and opening one does things:
   * so it is looked at first, and then opened through the descriptor that was looked at.
   * @throws {EngineError} CONTAINER_PATH_INVALID for one larger than `maxBytes`
   */
  async readText(root: string, path: string, maxBytes: number): Promise<string> {
    const fd = await this.#open(root, path, O_PATH | O_CLOEXEC);
    if (fd === null) return '';
    try {
      const stat = await statFd(fd);
      if (!stat.isFile()) return '';
      if (stat.size > maxBytes)
        throw new EngineError('CONTAINER_PATH_INVALID', `${path} is larger than ${maxBytes} bytes`);
      await using file = await open(`/proc/self/fd/${fd}`, constants.O_RDONLY);
      const buffer = Buffer.alloc(stat.size);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await closeFd(fd);
    }
  }

  /** The path on the host of what `path` is in the container, or null. True when asked; what runs there may change it. */
  async locate(root: string, path: string): Promise<string | null> {
    const fd = await this.#open(root, path, O_PATH | O_CLOEXEC);
    if (fd === null) return null;
    try {
      return await readlink(`/proc/self/fd/${fd}`);
    } finally {
      await closeFd(fd);
    }
  }

  /** Makes the directory and its parents (0755, the container's root's) where they are missing; also what a link names that leads nowhere. */
  async ensureDirectory(root: string, path: string): Promise<void> {
    const clean = posix.resolve('/', path);
    const there = await this.#openDirectory(root, clean);
    if (there !== null) return closeFd(there);
    await this.#make(root, clean, { last: 'directory', wherever: true });
  }

  /**
   * What something is to be mounted on, where a link of the image leads to nothing: crun 1.8 cannot make that. Anything
   * else that is missing is the runtime's to make, and to speak of when it cannot be made.
   */
  async ensureBehindLinks(root: string, path: string, last: 'directory' | 'file'): Promise<void> {
    const clean = posix.resolve('/', path);
    try {
      const there = await this.#open(root, clean, O_PATH | O_CLOEXEC);
      if (there !== null) return await closeFd(there);
      await this.#make(root, clean, { last, wherever: false });
    } catch (error) {
      const isRuntimes = error instanceof EngineError || ['ENOTDIR', 'ELOOP'].includes(codeOf(error) ?? '');
      if (!isRuntimes) throw error;
    }
  }

  /** `wherever`: also what no link leads to. */
  async #make(root: string, clean: string, { last, wherever }: { last: Kind; wherever: boolean }): Promise<void> {
    let waiting = clean.split('/');
    let current = '/'; // free of links
    let links = 0;
    for (let name; (name = waiting.shift()) !== undefined;) {
      const kind = !wherever && links === 0 ? null : waiting.length === 0 ? last : 'directory';
      const found = name === '' ? IS_THERE : await this.#enter(root, current, name, { asked: clean, make: kind });
      if (found === null) return;
      const { target } = found;
      if (target === null) {
        current = posix.resolve(current, name);
        continue;
      }
      if (++links > LINKS_MAX) throw notDirectory(clean);
      waiting = [...target.split('/'), ...waiting];
      if (target.startsWith('/')) current = '/';
    }
  }

  /**
   * Makes `name` in the directory where it is missing, or answers null when nothing is to be made; says where it leads when
   * it is a link. By descriptor of the parent: whatever the container does to the path meanwhile, nothing outside is touched.
   */
  async #enter(
    root: string,
    directory: string,
    name: string,
    { asked, make }: { readonly asked: string; readonly make: Kind | null },
  ): Promise<{ readonly target: string | null } | null> {
    if (name === '.' || name === '..') return IS_THERE;
    const parent = await this.#openDirectory(root, directory);
    if (parent === null) throw new Error(`no ${directory} in ${root}`);
    try {
      const path = `/proc/self/fd/${parent}/${name}`;
      const stats = await lstat(path).catch((error: unknown) => {
        if (codeOf(error) === 'ENOENT') return null;
        throw error;
      });
      if (stats === null) {
        if (make === null) return null;
        if (make === 'directory') await mkdir(path, { mode: 0o755 });
        else await (await open(path, 'wx', 0o755)).close();
        await lchown(path, this.#owner.uid, this.#owner.gid);
        return IS_THERE;
      }
      if (stats.isSymbolicLink()) return { target: await readlink(path) };
      if (stats.isDirectory()) return IS_THERE;
      throw notDirectory(asked);
    } finally {
      await closeFd(parent);
    }
  }

  async #openDirectory(root: string, path: string): Promise<number | null> {
    try {
      return await this.#open(root, path, DIRECTORY);
    } catch (error) {
      if (!['ENOTDIR', 'ELOOP'].includes(codeOf(error) ?? '')) throw error;
      throw notDirectory(path, error);
    }
  }

  /** null: nothing is there. */
  async #open(root: string, path: string, flags: number): Promise<number | null> {
    try {
      return await this.#opener.openInRoot(root, path, flags, 0);
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return null;
      throw error;
    }
  }
}

function notDirectory(path: string, cause?: unknown): EngineError {
  return new EngineError('CONTAINER_PATH_INVALID', `Cannot mkdir: ${path} is not a directory`, { cause });
}

/** The symbolic errno of a failed call of Node's or the kernel room's. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
