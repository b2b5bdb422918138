/** A seccomp profile as users write it, resolved for one container. Source: moby profiles/seccomp/seccomp_linux.go (v28). */
import { EngineError } from '../../core/engine-error.ts';
import { DEFAULT_SECCOMP_PROFILE } from './seccomp-default.ts';

/** Docker's extension of the OCI profile: rules that apply by capability, architecture or kernel. */
export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly archMap?: readonly { readonly architecture: string; readonly subArchitectures: readonly string[] | null }[];
  readonly architectures?: readonly string[];
  readonly flags?: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

export interface SeccompRule {
  readonly name?: string;
  readonly names?: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArgument[] | null;
  readonly includes?: SeccompCondition;
  readonly excludes?: SeccompCondition;
}

export interface SeccompArgument {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: string;
}

export interface SeccompCondition {
  readonly caps?: readonly string[];
  /** GOARCH words. */
  readonly arches?: readonly string[];
  /** "4.8" */
  readonly minKernel?: string;
}

/** OCI linux.seccomp. */
export interface OciSeccomp {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[];
  readonly flags?: readonly string[];
  readonly syscalls: readonly {
    readonly names: readonly string[];
    readonly action: string;
    readonly errnoRet?: number;
    readonly args?: readonly SeccompArgument[];
  }[];
}

export interface SeccompSituation {
  readonly capabilities: readonly string[];
  /** GOARCH word. */
  readonly architecture: string;
  readonly kernelVersion: readonly [major: number, minor: number];
}

const SECCOMP_ARCH: Readonly<Record<string, string>> = {
  '386': 'SCMP_ARCH_X86',
  amd64: 'SCMP_ARCH_X86_64',
  arm: 'SCMP_ARCH_ARM',
  arm64: 'SCMP_ARCH_AARCH64',
  loong64: 'SCMP_ARCH_LOONGARCH64',
  ppc64le: 'SCMP_ARCH_PPC64LE',
  riscv64: 'SCMP_ARCH_RISCV64',
  s390x: 'SCMP_ARCH_S390X',
};

/**
 * What `--security-opt seccomp=` and the daemon's default come to; null: unconfined.
 * A privileged container is confined only by a profile of its own.
 */
export function decideSeccomp(options: {
  readonly asked: string;
  readonly daemonProfile: string;
  readonly privileged: boolean;
  readonly supported: boolean;
  readonly situation: SeccompSituation;
}): OciSeccomp | null {
  const { asked, daemonProfile, situation } = options;
  if (asked === 'unconfined') return null;
  if (options.privileged && (asked === '' || asked === 'builtin')) return null;
  if (!options.supported) {
    if (asked === '' || asked === 'builtin') return null;
    throw new EngineError(
      'RUNTIME_START_FAILED',
      'seccomp is not enabled in your kernel, cannot run a custom seccomp profile',
    );
  }
  const chosen = asked === '' ? daemonProfile : asked;
  if (chosen === 'unconfined') return null;
  const profile = chosen === '' || chosen === 'builtin' ? DEFAULT_SECCOMP_PROFILE : parseSeccompProfile(chosen);
  return resolveSeccomp(profile, situation);
}

/** @throws {EngineError} CONTAINER_SPEC_INVALID "Decoding seccomp profile failed: …" */
export function parseSeccompProfile(json: string): SeccompProfile {
  const refuse = (why: string): never => {
    throw new EngineError('CONTAINER_SPEC_INVALID', `Decoding seccomp profile failed: ${why}`);
  };
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    return refuse((error as Error).message);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse('not an object');
  const profile = value as Record<string, unknown>;
  const syscalls = profile['syscalls'] ?? [];
  if (!Array.isArray(syscalls) || syscalls.some((rule) => typeof rule !== 'object' || rule === null)) {
    return refuse('"syscalls" is not a list of objects');
  }
  for (const key of ['architectures', 'archMap', 'flags']) {
    if (profile[key] !== undefined && profile[key] !== null && !Array.isArray(profile[key]))
      refuse(`"${key}" is not a list`);
  }
  if (typeof profile['listenerPath'] === 'string' && profile['listenerPath'] !== '') {
    return refuse('"listenerPath" is not supported: the filter has no one to ask');
  }
  const defaultAction = profile['defaultAction'] ?? '';
  if (typeof defaultAction !== 'string') return refuse('"defaultAction" is not a string');
  // Go's JSON takes null for "not given".
  const given = Object.fromEntries(Object.entries(profile).filter(([, member]) => member !== null));
  return { ...given, defaultAction, syscalls } as unknown as SeccompProfile;
}

/** null: a profile without default action and rules, which Docker takes for "off". */
export function resolveSeccomp(profile: SeccompProfile, situation: SeccompSituation): OciSeccomp | null {
  if (profile.defaultAction === '' && profile.syscalls.length === 0) return null;
  const architectures = [...(profile.architectures ?? [])];
  if (architectures.length > 0 && (profile.archMap ?? []).length > 0) {
    throw new EngineError(
      'CONTAINER_SPEC_INVALID',
      "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
    );
  }
  const own = SECCOMP_ARCH[situation.architecture];
  const mapped = profile.archMap?.find((entry) => entry.architecture === own);
  if (mapped) architectures.push(mapped.architecture, ...(mapped.subArchitectures ?? []));
  const { defaultErrnoRet, flags } = profile;
  return {
    defaultAction: profile.defaultAction,
    ...(defaultErrnoRet === undefined ? {} : { defaultErrnoRet }),
    ...(architectures.length === 0 ? {} : { architectures }),
    ...(flags === undefined ? {} : { flags }),
    syscalls: profile.syscalls.filter((rule) => applies(rule, situation)).map(ociRule),
  };
}

function applies(rule: SeccompRule, situation: SeccompSituation): boolean {
  const { includes, excludes } = rule;
  if (excludes?.arches?.includes(situation.architecture)) return false;
  if (excludes?.caps?.some((capability) => situation.capabilities.includes(capability))) return false;
  if (excludes?.minKernel !== undefined && isKernelAtLeast(excludes.minKernel, situation.kernelVersion)) return false;
  const { arches = [], caps = [], minKernel } = includes ?? {};
  if (arches.length > 0 && !arches.includes(situation.architecture)) return false;
  if (!caps.every((capability) => situation.capabilities.includes(capability))) return false;
  return minKernel === undefined || isKernelAtLeast(minKernel, situation.kernelVersion);
}

function ociRule(rule: SeccompRule): OciSeccomp['syscalls'][number] {
  const names = rule.names ?? [];
  if (rule.name !== undefined && rule.name !== '' && names.length > 0) {
    throw new EngineError(
      'CONTAINER_SPEC_INVALID',
      "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
    );
  }
  return {
    names: rule.name !== undefined && rule.name !== '' ? [rule.name] : names,
    action: rule.action,
    ...(rule.errnoRet === undefined ? {} : { errnoRet: rule.errnoRet }),
    ...(rule.args && rule.args.length > 0 ? { args: rule.args } : {}),
  };
}

function isKernelAtLeast(wanted: string, [major, minor]: readonly [number, number]): boolean {
  const match = /^(\d+)\.(\d+)$/.exec(wanted);
  if (!match) {
    throw new EngineError(
      'CONTAINER_SPEC_INVALID',
      `Decoding seccomp profile failed: invalid kernel version: ${JSON.stringify(wanted)}, expected "<kernel>.<major>"`,
    );
  }
  const [wantedMajor, wantedMinor] = [Number(match[1]), Number(match[2])];
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
