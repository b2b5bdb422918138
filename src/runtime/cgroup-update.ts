/**
 * Changes the limits of a running container by writing its cgroup's files: all or nothing. What was written is written
 * back when a later file refuses. Source: kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst; the conversions
 * between v1 and v2 are those of crun and runc.
 */
import { readFile, writeFile } from 'node:fs/promises';

import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Cgroups } from '../kernel/port.ts';
import type { DeviceNumber } from './spec/input.ts';
import type { OciResources, OciThrottle } from './spec/resources.ts';

export interface CgroupWrite {
  readonly controller: string;
  readonly file: string;
  /** "" is written as an empty line: a write of no bytes at all does not reach the kernel. */
  readonly value: string;
  /** What puts back what is in the file now. */
  readonly undo: (now: string) => string;
}

/** Present values that a plan depends on. */
export interface CgroupNow {
  readonly memoryLimitBytes: number;
  readonly memorySwapBytes: number;
  readonly cpuPeriodUs: number;
  /** -1: none. */
  readonly cpuQuotaUs: number;
  /** v2: the I/O scheduler is BFQ, which has weights of its own. */
  readonly hasBfq: boolean;
}

const CPU_PERIOD_US_DEFAULT = 100_000;

/**
 * `alsoTell`: whoever else keeps the limits, once the kernel has taken them.
 * @throws {EngineError} RUNTIME_FAILED naming the file; the limits are as before then, or the error says which is not
 */
export async function updateCgroup(
  cgroups: Cgroups,
  path: string,
  resources: OciResources,
  alsoTell: () => Promise<void> = async () => {},
): Promise<void> {
  const now = await readNow(cgroups, path);
  const undo: { readonly file: string; readonly value: string }[] = [];
  try {
    for (const write of planUpdate(cgroups.version, resources, now)) {
      const file = `${cgroups.directory(write.controller, path)}/${write.file}`;
      const before = write.undo((await readFile(file, 'utf8')).trim());
      if (before === write.value) continue;
      await writeLine(file, write.value);
      undo.push({ file, value: before });
    }
    await alsoTell();
  } catch (error) {
    const lost: string[] = [];
    for (const { file, value } of undo.toReversed()) await writeLine(file, value).catch(() => lost.push(file));
    const rest = lost.length === 0 ? '' : ` (and these keep their new value: ${lost.join(', ')})`;
    throw new EngineError('RUNTIME_FAILED', `failed to update the limits: ${messageOf(error)}${rest}`, {
      cause: error,
    });
  }
}

async function writeLine(file: string, value: string): Promise<void> {
  await writeFile(file, `${value}\n`);
}

/** Whether the processes of a cgroup are paused. */
export async function isFrozen(cgroups: Cgroups, path: string): Promise<boolean> {
  const file = cgroups.version === 'v2' ? 'cgroup.freeze' : 'freezer.state';
  const text = await readFile(`${cgroups.directory('freezer', path)}/${file}`, 'utf8').catch(() => '');
  return /^(1|FROZEN|FREEZING)\s*$/.test(text);
}

export function planUpdate(version: 'v1' | 'v2', resources: OciResources, now: CgroupNow): CgroupWrite[] {
  return version === 'v1' ? planV1(resources, now) : planV2(resources, now);
}

