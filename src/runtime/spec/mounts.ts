/** What is mounted in a container, in order. Source: moby oci/defaults.go, daemon/oci_linux.go WithMounts (v28). */
import { posix } from 'node:path';

import { EngineError } from '../../core/engine-error.ts';
import type { OciInput, SpecMount } from './input.ts';
import { withPropagation } from './propagation.ts';
import { mergeTmpfsOptions } from './tmpfs-options.ts';

export interface OciMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** Where the init binary of `--init` is mounted. */
export const INIT_PATH = '/sbin/docker-init';

const DEFAULT_MOUNTS: readonly OciMount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro', 'nosuid', 'noexec', 'nodev'] },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777'] },
];

/** Stay writable when the rootfs is read-only: a container needs them to work at all. */
const ALWAYS_WRITABLE = new Set(['/proc', '/dev', '/dev/pts', '/dev/shm', '/dev/mqueue']);

/** Mounts, and the propagation that the rootfs needs for them ("" is the runtime's default). */
export function decideMounts(
  input: OciInput,
  options: { readonly init: boolean; readonly writableCgroups: boolean | null },
): { readonly mounts: OciMount[]; readonly rootfsPropagation: string } {
  const { host } = input.spec;
  const own = withPropagation(ownMounts(input), input.mountinfo);
  const destinations = new Set(own.map((mount) => mount.destination));
  const mounts = DEFAULT_MOUNTS.filter((mount) => {
    if (destinations.has(mount.destination)) return false;
    if (destinations.has('/dev') && mount.destination.startsWith('/dev/')) return false;
    return mount.destination !== '/dev/shm' || host.ipcMode !== 'none';
  }).map((mount) => adapt(mount, host, options.writableCgroups));
  for (const mount of own) mounts.push(mount.type === 'tmpfs' ? tmpfs(mount) : bind(mount, input));
  if (options.init) mounts.push(initMount(input));
  return { mounts, rootfsPropagation: rootfsPropagation(own) };
}

/** Parents before children: a mount below another must come after it. */
function ownMounts(input: OciInput): SpecMount[] {
  const given = input.mounts.map((mount) => ({ ...mount, destination: posix.resolve('/', mount.destination) }));
  const taken = new Set(given.map((mount) => mount.destination));
  for (const [path, data] of Object.entries(input.spec.host.tmpfs ?? {})) {
    const destination = posix.resolve('/', path);
    if (taken.has(destination)) continue;
    const options = data === '' ? [] : data.split(',');
    given.push({ type: 'tmpfs', source: 'tmpfs', destination, readWrite: true, propagation: '', options });
  }
  const shmPath = input.spec.host.ipcMode === 'host' ? '/dev/shm' : input.shmPath;
  if (shmPath !== null && !given.some((mount) => mount.destination === '/dev/shm')) {
    given.push({
      type: 'bind',
      source: shmPath,
      destination: '/dev/shm',
      readWrite: true,
      propagation: '',
      options: [],
    });
  }
  const depth = (mount: SpecMount): number => mount.destination.split('/').filter((part) => part !== '').length;
  return given.toSorted((a, b) => depth(a) - depth(b));
}

function adapt(mount: OciMount, host: OciInput['spec']['host'], writableCgroups: boolean | null): OciMount {
  const isCgroup = mount.type === 'cgroup';
  const writable = isCgroup ? (writableCgroups ?? host.privileged) : mount.destination === '/sys' && host.privileged;
  let options = writable ? mount.options.filter((option) => option !== 'ro') : mount.options;
  if (mount.destination === '/dev/shm') options = [...options, `size=${host.shmSizeBytes}`];
  // Docker clears "ro" of cgroups after it adds those of a read-only rootfs: writable wins.
  const becomesReadOnly = host.readonlyRootfs && !writable && !ALWAYS_WRITABLE.has(mount.destination);
  if (becomesReadOnly && !options.includes('ro')) options = [...options, 'ro'];
  return { ...mount, options };
}

/** Read-only when asked by `options` ("ro") or by the mount. */
function tmpfs(mount: SpecMount): OciMount {
  const data = mount.options.flatMap((option) => option.split(','));
  const options = mergeTmpfsOptions(mount.readWrite ? data : [...data, 'ro']);
  return { destination: mount.destination, type: 'tmpfs', source: 'tmpfs', options };
}

function bind(mount: SpecMount, input: OciInput): OciMount {
  const isShallow = mount.options.includes('nonrecursive');
  const options: string[] = [isShallow ? 'bind' : 'rbind'];
  if (!mount.readWrite) options.push(...readOnlyOptions(mount, input));
  const propagation = mount.propagation === '' ? 'rprivate' : mount.propagation;
  // Nothing is mounted below it that "r" could mean, but crun (1.8) takes any "r" for a recursive bind.
  options.push(isShallow ? propagation.replace(/^r/, '') : propagation);
  return { destination: mount.destination, type: 'bind', source: mount.source, options };
}

/** Read-only for the mounts below it too where the kernel can (mount_setattr, 5.12), as Docker since 25. */
function readOnlyOptions(mount: SpecMount, input: OciInput): string[] {
  const [major, minor] = input.host.kernelVersion;
  const canRecurse = major > 5 || (major === 5 && minor >= 12);
  const isForced = mount.options.includes('ro-force-recursive');
  if (isForced && mount.options.includes('ro-nonrecursive')) {
    throw new EngineError(
      'CONTAINER_SPEC_INVALID',
      'mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive',
    );
  }
  if (isForced && !canRecurse) {
    throw new EngineError(
      'OPTION_UNSUPPORTED',
      'rro is not supported: failed to call mount_setattr (kernel is older than 5.12?)',
    );
  }
  const isShallow = mount.options.includes('ro-nonrecursive') || mount.options.includes('nonrecursive');
  return !canRecurse || (isShallow && !isForced) ? ['ro'] : ['ro', 'rro'];
}

/** A shared or slave mount has an effect only when the rootfs is not private itself. */
function rootfsPropagation(mounts: readonly SpecMount[]): string {
  const has = (kind: string): boolean =>
    mounts.some((mount) => mount.propagation === kind || mount.propagation === `r${kind}`);
  if (has('shared')) return 'shared';
  return has('slave') ? 'rslave' : '';
}

function initMount(input: OciInput): OciMount {
  if (input.daemon.initPath === null) {
    throw new EngineError('RUNTIME_START_FAILED', 'exec: "docker-init": executable file not found in $PATH');
  }
  return { destination: INIT_PATH, type: 'bind', source: input.daemon.initPath, options: ['bind', 'ro'] };
}
