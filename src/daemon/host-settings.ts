/**
 * What options ask of the host at boot: the cgroup driver, the seccomp profile, the daemon's own OOM score.
 * Source: moby daemon/daemon_unix.go, daemon/seccomp_linux.go, cmd/dockerd (v28).
 */
import { readFile, writeFile } from 'node:fs/promises';

import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Cgroups } from '../kernel/port.ts';
import { parseSeccompProfile } from '../runtime/spec/seccomp.ts';
import type { DaemonOptions } from './daemon-options.ts';

/**
 * Docker takes systemd where it runs the host and cgroups are v2. Here it has to be asked for (issue 7): systemd removes a
 * scope as soon as it is empty, at times before the shim has read that the OOM killer was there.
 * @throws {EngineError} HOST_UNSUPPORTED, PARAMETER_INVALID
 */
export function decideCgroupDriver(
  { cgroupDriver: asked, cgroupParent, cpuRealtime }: DaemonOptions,
  { version, systemd }: Pick<Cgroups, 'version' | 'systemd'>,
): 'cgroupfs' | 'systemd' {
  const driver = asked === '' ? 'cgroupfs' : asked;
  if (driver === 'systemd' && !systemd) {
    throw new EngineError(
      'HOST_UNSUPPORTED',
      'native.cgroupdriver=systemd: systemd not running on this host, cannot use systemd cgroups manager',
    );
  }
  if (driver === 'systemd' && cgroupParent !== '' && !/.\.slice$/.test(cgroupParent)) {
    throw new EngineError(
      'PARAMETER_INVALID',
      'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"',
    );
  }
  if (version === 'v2' && (cpuRealtime.periodUs !== 0 || cpuRealtime.runtimeUs !== 0)) {
    throw new EngineError(
      'HOST_UNSUPPORTED',
      'daemon-scoped cpu-rt-period and cpu-rt-runtime are not implemented for cgroup v2',
    );
  }
  return driver;
}

/** As DaemonDefaults.seccompProfile has it: a file's content, checked. @throws {EngineError} PARAMETER_INVALID */
export async function readSeccompProfile(option: string): Promise<string> {
  if (option === 'builtin') return '';
  if (option === 'unconfined') return option;
  try {
    const profile = await readFile(option, 'utf8');
    parseSeccompProfile(profile);
    return profile;
  } catch (error) {
    const message = `opening seccomp profile (${option}) failed: ${messageOf(error)}`;
    throw new EngineError('PARAMETER_INVALID', message, { cause: error });
  }
}

/** Containers have their own, whatever the daemon's is. @throws {EngineError} HOST_UNSUPPORTED */
export async function adjustOomScore(score: number): Promise<void> {
  if (score === 0) return;
  try {
    await writeFile('/proc/self/oom_score_adj', `${score}`);
  } catch (error) {
    const message = `failed to set oom_score_adj to ${score}: ${messageOf(error)}`;
    throw new EngineError('HOST_UNSUPPORTED', message, { cause: error });
  }
}
