/** The daemon is killed with SIGKILL under running containers: they must not notice, and nothing may be lost. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, TestDaemon, TOOLS } from '../support/daemon.ts';

const COUNT = 20;

test('daemon SIGKILL: 20 containers run on, none restarted, no line lost or doubled, attach and exec work', async () => {
  await using d = await TestDaemon.start();
  await d.image();
  const names = Array.from({ length: COUNT }, (_, n) => `c${n}`);
  await Promise.all(
    names.map((name) =>
      d.ok(
        'run',
        '-d',
        '-i',
        '--restart',
        'always',
        '--name',
        name,
        'bb:1',
        'sh',
        '-c',
        'n=0; (while :; do n=$((n+1)); echo line $n; sleep 0.1; done) & cat',
      ),
    ),
  );
  const pids = () =>
    Promise.all(names.map((name) => d.inspect(name, '{{.State.Pid}} {{.State.Status}} {{.RestartCount}}')));
  const before = await pids();
  await sleep(500);
  await d.down('SIGKILL');
  await sleep(1_000);
  await d.up();
  assert.deepEqual(await pids(), before);
  await Promise.all(
    names.map(async (name) => {
      assert.equal(await d.ok('exec', name, 'echo', name), name);
      await typedComesBack(d, name);
      let lines: readonly string[] = [];
      await eventually('it has told of more', async () => {
        lines = (await d.ok('logs', name)).split('\n').filter((line) => line.startsWith('line'));
        return lines.length > 10;
      });
      assert.deepEqual(
        lines,
        lines.map((_, n) => `line ${n + 1}`),
      );
    }),
  );
});

/** Through `docker attach`: what is written to the container's `cat` is read again, however long that takes. */
async function typedComesBack(d: TestDaemon, name: string): Promise<void> {
  const child = spawn('docker', ['attach', '--sig-proxy=false', name], {
    env: { ...process.env, PATH: `${process.env['PATH']}:${TOOLS}`, DOCKER_HOST: d.host },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const ended = new Promise((resolve) => child.once('close', resolve));
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stdin.on('error', () => {});
  child.stdin.write(`typed-${name}\n`);
  await eventually(`${name} answers`, () => output.includes(`typed-${name}\n`), 30_000);
  child.kill('SIGKILL');
  await ended;
}

test('daemon SIGKILL: exits that happen while it is away are known afterwards, with their code and time', async () => {
  await using d = await TestDaemon.start();
  await d.image();
  const told = 'until [ -e /go ]; do sleep 0.1; done';
  await d.ok('run', '-d', '--name', 'ends', 'bb:1', 'sh', '-c', `${told}; exit 7`);
  await d.ok(
    'run',
    '-d',
    '--name',
    'again',
    '--restart',
    'on-failure:3',
    'bb:1',
    'sh',
    '-c',
    `test -e /x && exec sleep 600; touch /x; ${told}; exit 3`,
  );
  await d.ok('run', '-d', '--rm', '--name', 'goes', 'bb:1', 'sh', '-c', told);
  const names = ['ends', 'again', 'goes'];
  const pids = await Promise.all(names.map((name) => d.inspect(name, '{{.State.Pid}}')));
  const away = Date.now();
  await d.down('SIGKILL');
  for (const pid of pids) writeFileSync(`/proc/${pid}/root/go`, '');
  await eventually('their ends', () => pids.every((pid) => !existsSync(`/proc/${pid}`)));
  const gone = Date.now();
  await sleep(1_000);
  await d.up();
  assert.equal(await d.inspect('ends', '{{.State.Status}} {{.State.ExitCode}}'), 'exited 7');
  const finished = Date.parse(await d.inspect('ends', '{{.State.FinishedAt}}'));
  assert(finished >= away && finished < gone + 900, 'the time is that of the exit, not of the daemon’s return');
  await eventually(
    'the policy restarts it',
    async () => (await d.inspect('again', '{{.State.Status}} {{.RestartCount}}')) === 'running 1',
  );
  await eventually('--rm removes it', async () => (await d.docker('inspect', 'goes')).code === 1);
  const died = await d.events(away - 60_000, { event: ['die'], container: ['ends'] });
  assert.deepEqual(
    died.map(({ Actor }) => Actor.Attributes['exitCode']),
    ['7'],
    'one die event, with the code',
  );
});

test('daemon stop and start: containers run on by default, and are stopped with --live-restore=false', async () => {
  await using d = await TestDaemon.start();
  await d.image();
  await d.ok('run', '-d', '--name', 'co', 'bb:1', 'sleep', '600');
  const pid = await d.inspect('co', '{{.State.Pid}}');
  await d.down('SIGTERM');
  await d.up();
  assert.equal(await d.inspect('co', '{{.State.Pid}}'), pid);

  await using other = await TestDaemon.start('--live-restore=false', '--shutdown-timeout', '1');
  await other.image();
  await other.ok('run', '-d', '--name', 'co', 'bb:1', 'sh', '-c', 'trap "exit 9" TERM; while :; do sleep 0.1; done');
  await other.down('SIGTERM');
  await other.up();
  assert.equal(await other.inspect('co', '{{.State.Status}} {{.State.ExitCode}}'), 'exited 9');
});
