/** Limits as the OCI runtime spec spells them. Source: moby daemon/daemon_unix.go, daemon/update_linux.go (v28). */
import type { ResourceSpec, ThrottleSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import type { DeviceNumber } from './input.ts';

/** linux.resources without its devices. */
export interface OciResources {
  readonly memory?: {
    readonly limit?: number;
    readonly reservation?: number;
    /** Memory and swap together. */
    readonly swap?: number;
    readonly swappiness?: number;
    readonly kernel?: number;
    readonly kernelTCP?: number;
    readonly disableOOMKiller?: boolean;
  };
  readonly cpu?: {
    readonly shares?: number;
    readonly quota?: number;
    readonly period?: number;
    readonly realtimeRuntime?: number;
    readonly realtimePeriod?: number;
    readonly cpus?: string;
    readonly mems?: string;
  };
  readonly pids?: { readonly limit: number };
  readonly blockIO?: {
    readonly weight?: number;
    readonly weightDevice?: readonly (DeviceNumber & { readonly weight: number })[];
    readonly throttleReadBpsDevice?: readonly OciThrottle[];
    readonly throttleWriteBpsDevice?: readonly OciThrottle[];
    readonly throttleReadIOPSDevice?: readonly OciThrottle[];
    readonly throttleWriteIOPSDevice?: readonly OciThrottle[];
  };
}

export interface OciThrottle extends DeviceNumber {
  readonly rate: number;
}

const NANO_CPU_PERIOD_US = 100_000;
/** What the kernel takes for cpu.shares; Docker moves a request to the nearest. */
const CPU_SHARES_MIN = 2;
const CPU_SHARES_MAX = 262_144;

/**
 * Only what was asked for: limits that are 0 or null stay as they are, so that the result serves a start and an update.
 * `blockDevices`: numbers of the paths in block I/O limits.
 */
export function buildResources(
  resources: ResourceSpec,
  blockDevices: ReadonlyMap<string, DeviceNumber> = new Map(),
): OciResources {
  const memory = buildMemory(resources);
  const cpu = buildCpu(resources);
  const blockIO = buildBlockIo(resources, blockDevices);
  const { pidsLimit } = resources;
  return {
    ...(isEmpty(memory) ? {} : { memory }),
    ...(isEmpty(cpu) ? {} : { cpu }),
    // Docker lets 0 and below take a limit away; runtimes want -1 for that.
    ...(pidsLimit === null ? {} : { pids: { limit: pidsLimit <= 0 ? -1 : pidsLimit } }),
    ...(isEmpty(blockIO) ? {} : { blockIO }),
  };
}

function buildMemory(resources: ResourceSpec): NonNullable<OciResources['memory']> {
  const {
    memoryBytes,
    memorySwapBytes,
    memoryReservationBytes,
    memorySwappiness,
    kernelMemoryBytes,
    kernelMemoryTcpBytes,
    oomKillDisable,
  } = resources;
  return {
    ...(memoryBytes > 0 ? { limit: memoryBytes } : {}),
    ...(memoryReservationBytes > 0 ? { reservation: memoryReservationBytes } : {}),
    ...(memorySwapBytes > 0 || (memorySwapBytes === -1 && memoryBytes > 0) ? { swap: memorySwapBytes } : {}),
    // Docker's API takes -1 for "not asked".
    ...(memorySwappiness !== null && memorySwappiness >= 0 ? { swappiness: memorySwappiness } : {}),
    ...(kernelMemoryBytes > 0 ? { kernel: kernelMemoryBytes } : {}),
    ...(kernelMemoryTcpBytes > 0 ? { kernelTCP: kernelMemoryTcpBytes } : {}),
    ...(oomKillDisable === true ? { disableOOMKiller: true } : {}),
  };
}

function buildCpu(resources: ResourceSpec): NonNullable<OciResources['cpu']> {
  const { cpuShares, nanoCpus, cpuPeriodUs, cpuQuotaUs, cpusetCpus, cpusetMems } = resources;
  const period = nanoCpus > 0 ? NANO_CPU_PERIOD_US : cpuPeriodUs;
  const quota = nanoCpus > 0 ? Math.trunc((nanoCpus * NANO_CPU_PERIOD_US) / 1e9) : cpuQuotaUs;
  return {
    ...(cpuShares > 0 ? { shares: Math.min(Math.max(cpuShares, CPU_SHARES_MIN), CPU_SHARES_MAX) } : {}),
    ...(period > 0 ? { period } : {}),
    ...(quota === 0 ? {} : { quota }),
    ...(resources.cpuRealtimePeriodUs > 0 ? { realtimePeriod: resources.cpuRealtimePeriodUs } : {}),
    ...(resources.cpuRealtimeRuntimeUs > 0 ? { realtimeRuntime: resources.cpuRealtimeRuntimeUs } : {}),
    ...(cpusetCpus === '' ? {} : { cpus: cpusetCpus }),
    ...(cpusetMems === '' ? {} : { mems: cpusetMems }),
  };
}

function buildBlockIo(
  resources: ResourceSpec,
  blockDevices: ReadonlyMap<string, DeviceNumber>,
): NonNullable<OciResources['blockIO']> {
  const throttle = (limits: readonly ThrottleSpec[] | null): OciThrottle[] =>
    (limits ?? []).map((limit) => ({ ...numberOf(limit.path, blockDevices), rate: limit.rate }));
  const weights = (resources.blkioWeightDevice ?? []).map((limit) => ({
    ...numberOf(limit.path, blockDevices),
    weight: limit.weight,
  }));
  const readBps = throttle(resources.blkioDeviceReadBps);
  const writeBps = throttle(resources.blkioDeviceWriteBps);
  const readIops = throttle(resources.blkioDeviceReadIops);
  const writeIops = throttle(resources.blkioDeviceWriteIops);
  return {
    ...(resources.blkioWeight > 0 ? { weight: resources.blkioWeight } : {}),
    ...(weights.length > 0 ? { weightDevice: weights } : {}),
    ...(readBps.length > 0 ? { throttleReadBpsDevice: readBps } : {}),
    ...(writeBps.length > 0 ? { throttleWriteBpsDevice: writeBps } : {}),
    ...(readIops.length > 0 ? { throttleReadIOPSDevice: readIops } : {}),
    ...(writeIops.length > 0 ? { throttleWriteIOPSDevice: writeIops } : {}),
  };
}

function numberOf(path: string, blockDevices: ReadonlyMap<string, DeviceNumber>): DeviceNumber {
  const number = blockDevices.get(path);
  if (number === undefined) throw new EngineError('RUNTIME_START_FAILED', `stat ${path}: no such file or directory`);
  return { major: number.major, minor: number.minor };
}

function isEmpty(object: object): boolean {
  return Object.keys(object).length === 0;
}
