/** What a daemon makes of a host on which something is gone: each ends in a state that is true, with its cause. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { doctor, eventually, TestDaemon } from '../support/daemon.ts';

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

const story = async (name: string): Promise<string[]> =>
  (await d.api('GET', `/containers/${name}/why`)).json.Entries.map(({ Text }: { Text: string }) => Text);
const shimOf = (id: string): number =>
  Number(readFileSync(join(d.directory, 'exec/shim', id, 'shim.pid'), 'utf8').split(' ')[0]);

const statOf = (pid: string): string => {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return '';
  }
};
/** Also one that nobody has reaped yet. */
const isOver = (pid: string): boolean => /^$|^\d+ \(.*\) [ZX]/s.test(statOf(pid));

test('a monitor is killed while the daemon looks: the container’s end is told, and its policy decides', async () => {
  const id = await d.ok('run', '-d', '--name', 's1', '--restart', 'always', 'bb:1', 'sleep', '600');
  const pid = await d.inspect('s1', '{{.State.Pid}}');
  process.kill(shimOf(id), 'SIGKILL');
  await eventually(
    'it runs again',
    // Who waits for a restart is Running, too.
    async () => (await d.inspect('s1', '{{.State.Status}} {{.RestartCount}}')) === 'running 1',
  );
  assert(isOver(pid), `the old process has ended before the new one began: ${statOf(pid)}`);
  assert.notEqual(await d.inspect('s1', '{{.State.Pid}}'), pid);
  assert.match(
    (await story('s1')).find((line) => line.startsWith('ended'))!,
    /^ended with code 255 after .*; the policy restarts it in 100 ms/,
  );
});

test('a monitor was killed while the daemon was away: what is left of its container is ended, nothing runs twice', async () => {
  const id = await d.ok('run', '-d', '--name', 's2', '--restart', 'on-failure', 'bb:1', 'sleep', '600');
  const plain = await d.ok('run', '-d', '--name', 's3', 'bb:1', 'sleep', '600');
  const pids = [await d.inspect('s2', '{{.State.Pid}}'), await d.inspect('s3', '{{.State.Pid}}')];
  const shims = [shimOf(id), shimOf(plain)];
  await d.down('SIGKILL');
  for (const shim of shims) process.kill(shim, 'SIGKILL');
  await d.up();
  await eventually('one runs again', async () => (await d.inspect('s2', '{{.State.Running}}')) === 'true');
  assert.equal(await d.inspect('s3', '{{.State.Status}} {{.State.ExitCode}}'), 'exited 255');
  await eventually('the old processes are gone', () => pids.every(isOver));
  assert.deepEqual(
    (await story('s3')).slice(-2).map((line) => line.replace(/ after.*/, '')),
    ['the daemon came up: its monitor died, so how it ended is not known', 'ended with code 255'],
  );
  assert.deepEqual((await doctor(d, '--skip-images')).problems, []);
});

test('a writable layer is gone: the daemon comes up, the start fails and says why, the container can be removed', async () => {
  const id = await d.ok('run', '--name', 'bare', 'bb:1', 'true').then(() => d.inspect('bare', '{{.Id}}'));
  await d.ok('run', '-d', '--name', 'still', 'bb:1', 'sleep', '600');
  await d.down('SIGKILL');
  rmSync(join(d.directory, 'data/snapshot', id), { recursive: true });
  const found = (await doctor(d, '--skip-images')).problems;
  assert.deepEqual(
    found.map(({ text }) => text.replace(/ \(.*/, '')),
    [`container ${id.slice(0, 12)} has lost its writable layer`],
  );
  await d.up();
  assert.equal(await d.inspect('still', '{{.State.Running}}'), 'true');
  const failed = await d.docker('start', 'bare');
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /snapshot|No such file|ENOENT/);
  assert.match((await story('bare')).at(-1)!, /^the start failed with code 128: .*; it stays down: restart policy no$/);
  await d.ok('rm', 'bare');
  assert.deepEqual((await doctor(d, '--skip-images')).problems, []);
});
