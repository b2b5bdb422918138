/** Paths of /proc and /sys that a container must not see or change. Source: moby oci/defaults.go (v28). */
import type { HostSpec } from '../../core/container-spec.ts';

const MASKED = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts', // GHSA-6fw5-f8r9-fgfm
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
] as const;

export const DEFAULT_READONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
];

export function defaultMaskedPaths(thermalThrottleCpus: readonly number[]): string[] {
  return [...MASKED, ...thermalThrottleCpus.map((cpu) => `/sys/devices/system/cpu/cpu${cpu}/thermal_throttle`)];
}

/** An empty list ("systempaths=unconfined" in the CLI) masks nothing; privileged does not either. */
export function decidePaths(
  host: HostSpec,
  thermalThrottleCpus: readonly number[],
): { readonly masked: readonly string[]; readonly readonly: readonly string[] } {
  if (host.privileged) return { masked: [], readonly: [] };
  return {
    masked: host.maskedPaths ?? defaultMaskedPaths(thermalThrottleCpus),
    readonly: host.readonlyPaths ?? DEFAULT_READONLY_PATHS,
  };
}
