/** What is mounted in a container, made ready on the host for one run. Source: moby daemon/volumes_unix.go setupMounts (v28). */
import { mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { posix } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import type { MountPoint } from '../core/mount-point.ts';
import type { Container } from '../lifecycle/container.ts';
import type { SpecMount } from '../runtime/spec/input.ts';
import type { Undo } from './acquire-all.ts';
import { containerDirectory } from './details.ts';
import type { Parts } from './parts.ts';
import { codeOf } from './root-files.ts';

const SHM = { type: 'tmpfs', flags: 0x2 | 0x4 | 0x8 }; // MS_NOSUID, MS_NODEV, MS_NOEXEC
const BIND = 0x1000 | 0x4000; // MS_BIND, MS_REC

/** One mount: where it comes from on the host, and how it is given back. */
export async function acquireMount(
  parts: Parts,
  container: Container,
  mount: MountPoint,
  index: number,
): Promise<{ readonly mount: SpecMount; readonly undo: Undo }> {
  switch (mount.type) {
    case 'tmpfs':
      return { mount, undo: async () => {} };
    case 'bind':
      await ensureBindSource(mount);
      return { mount, undo: async () => {} };
    case 'volume': {
      const path = await parts.volumes.acquire(mount.name, container.id, mount);
      const undo = async (): Promise<void> => parts.volumes.release(mount.name, container.id);
      return withSource(parts, mount, path, { undo, target: subpathTarget(parts, container, index) });
    }
    case 'image': {
      const key = imageMountKey(container.id, index);
      const { snapshots } = parts.images;
      await snapshots.remove(key); // of a run that was not given back
      await snapshots.create(key, mount.source);
      const undo = async (): Promise<void> => snapshots.remove(key);
      try {
        const path = await snapshots.mount(key, { readOnly: true, volatile: false });
        return await withSource(parts, mount, path, { undo, target: subpathTarget(parts, container, index) });
      } catch (error) {
        await undo();
        throw error;
      }
    }
  }
}

/** Gives back what acquireMount() took, also after a crash. */
export async function releaseMount(
  parts: Parts,
  container: Container,
  mount: MountPoint,
  index: number,
): Promise<void> {
  if (hasSubpath(mount)) await parts.mounts.unmount(subpathTarget(parts, container, index));
  if (mount.type === 'volume') await parts.volumes.release(mount.name, container.id);
  if (mount.type === 'image') await parts.images.snapshots.remove(imageMountKey(container.id, index));
}

/** The snapshots that belong to a container: its own top, and one for each image mount. For the sweep at boot. */
export function snapshotsOf(container: Container): string[] {
  const images = container.mounts.flatMap((mount, index) =>
    mount.type === 'image' ? imageMountKey(container.id, index) : [],
  );
  return [container.id, ...images];
}

export function imageMountKey(containerId: string, index: number): string {
  return `${containerId}.image.${index}`;
}

/** Files that the engine keeps, where nothing else is mounted over them. */
export function fileMounts(
  files: Readonly<Record<string, string | null>>,
  others: readonly { readonly destination: string }[],
): SpecMount[] {
  const taken = new Set(others.map((mount) => posix.resolve('/', mount.destination)));
  return Object.entries(files).flatMap(([destination, source]) => {
    if (source === null || taken.has(destination)) return [];
    return { type: 'bind' as const, source, destination, readWrite: true, propagation: '', options: [] };
  });
}

/** The shared memory of a container that lets others join its IPC namespace: it must outlive none of them, and be reachable. */
export function shmDirectory(directory: string): string {
  return posix.join(directory, 'mounts/shm');
}

export async function mountShm(parts: Parts, target: string, sizeBytes: number): Promise<void> {
  await mkdir(target, { recursive: true, mode: 0o700 });
  await parts.mounts.unmount(target); // of a run that was not given back
  await parts.mounts.mount({ ...SHM, source: 'shm', target, data: `mode=1777,size=${sizeBytes}` });
}

function hasSubpath(mount: MountPoint): boolean {
  return mount.subpath !== '' && (mount.type === 'volume' || mount.type === 'image');
}

function subpathTarget(parts: Parts, container: Container, index: number): string {
  return posix.join(containerDirectory(parts.settings.dataRoot, container.id), `mounts/${index}`);
}

/**
 * The mount's root, or a part of it. A part is found inside the root and bound where nobody else writes, by its
 * descriptor: another container that has the volume may replace it by a link to anywhere before the runtime looks.
 */
async function withSource(
  parts: Parts,
  mount: MountPoint,
  root: string,
  { undo, target }: { readonly undo: Undo; readonly target: string },
): Promise<{ mount: SpecMount; undo: Undo }> {
  if (!hasSubpath(mount)) return { mount: { ...mount, source: root }, undo };
  try {
    await parts.mounts.unmount(target); // of a run that was not given back
    const isBound = await parts.rootFiles.withPath(root, mount.subpath, async (source, isDirectory) => {
      await makeTarget(target, isDirectory);
      await parts.mounts.mount({ source, target, type: '', flags: BIND, data: '' });
    });
    if (!isBound) {
      const path = posix.join(root, mount.subpath);
      throw new EngineError('MOUNT_INVALID', `cannot access path ${path}: lstat ${path}: no such file or directory`);
    }
  } catch (error) {
    await undo();
    throw error;
  }
  const release = async (): Promise<void> => {
    await parts.mounts.unmount(target);
    await undo();
  };
  return { mount: { ...mount, source: target }, undo: release };
}

/** What a directory is bound to is one, and a file to a file. */
async function makeTarget(target: string, isDirectory: boolean): Promise<void> {
  await rm(target, { recursive: true, force: true }); // it may have been the other; nothing is mounted on it
  await mkdir(isDirectory ? target : posix.dirname(target), { recursive: true, mode: 0o700 });
  if (!isDirectory) await writeFile(target, '', { mode: 0o600 });
}

async function ensureBindSource(mount: MountPoint): Promise<void> {
  try {
    await stat(mount.source);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    if (!mount.createSource) {
      const message = `invalid mount config for type "bind": bind source path does not exist: ${mount.source}`;
      throw new EngineError('MOUNT_INVALID', message, { cause: error });
    }
    await mkdir(mount.source, { recursive: true, mode: 0o755 });
  }
}
