import assert from 'node:assert/strict';
import { spawn as spawnByNode } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { withScratch, type Scratch } from './scratch.ts';

/** Runs a script with `descriptors` from 3 on and gives back what it writes to the last of them. */
async function shell(
  { kernel, directory }: Scratch,
  script: string,
  descriptors: readonly number[] = [],
): Promise<string> {
  const path = join(directory, 'out');
  const out = openSync(path, 'w+');
  try {
    const { pid } = await kernel.processes.spawn({
      path: '/bin/sh',
      argv: ['sh', '-c', script],
      env: ['PATH=/usr/bin:/bin', 'A=b c'],
      descriptors: [...descriptors, out],
    });
    assert.deepEqual(await kernel.processes.reap(pid), { exitCode: 0, signal: 0 });
    return readFileSync(path, 'utf8');
  } finally {
    closeSync(out);
  }
}

test('spawn: own session, default signals, /dev/null, the environment given and no other descriptor', () =>
  withScratch(async (scratch) => {
    const leak = openSync('/etc/passwd', 'r');
    const listed = await shell(
      scratch,
      'exec >&3 3>&-; echo "$A"; ls -l /proc/self/fd | sed "s/.* -> //" | grep -v "^total"; grep -E "Sig(Blk|Ign)" /proc/self/status; cut -d" " -f6 /proc/$$/stat; echo $$',
    );
    closeSync(leak);
    const lines = listed.trim().split('\n');
    assert.equal(lines[0], 'b c');
    assert.deepEqual(lines.filter((line) => line.startsWith('/dev/null')).length, 2); // stdin and stderr; stdout is ours
    assert.ok(!listed.includes('/etc/passwd'));
    assert.ok(!/socket:|anon_inode|net:/.test(listed), listed);
    assert.match(listed, /SigBlk:\t0{16}/);
    assert.match(listed, /SigIgn:\t0{16}/);
    assert.equal(lines.at(-2), lines.at(-1)); // session leader
  }));

test('spawn: descriptors arrive in order, also when they stand in the way of each other', () =>
  withScratch(async (scratch) => {
    const { directory, kernel } = scratch;
    // Enough files that some have the numbers 3, 4, … that others are to get.
    const files = Array.from({ length: 12 }, (_, index) => {
      const fd = openSync(join(directory, `f${index}`), 'w+');
      writeSync(fd, `${index}`, 0);
      return fd;
    });
    const rotated = [...files.slice(5), ...files.slice(0, 5)].toReversed();
    const seen = await shell(
      scratch,
      `for fd in 3 4 5 6 7 8 9; do cat /proc/self/fd/$fd; echo; done >/proc/self/fd/${3 + rotated.length}`,
      rotated,
    );
    assert.deepEqual(seen.trim().split('\n'), ['4', '3', '2', '1', '0', '11', '10']);
    for (const fd of files) await kernel.processes.closeDescriptor(fd);
  }));

test('spawn: what cannot be started is an error that names it, and nothing is left to reap', () =>
  withScratch(async ({ kernel }) => {
    const base = { argv: ['x'], env: [], descriptors: [] };
    await assert.rejects(kernel.processes.spawn({ ...base, path: '/nonexistent\n' }), {
      name: 'KernelError',
      syscall: 'posix_spawn',
      code: 'ENOENT',
      message: 'posix_spawn("/nonexistent\\n", argv=["x"], descriptors=[]): ENOENT',
    });
    await assert.rejects(kernel.processes.spawn({ ...base, path: '/etc/passwd' }), { code: 'EACCES' });
    await assert.rejects(kernel.processes.spawn({ ...base, path: '/bin/true', descriptors: [987_654] }), {
      code: 'EBADF',
    });
    await assert.rejects(kernel.processes.spawn({ ...base, path: '/bin/true', descriptors: [-1] }), { code: 'EBADF' });
    await assert.rejects(kernel.processes.spawn({ ...base, path: '/bin/true', argv: ['a\0b'] }), { code: 'EINVAL' });
    await assert.rejects(kernel.processes.spawn({ ...base, path: '/bin/true', env: ['A='.padEnd(300_000, 'x')] }), {
      code: 'E2BIG',
    });
  }));

