/**
 * Compiles an OCI seccomp profile to classic BPF with libseccomp. The rules are those of runc and crun.
 * Source: OCI runtime-spec config-linux.md "Seccomp", seccomp_rule_add(3), seccomp_export_bpf(3). Worker thread only.
 */
import koffi, { type LibraryHandle } from 'koffi';

import { ERRNO, KernelError, quoted } from './kernel-error.ts';
import { check, closeFile, native, text } from './libc.ts';

interface Library {
  readonly init: (action: number) => bigint | null;
  readonly release: (filter: bigint) => void;
  readonly archResolve: (name: string) => number;
  readonly archAdd: (filter: bigint, token: number) => number;
  readonly syscallResolve: (name: string) => number;
  readonly ruleAdd: (
    filter: bigint,
    action: number,
    syscall: number,
    count: number,
    conditions: Buffer | null,
  ) => number;
  readonly attributeSet: (filter: bigint, attribute: number, value: number) => number;
  readonly exportBpf: (filter: bigint, fd: number) => number;
}

interface Argument {
  readonly index: number;
  readonly value: bigint;
  readonly valueTwo: bigint;
  readonly comparator: number;
}

const DEFAULT_ERRNO = ERRNO.EPERM;
/** Actions that carry no errno; those that do are or-ed with it. */
const ACTIONS: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: 0,
  SCMP_ACT_KILL_THREAD: 0,
  SCMP_ACT_KILL_PROCESS: 0x80000000,
  SCMP_ACT_TRAP: 0x00030000,
  SCMP_ACT_NOTIFY: 0x7fc00000,
  SCMP_ACT_LOG: 0x7ffc0000,
  SCMP_ACT_ALLOW: 0x7fff0000,
};
const ERRNO_ACTION = 0x00050000;
const ACTIONS_WITH_ERRNO: Readonly<Record<string, number>> = {
  SCMP_ACT_ERRNO: ERRNO_ACTION,
  SCMP_ACT_TRACE: 0x7ff00000,
};
const COMPARATORS: Readonly<Record<string, number>> = {
  SCMP_CMP_NE: 1,
  SCMP_CMP_LT: 2,
  SCMP_CMP_LE: 3,
  SCMP_CMP_EQ: 4,
  SCMP_CMP_GE: 5,
  SCMP_CMP_GT: 6,
  SCMP_CMP_MASKED_EQ: 7,
};
const ACTION_MASK = 0xffff0000;
/** linux/audit.h, by Node's name. */
const AUDIT_ARCHITECTURES: Readonly<Record<string, number>> = { x64: 0xc000003e, arm64: 0xc00000b7 };
const X32_BIT = 0x40000000;
/** linux/bpf_common.h: a word of the data, jumps that compare with a constant, the verdict. */
const BPF_LOAD = 0x20;
const BPF_JUMP_EQUAL = 0x15;
const BPF_JUMP_ABOVE = 0x25;
const BPF_JUMP_AT_LEAST = 0x35;
const BPF_RETURN = 0x06;
/** SCMP_FLTATR_CTL_OPTIMIZE: the kernel tries every call when it loads a filter, so that one search of a thousand counts. */
const ATTRIBUTE_OPTIMIZE = 8;
const OPTIMIZE_BINARY_TREE = 2;
const UNKNOWN_SYSCALL = -1; // __NR_SCMP_ERROR
const ARGUMENTS_MAX = 6;
/** struct scmp_arg_cmp: unsigned arg, enum op, u64 datum_a, u64 datum_b. */
const CONDITION_BYTES = 24;
const MFD_CLOEXEC = 1;
const SEEK_SET = 0;
const SEEK_END = 2;
/** The kernel takes at most 4096 instructions of 8 bytes; libseccomp may export more, which is of no use. */
const FILTER_BYTES_MAX = 1024 * 1024;

let library: Library | null = null;

/** @throws {KernelError} with what is wrong in the profile. */
export function compileSeccomp(profile: object): Uint8Array {
  const seccomp = load();
  const fields = profile as Record<string, unknown>;
  const fallback = actionOf(fields['defaultAction'], fields['defaultErrnoRet']);
  const filter = seccomp.init(fallback);
  if (filter === null) throw new KernelError('seccomp_init', ERRNO.EINVAL, `0x${fallback.toString(16)}`);
  try {
    // Libraries before 2.5 know no such thing, and look through all rules one by one.
    seccomp.attributeSet(filter, ATTRIBUTE_OPTIMIZE, OPTIMIZE_BINARY_TREE);
    for (const name of listOf(fields['architectures'], 'architectures')) addArchitecture(seccomp, filter, name);
    let last = -1;
    for (const rule of listOf(fields['syscalls'], 'syscalls'))
      last = Math.max(last, addRule(seccomp, filter, rule, fallback));
    const refuses = (fallback & ACTION_MASK) === ERRNO_ACTION && fallback !== (ERRNO_ACTION | ERRNO.ENOSYS);
    return Buffer.concat([...(refuses ? [unknownCalls(last)] : []), exported(seccomp, filter)]);
  } finally {
    seccomp.release(filter);
  }
}

