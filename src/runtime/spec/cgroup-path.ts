/** Where a container's cgroup is. Source: moby daemon/oci_linux.go WithCgroups (v28). */
import { posix } from 'node:path';

const NAME = 'longshore';

export interface CgroupPathOptions {
  readonly id: string;
  /** HostSpec's; "" takes the daemon's. */
  readonly parent: string;
  readonly daemonParent: string;
  readonly driver: 'cgroupfs' | 'systemd';
}

/** OCI linux.cgroupsPath: a path, or for systemd "slice:prefix:name". */
export function ociCgroupsPath(options: CgroupPathOptions): string {
  const parent = options.parent || options.daemonParent || (options.driver === 'systemd' ? 'system.slice' : `/${NAME}`);
  if (options.driver === 'systemd') return `${parent}:${NAME}:${options.id}`;
  // Cleaned against the root, so that "../.." cannot leave the hierarchy.
  return posix.join(posix.resolve('/', parent), options.id);
}

/** Whether it is systemd that makes it; a path may have colons in it. */
export function isUnit(ociPath = ''): boolean {
  return !ociPath.startsWith('/') && ociPath.split(':').length === 3;
}

/** The path below the root of a hierarchy that `ociCgroupsPath` ends up as. */
export function cgroupPathOf(ociPath: string): string {
  if (!isUnit(ociPath)) return posix.resolve('/', ociPath);
  const [slice = '', prefix = '', name = ''] = ociPath.split(':');
  return `${expandSlice(slice)}/${prefix}-${name}.scope`;
}

/** "a-b.slice" is /a.slice/a-b.slice (systemd.slice(5)). */
function expandSlice(slice: string): string {
  if (slice === '' || slice === '-.slice') return '';
  const names = slice.replace(/\.slice$/, '').split('-');
  return names.map((_, i) => `/${names.slice(0, i + 1).join('-')}.slice`).join('');
}
