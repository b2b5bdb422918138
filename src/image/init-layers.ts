/**
 * The layer between an image and a container's writable top: the mount points and marks that Docker puts into every
 * container (/.dockerenv, /etc/hosts, …). Since it lies below the top, diff, commit and sizes tell of none of them, and
 * programs that look for /.dockerenv find it. Made once for each image's top layer, beside it, and gone with it.
 * Source: moby daemon/initlayer/setup_unix.go (v28).
 */
import { chmod, lchown, lstat, mkdir, rename, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Owner } from '../core/id-map.ts';
import type { Kernel } from '../kernel/port.ts';

import type { LayerStore } from './layer-store.ts';
import type { Digest } from './port.ts';
import { isGone } from './walk-tree.ts';

const DIRECTORIES = ['/dev/pts', '/dev/shm', '/proc', '/sys'] as const;
const FILES = ['/.dockerenv', '/etc/resolv.conf', '/etc/hosts', '/etc/hostname', '/dev/console'] as const;
const LINKS = [['/etc/mtab', '/proc/mounts']] as const;
const MODE = 0o755;

export class InitLayers {
  readonly #kernel: Kernel;
  readonly #layers: LayerStore;
  /** The host's IDs of a container's root. */
  readonly #owner: Owner;
  /** By path; a failed one is tried again. */
  readonly #made = new Map<string, Promise<void>>();

  constructor(kernel: Kernel, layers: LayerStore, owner: Owner) {
    this.#kernel = kernel;
    this.#layers = layers;
    this.#owner = owner;
  }

  /** Unmounts what a crash left half made; the directories are the layer store's to sweep. */
  async recover(): Promise<void> {
    for (const target of await this.#kernel.mounts.below(this.#layers.directory))
      await this.#kernel.mounts.unmount(target);
  }

  path(chainIds: readonly Digest[]): string {
    return this.#layers.initPath(chainIds.at(-1));
  }

  /** `lowerDirs`: the image's, topmost first. */
  async ensure(chainIds: readonly Digest[], lowerDirs: readonly string[]): Promise<void> {
    const path = this.path(chainIds);
    const known = this.#made.get(path);
    if (known !== undefined && (await known, await exists(path))) return;
    const making = this.#make(path, lowerDirs);
    this.#made.set(path, making);
    try {
      await making;
    } catch (error) {
      if (this.#made.get(path) === making) this.#made.delete(path);
      throw error;
    }
  }

  async #make(path: string, lowerDirs: readonly string[]): Promise<void> {
    if (await exists(path)) return;
    const { files, mounts } = this.#kernel;
    const scratch = this.#layers.temporaryPath();
    const [upperDir, workDir, target] = ['diff', 'work', 'merged'].map((name) => join(scratch, name)) as [
      string,
      string,
      string,
    ];
    try {
      for (const directory of [scratch, upperDir, workDir, target]) await mkdir(directory, { mode: 0o700 });
      await lchown(upperDir, this.#owner.uid, this.#owner.gid);
      await chmod(upperDir, MODE); // the root of the mount shows its attributes, whatever the umask
      await mounts.overlay({ lowerDirs, upper: { upperDir, workDir }, target });
      try {
        await fill(target, this.#owner);
      } finally {
        await mounts.unmount(target);
      }
      await rename(upperDir, path).catch(async (error: unknown) => {
        if (!(await exists(path))) throw error; // another container of the image was faster
      });
    } finally {
      await files.removeTree(scratch);
    }
  }
}

async function fill(root: string, owner: Owner): Promise<void> {
  for (const path of DIRECTORIES) await place(root, path, owner, async (at) => await mkdir(at, { mode: MODE }));
  for (const path of FILES)
    await place(root, path, owner, async (at) => await writeFile(at, '', { mode: MODE, flag: 'wx' }));
  for (const [path, to] of LINKS) await place(root, path, owner, async (at) => await symlink(to, at));
}

/** A file or link of the image that is in the way goes, so that nothing is ever followed; directories stay. */
async function place(root: string, path: string, owner: Owner, make: (at: string) => Promise<void>): Promise<void> {
  const names = path.slice(1).split('/');
  let at = root;
  for (const [index, name] of names.entries()) {
    at = join(at, name);
    const there = await lstat(at).catch((error: unknown) => {
      if (isGone(error)) return null;
      throw error;
    });
    if (there?.isDirectory() === true) continue;
    if (there !== null) await unlink(at);
    if (index < names.length - 1) await mkdir(at, { mode: MODE });
    else await make(at);
    await lchown(at, owner.uid, owner.gid);
    if (index < names.length - 1 || !(await lstat(at)).isSymbolicLink()) await chmod(at, MODE); // whatever the umask
  }
}

async function exists(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    (error: unknown) => {
      if (isGone(error)) return false;
      throw error;
    },
  );
}
