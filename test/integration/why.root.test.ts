/** The journal of causes as a user reads it: `longshore why`, on the real kernel. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { eventually, PATIENCE, run, TestDaemon } from '../support/daemon.ts';

const LONGSHORE = join(import.meta.dirname, '../../bin/longshore');
/** A time as `why` prints it, at the beginning of a line. */
const TIME = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} {2}/;

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

const why = async (...argv: string[]) => run(LONGSHORE, ['why', ...argv], { env: { DOCKER_HOST: d.host } });
const story = async (name: string): Promise<string[]> => {
  const { code, stdout, stderr } = await why(name);
  assert.equal(code, 0, stderr);
  return stdout
    .split('\n')
    .filter((line) => TIME.test(line))
    .map((line) => line.replace(TIME, ''));
};

test('why: created, started and stopped by which request; the end, the decision, what comes next', async () => {
  await d.ok('run', '-d', '--name', 'w1', '--restart', 'on-failure:3', 'bb:1', 'sh', '-c', 'sleep 0.2; exit 4');
  await eventually(
    'the policy gives up',
    async () => (await d.inspect('w1', '{{.State.Status}} {{.RestartCount}}')) === 'exited 3',
  );
  const lines = await story('w1');
  assert.match(
    lines[0]!,
    /^created by POST \/v1\.\d+\/containers\/create from Docker-Client\/.*: w1, image bb:1, restart policy on-failure:3$/,
  );
  assert.match(lines[1]!, /^start by POST \/v1\.\d+\/containers\/[0-9a-f]{64}\/start from Docker-Client/);
  assert.match(lines[2]!, /^started, pid \d+$/);
  assert.match(
    lines[3]!,
    /^ended with code 4 after \d+ ms \(pid \d+\); the policy restarts it in 100 ms \(attempt 1 of 3\)$/,
  );
  assert.match(lines[5]!, /^ended with code 4 .*; the policy restarts it in 200 ms \(attempt 2 of 3\)$/);
  assert.match(lines.at(-1)!, /; it stays down: restart policy on-failure:3, and all retries are used$/);
  assert.equal(lines.length, 10);

  await d.ok(
    'run',
    '-d',
    '--name',
    'w2',
    '--restart',
    'always',
    '--stop-signal',
    'USR1',
    'bb:1',
    'sh',
    '-c',
    'trap "" USR1; sleep 600 & wait; sleep 600',
  );
  const stopping = d.docker('stop', '-t', String(4 * PATIENCE), 'w2');
  await eventually('the stop is under way', async () =>
    /Next: a stop signal was sent; SIGKILL follows at \d{4}-/.test((await why('w2')).stdout),
  );
  await stopping;
  const stopped = await story('w2');
  assert.match(
    stopped.at(-3)!,
    /^stop \(SIGUSR1, SIGKILL at .*\) by POST .*\/containers\/w2\/stop\?t=\d+|^stop \(SIGUSR1, SIGKILL at .*\) by POST/,
  );
  assert.equal(stopped.at(-2), 'it did not stop in time: SIGKILL');
  assert.match(stopped.at(-1)!, /^ended with code 137 by SIGKILL after .*; it stays down: a stop was asked for$/);
});

test('why: out of memory, with the limit and the most that was used', async () => {
  await d.docker('run', '--name', 'oom', '--memory', '16m', 'bb:1', 'sh', '-c', 'tail /dev/zero');
  const lines = await story('oom');
  assert(
    lines.some((line) => /^out of memory: the kernel killed a process; limit 16 MiB, used at most 16 MiB$/.test(line)),
    lines.join('\n'),
  );
  assert(
    lines.some((line) => /^ended with code 137 .*out of memory/.test(line)),
    lines.join('\n'),
  );
});

test('why: health checks, pause, a signal that is no stop', async () => {
  await d.ok(
    'run',
    '-d',
    '--name',
    'he',
    '--health-cmd',
    'echo all bad; exit 3',
    '--health-interval',
    '100ms',
    '--health-retries',
    '2',
    'bb:1',
    'sh',
    '-c',
    'trap "" HUP; while :; do sleep 0.2; done',
  );
  await eventually('it is unhealthy', async () => (await d.inspect('he', '{{.State.Health.Status}}')) === 'unhealthy');
  await d.ok('kill', '-s', 'HUP', 'he');
  await d.ok('pause', 'he');
  await d.ok('unpause', 'he');
  const lines = await story('he');
  assert(
    lines.includes('unhealthy: the health check failed 2 times in a row, last with code 3: all bad'),
    lines.join('\n'),
  );
  assert.match(lines.at(-5)!, /^kill \(SIGHUP\) by POST/);
  assert.deepEqual(
    lines.slice(-4).map((line) => line.split(' ')[0]),
    ['pause', 'paused', 'unpause', 'resumed'],
  );
});

test('why: a container that is gone is remembered, by name and ID; over HTTP with and without a version', async () => {
  await d.ok('run', '--rm', '--name', 'gone', 'bb:1', 'true');
  await eventually('it is removed', async () => (await d.docker('inspect', 'gone')).code === 1);
  assert.equal((await story('gone')).at(-1), 'removed');
  const { status, json } = await d.api('GET', '/containers/gone/why');
  assert.equal(status, 200);
  assert.equal(json.Status, 'removed');
  const versioned = await d.api('GET', `/v1.45/containers/${json.Id.slice(0, 12)}/why`);
  assert.deepEqual(versioned.json, json);
  const ended = json.Entries.find(({ Kind }: { Kind: string }) => Kind === 'ended');
  assert.deepEqual([ended.From, ended.Facts.Code, ended.Facts.Decision], ['running', 0, { Kind: 'remove' }]);
  assert.deepEqual((await d.api('GET', '/containers/never/why')).json, { message: 'No such container: never' });
  const { code, stderr } = await why('never');
  assert.deepEqual([code, stderr], [1, 'longshore: No such container: never\n']);
  assert.deepEqual(JSON.parse((await why('--json', 'gone')).stdout), json);
  const removed = await d.docker('run', '--rm', 'bb:1', '/no/such');
  assert.equal(removed.stderr.match(/no such file or directory/g)?.length, 1, removed.stderr);
});

test('why: what happened while the daemon was away, and who decided', async () => {
  const script = 'until [ -e /go ]; do sleep 0.1; done; rm /go; exit 9';
  await d.ok('run', '-d', '--name', 'away', '--restart', 'always', 'bb:1', 'sh', '-c', script);
  await d.ok('run', '-d', '--name', 'stays', 'bb:1', 'sleep', '600');
  const pid = await d.inspect('away', '{{.State.Pid}}');
  await d.down('SIGKILL');
  writeFileSync(`/proc/${pid}/root/go`, '');
  await eventually('its end', () => !existsSync(`/proc/${pid}`));
  await d.up();
  const lines = await story('away');
  assert.equal(lines[3], 'the daemon came up: it has ended meanwhile');
  assert.match(
    lines[4]!,
    /^ended with code 9 after [^(]+ \(pid \d+\); the policy restarts it in 100 ms \(attempt 1\)$/,
  );
  assert.equal((await story('stays')).at(-1), 'the daemon came up: it runs on');
  const sequences = (await d.api('GET', '/containers/away/why')).json.Entries.map(
    ({ Sequence }: { Sequence: number }) => Sequence,
  );
  assert.deepEqual(
    sequences,
    sequences.toSorted((a: number, b: number) => a - b),
  );
});
