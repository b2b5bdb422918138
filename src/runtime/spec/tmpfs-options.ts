/** Options of a tmpfs, merged as Docker does: the last of two that contradict each other wins. Source: moby/sys/mount. */
import { EngineError } from '../../core/engine-error.ts';

/** Options that set or clear the same mount flag, named by that flag. */
const FLAG: Readonly<Record<string, string>> = {
  ro: 'ro', rw: 'ro', suid: 'suid', nosuid: 'suid', dev: 'dev', nodev: 'dev', exec: 'exec', noexec: 'exec',
  sync: 'sync', async: 'sync', dirsync: 'dirsync', mand: 'mand', nomand: 'mand', atime: 'atime', noatime: 'atime',
  diratime: 'diratime', nodiratime: 'diratime', bind: 'bind', rbind: 'bind',
  relatime: 'relatime', norelatime: 'relatime', strictatime: 'strictatime', nostrictatime: 'strictatime',
  private: 'propagation', rprivate: 'propagation', shared: 'propagation', rshared: 'propagation',
  slave: 'propagation', rslave: 'propagation', unbindable: 'propagation', runbindable: 'propagation',
}; // prettier-ignore

const DATA = new Set(['size', 'mode', 'uid', 'gid', 'nr_inodes', 'nr_blocks', 'mpol']);

const DEFAULTS = ['noexec', 'nosuid', 'nodev', 'rprivate'];

/** @throws {EngineError} CONTAINER_SPEC_INVALID `invalid tmpfs option ["x"]` */
export function mergeTmpfsOptions(asked: readonly string[]): string[] {
  const seen = new Set<string>();
  const merged: string[] = [];
  for (const option of [...DEFAULTS, ...asked].toReversed()) {
    if (option === 'defaults' || option === '') continue;
    const [name = '', ...value] = option.split('=');
    const key = value.length === 0 ? FLAG[name] : DATA.has(name) ? `${name}=` : undefined;
    if (key === undefined) {
      const parts = value.length === 0 ? [name] : [name, value.join('=')];
      throw new EngineError(
        'CONTAINER_SPEC_INVALID',
        `invalid tmpfs option ${`[${parts.map((p) => JSON.stringify(p)).join(' ')}]`}`,
      );
    }
    if (!seen.has(key)) merged.push(option);
    seen.add(key);
  }
  return merged.toReversed();
}
