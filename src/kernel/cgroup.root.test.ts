import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { withScratch, type Scratch } from './scratch.ts';

/** Makes the cgroup in some hierarchies and puts a sleeping process into a child of it. */
async function populated({ kernel, prefix }: Scratch): Promise<{ path: string; pid: number; directories: string[] }> {
  const { cgroups, processes } = kernel;
  const path = `/longshore-${prefix}/x`;
  const directories =
    cgroups.version === 'v2'
      ? [cgroups.directory('', path)]
      : ['freezer', 'pids', 'io'].map((name) => cgroups.directory(name, path));
  const { pid } = await processes.spawn({ path: '/bin/sleep', argv: ['sleep', '60'], env: [], descriptors: [] });
  for (const directory of directories) {
    mkdirSync(join(directory, 'child', 'empty'), { recursive: true });
    writeFileSync(join(directory, 'child', 'cgroup.procs'), `${pid}`);
  }
  return { path, pid, directories };
}

test('remove: kills what is left, also what is frozen, takes every hierarchy and child, and may come twice', () =>
  withScratch(async (scratch) => {
    const { cgroups, processes } = scratch.kernel;
    const { path, pid, directories } = await populated(scratch);
    const parent = path.slice(0, path.lastIndexOf('/'));
    try {
      assert.deepEqual(await cgroups.processes(path), [pid]);
      await cgroups.freeze(path);
      const frozen = (file: string): string => readFileSync(join(directories[0] ?? '', 'child', file), 'utf8').trim();
      if (cgroups.version === 'v1') {
        assert.equal(frozen('freezer.state'), 'FROZEN');
        process.kill(pid, 'SIGTERM');
        assert.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /State:\s+[DS]/); // v1: alive, no signal arrives
      } else {
        assert.match(frozen('cgroup.events'), /^frozen 1$/m); // v2: a signal that kills does
      }
      const end = processes.reap(pid);
      await cgroups.remove(path);
      assert.equal((await end).signal > 0, true);
      await cgroups.remove(path);
      assert.deepEqual(
        directories.filter((directory) => existsSync(directory)),
        [],
      );
      assert.deepEqual(await cgroups.processes(path), []);
    } finally {
      await cgroups.remove(parent);
    }
  }));

test('freeze, thaw: hold until it is so, and say what is not there', () =>
  withScratch(async (scratch) => {
    const { cgroups, processes } = scratch.kernel;
    const { path, pid } = await populated(scratch);
    try {
      await cgroups.freeze(path);
      await cgroups.freeze(path);
      await cgroups.thaw(path);
      process.kill(pid, 'SIGTERM');
      assert.deepEqual(await processes.reap(pid), { exitCode: 143, signal: 15 });
      await assert.rejects(cgroups.freeze(`${path}/none`), { name: 'KernelError', syscall: 'write', code: 'ENOENT' });
    } finally {
      await cgroups.remove(path.slice(0, path.lastIndexOf('/')));
    }
  }));

/** Execs itself again and again, each time with threads that the exec has to wait for. */
const EXECS_WITH_THREADS = `
#include <pthread.h>
#include <unistd.h>
static void *idle(void *unused) { for (;;) usleep(50); return unused; }
int main(int argc, char **argv) {
  pthread_t thread;
  for (int i = 0; i < 8; i++) pthread_create(&thread, 0, idle, 0);
  (void)argc;
  execv("/proc/self/exe", argv);
  return 1;
}`;

test('freeze: a process of many threads that is in the middle of an execve', () =>
  withScratch(async (scratch) => {
    const { kernel, prefix, directory } = scratch;
    const { cgroups, processes } = kernel;
    const program = join(directory, 'execs');
    execFileSync('cc', ['-x', 'c', '-O1', '-pthread', '-o', program, '-'], { input: EXECS_WITH_THREADS });
    const path = `/longshore-${prefix}/x`;
    const group = cgroups.directory('freezer', path);
    mkdirSync(group, { recursive: true });
    const { pid } = await processes.spawn({ path: program, argv: ['execs'], env: [], descriptors: [] });
    const end = processes.reap(pid);
    try {
      writeFileSync(join(group, 'cgroup.procs'), `${pid}`);
      for (let n = 0; n < 20; n++) {
        await cgroups.freeze(path);
        await cgroups.thaw(path);
      }
    } finally {
      process.kill(pid, 'SIGKILL');
      await end;
      await cgroups.remove(`/longshore-${prefix}`);
    }
  }));

test('directory, remove: no way out of the hierarchy and never its root', () =>
  withScratch(async ({ kernel: { cgroups } }) => {
    for (const path of ['', '/', 'x', '/..', '/x/../..', '//', '/x/', '/x/./y', '/x\0']) {
      await assert.rejects(cgroups.remove(path), { name: 'KernelError', code: 'EINVAL' }, JSON.stringify(path));
      assert.throws(() => cgroups.directory('memory', path), { name: 'KernelError' });
    }
    if (cgroups.version === 'v1') assert.throws(() => cgroups.directory('nonsense', '/x'), { code: 'ENOENT' });
    assert.ok(cgroups.controllers.includes('memory'));
  }));
