/** What is mounted in a container, made ready on the host for one run. Source: moby daemon/volumes_unix.go setupMounts (v28). */
import { mkdir, stat } from 'node:fs/promises';
import { posix } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import type { MountPoint } from '../core/mount-point.ts';
import type { Container } from '../lifecycle/container.ts';
import type { SpecMount } from '../runtime/spec/input.ts';
import type { Undo } from './acquire-all.ts';
import type { Parts } from './parts.ts';
import { codeOf } from './root-files.ts';

const SHM = { type: 'tmpfs', flags: 0x2 | 0x4 | 0x8 }; // MS_NOSUID, MS_NODEV, MS_NOEXEC

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
      return withSource(parts, mount, path, undo);
    }
    case 'image': {
      const key = imageMountKey(container.id, index);
      const { snapshots } = parts.images;
      await snapshots.remove(key); // of a run that was not given back
      await snapshots.create(key, mount.source);
      const undo = async (): Promise<void> => snapshots.remove(key);
      try {
        const path = await snapshots.mount(key, { readOnly: true, volatile: false });
        return await withSource(parts, mount, path, undo);
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

async function withSource(
  parts: Parts,
  mount: MountPoint,
  root: string,
  undo: Undo,
): Promise<{ mount: SpecMount; undo: Undo }> {
  if (mount.subpath === '') return { mount: { ...mount, source: root }, undo };
  const source = await parts.rootFiles.locate(root, mount.subpath);
  if (source !== null) return { mount: { ...mount, source }, undo };
  await undo();
  const message = `cannot access path ${posix.join(root, mount.subpath)}: lstat ${posix.join(root, mount.subpath)}: no such file or directory`;
  throw new EngineError('MOUNT_INVALID', message);
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
