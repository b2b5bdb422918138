/**
 * A container's rootfs on the host, mounted while somebody needs it: its run, a copy, an export. The snapshots count
 * the mounts; what belongs to a run is remembered here, so that a run is given back once and only once.
 */
import { rm, stat } from 'node:fs/promises';
import { posix } from 'node:path';

import type { Container } from '../lifecycle/container.ts';
import type { Snapshots } from '../image/port.ts';
import type { SpecMount } from '../runtime/spec/input.ts';
import type { Parts } from './parts.ts';

/** Where the runtime mounts by itself. */
const RUNTIMES_OWN = ['/proc', '/sys', '/dev'];

export interface Rootfs extends AsyncDisposable {
  readonly path: string;
}

/**
 * For a moment, whether it runs or not. A reader that never begins would hold it for ever: callers dispose of it or hand
 * it to a stream that is read.
 */
export async function openRootfs(parts: Pick<Parts, 'images' | 'rootFiles'>, container: Container): Promise<Rootfs> {
  const { snapshots } = parts.images;
  const path = await snapshots.mount(container.id, { readOnly: false, volatile: false });
  const rootfs = { path, [Symbol.asyncDispose]: () => snapshots.unmount(container.id) };
  try {
    await ensureWorkingDirectory(parts, container, path);
  } catch (error) {
    await rootfs[Symbol.asyncDispose]();
    throw error;
  }
  return rootfs;
}

/** Docker makes it at creation; here it is made whenever the rootfs is first looked at, which spares creation a mount. */
export async function ensureWorkingDirectory(
  parts: Pick<Parts, 'rootFiles'>,
  container: Container,
  rootfs: string,
): Promise<void> {
  const { workingDir } = container.spec.process;
  if (workingDir !== '' && workingDir !== '/') await parts.rootFiles.ensureDirectory(rootfs, workingDir);
}

/** Mount points that a link of the image leads to and that are missing. What is mounted below another mount is not of the rootfs. */
export async function ensureMountPoints(
  { rootFiles }: Pick<Parts, 'rootFiles'>,
  container: Container,
  rootfs: string,
  mounts: readonly SpecMount[],
): Promise<void> {
  const tmpfs = Object.keys(container.spec.host.tmpfs ?? {}).map((destination) => ({ type: 'tmpfs', destination }));
  const all = [...mounts, ...tmpfs].map((mount) => ({ ...mount, at: posix.resolve('/', mount.destination) }));
  const covers = (other: string, at: string): boolean =>
    at !== other && at.startsWith(other === '/' ? '/' : `${other}/`);
  for (const mount of all) {
    if ([...RUNTIMES_OWN, ...all.map(({ at }) => at)].some((other) => covers(other, mount.at))) continue;
    const isFile = 'source' in mount && mount.type !== 'tmpfs' && (await isNoDirectory(mount.source));
    await rootFiles.ensureBehindLinks(rootfs, mount.at, isFile ? 'file' : 'directory');
  }
}

/** What is gone is the runtime's to speak of. */
async function isNoDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    (stats) => !stats.isDirectory(),
    () => false,
  );
}

/** The mounts of snapshots that runs hold: tops by the container's ID, images by imageMountKey(). */
export class RunMounts {
  readonly #snapshots: Snapshots;
  /** Absent: nobody asked since the daemon started, so a mount of an earlier daemon's may be there. */
  readonly #held = new Map<string, boolean>();

  constructor(snapshots: Snapshots) {
    this.#snapshots = snapshots;
  }

  async acquire(container: Container): Promise<string> {
    const { id } = container;
    // What --rm throws away need not reach the disk; a restart finds the mark of the last such mount and must take it off.
    const volatile = container.spec.host.autoRemove;
    if (volatile && container.run > 1) {
      const { workDir } = this.#snapshots.describe(id);
      await rm(posix.join(workDir, 'work/incompat'), { recursive: true, force: true });
    }
    const path = await this.#snapshots.mount(id, { readOnly: false, volatile });
    this.#held.set(id, true);
    return path;
  }

  /** The tree of an image mount, which nobody writes. */
  async acquireImage(key: string): Promise<string> {
    const path = await this.#snapshots.mount(key, { readOnly: true, volatile: false });
    this.#held.set(key, true);
    return path;
  }

  /** Idempotent, also after a crash of the daemon. */
  async release(id: string): Promise<void> {
    const isHeld = this.#held.get(id) ?? true;
    if (!isHeld) return;
    this.#held.set(id, false);
    await this.#snapshots.unmount(id);
  }

  /** It runs since before the daemon started. */
  adopt(id: string): void {
    this.#held.set(id, true);
  }

  forget(id: string): void {
    this.#held.delete(id);
  }
}
