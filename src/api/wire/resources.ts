/** The limits in a HostConfig, and those that an update may change. Source: moby api/types/container/hostconfig.go (v28). */
import type { ContainerUpdate } from '../../container/port.ts';
import type { ResourceSpec, RestartPolicySpec, ThrottleSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import { flag, integer, list, map, optional, struct, text, type Decoded } from './decode.ts';

const throttles = list(struct('blkiodev.ThrottleDevice', { Path: text, Rate: integer('uint64') }));
const int64 = integer('int64');

export const resourceFields = {
  CpuShares: int64,
  Memory: int64,
  NanoCpus: int64,
  CgroupParent: text,
  BlkioWeight: integer('uint16'),
  BlkioWeightDevice: list(struct('blkiodev.WeightDevice', { Path: text, Weight: integer('uint16') })),
  BlkioDeviceReadBps: throttles,
  BlkioDeviceWriteBps: throttles,
  BlkioDeviceReadIOps: throttles,
  BlkioDeviceWriteIOps: throttles,
  CpuPeriod: int64,
  CpuQuota: int64,
  CpuRealtimePeriod: int64,
  CpuRealtimeRuntime: int64,
  CpusetCpus: text,
  CpusetMems: text,
  Devices: list(
    struct('container.DeviceMapping', { PathOnHost: text, PathInContainer: text, CgroupPermissions: text }),
  ),
  DeviceCgroupRules: list(text),
  DeviceRequests: list(
    struct('container.DeviceRequest', {
      Driver: text,
      Count: integer('int'),
      DeviceIDs: list(text),
      Capabilities: list(list(text)),
      Options: map(text),
    }),
  ),
  KernelMemory: int64,
  KernelMemoryTCP: int64,
  MemoryReservation: int64,
  MemorySwap: int64,
  MemorySwappiness: optional(int64),
  OomKillDisable: optional(flag),
  PidsLimit: optional(int64),
  Ulimits: list(struct('units.Ulimit', { Name: text, Hard: int64, Soft: int64 })),
  CpuCount: int64,
  CpuPercent: int64,
  IOMaximumIOps: integer('uint64'),
  IOMaximumBandwidth: integer('uint64'),
} as const;

export const restartPolicy = struct('container.RestartPolicy', { Name: text, MaximumRetryCount: integer('int') });
export const updateConfig = struct('container.UpdateConfig', { ...resourceFields, RestartPolicy: restartPolicy });

const resources = struct('container.Resources', resourceFields);
export type Resources = Decoded<typeof resources>;

export function parseResources(asked: Resources): ResourceSpec {
  if (asked.IOMaximumBandwidth > 0) throw invalid('invalid QoS settings: linux does not support Maximum IO Bandwidth');
  if (asked.IOMaximumIOps > 0) throw invalid('invalid QoS settings: linux does not support Maximum IO IOps');
  if (asked.CpuRealtimePeriod !== 0 && asked.CpuRealtimeRuntime > asked.CpuRealtimePeriod) {
    throw invalid('cpu real-time runtime cannot be higher than cpu real-time period');
  }
  return {
    cpuShares: asked.CpuShares,
    nanoCpus: asked.NanoCpus,
    cpuPeriodUs: asked.CpuPeriod,
    cpuQuotaUs: asked.CpuQuota,
    cpuRealtimePeriodUs: asked.CpuRealtimePeriod,
    cpuRealtimeRuntimeUs: asked.CpuRealtimeRuntime,
    cpusetCpus: asked.CpusetCpus,
    cpusetMems: asked.CpusetMems,
    memoryBytes: asked.Memory,
    memorySwapBytes: asked.MemorySwap,
    memoryReservationBytes: asked.MemoryReservation,
    memorySwappiness: asked.MemorySwappiness,
    kernelMemoryBytes: asked.KernelMemory,
    kernelMemoryTcpBytes: asked.KernelMemoryTCP,
    oomKillDisable: asked.OomKillDisable,
    pidsLimit: asked.PidsLimit,
    blkioWeight: asked.BlkioWeight,
    blkioWeightDevice: asked.BlkioWeightDevice?.map(({ Path, Weight }) => ({ path: Path, weight: Weight })) ?? null,
    blkioDeviceReadBps: parseThrottles(asked.BlkioDeviceReadBps),
    blkioDeviceWriteBps: parseThrottles(asked.BlkioDeviceWriteBps),
    blkioDeviceReadIops: parseThrottles(asked.BlkioDeviceReadIOps),
    blkioDeviceWriteIops: parseThrottles(asked.BlkioDeviceWriteIOps),
    cgroupParent: asked.CgroupParent,
    devices:
      asked.Devices?.map((device) => ({
        pathOnHost: device.PathOnHost,
        pathInContainer: device.PathInContainer,
        cgroupPermissions: device.CgroupPermissions,
      })) ?? null,
    deviceCgroupRules: asked.DeviceCgroupRules,
    deviceRequests:
      asked.DeviceRequests?.map((request) => ({
        driver: request.Driver,
        count: request.Count,
        deviceIds: request.DeviceIDs,
        capabilities: request.Capabilities?.map((all) => all ?? []) ?? null,
        options: request.Options,
      })) ?? null,
    ulimits: asked.Ulimits?.map(({ Name, Soft, Hard }) => ({ name: Name, soft: Soft, hard: Hard })) ?? null,
    ...(asked.CpuCount !== 0 && { cpuCount: asked.CpuCount }),
    ...(asked.CpuPercent !== 0 && { cpuPercent: asked.CpuPercent }),
  };
}

function parseThrottles(
  asked: readonly { readonly Path: string; readonly Rate: number }[] | null,
): readonly ThrottleSpec[] | null {
  return asked?.map(({ Path, Rate }) => ({ path: Path, rate: Rate })) ?? null;
}

/** @throws CONTAINER_SPEC_INVALID in moby's words (ValidateRestartPolicy) */
export function parseRestartPolicy(asked: Decoded<typeof restartPolicy>): RestartPolicySpec {
  const { Name: name, MaximumRetryCount: count } = asked;
  switch (name) {
    case 'always':
    case 'unless-stopped':
    case 'no':
      if (count !== 0) {
        throw invalid(
          `invalid restart policy: maximum retry count can only be used with 'on-failure'${count < 0 ? ' and cannot be negative' : ''}`,
        );
      }
      return { name, maximumRetryCount: 0 };
    case 'on-failure':
      if (count < 0) throw invalid('invalid restart policy: maximum retry count cannot be negative');
      return { name, maximumRetryCount: count };
    case '':
      return { name: 'no', maximumRetryCount: 0 };
    default:
      throw invalid(
        `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
      );
  }
}

/** In an update zero and null mean "leave it", as in moby; a pids limit of 0 or less is "unlimited". */
export function parseUpdate(asked: Decoded<typeof updateConfig>, minor: number): ContainerUpdate {
  const all = parseResources({
    ...asked,
    PidsLimit: minor < 40 || asked.PidsLimit === null ? null : Math.max(0, asked.PidsLimit),
    KernelMemory: minor < 42 ? asked.KernelMemory : 0,
    CpuCount: 0,
    CpuPercent: 0,
  });
  const given = Object.entries(all).filter(
    ([name, value]) => value !== null && value !== '' && (value !== 0 || name === 'pidsLimit'),
  );
  return {
    resources: Object.fromEntries(given) as Partial<ResourceSpec>,
    restartPolicy: asked.RestartPolicy.Name === '' ? null : parseRestartPolicy(asked.RestartPolicy),
  };
}

export function formatResources(spec: ResourceSpec): object {
  return {
    CpuShares: spec.cpuShares,
    Memory: spec.memoryBytes,
    NanoCpus: spec.nanoCpus,
    CgroupParent: spec.cgroupParent,
    BlkioWeight: spec.blkioWeight,
    BlkioWeightDevice: spec.blkioWeightDevice?.map(({ path, weight }) => ({ Path: path, Weight: weight })) ?? null,
    BlkioDeviceReadBps: formatThrottles(spec.blkioDeviceReadBps),
    BlkioDeviceWriteBps: formatThrottles(spec.blkioDeviceWriteBps),
    BlkioDeviceReadIOps: formatThrottles(spec.blkioDeviceReadIops),
    BlkioDeviceWriteIOps: formatThrottles(spec.blkioDeviceWriteIops),
    CpuPeriod: spec.cpuPeriodUs,
    CpuQuota: spec.cpuQuotaUs,
    CpuRealtimePeriod: spec.cpuRealtimePeriodUs,
    CpuRealtimeRuntime: spec.cpuRealtimeRuntimeUs,
    CpusetCpus: spec.cpusetCpus,
    CpusetMems: spec.cpusetMems,
    Devices:
      spec.devices?.map((device) => ({
        PathOnHost: device.pathOnHost,
        PathInContainer: device.pathInContainer,
        CgroupPermissions: device.cgroupPermissions,
      })) ?? null,
    DeviceCgroupRules: spec.deviceCgroupRules,
    DeviceRequests:
      spec.deviceRequests?.map((request) => ({
        Driver: request.driver,
        Count: request.count,
        DeviceIDs: request.deviceIds,
        Capabilities: request.capabilities,
        Options: request.options,
      })) ?? null,
    KernelMemory: spec.kernelMemoryBytes || undefined,
    KernelMemoryTCP: spec.kernelMemoryTcpBytes || undefined,
    MemoryReservation: spec.memoryReservationBytes,
    MemorySwap: spec.memorySwapBytes,
    MemorySwappiness: spec.memorySwappiness,
    OomKillDisable: spec.oomKillDisable,
    PidsLimit: spec.pidsLimit,
    Ulimits: spec.ulimits?.map(({ name, soft, hard }) => ({ Name: name, Hard: hard, Soft: soft })) ?? null,
    CpuCount: spec.cpuCount ?? 0,
    CpuPercent: spec.cpuPercent ?? 0,
    IOMaximumIOps: 0,
    IOMaximumBandwidth: 0,
  };
}

function formatThrottles(throttles: readonly ThrottleSpec[] | null): object[] | null {
  return throttles?.map(({ path, rate }) => ({ Path: path, Rate: rate })) ?? null;
}

function invalid(message: string): EngineError {
  return new EngineError('CONTAINER_SPEC_INVALID', message);
}