function addArchitecture(seccomp: Library, filter: bigint, name: unknown): void {
  if (typeof name !== 'string') throw invalid('architectures', name);
  const token = seccomp.archResolve(text(name.replace(/^SCMP_ARCH_/, '').toLowerCase(), 'seccomp_arch_resolve_name'));
  if (token === 0)
    throw new KernelError(
      'seccomp_arch_resolve_name',
      ERRNO.EINVAL,
      quoted(name),
      'an architecture that libseccomp does not know',
    );
  const result = seccomp.archAdd(filter, token);
  if (result < 0 && -result !== ERRNO.EEXIST) throw new KernelError('seccomp_arch_add', -result, name);
}

/**
 * What comes before the filter, as in runc (libcontainer/seccomp/patchbpf): a call that is younger than everything that the
 * profile names does not exist, instead of being refused. C libraries try such calls, and fall back on ENOSYS alone.
 */
function unknownCalls(last: number): Buffer {
  const architecture = AUDIT_ARCHITECTURES[process.arch];
  if (architecture === undefined || last < 0) return Buffer.alloc(0);
  const program = [
    [BPF_LOAD, 0, 0, 4], // seccomp_data.arch
    [BPF_JUMP_EQUAL, 0, 4, architecture],
    [BPF_LOAD, 0, 0, 0], // seccomp_data.nr
    [BPF_JUMP_AT_LEAST, 2, 0, X32_BIT],
    [BPF_JUMP_ABOVE, 0, 1, last],
    [BPF_RETURN, 0, 0, ERRNO_ACTION | ERRNO.ENOSYS],
  ] as const;
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(([code, whenTrue, whenFalse, value], index) => {
    bytes.writeUInt16LE(code, index * 8);
    bytes[index * 8 + 2] = whenTrue;
    bytes[index * 8 + 3] = whenFalse;
    bytes.writeUInt32LE(value, index * 8 + 4);
  });
  return bytes;
}

/** Returns the highest number of a call that it names; -1 for none. */
function addRule(seccomp: Library, filter: bigint, rule: unknown, fallback: number): number {
  if (typeof rule !== 'object' || rule === null) throw invalid('syscalls', rule);
  const fields = rule as Record<string, unknown>;
  const action = actionOf(fields['action'], fields['errnoRet']);
  const conditions = listOf(fields['args'], 'args').map(parseArgument);
  const names = [...listOf(fields['names'], 'names'), ...(fields['name'] === undefined ? [] : [fields['name']])];
  let last = -1;
  for (const name of names) {
    if (typeof name !== 'string') throw invalid('names', name);
    const syscall = seccomp.syscallResolve(text(name, 'seccomp_syscall_resolve_name'));
    if (syscall === UNKNOWN_SYSCALL) continue; // of another architecture, or younger than the library
    last = Math.max(last, syscall);
    if (action === fallback) continue; // libseccomp refuses a rule that changes nothing
    // Two conditions on one argument cannot both be in a rule: as in runc each is then a rule of its own.
    const isRepeated = new Set(conditions.map(({ index }) => index)).size < conditions.length;
    const groups = isRepeated ? conditions.map((condition) => [condition]) : [conditions];
    for (const group of groups) {
      // SAFETY: `count` conditions of CONDITION_BYTES each; the library copies them.
      const result = seccomp.ruleAdd(
        filter,
        action,
        syscall,
        group.length,
        group.length === 0 ? null : encodeConditions(group),
      );
      if (result < 0)
        throw new KernelError('seccomp_rule_add_array', -result, `${name}, ${JSON.stringify(fields['action'])}`);
    }
  }
  return last;
}

