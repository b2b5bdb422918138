/** A bind that is to be shared or a slave needs a source that is. Source: moby daemon/oci_linux.go ensureShared (v28). */
import { EngineError } from '../../core/engine-error.ts';
import type { SpecMount } from './input.ts';

/**
 * The mounts with the propagation that they can have. `mountinfo`: /proc/self/mountinfo; undefined leaves it to the runtime.
 * @throws {EngineError} RUNTIME_START_FAILED "path /x is mounted on / but it is not a shared mount"
 */
export function withPropagation(mounts: readonly SpecMount[], mountinfo: string | undefined): readonly SpecMount[] {
  if (mountinfo === undefined) return mounts;
  return mounts.map((mount) => {
    const kind = mount.propagation.replace(/^r/, '');
    if (mount.type === 'tmpfs' || (kind !== 'shared' && kind !== 'slave')) return mount;
    const { mountPoint, optional } = mountOf(mount.source, mountinfo);
    const isShared = optional.some((field) => field.startsWith('shared:'));
    const isSlave = optional.some((field) => field.startsWith('master:'));
    if (isShared || (kind === 'slave' && isSlave)) return mount;
    if (mount.options.includes('slave-if-shared')) return { ...mount, propagation: '' };
    const wanted = kind === 'shared' ? 'a shared' : 'a shared or slave';
    throw new EngineError(
      'RUNTIME_START_FAILED',
      `path ${mount.source} is mounted on ${mountPoint} but it is not ${wanted} mount`,
    );
  });
}

/** The mount that a path is on: of the longest mount points above it the last, which covers the others. */
function mountOf(
  path: string,
  mountinfo: string,
): { readonly mountPoint: string; readonly optional: readonly string[] } {
  let found = { mountPoint: '', optional: [] as string[] };
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    const mountPoint = (fields[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    );
    const end = fields.indexOf('-');
    if (mountPoint === '' || end < 0 || mountPoint.length < found.mountPoint.length) continue;
    const isAbove = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
    if (isAbove) found = { mountPoint, optional: fields.slice(6, end) };
  }
  return found;
}
