/** What is on the host, as far as it can be an engine's: processes, mounts, cgroups. Everything is read, nothing changed. */
import { readdir, readFile, readlink, realpath } from 'node:fs/promises';

export interface ShimProcess {
  readonly pid: number;
  readonly id: string;
  /** Below the root of each hierarchy; "" when it was not told. */
  readonly cgroup: string;
}

/** Shims whose state directory is below this exec root. */
export async function shimsOf(execRoot: string): Promise<ShimProcess[]> {
  const found: ShimProcess[] = [];
  for (const pid of await pids()) {
    const argv = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (argv[0] !== 'longshore-shim') continue;
    const value = (flag: string): string => argv[argv.indexOf(flag) + 1] ?? '';
    const [, root] = /^(.*)\/shim\/[^/]+$/.exec(argv.includes('--state') ? value('--state') : '') ?? [];
    if (root === undefined || (await realpath(root).catch(() => root)) !== execRoot) continue;
    found.push({ pid, id: value('--id'), cgroup: argv.includes('--cgroup') ? value('--cgroup') : '' });
  }
  return found;
}

/** The daemon is whoever has the records open; null: none. */
export async function daemonOf(database: string): Promise<number | null> {
  for (const pid of await pids()) {
    if (pid === process.pid) continue;
    const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
    for (const descriptor of descriptors) {
      const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => '');
      if (target === database) return pid;
    }
  }
  return null;
}

/** A zombie is not there any more. */
export async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
}

/** What lies in a directory; nothing when there is none. */
export async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  });
}

async function pids(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
}
