/** ulimits. Source: docker/go-units ulimit.go; moby daemon/oci_linux.go WithRlimits (v28). */
import type { UlimitSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';

const NAMES = new Set([
  'core', 'cpu', 'data', 'fsize', 'locks', 'memlock', 'msgqueue', 'nice', 'nofile', 'nproc', 'rss', 'rtprio',
  'rttime', 'sigpending', 'stack',
]); // prettier-ignore

export interface OciRlimit {
  readonly type: string;
  readonly hard: number;
  readonly soft: number;
}

/** The daemon's defaults fill in what the container does not name. -1 is unlimited. */
export function decideRlimits(own: readonly UlimitSpec[] | null, defaults: readonly UlimitSpec[]): OciRlimit[] {
  const named = new Set((own ?? []).map((limit) => limit.name));
  const all = [...(own ?? []), ...defaults.filter((limit) => !named.has(limit.name))];
  return all.map(toOci);
}

/** @throws {EngineError} CONTAINER_SPEC_INVALID "invalid ulimit type: x" */
export function checkUlimit(limit: UlimitSpec): void {
  if (!NAMES.has(limit.name)) {
    throw new EngineError('CONTAINER_SPEC_INVALID', `invalid ulimit type: ${limit.name}`);
  }
  const hard = unsigned(limit.hard);
  if (unsigned(limit.soft) > hard) {
    throw new EngineError(
      'CONTAINER_SPEC_INVALID',
      `ulimit soft limit must be less than or equal to hard limit: ${limit.soft} > ${limit.hard}`,
    );
  }
}

function toOci(limit: UlimitSpec): OciRlimit {
  checkUlimit(limit);
  return { type: `RLIMIT_${limit.name.toUpperCase()}`, hard: exact(limit.hard), soft: exact(limit.soft) };
}

function unsigned(value: number): bigint {
  return BigInt.asUintN(64, BigInt(Math.trunc(value)));
}

/**
 * "Unlimited" is 2^64-1, which a JavaScript number cannot hold: as a number it would be printed as 2^64, which runtimes
 * refuse. A raw JSON value is printed as it stands.
 */
const UNLIMITED = (JSON as unknown as { rawJSON(text: string): number }).rawJSON('18446744073709551615');

function exact(value: number): number {
  return value < 0 ? UNLIMITED : value;
}
