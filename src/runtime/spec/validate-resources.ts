/** Limits against what they may be and what the kernel can do. Source: moby daemon_unix.go verifyPlatformContainerResources (v28). */
import type { ResourceSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import type { HostFacts, HostLimits } from './input.ts';

const MEMORY_BYTES_MIN = 6 * 1024 * 1024; // for the overhead of a start; not a limit of the kernel

type Change = Partial<ResourceSpec>;

/** Takes away, with a warning, what the kernel cannot enforce; throws for what makes no sense. */
export function validateResources(
  asked: ResourceSpec,
  facts: HostFacts,
  options: { readonly isUpdate: boolean },
): { readonly resources: ResourceSpec; readonly warnings: string[] } {
  const warnings: string[] = [];
  let resources = asked.memorySwappiness === -1 ? { ...asked, memorySwappiness: null } : asked;
  const discard = (when: boolean, warning: string, change: Change): void => {
    if (!when) return;
    warnings.push(warning);
    resources = { ...resources, ...change };
  };
  validateMemory(() => resources, facts.limits, options.isUpdate, discard);
  validateOomAndPids(() => resources, facts.limits, discard);
  validateCpu(() => resources, facts, discard);
  validateCpuset(() => resources, facts, discard);
  validateBlkio(() => resources, facts.limits, discard);
  return { resources, warnings };
}

type Discard = (when: boolean, warning: string, change: Change) => void;

function validateMemory(get: () => ResourceSpec, limits: HostLimits, isUpdate: boolean, discard: Discard): void {
  refuseIf(get().memoryBytes !== 0 && get().memoryBytes < MEMORY_BYTES_MIN, 'Minimum memory limit allowed is 6MB');
  discard(get().memoryBytes > 0 && !limits.memory, discarded('memory limit capabilities', 'Limitation discarded.'), {
    memoryBytes: 0,
    memorySwapBytes: -1,
  });
  discard(
    get().memoryBytes > 0 && get().memorySwapBytes !== -1 && !limits.swap,
    discarded('swap limit capabilities', 'Memory limited without swap.'),
    { memorySwapBytes: -1 },
  );
  const { memoryBytes, memorySwapBytes } = get();
  refuseIf(
    memoryBytes > 0 && memorySwapBytes > 0 && memorySwapBytes < memoryBytes,
    'Minimum memoryswap limit should be larger than memory limit, see usage',
  );
  refuseIf(
    memoryBytes === 0 && memorySwapBytes > 0 && !isUpdate,
    'You should always set the Memory limit when using Memoryswap limit, see usage',
  );
  discard(
    get().memorySwappiness !== null && !limits.memorySwappiness,
    discarded('memory swappiness capabilities', 'Memory swappiness discarded.'),
    { memorySwappiness: null },
  );
  const swappiness = get().memorySwappiness;
  refuseIf(
    swappiness !== null && (swappiness < 0 || swappiness > 100),
    `Invalid value: ${swappiness}, valid memory swappiness range is 0-100`,
  );
  discard(
    get().memoryReservationBytes > 0 && !limits.memoryReservation,
    discarded('memory soft limit capabilities', 'Limitation discarded.'),
    { memoryReservationBytes: 0 },
  );
  const reservation = get().memoryReservationBytes;
  refuseIf(reservation > 0 && reservation < MEMORY_BYTES_MIN, 'Minimum memory reservation allowed is 6MB');
  refuseIf(
    memoryBytes > 0 && reservation > 0 && memoryBytes < reservation,
    'Minimum memory limit can not be less than memory reservation limit, see usage',
  );
  validateKernelMemory(get, limits, discard);
}

/** Until API 1.42 a client may ask for it. */
function validateKernelMemory(get: () => ResourceSpec, limits: HostLimits, discard: Discard): void {
  discard(
    get().kernelMemoryBytes > 0 && !limits.kernelMemory,
    discarded('kernel memory limit capabilities', 'Limitation discarded.'),
    { kernelMemoryBytes: 0 },
  );
  const { kernelMemoryBytes } = get();
  refuseIf(kernelMemoryBytes > 0 && kernelMemoryBytes < MEMORY_BYTES_MIN, 'Minimum kernel memory limit allowed is 6MB');
  discard(
    get().kernelMemoryTcpBytes > 0 && !limits.kernelMemoryTcp,
    discarded('kernel memory TCP limit capabilities', 'Limitation discarded.'),
    { kernelMemoryTcpBytes: 0 },
  );
}

function validateOomAndPids(get: () => ResourceSpec, limits: HostLimits, discard: Discard): void {
  const { oomKillDisable, pidsLimit } = get();
  if (!limits.oomKillDisable) {
    discard(oomKillDisable === true, 'Your kernel does not support OomKillDisable. OomKillDisable discarded.', {
      oomKillDisable: null,
    });
  } else {
    discard(
      oomKillDisable === true && get().memoryBytes === 0,
      'OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.',
      {},
    );
  }
  discard(
    pidsLimit !== null && pidsLimit > 0 && !limits.pids,
    discarded('PIDs limit capabilities', 'PIDs limit discarded.'),
    { pidsLimit: null },
  );
}

function validateCpu(get: () => ResourceSpec, facts: HostFacts, discard: Discard): void {
  const { nanoCpus, cpuPeriodUs, cpuQuotaUs, cpuShares } = get();
  const { limits, cpuCount } = facts;
  refuseIf(nanoCpus > 0 && cpuPeriodUs > 0, 'Conflicting options: Nano CPUs and CPU Period cannot both be set');
  refuseIf(nanoCpus > 0 && cpuQuotaUs > 0, 'Conflicting options: Nano CPUs and CPU Quota cannot both be set');
  refuseIf(
    nanoCpus > 0 && !limits.cpuCfs,
    'NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted',
  );
  refuseIf(
    nanoCpus < 0 || nanoCpus > cpuCount * 1e9,
    `range of CPUs is from 0.01 to ${cpuCount}.00, as there are only ${cpuCount} CPUs available`,
  );
  refuseIf(cpuShares < 0, `invalid CPU shares (${cpuShares}): value must be a positive integer`);
  discard(cpuShares > 0 && !limits.cpuShares, discarded('CPU shares', 'Shares discarded.'), { cpuShares: 0 });
  discard(
    (cpuPeriodUs !== 0 || cpuQuotaUs !== 0) && !limits.cpuCfs,
    'Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.',
    { cpuPeriodUs: 0, cpuQuotaUs: 0 },
  );
  refuseIf(
    get().cpuPeriodUs !== 0 && (get().cpuPeriodUs < 1000 || get().cpuPeriodUs > 1_000_000),
    'CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)',
  );
  refuseIf(get().cpuQuotaUs > 0 && get().cpuQuotaUs < 1000, 'CPU cfs quota can not be less than 1ms (i.e. 1000)');
  refuseIf(
    (get().cpuRealtimePeriodUs !== 0 || get().cpuRealtimeRuntimeUs !== 0) && !limits.cpuRealtime,
    'Your kernel does not support CPU real-time scheduler',
  );
}

function validateCpuset(get: () => ResourceSpec, facts: HostFacts, discard: Discard): void {
  const asksFor = get().cpusetCpus !== '' || get().cpusetMems !== '';
  discard(asksFor && !facts.limits.cpuset, discarded('cpuset', 'Cpuset discarded.'), {
    cpusetCpus: '',
    cpusetMems: '',
  });
  const { cpusetCpus, cpusetMems } = get();
  refuseIf(
    !isWithin(cpusetCpus, facts.cpusAvailable, 'cpus'),
    `Requested CPUs are not available - requested ${cpusetCpus}, available: ${facts.cpusAvailable}`,
  );
  refuseIf(
    !isWithin(cpusetMems, facts.memsAvailable, 'mems'),
    `Requested memory nodes are not available - requested ${cpusetMems}, available: ${facts.memsAvailable}`,
  );
}

function validateBlkio(get: () => ResourceSpec, limits: HostLimits, discard: Discard): void {
  const lacks = (has: boolean, list: readonly unknown[] | null): boolean => !has && (list ?? []).length > 0;
  discard(get().blkioWeight > 0 && !limits.blkioWeight, discarded('Block I/O weight', 'Weight discarded.'), {
    blkioWeight: 0,
  });
  const { blkioWeight } = get();
  refuseIf(blkioWeight > 0 && (blkioWeight < 10 || blkioWeight > 1000), 'Range of blkio weight is from 10 to 1000');
  discard(
    lacks(limits.blkioWeightDevice, get().blkioWeightDevice),
    discarded('Block I/O weight_device', 'Weight-device discarded.'),
    {
      blkioWeightDevice: [],
    },
  );
  discard(
    lacks(limits.blkioReadBps, get().blkioDeviceReadBps),
    discarded('BPS Block I/O read limit', 'Block I/O BPS read limit discarded.'),
    {
      blkioDeviceReadBps: [],
    },
  );
  discard(
    lacks(limits.blkioWriteBps, get().blkioDeviceWriteBps),
    discarded('BPS Block I/O write limit', 'Block I/O BPS write limit discarded.'),
    {
      blkioDeviceWriteBps: [],
    },
  );
  discard(
    lacks(limits.blkioReadIops, get().blkioDeviceReadIops),
    discarded('IOPS Block read limit', 'Block I/O IOPS read limit discarded.'),
    {
      blkioDeviceReadIops: [],
    },
  );
  discard(
    lacks(limits.blkioWriteIops, get().blkioDeviceWriteIops),
    discarded('IOPS Block write limit', 'Block I/O IOPS write limit discarded.'),
    {
      blkioDeviceWriteIops: [],
    },
  );
}

function discarded(what: string, consequence: string): string {
  return `Your kernel does not support ${what} or the cgroup is not mounted. ${consequence}`;
}

/** Whether every number of "0-2,4" is in the available list. @throws for a list that is none */
function isWithin(list: string, available: string, what: 'cpus' | 'mems'): boolean {
  const wanted = parseNumberList(list);
  if (wanted === null) {
    throw new EngineError(
      'CONTAINER_SPEC_INVALID',
      `Invalid value ${list} for cpuset ${what}: failed to parse ${what === 'cpus' ? 'CPU' : 'memory node'} list`,
    );
  }
  const has = parseNumberList(available) ?? new Set();
  return [...wanted].every((number) => has.has(number));
}

/** null: malformed. Bounded, as "0-4000000000" must not fill the memory. */
export function parseNumberList(list: string): Set<number> | null {
  const numbers = new Set<number>();
  if (list === '') return numbers;
  for (const part of list.split(',')) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part.trim());
    if (!match) return null;
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (last < first || last > 8192) return null;
    for (let number = first; number <= last; number++) numbers.add(number);
  }
  return numbers;
}

function refuseIf(when: boolean, message: string): void {
  if (when) throw new EngineError('CONTAINER_SPEC_INVALID', message);
}
