/**
 * The counters that `docker stats` shows, from cgroup v1 or v2 files, /proc/stat and the process's /proc/PID/net/dev.
 * The files are kept open and read with pread: 14 of them take 0.04 ms, where opening them takes 2.
 * Source: moby daemon/stats_unix.go (v28); kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
 */
import { closeSync, openSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { totalmem } from 'node:os';
import { posix } from 'node:path';

import type { CgroupDirectories } from './parts.ts';
import type { BlkioEntry, CpuCounters, StatsSample } from './port.ts';

export interface Counters extends Pick<StatsSample, 'cgroupVersion' | 'memory' | 'pids' | 'blkio' | 'networks'> {
  readonly cpu: Omit<CpuCounters, 'systemNs'>;
}

/** The same for all containers. */
export interface HostCpu {
  /** Time of all CPUs together. */
  readonly systemNs: number;
  readonly onlineCpus: number;
}

export interface CounterReader extends Disposable {
  read(): Counters;
}

const NS_PER_TICK = 10_000_000; // USER_HZ is 100
const NS_PER_US = 1000;
const BUFFER_BYTES = 64 * 1024;

/** What Docker shows of memory.stat; what a kernel has not is 0. */
const MEMORY_V1 = [
  'cache', 'rss', 'rss_huge', 'mapped_file', 'dirty', 'writeback', 'pgpgin', 'pgpgout', 'pgfault', 'pgmajfault',
  'inactive_anon', 'active_anon', 'inactive_file', 'active_file', 'unevictable',
] as const; // prettier-ignore
const MEMORY_STATS_V1 = [
  ...MEMORY_V1,
  'hierarchical_memory_limit',
  'hierarchical_memsw_limit',
  ...MEMORY_V1.map((name) => `total_${name}`),
];
const MEMORY_STATS_V2 = [
  'anon', 'file', 'kernel_stack', 'slab', 'sock', 'shmem', 'file_mapped', 'file_dirty', 'file_writeback', 'anon_thp',
  'inactive_anon', 'active_anon', 'inactive_file', 'active_file', 'unevictable', 'slab_reclaimable',
  'slab_unreclaimable', 'pgfault', 'pgmajfault', 'workingset_refault', 'workingset_activate', 'workingset_nodereclaim',
  'pgrefill', 'pgscan', 'pgsteal', 'pgactivate', 'pgdeactivate', 'pglazyfree', 'pglazyfreed', 'thp_fault_alloc',
  'thp_collapse_alloc',
]; // prettier-ignore

export function readHostCpu(): HostCpu {
  return parseHostCpu(readFileSync('/proc/stat', 'latin1'));
}

/** `path` is the container's cgroup below the root of the hierarchies. */
export function openCounters(cgroups: CgroupDirectories, path: string, pid: number): CounterReader {
  const files = new KeptFiles();
  const file = (controller: string, name: string): string => posix.join(cgroups.directory(controller, path), name);
  // What shares the host's interfaces has none of its own.
  const hasNetwork = namespaceOf(pid) !== namespaceOf('self');
  const readCgroup = cgroups.version === 'v2' ? v2Reader(files, file) : v1Reader(files, file);
  return {
    read: () => ({
      cgroupVersion: cgroups.version,
      ...readCgroup(),
      networks: hasNetwork ? parseNetDev(files.text(`/proc/${pid}/net/dev`)) : null,
    }),
    [Symbol.dispose]: () => files.close(),
  };
}

type CgroupCounters = Pick<Counters, 'cpu' | 'memory' | 'pids' | 'blkio'>;
type FileOf = (controller: string, name: string) => string;

function v1Reader(files: KeptFiles, file: FileOf): () => CgroupCounters {
  const blkio = (name: string): BlkioEntry[] =>
    parseBlkioV1(
      files.text(file('blkio', `blkio.throttle.${name}_recursive`)) ||
        files.text(file('blkio', `blkio.throttle.${name}`)),
    );
  return () => {
    const usage = parseFlat(files.text(file('cpuacct', 'cpuacct.stat')));
    const throttling = parseFlat(files.text(file('cpu', 'cpu.stat')));
    const perCpu = files.text(file('cpuacct', 'cpuacct.usage_percpu')).trim();
    const memory = files.text(file('memory', 'memory.usage_in_bytes'));
    const pids = files.text(file('pids', 'pids.current'));
    return {
      cpu: {
        totalNs: Number(files.text(file('cpuacct', 'cpuacct.usage'))),
        perCpuNs: perCpu === '' ? null : perCpu.split(/\s+/).map(Number),
        kernelNs: (usage['system'] ?? 0) * NS_PER_TICK,
        userNs: (usage['user'] ?? 0) * NS_PER_TICK,
        throttling: {
          periods: throttling['nr_periods'] ?? 0,
          throttledPeriods: throttling['nr_throttled'] ?? 0,
          throttledNs: throttling['throttled_time'] ?? 0,
        },
      },
      memory:
        memory === ''
          ? null
          : {
              usageBytes: Number(memory),
              maxUsageBytes: Number(files.text(file('memory', 'memory.max_usage_in_bytes'))),
              limitBytes: limitOf(files.text(file('memory', 'memory.limit_in_bytes'))),
              failCount: Number(files.text(file('memory', 'memory.failcnt'))),
              stats: parseChosen(files.text(file('memory', 'memory.stat')), MEMORY_STATS_V1),
            },
      pids:
        pids === '' ? null : { current: Number(pids), limit: countLimitOf(files.text(file('pids', 'pids.max')), 0) },
      blkio: { serviceBytes: blkio('io_service_bytes'), serviced: blkio('io_serviced') },
    };
  };
}

function v2Reader(files: KeptFiles, file: FileOf): () => CgroupCounters {
  return () => {
    const cpu = parseFlat(files.text(file('cpu', 'cpu.stat')));
    const memory = files.text(file('memory', 'memory.current'));
    const pids = files.text(file('pids', 'pids.current'));
    return {
      cpu: {
        totalNs: (cpu['usage_usec'] ?? 0) * NS_PER_US,
        perCpuNs: null,
        kernelNs: (cpu['system_usec'] ?? 0) * NS_PER_US,
        userNs: (cpu['user_usec'] ?? 0) * NS_PER_US,
        throttling: {
          periods: cpu['nr_periods'] ?? 0,
          throttledPeriods: cpu['nr_throttled'] ?? 0,
          throttledNs: (cpu['throttled_usec'] ?? 0) * NS_PER_US,
        },
      },
      memory:
        memory === ''
          ? null
          : {
              usageBytes: Number(memory),
              maxUsageBytes: 0,
              limitBytes: limitOf(files.text(file('memory', 'memory.max'))),
              failCount: parseFlat(files.text(file('memory', 'memory.events')))['oom'] ?? 0,
              stats: parseChosen(files.text(file('memory', 'memory.stat')), MEMORY_STATS_V2),
            },
      pids:
        pids === ''
          ? null
          : { current: Number(pids), limit: countLimitOf(files.text(file('pids', 'pids.max')), Infinity) },
      blkio: { serviceBytes: parseBlkioV2(files.text(file('io', 'io.stat'))), serviced: [] },
    };
  };
}

/** Descriptors by path; a file that is not there reads as "". */
class KeptFiles {
  readonly #descriptors = new Map<string, number | null>();
  #buffer = Buffer.allocUnsafe(BUFFER_BYTES);

  text(path: string): string {
    let fd = this.#descriptors.get(path);
    if (fd === undefined) {
      fd = openOrNull(path);
      this.#descriptors.set(path, fd);
    }
    if (fd === null) return '';
    let length = 0;
    for (;;) {
      const got = readSync(fd, this.#buffer, length, this.#buffer.length - length, length);
      length += got;
      if (got === 0 || length < this.#buffer.length) return this.#buffer.toString('latin1', 0, length);
      this.#buffer = Buffer.concat([this.#buffer, Buffer.allocUnsafe(this.#buffer.length)]);
    }
  }

  close(): void {
    for (const fd of this.#descriptors.values()) if (fd !== null) closeSync(fd);
    this.#descriptors.clear();
  }
}

function openOrNull(path: string): number | null {
  try {
    return openSync(path, 'r');
  } catch {
    return null;
  }
}

/** "key value" lines. */
export function parseFlat(text: string): Record<string, number> {
  const values: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const at = line.lastIndexOf(' ');
    if (at > 0) values[line.slice(0, at)] = Number(line.slice(at + 1));
  }
  return values;
}

/** The same, of these names alone and in their order. */
export function parseChosen(text: string, names: readonly string[]): Record<string, number> {
  const values: Record<string, number> = Object.fromEntries(names.map((name) => [name, 0]));
  for (let at = 0; at < text.length;) {
    const end = text.indexOf('\n', at);
    const stop = end < 0 ? text.length : end;
    const blank = text.indexOf(' ', at);
    if (blank < 0) break;
    const name = text.slice(at, blank);
    if (name in values) values[name] = Number(text.slice(blank + 1, stop));
    at = stop + 1;
  }
  return values;
}

/** "max", and the huge number that v1 has for it, are all of the host's memory. */
function limitOf(text: string): number {
  const limit = text.trim() === 'max' ? Infinity : Number(text);
  return Math.min(limit, totalmem());
}

function countLimitOf(text: string, none: number): number {
  const limit = Number(text.trim());
  return Number.isFinite(limit) ? limit : none;
}

/** Its network namespace; null when it has ended. */
function namespaceOf(pid: number | 'self'): string | null {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return null;
  }
}

/** "8:0 Read 4096" */
export function parseBlkioV1(text: string): BlkioEntry[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(\d+):(\d+) (\w+) (\d+)$/.exec(line);
    if (match === null) return [];
    const [, major, minor, op = '', value] = match;
    return [{ major: Number(major), minor: Number(minor), op, value: Number(value) }];
  });
}

