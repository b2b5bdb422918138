/**
 * The mounts of a new container: planned by volume/, with volumes made and images found, and the image's content
 * copied into new volumes. Source: moby daemon/volumes.go, create_unix.go populateVolumes (v28).
 */
import { stat } from 'node:fs/promises';

import type { ContainerSpec, HostSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { MountPoint } from '../core/mount-point.ts';
import type { Container } from '../lifecycle/container.ts';
import { planMounts, type MountPlanInput } from '../volume/mount-plan.ts';
import type { PlannedMount } from '../volume/mount-spec.ts';
import type { Volume } from '../volume/port.ts';
import type { Parts } from './parts.ts';
import { codeOf } from './root-files.ts';
import { openRootfs } from './rootfs.ts';
import { imageMountKey } from './start-mounts.ts';

/** What can be known of the mounts before there is an image. @throws {EngineError} MOUNT_INVALID */
export async function checkMounts(parts: Parts, host: HostSpec): Promise<void> {
  await planMounts(planInput(parts, { ...host, volumesFrom: null }, { volumes: null, isReadOnlyShallow: false }));
}

/** Volumes that are made on the way are given back by `stack`. */
export async function planMountPoints(
  parts: Parts,
  draft: { readonly id: string; readonly spec: ContainerSpec; readonly isReadOnlyShallow: boolean },
  stack: AsyncDisposableStack,
): Promise<readonly MountPoint[]> {
  const { host, process } = draft.spec;
  const { isReadOnlyShallow } = draft;
  const planned = await planMounts(planInput(parts, host, { volumes: process.volumes, isReadOnlyShallow }));
  const mounts: MountPoint[] = [];
  for (const one of planned) {
    if (one.mount.type === 'image') mounts.push(await takeImage(parts, draft.id, one, mounts.length, stack));
    else if (one.mount.type === 'volume') mounts.push(await takeVolume(parts, draft.id, one, stack));
    else mounts.push(one.mount);
  }
  return mounts;
}

/** As in Docker, a volume has the image's content from creation on and not only from the first start. */
export async function prepareVolumes(parts: Parts, container: Container): Promise<void> {
  const fresh = container.mounts.filter((mount) => mount.type === 'volume' && mount.copyUp);
  if (fresh.length === 0) return;
  await using rootfs = await openRootfs(parts, container);
  for (const { name, destination, subpath } of fresh) {
    const source = await parts.rootFiles.locate(rootfs.path, destination);
    if (source === null) continue;
    if (!(await stat(source)).isDirectory()) {
      throw new EngineError('MOUNT_INVALID', `cannot mount volume over existing file, file exists ${source}`);
    }
    await parts.volumes.copyUp(name, source, subpath);
  }
}

function planInput(
  parts: Parts,
  host: HostSpec,
  more: Pick<MountPlanInput, 'volumes' | 'isReadOnlyShallow'>,
): MountPlanInput {
  return {
    host,
    ...more,
    mountsOf: (ref) => mountsOf(parts, ref),
    sourceExists: exists,
    engineRoot: parts.settings.dataRoot,
  };
}

/** Not 404: clients would take it for the image that is missing, and pull. */
function mountsOf(parts: Parts, ref: string): readonly MountPoint[] {
  const container = parts.resolver.tryResolve(ref);
  if (container === undefined) throw new EngineError('CONTAINER_SPEC_INVALID', `No such container: ${ref}`);
  return container.mounts;
}

async function takeVolume(
  parts: Parts,
  id: string,
  planned: PlannedMount,
  stack: AsyncDisposableStack,
): Promise<MountPoint> {
  const { volumes } = parts;
  const { mount } = planned;
  let volume: Volume;
  if (planned.volume === null) {
    // Inherited: it is there, as another container refers to it.
    volume = volumes.get(mount.name);
  } else {
    const isNew = !isKnown(parts, mount.name);
    const { name, driver } = mount;
    volume = await volumes.create({ name, driver, referrer: id, ...planned.volume });
    const made = volume.name;
    if (isNew) stack.defer(async () => volumes.remove(made, { force: true }));
  }
  const { name } = volume;
  volumes.refer(name, id);
  stack.defer(async () => volumes.unrefer(name, id));
  return { ...mount, name, source: volume.mountpoint, driver: volume.driver };
}

/** As the container's own top, the image's tree is kept for it from now on, whatever becomes of the image. */
async function takeImage(
  parts: Parts,
  id: string,
  { mount }: PlannedMount,
  index: number,
  stack: AsyncDisposableStack,
): Promise<MountPoint> {
  const image = parts.images.resolve(mount.source);
  const key = imageMountKey(id, index);
  await parts.images.snapshots.create(key, image.id);
  stack.defer(async () => parts.images.snapshots.remove(key));
  return { ...mount, name: mount.name || mount.source, source: image.id };
}

function isKnown({ volumes }: Parts, name: string): boolean {
  if (name === '') return false;
  try {
    volumes.get(name);
    return true;
  } catch (error) {
    if (error instanceof EngineError && error.code === 'VOLUME_NOT_FOUND') return false;
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '')) return false;
    throw error;
  }
}
