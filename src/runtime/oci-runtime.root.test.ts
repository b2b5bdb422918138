import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { suite, test } from 'node:test';

import { NO_RESOURCES } from '../core/container-spec.ts';
import { RuntimeStartError } from './port.ts';
import {
  assertNothingLeft,
  CGROUP_PARENT,
  execRoot,
  facts,
  kernel,
  launch,
  open,
  output,
  readAll,
  scratch,
  shimPath,
} from './runtime-fixture.ts';
import { buildExecProcess } from './spec/process.ts';
import { buildResources } from './spec/resources.ts';
import { plainInput } from './spec/spec-fixture.ts';

for (const name of ['crun', 'runc'] as const) {
  suite(`openRuntime with ${name}`, () => {
    test('start: runs with the default spec, seccomp on, and reports one exit', async () => {
      const { runtime, events, event } = await open();
      const script =
        'grep -E "Seccomp:|CapEff|NoNewPrivs" /proc/self/status; hostname; echo $PATH $HOME; cat /proc/keys | wc -c; mount -t tmpfs x /tmp || echo refused; unshare -U true || echo no userns; exit 3';
      const one = launch(['sh', '-c', script], { runtime: name });
      const started = await runtime.start(one, []);
      assert.ok(started.pid > 0);
      const exited = await event('exited', one.id);
      assert.ok(exited.kind === 'exited' && exited.exit.code === 3 && exited.pid === started.pid && exited.run === 1);
      await runtime.release(one.id);
      const text = output(one.id);
      assert.match(text, /Seccomp:\s*2/);
      assert.match(text, /CapEff:\s*00000000a80425fb/);
      assert.match(text, /NoNewPrivs:\s*0/);
      assert.match(text, /host1\n\/usr\/local\/sbin:.* \/root\n0\n/);
      assert.match(text, /refused/);
      assert.match(text, /no userns/);
      assert.equal(events.length, 1);
      assertNothingLeft(one.id);
    });

    test('start: a command that is missing is 127, one that cannot be run 126, and nothing is left', async () => {
      const { runtime, events } = await open();
      for (const [cmd, code, words] of [
        [['nope'], 127, 'exec: "nope": executable file not found in $PATH: unknown'],
        [['/bin/nope'], 127, 'no such file or directory: unknown'],
        [['/bin/not-executable'], 126, 'permission denied'],
        [['/etc'], 126, 'permission denied'],
      ] as const) {
        const one = launch([...cmd], { runtime: name });
        await assert.rejects(runtime.start(one, []), (error: unknown) => {
          assert.ok(error instanceof RuntimeStartError, String(error));
          assert.equal(error.exitCode, code, error.message);
          assert.ok(
            error.message.startsWith(
              'failed to create task for container: failed to create shim task: OCI runtime create failed: ',
            ),
            error.message,
          );
          assert.ok(error.message.includes(words), error.message);
          return true;
        });
        assertNothingLeft(one.id);
      }
      assert.deepEqual(events, []);
    });

    test('exec, attach, resize, signal: streams, exit codes, errors', async () => {
      const { runtime, event } = await open();
      const one = launch(['sh', '-c', 'trap "echo got; exit 7" TERM; echo first; while :; do sleep 0.1; done'], {
        runtime: name,
      });
      let stream: Duplex | undefined;
      await runtime.start(one, [
        { streams: { stdin: false, stdout: true, stderr: true }, connect: (it) => (stream = it) },
      ]);
      assert.ok(stream);
      const all = readAll(stream);
      const context = { ...plainInput(), host: facts };
      const processOf = (args: string[], tty = false): object =>
        buildExecProcess(context, {
          args,
          env: ['X=1'],
          workingDir: '',
          tty,
          privileged: false,
          linkEnv: [],
          consoleSize: null,
        });
      const exec = await runtime.exec(
        one.id,
        {
          execId: 'a'.repeat(64),
          process: processOf(['sh', '-c', 'grep Seccomp: /proc/self/status; echo $X; exit 5']),
          tty: false,
          consoleSize: [0, 0],
          record: '',
        },
        { stdin: false, stdout: true, stderr: true },
      );
      assert.ok(exec.stream);
      const text = await readAll(exec.stream);
      assert.match(text, /Seccomp:\s*2/);
      const ended = await event('exec-exited', one.id);
      assert.deepEqual(ended, { kind: 'exec-exited', id: one.id, execId: 'a'.repeat(64), exitCode: 5 });
      await assert.rejects(
        runtime.exec(
          one.id,
          { execId: 'b'.repeat(64), process: processOf(['nope']), tty: false, consoleSize: [0, 0], record: '' },
          null,
        ),
        (error: unknown) =>
          error instanceof RuntimeStartError &&
          error.exitCode === 127 &&
          error.message.startsWith('OCI runtime exec failed: exec failed: ') &&
          error.message.includes('exec: "nope": executable file not found in $PATH: unknown'),
      );
      assert.equal(await runtime.signalExec(one.id, 'a'.repeat(64), 15), false);
      assert.ok((await runtime.processes(one.id)).length >= 1);
      assert.equal(await runtime.signal(one.id, 15), true);
      const exited = await event('exited', one.id);
      assert.ok(exited.kind === 'exited' && exited.exit.code === 7);
      assert.match(await all, /first[^]*got/);
      await runtime.release(one.id);
      assertNothingLeft(one.id);
    });

    test('pause, resume, update, killAll, recover: by another daemon too', async () => {
      const { runtime, event } = await open();
      const one = launch(['sleep', '1000'], {
        runtime: name,
        host: { resources: { ...NO_RESOURCES, memoryBytes: 64 << 20, memorySwapBytes: 128 << 20 } },
      });
      const { pid, startedAt } = await runtime.start(one, []);
      // runc's start is over before its threads have made way for the command; a freeze just then is the kernel room's to test.
      while (readFileSync(`/proc/${pid}/comm`, 'utf8') !== 'sleep\n')
        await new Promise((resolve) => setTimeout(resolve, 5));
      await runtime.pause(one.id);
      const next = await open();
      assert.deepEqual(await next.runtime.recover(one.id, 2), { at: 'never-started' });
      assert.deepEqual(await next.runtime.recover(one.id, 1), {
        at: 'running',
        pid,
        startedAt,
        paused: true,
        oomKilled: false,
        execs: [],
        endedExecs: [],
      });
      await next.runtime.resume(one.id);
      const limit = (): string =>
        readFileSync(
          `${kernel.cgroups.directory('memory', `${CGROUP_PARENT}/${one.id}`)}/memory.${kernel.cgroups.version === 'v2' ? 'max' : 'limit_in_bytes'}`,
          'utf8',
        ).trim();
      assert.equal(limit(), `${64 << 20}`);
      await next.runtime.update(
        one.id,
        buildResources({ ...NO_RESOURCES, memoryBytes: 256 << 20, memorySwapBytes: 512 << 20, cpuShares: 512 }),
      );
      assert.equal(limit(), `${256 << 20}`);
      // All or nothing: no such CPU.
      await assert.rejects(
        next.runtime.update(
          one.id,
          buildResources({ ...NO_RESOURCES, memoryBytes: 32 << 20, memorySwapBytes: 64 << 20, cpusetCpus: '4000' }),
        ),
      );
      assert.equal(limit(), `${256 << 20}`);
      await next.runtime.pause(one.id);
      await next.runtime.killAll(one.id);
      const exited = await next.event('exited', one.id);
      assert.ok(exited.kind === 'exited' && exited.exit.code === 137 && exited.exit.signal === 9);
      await event('exited', one.id);
      await next.runtime.release(one.id);
      await runtime.release(one.id);
      assertNothingLeft(one.id);
    });

    test('recover: what ended while nobody looked, and what lost its shim', async () => {
      const { runtime, event } = await open();
      const one = launch(['sh', '-c', 'exit 9'], { runtime: name });
      await runtime.start(one, []);
      await event('exited', one.id);
      const next = await open();
      const seen = await next.runtime.recover(one.id, 1);
      assert.ok(seen.at === 'exited' && seen.exit.code === 9, JSON.stringify(seen));
      await next.runtime.release(one.id);
      await runtime.release(one.id);

      const two = launch(['sleep', '1000'], { runtime: name });
      const { pid } = await runtime.start(two, []);
      while (!existsSync(join(execRoot, 'shim', two.id, 'init.pid')))
        await new Promise((resolve) => setTimeout(resolve, 5));
      const shimPid = Number(readFileSync(join(execRoot, 'shim', two.id, 'shim.pid'), 'utf8').split(' ')[0]);
      process.kill(shimPid, 'SIGKILL');
      assert.deepEqual(await event('lost', two.id), { kind: 'lost', id: two.id, run: 1, pid });
      const last = await open();
      assert.deepEqual(await last.runtime.recover(two.id, 1), { at: 'lost', because: 'shim-died', pid });
      await last.runtime.release(two.id);
      assert.equal(
        existsSync(`/proc/${pid}`) && !/State:\s+Z/.test(readFileSync(`/proc/${pid}/status`, 'utf8')),
        false,
      );
      assertNothingLeft(two.id);
    });

    test('recover: a shim that was still on its way when the daemon died starts nothing', async () => {
      const slow = join(scratch, `slow-shim-${name}`);
      writeFileSync(slow, `#!/bin/sh\nuntil [ -e ${slow}.go ]; do sleep 0.05; done\nexec ${shimPath} "$@"\n`, {
        mode: 0o755,
      });
      const first = await open(null, slow);
      const one = launch(['echo', 'it ran'], { runtime: name });
      const start = first.runtime.start(one, []);
      start.catch(() => {});
      while (!existsSync(join(execRoot, 'shim', one.id, 'start.1')))
        await new Promise((resolve) => setTimeout(resolve, 5));
      // What takes a moment of a start is over for sure: the shim's program runs.
      await new Promise((resolve) => setTimeout(resolve, 300));
      const next = await open();
      assert.deepEqual(await next.runtime.recover(one.id, 1), { at: 'never-started' });
      writeFileSync(`${slow}.go`, '');
      await assert.rejects(start, /start\.1/);
      assert.equal(existsSync(join(scratch, `${one.id}.log`)) ? output(one.id) : '', '');
      await next.runtime.release(one.id);
      assertNothingLeft(one.id);
    });

    test('start: the OOM killer is told of once, and in the exit', async () => {
      const { runtime, events, event } = await open();
      const resources = { ...NO_RESOURCES, memoryBytes: 16 << 20, memorySwapBytes: 16 << 20 };
      const one = launch(['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=200M', 'count=1'], {
        runtime: name,
        host: { resources },
      });
      await runtime.start(one, []);
      const exited = await event('exited', one.id);
      assert.ok(exited.kind === 'exited' && exited.exit.code === 137 && exited.exit.oomKilled, JSON.stringify(exited));
      assert.deepEqual(
        events.map((it) => it.kind),
        ['oom', 'exited'],
      );
      await runtime.release(one.id);
      assertNothingLeft(one.id);
    });

    test('start: read-only binds of a directory with a mount below it, and of a file', async () => {
      const { runtime, event } = await open();
      const source = join(scratch, `source-${name}`);
      mkdirSync(join(source, 'below'), { recursive: true });
      writeFileSync(join(source, 'file'), 'content\n');
      execFileSync('mount', ['-t', 'tmpfs', 'runtimetest', join(source, 'below')]);
      try {
        const mount = { type: 'bind' as const, readWrite: false, propagation: '', options: [] };
        const one = launch(['sh', '-c', 'cat /file; touch /dir/x || echo no; touch /dir/below/x || echo neither'], {
          runtime: name,
          mounts: [
            { ...mount, source, destination: '/dir' },
            { ...mount, source: join(source, 'file'), destination: '/file' },
          ],
        });
        await runtime.start(one, []);
        await event('exited', one.id);
        await runtime.release(one.id);
        const said = output(one.id);
        assert.match(said, /^content$/m);
        assert.match(said, /^no$/m);
        assert.match(said, /^neither$/m);
      } finally {
        execFileSync('umount', [join(source, 'below')]);
      }
    });

    test('release: kills what lives, and can be called again', async () => {
      const { runtime } = await open();
      const one = launch(['sleep', '1000'], { runtime: name });
      await runtime.start(one, []);
      const stranger = await open();
      await stranger.runtime.release(one.id);
      assertNothingLeft(one.id);
      await stranger.runtime.release(one.id);
      await runtime.release(one.id);
    });
  });
}