/** "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0" */
export function parseBlkioV2(text: string): BlkioEntry[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(\d+):(\d+) (.*)$/.exec(line);
    if (match === null) return [];
    const [, major, minor, rest = ''] = match;
    const values = new Map(
      rest.split(' ').map((pair): [string, number] => [pair.split('=')[0]!, Number(pair.split('=')[1])]),
    );
    const entry = (op: string, key: string): BlkioEntry => ({
      major: Number(major),
      minor: Number(minor),
      op,
      value: values.get(key) ?? 0,
    });
    return [entry('read', 'rbytes'), entry('write', 'wbytes')];
  });
}

/** user, nice, system, idle, iowait, irq and softirq, as Docker adds them up. */
export function parseHostCpu(text: string): HostCpu {
  const lines = text.split('\n');
  const all = (lines[0] ?? '').trim().split(/\s+/).slice(1, 8).map(Number);
  const ticks = all.reduce((sum, value) => sum + value, 0);
  return { systemNs: ticks * NS_PER_TICK, onlineCpus: lines.filter((line) => /^cpu\d/.test(line)).length };
}

export function parseNetDev(text: string): NonNullable<Counters['networks']> | null {
  const networks: Record<string, NonNullable<Counters['networks']>[string]> = {};
  for (const line of text.split('\n')) {
    const match = /^\s*([^:\s]+):\s*(.*)$/.exec(line);
    const [, name = '', rest = ''] = match ?? [];
    if (name === '' || name === 'lo') continue;
    const n = rest.trim().split(/\s+/).map(Number);
    const at = (index: number): number => n[index] ?? 0;
    networks[name] = {
      rxBytes: at(0), rxPackets: at(1), rxErrors: at(2), rxDropped: at(3),
      txBytes: at(8), txPackets: at(9), txErrors: at(10), txDropped: at(11),
    }; // prettier-ignore
  }
  return Object.keys(networks).length === 0 ? null : networks;
}
