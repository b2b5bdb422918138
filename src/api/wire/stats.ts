/** GET /containers/{id}/stats: one sample. Source: moby api/types/container/stats.go, daemon/stats_unix.go (v28). */
import type { BlkioEntry, CpuCounters, StatsSample } from '../../container/port.ts';

const UINT64_MAX = (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON('18446744073709551615');

/** The text of a sample: made once, however many clients are sent it. */
const texts = new WeakMap<StatsSample, string>();

export function statsText(sample: StatsSample): string {
  let text = texts.get(sample);
  if (text === undefined) texts.set(sample, (text = `${JSON.stringify(formatStats(sample))}\n`));
  return text;
}

export function formatStats(sample: StatsSample): object {
  const { memory, pids, networks } = sample;
  return {
    name: sample.name.startsWith('/') ? sample.name : `/${sample.name}`,
    id: sample.containerId,
    read: sample.read,
    preread: sample.preRead,
    pids_stats: { current: pids?.current || undefined, limit: formatPidsLimit(pids?.limit ?? 0) },
    blkio_stats: formatBlkio(sample),
    num_procs: 0,
    storage_stats: {},
    cpu_stats: formatCpu(sample.cpu, sample.onlineCpus),
    precpu_stats: formatCpu(sample.preCpu, sample.onlineCpus),
    memory_stats:
      memory === null
        ? {}
        : {
            usage: memory.usageBytes || undefined,
            max_usage: memory.maxUsageBytes || undefined,
            stats: Object.keys(memory.stats).length === 0 ? undefined : memory.stats,
            failcnt: memory.failCount || undefined,
            limit: memory.limitBytes || undefined,
          },
    networks:
      networks === null
        ? undefined
        : Object.fromEntries(
            Object.entries(networks).map(([name, counters]) => [
              name,
              {
                rx_bytes: counters.rxBytes,
                rx_packets: counters.rxPackets,
                rx_errors: counters.rxErrors,
                rx_dropped: counters.rxDropped,
                tx_bytes: counters.txBytes,
                tx_packets: counters.txPackets,
                tx_errors: counters.txErrors,
                tx_dropped: counters.txDropped,
              },
            ]),
          ),
  };
}

/** What Go has for "max" is more than a number of JavaScript can say. */
function formatPidsLimit(limit: number): unknown {
  return limit === Infinity ? UINT64_MAX : limit || undefined;
}

function formatCpu(cpu: CpuCounters | null, onlineCpus: number): object {
  return {
    cpu_usage: {
      total_usage: cpu?.totalNs ?? 0,
      percpu_usage: cpu?.perCpuNs ?? undefined,
      usage_in_kernelmode: cpu?.kernelNs ?? 0,
      usage_in_usermode: cpu?.userNs ?? 0,
    },
    system_cpu_usage: cpu?.systemNs || undefined,
    online_cpus: cpu === null ? undefined : onlineCpus || undefined,
    throttling_data: {
      periods: cpu?.throttling.periods ?? 0,
      throttled_periods: cpu?.throttling.throttledPeriods ?? 0,
      throttled_time: cpu?.throttling.throttledNs ?? 0,
    },
  };
}

/** On cgroup v1 moby has eight lists, most of them empty; on v2 it knows only the bytes; no bytes, and the rest, are null. */
function formatBlkio({ blkio, cgroupVersion }: StatsSample): object {
  const unknown = blkio !== null && cgroupVersion === 'v1' ? [] : null;
  return {
    io_service_bytes_recursive:
      blkio === null || (cgroupVersion === 'v2' && blkio.serviceBytes.length === 0)
        ? null
        : blkio.serviceBytes.map(formatBlkioEntry),
    io_serviced_recursive: blkio === null || cgroupVersion === 'v2' ? null : blkio.serviced.map(formatBlkioEntry),
    io_queue_recursive: unknown,
    io_service_time_recursive: unknown,
    io_wait_time_recursive: unknown,
    io_merged_recursive: unknown,
    io_time_recursive: unknown,
    sectors_recursive: unknown,
  };
}

function formatBlkioEntry({ major, minor, op, value }: BlkioEntry): object {
  return { major, minor, op, value };
}
