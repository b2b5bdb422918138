/**
 * All mounts of a new container: what it inherits, "-v", "--mount", and the volumes of its image, in moby's order of
 * precedence. Looks at the host only through `sourceExists`.
 * Source: moby daemon/volumes.go registerMountPoints, daemon/create_unix.go createContainerVolumesOS (v28).
 */
import type { HostSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { MountPoint } from '../core/mount-point.ts';
import { parseVolumesFrom } from './mount-mode.ts';
import {
  checkTmpfsDestination,
  cleanPath,
  configError,
  EMPTY_MOUNT,
  parseBind,
  parseMount,
  VOLUME_DRIVER_DEFAULT,
  type PlannedMount,
} from './mount-spec.ts';

export interface MountPlanInput {
  readonly host: Pick<HostSpec, 'binds' | 'mounts' | 'tmpfs' | 'volumesFrom' | 'volumeDriver'>;
  /** ProcessSpec.volumes, the image's included. */
  readonly volumes: readonly string[] | null;
  /** The mounts of another container. @throws when there is none */
  readonly mountsOf: (container: string) => readonly MountPoint[];
  readonly sourceExists: (path: string) => Promise<boolean>;
  /** Read-only binds leave the mounts below them writable, as before API 1.44. */
  readonly isReadOnlyShallow: boolean;
  /** DATA_ROOT: binding it privately would keep the engine's own mounts busy. */
  readonly engineRoot: string;
}

/** One entry per destination, in the order in which they were first named. @throws MOUNT_INVALID */
export async function planMounts(input: MountPlanInput): Promise<readonly PlannedMount[]> {
  const { host } = input;
  const plan = new Map<string, PlannedMount>();
  const tmpfs = new Set(Object.keys(host.tmpfs ?? {}).map(cleanPath));
  for (const path of Object.keys(host.tmpfs ?? {})) checkTmpfsDestination(path);
  for (const spec of host.volumesFrom ?? []) {
    const { container, readWrite } = parseVolumesFrom(spec);
    for (const mount of input.mountsOf(container))
      plan.set(mount.destination, { mount: inherit(mount, readWrite), volume: null });
  }
  const named = new Set<string>();
  for (const raw of host.binds ?? []) {
    const planned = parseBind(raw, host.volumeDriver);
    const { destination } = planned.mount;
    if (named.has(destination) || tmpfs.has(destination)) throw duplicate(destination);
    named.add(destination);
    plan.set(destination, { ...planned, mount: adapt(planned.mount, input, hasPropagation(raw)) });
  }
  for (const spec of host.mounts ?? []) {
    const planned = parseMount(spec);
    const { destination, type, source, createSource } = planned.mount;
    if (named.has(destination) || (tmpfs.has(destination) && type !== 'tmpfs')) throw duplicate(destination);
    if (type === 'bind' && !createSource && !(await input.sourceExists(source))) {
      throw configError('bind', `bind source path does not exist: ${source}`);
    }
    named.add(destination);
    const isPropagationAsked = (spec.bind?.propagation ?? '') !== '';
    plan.set(destination, { ...planned, mount: adapt(planned.mount, input, isPropagationAsked) });
  }
  for (const path of input.volumes ?? []) {
    const planned = imageVolume(path, host.volumeDriver);
    const { destination } = planned.mount;
    if (!plan.has(destination) && !tmpfs.has(destination)) plan.set(destination, planned);
  }
  return [...plan.values()];
}

function inherit(mount: MountPoint, readWrite: boolean): MountPoint {
  return { ...mount, readWrite: mount.readWrite && readWrite, mode: '', copyUp: false };
}

function imageVolume(path: string, volumeDriver: string): PlannedMount {
  checkTmpfsDestination(path);
  const driver = volumeDriver === '' ? VOLUME_DRIVER_DEFAULT : volumeDriver;
  return {
    mount: { ...EMPTY_MOUNT, type: 'volume', destination: cleanPath(path), driver, anonymous: true, copyUp: true },
    volume: { options: null, labels: null },
  };
}

function adapt(mount: MountPoint, input: MountPlanInput, isPropagationAsked: boolean): MountPoint {
  return besideEngineRoot(withReadOnlyOf(mount, input), input.engineRoot, isPropagationAsked);
}

function withReadOnlyOf(mount: MountPoint, { isReadOnlyShallow }: MountPlanInput): MountPoint {
  if (mount.type !== 'bind' || mount.readWrite || !isReadOnlyShallow) return mount;
  return { ...mount, options: [...new Set([...mount.options, 'ro-nonrecursive'])] };
}

/** A bind that shows the engine's own mounts must let go of them when the engine does. */
function besideEngineRoot(mount: MountPoint, engineRoot: string, asked: boolean): MountPoint {
  if (mount.type !== 'bind' || !(isWithin(mount.source, engineRoot) || isWithin(engineRoot, mount.source)))
    return mount;
  if (!asked) return { ...mount, propagation: 'rslave', options: [...mount.options, 'slave-if-shared'] };
  if (mount.propagation === 'rslave' || mount.propagation === 'rshared') return mount;
  throw new EngineError(
    'MOUNT_INVALID',
    `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: "${engineRoot}", bind mount source: "${mount.source}", propagation: "${mount.propagation}"`,
  );
}

function hasPropagation(raw: string): boolean {
  return (raw.split(':')[2] ?? '').split(',').some((word) => /^r?(private|slave|shared)$/.test(word));
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`);
}

function duplicate(destination: string): EngineError {
  return new EngineError('MOUNT_INVALID', `Duplicate mount point: ${destination}`);
}