function planV1(resources: OciResources, now: CgroupNow): CgroupWrite[] {
  const { memory, cpu, pids, blockIO } = resources;
  const write = (controller: string, file: string, value: number | string | undefined): CgroupWrite[] =>
    value === undefined ? [] : [{ controller, file: `${controller}.${file}`, value: `${value}`, undo: asItWas }];
  const limit = write('memory', 'limit_in_bytes', memory?.limit);
  const swap = write('memory', 'memsw.limit_in_bytes', memory?.swap);
  // memsw must never be below the limit: it goes first when it grows, and last when it shrinks.
  const growsFirst = memory?.swap !== undefined && (memory.swap === -1 || memory.swap > now.memorySwapBytes);
  return [
    ...(growsFirst ? [...swap, ...limit] : [...limit, ...swap]),
    ...write('memory', 'soft_limit_in_bytes', memory?.reservation),
    ...write('memory', 'swappiness', memory?.swappiness),
    ...write('memory', 'kmem.limit_in_bytes', memory?.kernel),
    ...write('memory', 'kmem.tcp.limit_in_bytes', memory?.kernelTCP),
    ...write('cpu', 'shares', cpu?.shares),
    // A shorter period with the old quota may be more than the parent allows: the quota goes first when it shrinks.
    ...(cpu?.quota !== undefined && cpu.quota > 0 && (now.cpuQuotaUs < 0 || cpu.quota < now.cpuQuotaUs)
      ? [...write('cpu', 'cfs_quota_us', cpu.quota), ...write('cpu', 'cfs_period_us', cpu.period)]
      : [...write('cpu', 'cfs_period_us', cpu?.period), ...write('cpu', 'cfs_quota_us', cpu?.quota)]),
    ...write('cpu', 'rt_period_us', cpu?.realtimePeriod),
    ...write('cpu', 'rt_runtime_us', cpu?.realtimeRuntime),
    ...write('cpuset', 'cpus', cpu?.cpus),
    ...write('cpuset', 'mems', cpu?.mems),
    ...write('pids', 'max', pids === undefined ? undefined : pids.limit < 0 ? 'max' : pids.limit),
    ...write('blkio', 'weight', blockIO?.weight),
    ...throttleV1('throttle.read_bps_device', blockIO?.throttleReadBpsDevice),
    ...throttleV1('throttle.write_bps_device', blockIO?.throttleWriteBpsDevice),
    ...throttleV1('throttle.read_iops_device', blockIO?.throttleReadIOPSDevice),
    ...throttleV1('throttle.write_iops_device', blockIO?.throttleWriteIOPSDevice),
  ];
}

function throttleV1(file: string, limits: readonly OciThrottle[] = []): CgroupWrite[] {
  return limits.map(({ major, minor, rate }) => ({
    controller: 'blkio',
    file: `blkio.${file}`,
    value: `${major}:${minor} ${rate}`,
    undo: (now) => `${major}:${minor} ${deviceLine(now, { major, minor }) || '0'}`,
  }));
}

function planV2(resources: OciResources, now: CgroupNow): CgroupWrite[] {
  const { memory, cpu, pids, blockIO } = resources;
  const write = (controller: string, file: string, value: number | string | undefined): CgroupWrite[] =>
    value === undefined ? [] : [{ controller, file: `${controller}.${file}`, value: `${value}`, undo: asItWas }];
  const maxOf = (limit: number | undefined): number | 'max' | undefined =>
    limit !== undefined && limit < 0 ? 'max' : limit;
  const period = cpu?.period ?? now.cpuPeriodUs;
  const quota = cpu?.quota ?? now.cpuQuotaUs;
  return [
    ...write('memory', 'swap.max', swapMax(memory, now)),
    ...write('memory', 'max', maxOf(memory?.limit)),
    ...write('memory', 'low', memory?.reservation),
    ...write('cpu', 'weight', cpu?.shares === undefined ? undefined : weightOfShares(cpu.shares)),
    ...(cpu?.period === undefined && cpu?.quota === undefined
      ? []
      : write('cpu', 'max', `${quota > 0 ? quota : 'max'} ${period}`)),
    ...write('cpuset', 'cpus', cpu?.cpus),
    ...write('cpuset', 'mems', cpu?.mems),
    ...write('pids', 'max', pids === undefined ? undefined : maxOf(pids.limit)),
    ...(blockIO?.weight === undefined
      ? []
      : [
          now.hasBfq
            ? { controller: 'io', file: 'io.bfq.weight', value: `${blockIO.weight}`, undo: defaultWeight }
            : { controller: 'io', file: 'io.weight', value: `${ioWeightOf(blockIO.weight)}`, undo: defaultWeight },
        ]),
    ...throttleV2('rbps', blockIO?.throttleReadBpsDevice),
    ...throttleV2('wbps', blockIO?.throttleWriteBpsDevice),
    ...throttleV2('riops', blockIO?.throttleReadIOPSDevice),
    ...throttleV2('wiops', blockIO?.throttleWriteIOPSDevice),
  ];
}

