/**
 * Which OCI runtimes this host has, and which of them works. No program is run for it: what could be asked of one is read
 * from the file system instead.
 */
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';

import type { OciRuntimeEntry } from './oci-runtime.ts';

const DIRECTORIES = [
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/bin',
  '/sbin',
  '/bin',
  '/usr/libexec/longshore',
];

export interface DetectedRuntimes {
  /** By the names that `--runtime` takes; with containerd's name of runc too, which clients may send. */
  readonly runtimes: Readonly<Record<string, OciRuntimeEntry>>;
  /** null: there is none. */
  readonly defaultName: string | null;
  /** Why crun is there and not the default; "" otherwise. For the daemon's log. */
  readonly note: string;
}

/** `directories`: where to look, first wins. A static crun beside the daemon may be put first. */
export async function detectRuntimes(directories: readonly string[] = DIRECTORIES): Promise<DetectedRuntimes> {
  const [crun, runc, mountinfo] = await Promise.all([
    findProgram('crun', directories),
    findProgram('runc', directories),
    readFile('/proc/self/mountinfo', 'utf8').catch(() => ''),
  ]);
  const works = crun !== null && !isHybrid(mountinfo);
  const runcEntry = runc === null ? {} : { runc: entry(runc), 'io.containerd.runc.v2': entry(runc) };
  return {
    runtimes: { ...(crun === null ? {} : { crun: entry(crun) }), ...runcEntry },
    defaultName: works ? 'crun' : runc !== null ? 'runc' : crun !== null ? 'crun' : null,
    note:
      crun !== null && !works
        ? 'crun does not work on this host: /sys/fs/cgroup/unified is mounted beside cgroup v1'
        : '',
  };
}

/** cgroup v1 with an empty v2 hierarchy beside it, which crun refuses ("hybrid"). */
export function isHybrid(mountinfo: string): boolean {
  let hasV1 = false;
  let hasUnified = false;
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    const type = fields[fields.indexOf('-') + 1];
    if (type === 'cgroup') hasV1 = true;
    if (type === 'cgroup2' && fields[4] === '/sys/fs/cgroup/unified') hasUnified = true;
  }
  return hasV1 && hasUnified;
}

/** The init for `--init`: the host's tini under either name, or our own beside the shim. null: none. */
export async function findInit(beside: string): Promise<string | null> {
  return (
    (await findProgram('docker-init', DIRECTORIES)) ??
    (await findProgram('tini-static', DIRECTORIES)) ??
    (await findProgram('init', [beside]))
  );
}

export async function findProgram(name: string, directories: readonly string[]): Promise<string | null> {
  for (const directory of directories) {
    const path = `${directory}/${name}`;
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  return null;
}

function entry(path: string): OciRuntimeEntry {
  return { path, options: [] };
}

/** It takes a compiled filter. */
export function isCrun(path: string): boolean {
  return /(^|[/-])crun(-[^/]*)?$/.test(path);
}
