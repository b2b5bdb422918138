/** The compiled default profile, run instruction by instruction: every call of this architecture gets what the rules say. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { openKernel } from '../kernel/kernel.ts';
import { DEFAULT_CAPABILITIES } from './spec/capabilities.ts';
import { DEFAULT_SECCOMP_PROFILE } from './spec/seccomp-default.ts';
import { resolveSeccomp, type OciSeccomp } from './spec/seccomp.ts';

const NUMBERS = '/usr/include/x86_64-linux-gnu/asm/unistd_64.h';
const AUDIT_ARCH_X86_64 = 0xc000003e;
const AUDIT_ARCH_AARCH64 = 0xc00000b7;
const ALLOW = 0x7fff0000;
const ERRNO = 0x00050000;
const KILL = 0;
const ENOSYS = 38;

/** Classic BPF over struct seccomp_data: the part that libseccomp uses. Source: linux/filter.h, seccomp(2). */
function run(filter: Buffer, nr: number, arch: number, args: readonly bigint[] = []): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(nr, 0);
  data.writeUInt32LE(arch, 4);
  args.forEach((arg, index) => data.writeBigUInt64LE(arg, 16 + 8 * index));
  let a = 0;
  for (let at = 0; ; at++) {
    const [code, jumpTrue, jumpFalse, k] = [
      filter.readUInt16LE(at * 8),
      filter[at * 8 + 2]!,
      filter[at * 8 + 3]!,
      filter.readUInt32LE(at * 8 + 4),
    ];
    switch (code) {
      case 0x20: // ld [k]
        a = data.readUInt32LE(k);
        break;
      case 0x54: // and #k
        a = (a & k) >>> 0;
        break;
      case 0x05: // ja
        at += k;
        break;
      case 0x15: // jeq
        at += a === k ? jumpTrue : jumpFalse;
        break;
      case 0x25: // jgt
        at += a > k ? jumpTrue : jumpFalse;
        break;
      case 0x35: // jge
        at += a >= k ? jumpTrue : jumpFalse;
        break;
      case 0x06: // ret
        return k;
      default:
        assert.fail(`instruction 0x${code.toString(16)}`);
    }
  }
}

function holds({ value, op, valueTwo = 0 }: { value: number; op: string; valueTwo?: number }, arg: bigint): boolean {
  switch (op) {
    case 'SCMP_CMP_LT':
      return arg < BigInt(value);
    case 'SCMP_CMP_EQ':
      return arg === BigInt(value);
    case 'SCMP_CMP_MASKED_EQ':
      return (arg & BigInt(value)) === BigInt(valueTwo);
    default:
      return assert.fail(op);
  }
}

/** What the rules say, without a compiler. */
function decided({ syscalls }: OciSeccomp, name: string, args: readonly bigint[]): number {
  const rule = syscalls.find(
    (each) => each.names.includes(name) && (each.args ?? []).every((arg) => holds(arg, args[arg.index] ?? 0n)),
  );
  if (rule === undefined) return ERRNO + 1;
  return rule.action === 'SCMP_ACT_ALLOW' ? ALLOW : ERRNO + rule.errnoRet!;
}

const VALUES = [
  0n,
  1n,
  2n,
  8n,
  11n,
  12n,
  13n,
  16n,
  19n,
  38n,
  40n,
  41n,
  45n,
  46n,
  0x11n,
  0x20000n,
  0x20008n,
  0x10000000n,
];
const WIDE = [0x3d0f00n, 0x7e020000n, 0x80000000n, 0xffffffffn, 0x100000000n, 0x10000000cn];

test(
  'compile: the default profile as the kernel sees it, call by call, is the profile as it is written',
  { skip: process.arch !== 'x64' ? 'the numbers are those of x64' : false },
  async () => {
    await using kernel = await openKernel();
    const numbers = [...readFileSync(NUMBERS, 'utf8').matchAll(/^#define __NR_(\w+) (\d+)$/gm)];
    assert.ok(numbers.length > 300);
    for (const capabilities of [
      DEFAULT_CAPABILITIES,
      [],
      [...DEFAULT_CAPABILITIES, 'CAP_SYS_ADMIN', 'CAP_SYS_PTRACE'],
    ]) {
      const profile = resolveSeccomp(DEFAULT_SECCOMP_PROFILE, {
        capabilities,
        architecture: 'amd64',
        kernelVersion: [6, 18],
      })!;
      const filter = await kernel.seccomp.compile(profile);
      // What the profile does not know yet comes first (compileSeccomp): the fifth instruction has the last that it names.
      const last = filter.readUInt32LE(4 * 8 + 4);
      assert.ok(last >= 448 && last < 1000, `${last}`);
      for (const [, name = '', number] of numbers) {
        for (const value of [...VALUES, ...WIDE]) {
          const expected = Number(number) > last ? ERRNO + ENOSYS : decided(profile, name, [value, value]);
          const seen = run(filter, Number(number), AUDIT_ARCH_X86_64, [value, value]);
          assert.equal(seen, expected, `${name}(${value}) with ${capabilities.join(' ')}`);
        }
      }
      assert.equal(run(filter, 5000, AUDIT_ARCH_X86_64), ERRNO + ENOSYS, 'a call that nobody knows');
      assert.equal(run(filter, 0, AUDIT_ARCH_AARCH64), KILL, 'another architecture');
    }
  },
);