function asItWas(now: string): string {
  return now;
}

/** "default 100", and a line for each device that has its own. */
function defaultWeight(now: string): string {
  return /^(?:default )?(\d+)/.exec(now)?.[1] ?? now;
}

/** What follows "major:minor " in a file with a line for each device; "" without such a line. */
function deviceLine(text: string, { major, minor }: DeviceNumber): string {
  const start = `${major}:${minor} `;
  return (
    text
      .split('\n')
      .find((line) => line.startsWith(start))
      ?.slice(start.length)
      .trim() ?? ''
  );
}

/** v2 counts swap alone, v1 (and Docker) memory and swap together. */
function swapMax(memory: OciResources['memory'], now: CgroupNow): number | 'max' | undefined {
  if (memory?.swap === undefined) return undefined;
  if (memory.swap === -1) return 'max';
  return Math.max(0, memory.swap - (memory.limit ?? now.memoryLimitBytes));
}

function throttleV2(key: string, limits: readonly OciThrottle[] = []): CgroupWrite[] {
  return limits.map(({ major, minor, rate }) => ({
    controller: 'io',
    file: 'io.max',
    value: `${major}:${minor} ${key}=${rate}`,
    undo: (now) => {
      const before = new RegExp(`\\b${key}=(\\S+)`).exec(deviceLine(now, { major, minor }));
      return `${major}:${minor} ${key}=${before?.[1] ?? 'max'}`;
    },
  }));
}

/** [2, 262144] to [1, 10000], as crun and runc do. */
export function weightOfShares(shares: number): number {
  return 1 + Math.trunc(((shares - 2) * 9999) / 262_142);
}

/** [10, 1000] to [1, 10000], as crun and runc do. */
function ioWeightOf(weight: number): number {
  return 1 + Math.trunc(((weight - 10) * 9999) / 990);
}

async function readNow(cgroups: Cgroups, path: string): Promise<CgroupNow> {
  const read = async (controller: string, file: string): Promise<string> =>
    (await readFile(`${cgroups.directory(controller, path)}/${file}`, 'utf8').catch(() => '')).trim();
  if (cgroups.version === 'v1') {
    const [limit, swap, period, quota] = await Promise.all([
      read('memory', 'memory.limit_in_bytes'),
      read('memory', 'memory.memsw.limit_in_bytes'),
      read('cpu', 'cpu.cfs_period_us'),
      read('cpu', 'cpu.cfs_quota_us'),
    ]);
    return {
      memoryLimitBytes: number(limit),
      memorySwapBytes: number(swap),
      cpuPeriodUs: number(period),
      cpuQuotaUs: Number(quota || -1),
      hasBfq: false,
    };
  }
  const [limit, cpuMax, bfq] = await Promise.all([
    read('memory', 'memory.max'),
    read('cpu', 'cpu.max'),
    read('io', 'io.bfq.weight'),
  ]);
  const [quota = 'max', period = ''] = cpuMax.split(' ');
  return {
    memoryLimitBytes: number(limit),
    memorySwapBytes: 0,
    cpuPeriodUs: period === '' ? CPU_PERIOD_US_DEFAULT : number(period),
    cpuQuotaUs: quota === 'max' || quota === '' ? -1 : number(quota),
    hasBfq: bfq !== '',
  };
}

function number(text: string): number {
  return text === 'max' || text === '' ? Number.MAX_SAFE_INTEGER : Number(text);
}
