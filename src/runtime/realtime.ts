/**
 * Real-time processes on cgroup v1: a cgroup may give away no more than its parent has, and a new one has nothing. What
 * dockerd's --cpu-rt-period and --cpu-rt-runtime say holds for every cgroup between the root and a container's.
 * Source: moby daemon/oci_linux.go initCPURtController (v28); kernel Documentation/scheduler/sched-rt-group.rst.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Cgroups } from '../kernel/port.ts';
import type { OciResources } from './spec/resources.ts';

export interface RealtimeShare {
  readonly periodUs: number;
  readonly runtimeUs: number;
}

/** Others are not kept from starting where a cgroup's share is given away already. */
export function asksForRealtime(oci: object): boolean {
  const { linux } = oci as { readonly linux?: { readonly resources?: OciResources } };
  const { realtimePeriod = 0, realtimeRuntime = 0 } = linux?.resources?.cpu ?? {};
  return realtimePeriod > 0 || realtimeRuntime > 0;
}

/** `path`: the container's. @throws {EngineError} RUNTIME_START_FAILED naming the cgroup */
export async function ensureRealtime(
  cgroups: Pick<Cgroups, 'directory'>,
  path: string,
  share: RealtimeShare = { periodUs: 0, runtimeUs: 0 },
): Promise<void> {
  if (share.periodUs === 0 && share.runtimeUs === 0) return;
  for (const above of ancestorsOf(path)) {
    const directory = cgroups.directory('cpu', above);
    try {
      await mkdir(directory, { recursive: true });
      if (share.periodUs !== 0) await writeFile(`${directory}/cpu.rt_period_us`, `${share.periodUs}`);
      if (share.runtimeUs !== 0) await writeFile(`${directory}/cpu.rt_runtime_us`, `${share.runtimeUs}`);
    } catch (error) {
      const message = `unable to init CPU RT controller of ${above}: ${messageOf(error)}`;
      throw new EngineError('RUNTIME_START_FAILED', message, { cause: error });
    }
  }
}

/** From below the root down to the parent. */
function ancestorsOf(path: string): string[] {
  const parent = dirname(path);
  return parent === '/' ? [] : [...ancestorsOf(parent), parent];
}