function parseArgument(argument: unknown): Argument {
  if (typeof argument !== 'object' || argument === null) throw invalid('args', argument);
  const fields = argument as Record<string, unknown>;
  const { index, op } = fields;
  const comparator = typeof op === 'string' && Object.hasOwn(COMPARATORS, op) ? COMPARATORS[op] : undefined;
  if (
    comparator === undefined ||
    typeof index !== 'number' ||
    !Number.isInteger(index) ||
    index < 0 ||
    index >= ARGUMENTS_MAX
  )
    throw invalid('args', argument);
  return { index, comparator, value: wordOf(fields['value'] ?? 0), valueTwo: wordOf(fields['valueTwo'] ?? 0) };
}

function encodeConditions(conditions: readonly Argument[]): Buffer {
  const encoded = Buffer.alloc(CONDITION_BYTES * conditions.length);
  conditions.forEach((condition, position) => {
    const at = position * CONDITION_BYTES;
    encoded.writeUInt32LE(condition.index, at);
    encoded.writeUInt32LE(condition.comparator, at + 4);
    encoded.writeBigUInt64LE(condition.value, at + 8);
    encoded.writeBigUInt64LE(condition.valueTwo, at + 16);
  });
  return encoded;
}

function exported(seccomp: Library, filter: bigint): Uint8Array {
  const fd = check(native.memfdCreate('seccomp', MFD_CLOEXEC), 'memfd_create', () => 'seccomp');
  try {
    const result = seccomp.exportBpf(filter, fd);
    if (result < 0) throw new KernelError('seccomp_export_bpf', -result, '');
    const size = check(native.lseek(fd, 0, SEEK_END), 'lseek', () => 'memfd');
    if (size > FILTER_BYTES_MAX) throw new KernelError('seccomp_export_bpf', ERRNO.E2BIG, `${size} bytes`);
    check(native.lseek(fd, 0, SEEK_SET), 'lseek', () => 'memfd');
    const bytes = Buffer.alloc(size);
    if (check(native.read(fd, bytes, bytes.length), 'read', () => 'memfd') !== size)
      throw new Error('seccomp: a short read of a memfd');
    return bytes;
  } finally {
    closeFile(fd);
  }
}

function actionOf(action: unknown, errnoRet: unknown): number {
  if (typeof action !== 'string') throw invalid('action', action);
  if (Object.hasOwn(ACTIONS, action)) return ACTIONS[action] ?? 0;
  const base = Object.hasOwn(ACTIONS_WITH_ERRNO, action) ? ACTIONS_WITH_ERRNO[action] : undefined;
  const errno = errnoRet ?? DEFAULT_ERRNO;
  if (base === undefined || typeof errno !== 'number' || !Number.isInteger(errno) || errno < 0 || errno > 0xffff)
    throw invalid('action', [action, errnoRet]);
  return base | errno;
}

function wordOf(value: unknown): bigint {
  const isWhole = typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
  if (!isWhole || value < 0 || BigInt(value) > 0xffff_ffff_ffff_ffffn) throw invalid('value', value);
  return BigInt(value);
}

function listOf(value: unknown, field: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalid(field, value);
  return value as readonly unknown[];
}

function invalid(field: string, value: unknown): KernelError {
  const shown = typeof value === 'bigint' ? value.toString() : (JSON.stringify(value) ?? 'undefined');
  return new KernelError('seccomp', ERRNO.EINVAL, `${field}=${shown.slice(0, 200)}`, 'not a valid seccomp profile');
}

function load(): Library {
  if (library !== null) return library;
  let file: LibraryHandle;
  try {
    file = koffi.load('libseccomp.so.2');
  } catch (error) {
    throw new KernelError(
      'dlopen',
      ERRNO.ENOENT,
      'libseccomp.so.2',
      `${error instanceof Error ? error.message : String(error)}; it is in the package libseccomp2 (Debian, Ubuntu)`,
    );
  }
  const bind = <F extends (...values: never[]) => unknown>(definition: string): F =>
    file.func(definition) as unknown as F;
  library = {
    init: bind('void *seccomp_init(uint32_t action)'),
    release: bind('void seccomp_release(void *filter)'),
    archResolve: bind('uint32_t seccomp_arch_resolve_name(const char *name)'),
    archAdd: bind('int seccomp_arch_add(void *filter, uint32_t token)'),
    syscallResolve: bind('int seccomp_syscall_resolve_name(const char *name)'),
    ruleAdd: bind(
      'int seccomp_rule_add_array(void *filter, uint32_t action, int syscall, unsigned int count, const void *conditions)',
    ),
    attributeSet: bind('int seccomp_attr_set(void *filter, uint32_t attribute, uint32_t value)'),
    exportBpf: bind('int seccomp_export_bpf(void *filter, int fd)'),
  };
  return library;
}
