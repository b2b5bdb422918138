import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

import { withScratch } from './scratch.ts';

/** Puts itself under the filter of argv[1] (base64), then tries calls and prints their errno. */
const PROBE = `
import koffi from 'koffi';
const libc = koffi.load(null);
const filter = Buffer.from(process.argv[1], 'base64');
const program = Buffer.alloc(16);
program.writeUInt16LE(filter.length / 8, 0);
const memory = koffi.alloc('uint8_t', filter.length);
koffi.encode(memory, koffi.array('uint8_t', filter.length), filter);
program.writeBigUInt64LE(koffi.address(memory), 8);
const errno = (result) => (Number(result) < 0 ? koffi.errno() : 0);
const prctl = libc.func('int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)');
const seccomp = libc.func('long syscall(long number, long operation, long flags, void *program)');
const mkdir = libc.func('int mkdir(const char *path, unsigned int mode)');
const personality = libc.func('int personality(unsigned long persona)');
const getpriority = libc.func('int getpriority(int which, int who)');
if (prctl(38, 1, 0, 0, 0) !== 0 || seccomp(317, 1, 0, program) !== 0) throw new Error('not filtered: ' + koffi.errno());
console.log(JSON.stringify({ mkdir: errno(mkdir('/nonexistent/x', 0)), readable: errno(personality(0xffffffff)), eight: errno(personality(8)), masked: errno(personality(0x1234)), getpriority: errno(getpriority(0, 0)) }));
`;

test(
  'compile: a process under the filter sees what the profile says',
  { skip: process.arch !== 'x64' ? 'the probe knows x64 call numbers' : false },
  () =>
    withScratch(async ({ kernel }) => {
      assert.equal(kernel.seccomp.available, true);
      const filter = await kernel.seccomp.compile({
        defaultAction: 'SCMP_ACT_ALLOW',
        architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
        syscalls: [
          { names: ['mkdir', 'mkdirat', 'no_such_call'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
          { names: ['personality'], action: 'SCMP_ACT_ERRNO', args: [{ index: 0, value: 8, op: 'SCMP_CMP_EQ' }] },
          {
            names: ['getpriority'],
            action: 'SCMP_ACT_ERRNO',
            errnoRet: 11,
            args: [
              { index: 0, value: 5, op: 'SCMP_CMP_EQ' },
              { index: 0, value: 0, op: 'SCMP_CMP_EQ' },
            ],
          },
          {
            names: ['personality'],
            action: 'SCMP_ACT_ERRNO',
            errnoRet: 5,
            args: [{ index: 0, value: 0xff00, valueTwo: 0x1200, op: 'SCMP_CMP_MASKED_EQ' }],
          },
        ],
      });
      assert.ok(filter.length > 0 && filter.length % 8 === 0 && filter.length / 8 <= 4096);
      const seen = execFileSync(process.execPath, ['--input-type=module', '-e', PROBE, filter.toString('base64')], {
        encoding: 'utf8',
        cwd: import.meta.dirname,
      });
      assert.deepEqual(JSON.parse(seen), { mkdir: 38, readable: 0, eight: 1, masked: 5, getpriority: 11 });
    }),
);

test('compile: the same profile gives the same bytes, a default errno is used, a rule of the default action is nothing', () =>
  withScratch(async ({ kernel: { seccomp } }) => {
    const profile = {
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 38,
      syscalls: [{ names: ['read', 'write'], action: 'SCMP_ACT_ALLOW' }],
    };
    const once = await seccomp.compile(profile);
    assert.deepEqual(await seccomp.compile(profile), once);
    assert.deepEqual(
      await seccomp.compile({
        ...profile,
        syscalls: [...profile.syscalls, { names: ['open'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 }],
      }),
      once,
    );
    assert.notDeepEqual(await seccomp.compile({ ...profile, defaultErrnoRet: 1 }), once);
  }));

test('compile: what is wrong in a profile is named', () =>
  withScratch(async ({ kernel: { seccomp } }) => {
    const allow = { defaultAction: 'SCMP_ACT_ALLOW' };
    const rows: [object, RegExp][] = [
      [{}, /action=/],
      [{ defaultAction: 'toString' }, /action=\["toString"/],
      [{ ...allow, architectures: ['SCMP_ARCH_VAX'] }, /SCMP_ARCH_VAX/],
      [{ ...allow, architectures: 'x' }, /architectures="x"/],
      [{ ...allow, syscalls: [null] }, /syscalls=null/],
      [{ ...allow, syscalls: [{ names: [7], action: 'SCMP_ACT_LOG' }] }, /names=7/],
      [{ ...allow, syscalls: [{ names: ['read\0'], action: 'SCMP_ACT_LOG' }] }, /a NUL/],
      [{ ...allow, syscalls: [{ names: ['read'], action: 'SCMP_ACT_ERRNO', errnoRet: 1e9 }] }, /action=/],
      [
        {
          ...allow,
          syscalls: [{ names: ['read'], action: 'SCMP_ACT_LOG', args: [{ index: 6, value: 0, op: 'SCMP_CMP_EQ' }] }],
        },
        /args=/,
      ],
      [
        {
          ...allow,
          syscalls: [{ names: ['read'], action: 'SCMP_ACT_LOG', args: [{ index: 0, value: -1, op: 'SCMP_CMP_EQ' }] }],
        },
        /value=-1/,
      ],
      [
        {
          ...allow,
          syscalls: [{ names: ['read'], action: 'SCMP_ACT_LOG', args: [{ index: 0, value: 0, op: 'constructor' }] }],
        },
        /args=/,
      ],
    ];
    for (const [profile, message] of rows) {
      await assert.rejects(
        seccomp.compile(profile),
        (error: Error) => error.name === 'KernelError' && message.test(error.message),
        JSON.stringify(profile),
      );
    }
  }));
