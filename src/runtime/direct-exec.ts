/**
 * The request of native/exec.c: an exec without the OCI runtime. Pure. What it cannot express is left to the runtime
 * (null), so that nothing that was asked for is lost on the way. Format: docs/shim-protocol.md, "Direct execs".
 */
import type { CgroupHierarchy } from '../kernel/port.ts';
import { CAPABILITIES } from './spec/capabilities.ts';

/** What all execs of one run have in common. */
export interface DirectPlace {
  readonly hierarchies: readonly CgroupHierarchy[];
  /** A compiled filter; null: unconfined. */
  readonly seccompPath: string | null;
  /** The session keyring of the container's first process. */
  readonly keyring: string;
}

interface Limit {
  readonly type: string;
  /** A JSON number of any size. */
  readonly hard: unknown;
  readonly soft: unknown;
}

const GROUPS_MAX = 256;
/** As asm-generic/resource.h numbers them; mips, sparc and alpha differ, and are not built for. */
const RLIMITS = [
  'CPU', 'FSIZE', 'DATA', 'STACK', 'CORE', 'RSS', 'NPROC', 'NOFILE', 'MEMLOCK', 'AS', 'LOCKS', 'SIGPENDING',
  'MSGQUEUE', 'NICE', 'RTPRIO', 'RTTIME',
].map((name) => `RLIMIT_${name}`); // prettier-ignore
const SETS = { bounding: 'B', permitted: 'P', effective: 'E', inheritable: 'I', ambient: 'A' } as const;
const KNOWN = new Set([
  'terminal', 'consoleSize', 'user', 'args', 'env', 'cwd', 'capabilities', 'rlimits', 'noNewPrivileges',
  'apparmorProfile', 'oomScoreAdj',
]); // prettier-ignore
const KNOWN_OF_USER = new Set(['uid', 'gid', 'additionalGids']);

type Fields = Readonly<Record<string, unknown>>;

/** `process`: an OCI process object. null: the runtime must do it. */
export function formatDirectExec(process: object, place: DirectPlace, record: string): string | null {
  const fields = process as Fields;
  const user = (fields['user'] ?? {}) as Fields;
  if (!onlyKnown(fields, KNOWN) || !onlyKnown(user, KNOWN_OF_USER)) return null;
  const groups = (user['additionalGids'] ?? []) as readonly number[];
  const capabilities = formatCapabilities((fields['capabilities'] ?? {}) as Fields);
  const rlimits = formatRlimits((fields['rlimits'] ?? []) as readonly Limit[]);
  if (capabilities === null || rlimits === null || groups.length > GROUPS_MAX) return null;
  const text = (key: string, value: unknown): string[] =>
    value === undefined ? [] : [`${key}${value as string | number}`];
  const list = (key: string, values: unknown): string[] => ((values ?? []) as unknown[]).flatMap((v) => text(key, v));
  const { height = 0, width = 0 } = (fields['consoleSize'] ?? {}) as { height?: number; width?: number };
  const entries = [
    'v1',
    `x${record}`,
    ...list('a', fields['args']),
    ...list('e', fields['env']),
    ...text('d', fields['cwd']),
    `u${Number(user['uid'] ?? 0)}`,
    `g${Number(user['gid'] ?? 0)}`,
    ...list('G', groups),
    ...capabilities,
    ...rlimits,
    ...(fields['noNewPrivileges'] === true ? ['n1'] : []),
    ...(fields['terminal'] === true ? [`t${clamp(height)} ${clamp(width)}`] : []),
    ...text('p', fields['apparmorProfile']),
    ...text('o', fields['oomScoreAdj']),
    ...(place.seccompPath === null ? [] : [`s${place.seccompPath}`]),
    `k${place.keyring}`,
    ...place.hierarchies.map(({ key, root, mountPoint }) => `h${key}\t${root}\t${mountPoint}`),
  ];
  return entries.some((entry) => entry.includes('\0')) ? null : `${entries.join('\0')}\0`;
}

function formatCapabilities(sets: Fields): string[] | null {
  const lines: string[] = [];
  if (!onlyKnown(sets, new Set(Object.keys(SETS)))) return null;
  for (const [name, key] of Object.entries(SETS)) {
    let mask = 0n;
    for (const capability of (sets[name] ?? []) as readonly string[]) {
      const index = CAPABILITIES.indexOf(capability);
      if (index < 0) return null;
      mask |= 1n << BigInt(index);
    }
    lines.push(`${key}${mask.toString(16)}`);
  }
  return lines;
}

function formatRlimits(limits: readonly Limit[]): string[] | null {
  const lines = limits.map(({ type, soft, hard }) => {
    const index = RLIMITS.indexOf(type);
    return index < 0 ? null : `r${index} ${JSON.stringify(soft)} ${JSON.stringify(hard)}`;
  });
  return lines.every((line) => line !== null) ? lines : null;
}

function onlyKnown(fields: Fields, known: ReadonlySet<string>): boolean {
  return Object.keys(fields).every((key) => known.has(key) || fields[key] === undefined);
}

function clamp(size: number): number {
  return Math.max(0, Math.min(0xffff, Math.trunc(size)));
}
