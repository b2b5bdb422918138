/**
 * Control groups, v2 and v1 (also v1 beside an empty v2, "hybrid"). Plain files: runs on the main thread over
 * libuv's pool, without the worker. Source: cgroups(7), linux Documentation/admin-guide/cgroup-v2.rst,
 * cgroup-v1/freezer-subsystem.rst.
 */
import { existsSync, readFileSync } from 'node:fs';
import { readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { ERRNO, KernelError, quoted } from './kernel-error.ts';
import { parseMountinfo, type MountEntry } from './mountinfo.ts';
import type { CgroupHierarchy, Cgroups } from './port.ts';

/** How long a kill, a removal or a freeze may take before it is an error. */
const DEADLINE_MS = 10_000;
const WAIT_MS_FIRST = 1;
const WAIT_MS_MAX = 100;
/** v1: after so many tries that did not freeze everything, all is thawed for a moment. */
const FREEZE_TRIES = 3;
const FREEZE_PAUSE_MS = 2;
const SIGKILL = 9;
/** v1 controllers that v2 names otherwise. */
const V2_NAMES: Readonly<Record<string, string>> = { blkio: 'io' };

const KNOWN_V1 = new Set([
  'blkio', 'cpu', 'cpuacct', 'cpuset', 'devices', 'freezer', 'hugetlb', 'memory', 'misc', 'net_cls', 'net_prio',
  'perf_event', 'pids', 'rdma',
]); // prettier-ignore

/** What is mounted where. */
export interface CgroupLayout {
  readonly version: 'v1' | 'v2';
  readonly systemd: boolean;
  readonly controllers: readonly string[];
  /** Mount points by controller, v2's names; v2: one under "". */
  readonly mounts: ReadonlyMap<string, string>;
  /** Every hierarchy once, also those without a controller. */
  readonly hierarchies: readonly CgroupHierarchy[];
}

export function readCgroupLayout(): CgroupLayout {
  const entries = parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
  const systemd = existsSync('/run/systemd/system');
  return layoutOf(entries, systemd, (path) => readFileSync(path, 'utf8'));
}

/** Pure but for `read`. @throws {Error} when there are no control groups at all. */
export function layoutOf(
  entries: readonly MountEntry[],
  systemd: boolean,
  read: (path: string) => string,
): CgroupLayout {
  const v1 = entries.filter((entry) => entry.type === 'cgroup');
  const unified = entries.find((entry) => entry.type === 'cgroup2');
  const v2 = unified?.mountPoint;
  const mounts = new Map<string, string>();
  for (const entry of v1) {
    for (const option of entry.superOptions) {
      const name = V2_NAMES[option] ?? option;
      if (KNOWN_V1.has(option) && !mounts.has(name)) mounts.set(name, entry.mountPoint);
    }
  }
  const hierarchies = hierarchiesOf(v1, unified);
  if (mounts.size === 0 && v2 !== undefined) {
    const controllers = read(join(v2, 'cgroup.controllers'))
      .split(/\s+/)
      .filter((name) => name !== '');
    return { version: 'v2', systemd, controllers, mounts: new Map([['', v2]]), hierarchies };
  }
  if (mounts.size === 0)
    throw new KernelError('cgroup', ERRNO.ENOENT, '/proc/self/mountinfo', 'no control groups are mounted');
  return { version: 'v1', systemd, controllers: [...mounts.keys()], mounts, hierarchies };
}

/** Each mount point once, the last mounted there. The last option that a v1 hierarchy has is its controller or its name. */
function hierarchiesOf(v1: readonly MountEntry[], unified: MountEntry | undefined): CgroupHierarchy[] {
  const found = new Map<string, CgroupHierarchy>();
  for (const { root, mountPoint, superOptions } of v1) {
    const named = superOptions.findLast((option) => KNOWN_V1.has(option) || option.startsWith('name='));
    found.set(mountPoint, { key: named ?? superOptions.at(-1) ?? mountPoint, mountPoint, root });
  }
  if (unified !== undefined) {
    const { root, mountPoint } = unified;
    found.set(mountPoint, { key: '', mountPoint, root });
  }
  return [...found.values()];
}

export class CgroupFiles implements Cgroups {
  readonly version: 'v1' | 'v2';
  readonly systemd: boolean;
  readonly controllers: readonly string[];
  readonly hierarchies: readonly CgroupHierarchy[];
  readonly #layout: CgroupLayout;

  constructor(layout: CgroupLayout) {
    this.#layout = layout;
    this.version = layout.version;
    this.systemd = layout.systemd;
    this.controllers = layout.controllers;
    this.hierarchies = layout.hierarchies;
  }

  directory(controller: string, path: string): string {
    const mountPoint = this.#layout.mounts.get(this.version === 'v2' ? '' : (V2_NAMES[controller] ?? controller));
    if (mountPoint === undefined)
      throw new KernelError('cgroup', ERRNO.ENOENT, quoted(controller), 'no such controller is mounted');
    return join(mountPoint, checkedPath(path));
  }

  async processes(path: string): Promise<number[]> {
    return processesIn(this.#processDirectory(path));
  }

  async remove(path: string): Promise<void> {
    checkedPath(path);
    const directories = this.hierarchies.map(({ mountPoint }) => join(mountPoint, path));
    const deadlineMs = performance.now() + DEADLINE_MS;
    const removed = await Promise.allSettled(
      directories.map((directory) => this.#removeDirectory(directory, path, deadlineMs)),
    );
    for (const result of removed) if (result.status === 'rejected') throw result.reason;
  }

  async freeze(path: string): Promise<void> {
    try {
      await this.#setFrozen(path, true);
    } catch (error) {
      // Half frozen is neither running nor paused.
      await this.#setFrozen(path, false).catch(() => undefined);
      throw error;
    }
  }

  async thaw(path: string): Promise<void> {
    await this.#setFrozen(path, false);
  }

  async #setFrozen(path: string, frozen: boolean): Promise<void> {
    const directory = this.directory('freezer', path);
    const [file, value] =
      this.version === 'v2' ? ['cgroup.freeze', frozen ? '1' : '0'] : ['freezer.state', frozen ? 'FROZEN' : 'THAWED'];
    const detail = `${quoted(directory)}, ${file}=${value}`;
    let tries = 0;
    await waitUntil(detail, 'freeze', performance.now() + DEADLINE_MS, async () => {
      if (frozen && this.version === 'v1' && ++tries % FREEZE_TRIES === 0) {
        // A thread in execve waits for its siblings, which cannot end while they are frozen: let go, so that they can.
        await writeFile(join(directory, file), 'THAWED');
        await new Promise((resolve) => setTimeout(resolve, FREEZE_PAUSE_MS));
      }
      // v1 may stop half-way and wants to be told again; on v2 it changes nothing.
      await failingAs('write', join(directory, file), () => writeFile(join(directory, file), value));
      const seen = await readOr(join(directory, this.version === 'v2' ? 'cgroup.events' : file), '');
      return this.version === 'v2' ? seen.includes(`frozen ${value}`) : seen.trim() === value;
    });
  }

  async #removeDirectory(directory: string, path: string, deadlineMs: number): Promise<void> {
    let hasKilled = false;
    await waitUntil(quoted(directory), 'rmdir', deadlineMs, async () => {
      const errno = await removeBelow(directory);
      if (errno === null) return true;
      if (errno !== 'EBUSY' && errno !== 'ENOTEMPTY')
        throw new KernelError('rmdir', ERRNO[errno as keyof typeof ERRNO] ?? 0, quoted(directory));
      if (!hasKilled) await this.#thawToKill(path);
      hasKilled = true;
      await this.#kill(directory);
      return false;
    });
  }

  /** v1 delivers no signal to what is frozen. */
  async #thawToKill(path: string): Promise<void> {
    if (this.version === 'v2' || !this.#layout.mounts.has('freezer')) return;
    for (const directory of await directoriesBelow(this.directory('freezer', path))) {
      await writeFile(join(directory, 'freezer.state'), 'THAWED').catch(() => undefined);
    }
  }

  async #kill(directory: string): Promise<void> {
    if (this.version === 'v2') {
      // Linux 5.14; all at once, also what forks meanwhile.
      const isDone = await writeFile(join(directory, 'cgroup.kill'), '1').then(
        () => true,
        () => false,
      );
      if (isDone) return;
    }
    for (const pid of await processesIn(directory)) {
      // SAFETY: 0 is this process's own group (what a process of another pid namespace reads as).
      if (pid <= 0 || pid === process.pid) continue;
      try {
        process.kill(pid, SIGKILL);
      } catch {
        // Gone meanwhile.
      }
    }
  }

  #processDirectory(path: string): string {
    if (this.version === 'v2') return this.directory('', path);
    const controller =
      ['pids', 'memory', 'devices'].find((name) => this.#layout.mounts.has(name)) ?? this.controllers[0] ?? '';
    return this.directory(controller, path);
  }
}

