/** What is mounted in a container, made ready on the host for one run. Source: moby daemon/volumes_unix.go setupMounts (v28). */
import { chown, mkdir, realpath, stat } from 'node:fs/promises';
import { posix } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import { rootOf, type Owner } from '../core/id-map.ts';
import type { MountPoint } from '../core/mount-point.ts';
import type { Container } from '../lifecycle/container.ts';
import { idsOf, type SpecMount } from '../runtime/spec/input.ts';
import type { VolumeUse } from '../volume/port.ts';
import { bindSubpath } from '../volume/subpath.ts';
import type { Undo } from './acquire-all.ts';
import { containerDirectory } from './details.ts';
import type { Parts } from './parts.ts';
import { codeOf } from './root-files.ts';
import type { RunMounts } from './rootfs.ts';

const SHM = { type: 'tmpfs', flags: 0x2 | 0x4 | 0x8 }; // MS_NOSUID, MS_NODEV, MS_NOEXEC

interface Run {
  readonly parts: Parts;
  readonly container: Container;
  readonly runMounts: RunMounts;
}

/** One mount: where it comes from on the host, and how it is given back. */
export async function acquireMount(
  run: Run,
  index: number,
): Promise<{ readonly mount: SpecMount; readonly undo: Undo }> {
  const { parts, container, runMounts } = run;
  const mount = container.mounts[index]!;
  switch (mount.type) {
    case 'tmpfs':
      return { mount, undo: async () => {} };
    case 'bind':
      await ensureBindSource(mount, rootOf(idsOf(container.spec.host, parts.daemon)));
      return { mount: await withoutLinks(mount), undo: async () => {} };
    case 'volume':
      return withSource(run, index, await parts.volumes.acquire(mount.name, volumeUse(container, mount)));
    case 'image':
      return withSource(run, index, await runMounts.acquireImage(imageMountKey(container.id, index)));
  }
}

/** Gives back what acquireMount() took, also after a crash. */
export async function releaseMount({ parts, container, runMounts }: Run, index: number): Promise<void> {
  const mount = container.mounts[index]!;
  if (mount.subpath !== '') await parts.mounts.unmount(subpathTarget(parts, container, index));
  if (mount.type === 'volume') await parts.volumes.release(mount.name, volumeUse(container, mount));
  if (mount.type === 'image') await runMounts.release(imageMountKey(container.id, index));
}

export function volumeUse(container: Container, mount: MountPoint): VolumeUse {
  const { destination, readWrite, propagation } = mount;
  return { containerId: container.id, destination, readWrite, propagation };
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
  { readWrite }: { readonly readWrite: boolean },
): SpecMount[] {
  const taken = new Set(others.map((mount) => posix.resolve('/', mount.destination)));
  return Object.entries(files).flatMap(([destination, source]) => {
    if (source === null || taken.has(destination)) return [];
    return { type: 'bind' as const, source, destination, readWrite, propagation: '', options: [] };
  });
}

/** The shared memory of a container that lets others join its IPC namespace: it must outlive none of them, and be reachable. */
export function shmDirectory(directory: string): string {
  return posix.join(directory, 'mounts/shm');
}

export async function mountShm(parts: Parts, container: Container, target: string): Promise<void> {
  const { uid, gid } = rootOf(idsOf(container.spec.host, parts.daemon));

  await mkdir(target, { recursive: true, mode: 0o700 });
  await parts.mounts.unmount(target); // of a run that was not given back
  await parts.mounts.mount({
    ...SHM,
    source: 'shm',
    target,
    data: `mode=1777,size=${container.spec.host.shmSizeBytes},uid=${uid},gid=${gid}`,
  });
}

/** A subpath is bound to a place of the engine's own: what a container makes of the path later does not matter. */
async function withSource(
  run: Run,
  index: number,
  root: string,
): Promise<{ readonly mount: SpecMount; readonly undo: Undo }> {
  const { parts, container } = run;
  const mount = container.mounts[index]!;
  const undo = (): Promise<void> => releaseMount(run, index);
  if (mount.subpath === '') return { mount: { ...mount, source: root }, undo };
  const target = subpathTarget(parts, container, index);
  try {
    await parts.mounts.unmount(target); // of a run that was not given back
    await bindSubpath(parts, { root, subpath: mount.subpath, target });
  } catch (error) {
    await undo();
    throw error;
  }
  return { mount: { ...mount, source: target }, undo };
}

function subpathTarget({ settings }: Parts, container: Container, index: number): string {
  return posix.join(containerDirectory(settings.dataRoot, container.id), 'mounts', `subpath-${index}`);
}

/** A propagation is that of the mount which the source really is on. */
async function withoutLinks(mount: MountPoint): Promise<MountPoint> {
  return sharesMounts(mount) ? { ...mount, source: await realpath(mount.source) } : mount;
}

/** Whether mounts made on one side appear on the other. */
export function sharesMounts({ propagation }: { readonly propagation: string }): boolean {
  return /^r?(?:shared|slave)$/.test(propagation);
}

async function ensureBindSource(mount: MountPoint, owner: Owner): Promise<void> {
  try {
    await stat(mount.source);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    if (!mount.createSource) {
      const message = `invalid mount config for type "bind": bind source path does not exist: ${mount.source}`;
      throw new EngineError('MOUNT_INVALID', message, { cause: error });
    }
    const first = await mkdir(mount.source, { recursive: true, mode: 0o755 });
    if (first === undefined) return;
    for (let made = mount.source; made.length >= first.length; made = posix.dirname(made))
      await chown(made, owner.uid, owner.gid);
  }
}