test('reap: exit codes and signals, each once, and only of our own', () =>
  withScratch(async ({ kernel }) => {
    const start = async (script: string): Promise<number> =>
      (await kernel.processes.spawn({ path: '/bin/sh', argv: ['sh', '-c', script], env: [], descriptors: [] })).pid;
    const failing = await start('exit 7');
    const killed = await start('kill -9 $$');
    const slow = await start('read -t 0.2 x < /dev/zero; exec sleep 0.1');
    assert.deepEqual(
      await Promise.all([kernel.processes.reap(slow), kernel.processes.reap(killed), kernel.processes.reap(failing)]),
      [
        { exitCode: 0, signal: 0 },
        { exitCode: 137, signal: 9 },
        { exitCode: 7, signal: 0 },
      ],
    );
    await assert.rejects(kernel.processes.reap(failing), { syscall: 'waitpid', code: 'ECHILD' });
    for (const pid of [-1, 0, 1, process.pid])
      await assert.rejects(kernel.processes.reap(pid), { code: 'ECHILD' }, String(pid));
    // Node's own children stay Node's.
    const child = spawnByNode('/bin/sh', ['-c', 'exit 3']);
    const exit = new Promise((resolve) => child.once('exit', resolve));
    await assert.rejects(kernel.processes.reap(child.pid ?? 0), { code: 'ECHILD' });
    assert.equal(await exit, 3);
  }));

test('ended: any process; at once when there is none; many at a time; abort gives the descriptor back', () =>
  withScratch(async ({ kernel }) => {
    const never = new AbortController().signal;
    await kernel.processes.ended(0x7fff_fff0, never);
    const child = spawnByNode('/bin/sleep', ['0.1'], { stdio: 'ignore' });
    await kernel.processes.ended(child.pid ?? 0, never);
    const pids = await Promise.all(
      Array.from(
        { length: 20 },
        async () =>
          (await kernel.processes.spawn({ path: '/bin/sleep', argv: ['sleep', '30'], env: [], descriptors: [] })).pid,
      ),
    );
    const abort = new AbortController();
    const waits = pids.map((pid) => kernel.processes.ended(pid, abort.signal));
    const [first = 0] = pids;
    process.kill(first, 'SIGTERM');
    await waits[0];
    abort.abort(new Error('enough'));
    for (const wait of waits.slice(1)) await assert.rejects(wait, { message: 'enough' });
    await assert.rejects(kernel.processes.ended(process.pid, AbortSignal.abort(new Error('before'))), {
      message: 'before',
    });
    for (const pid of pids.slice(1)) process.kill(pid, 'SIGKILL');
    assert.deepEqual(
      (await Promise.all(pids.map((pid) => kernel.processes.reap(pid)))).map(({ signal }) => signal),
      [15, ...Array.from({ length: 19 }, () => 9)],
    );
    for (const pid of [0, -1, 1.5, 2 ** 40]) await kernel.processes.ended(pid, never);
  }));

test('closeDescriptor: never the daemon’s own, and a stale one says so', () =>
  withScratch(async ({ kernel }) => {
    for (const fd of [-1, 0, 2, 1.5, 987_654])
      await assert.rejects(kernel.processes.closeDescriptor(fd), { syscall: 'close', code: 'EBADF' });
  }));

test('openKernel: calls after the end fail and say why; the end comes twice', async () => {
  let after: Scratch | null = null;
  await withScratch(async (scratch) => {
    after = scratch;
  });
  const { kernel } = after as unknown as Scratch;
  await assert.rejects(kernel.network.links(), { message: 'the kernel is closed' });
  await kernel[Symbol.asyncDispose]();
});