/** @throws {KernelError} EINVAL: the root is never ours to touch, and nothing leads out of it. */
function checkedPath(path: string): string {
  const segments = path.split('/').slice(1);
  const isBad =
    !path.startsWith('/') ||
    segments.some((segment) => segment === '' || segment === '.' || segment === '..') ||
    path.includes('\0');
  if (isBad) throw new KernelError('cgroup', ERRNO.EINVAL, quoted(path), 'not an absolute path below the root');
  return path;
}

/** Depth first. null when all is gone, else the errno of the topmost directory that would not go. */
async function removeBelow(directory: string): Promise<string | null> {
  const first = await tryRemove(directory);
  if (first !== 'EBUSY' && first !== 'ENOTEMPTY') return first;
  for (const child of (await directoriesBelow(directory)).toReversed()) {
    const errno = await tryRemove(child);
    if (errno !== null) return errno;
  }
  return null;
}

async function tryRemove(directory: string): Promise<string | null> {
  try {
    await rmdir(directory);
    return null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? null : (code ?? 'EIO');
  }
}

/** The directory itself, then what is in it, parents before children. */
async function directoriesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const below = await Promise.all(
    entries.filter((entry) => entry.isDirectory()).map((entry) => directoriesBelow(join(directory, entry.name))),
  );
  return [directory, ...below.flat()];
}

async function processesIn(directory: string): Promise<number[]> {
  const lists = await Promise.all(
    (await directoriesBelow(directory)).map((each) => readOr(join(each, 'cgroup.procs'), '')),
  );
  return [
    ...new Set(
      lists.flatMap((list) =>
        list
          .split('\n')
          .filter((line) => line !== '')
          .map(Number),
      ),
    ),
  ];
}

async function readOr(path: string, missing: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => missing);
}

/** Asks again with growing pauses; gives up at the deadline. */
async function waitUntil(
  detail: string,
  syscall: string,
  deadlineMs: number,
  isDone: () => Promise<boolean>,
): Promise<void> {
  for (let waitMs = WAIT_MS_FIRST; ; waitMs = Math.min(waitMs * 2, WAIT_MS_MAX)) {
    if (await isDone()) return;
    if (performance.now() >= deadlineMs)
      throw new KernelError(syscall, ERRNO.ETIMEDOUT, detail, `not done after ${DEADLINE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}

async function failingAs(syscall: string, path: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    throw new KernelError(syscall, errno === undefined ? 0 : -errno, quoted(path));
  }
}
