/** Events as clients rely on them: order, attributes, exact over restarts of the daemon, complete for slow readers. */
import assert from 'node:assert/strict';
import { request, type IncomingMessage } from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, TestDaemon } from '../support/daemon.ts';

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

const told = async (since: number, name: string) =>
  (await d.events(since, { container: [name], type: ['container'] })).map(
    ({ Action, Actor }) => [Action, Actor.Attributes] as const,
  );

test('events: out of memory is told when it happens, before the end; also of a child that the container outlives', async () => {
  const since = Date.now();
  assert.equal(
    (await d.docker('run', '--name', 'oom', '--memory', '16m', '--label', 'l=1', 'bb:1', 'tail', '/dev/zero')).code,
    137,
  );
  const events = await told(since, 'oom');
  assert.deepEqual(
    events.map(([action]) => action),
    ['create', 'attach', 'start', 'oom', 'die'],
  );
  assert.deepEqual(events[3]![1], { image: 'bb:1', l: '1', name: 'oom' });
  const { execDuration, ...die } = events[4]![1];
  assert.deepEqual(die, { exitCode: '137', image: 'bb:1', l: '1', name: 'oom' });
  assert.match(execDuration!, /^\d+$/);
  assert.equal(await d.inspect('oom', '{{.State.OOMKilled}}'), 'true');

  await d.ok('run', '-d', '--name', 'parent', '--memory', '16m', 'bb:1', 'sh', '-c', 'tail /dev/zero; sleep 600');
  await eventually('it is told', async () => (await told(since, 'parent')).some(([action]) => action === 'oom'));
  assert.equal(await d.inspect('parent', '{{.State.Running}} {{.State.OOMKilled}}'), 'true true');
});

test('events: a forced removal is kill, die, destroy; execs carry their command, ID and code', async () => {
  const since = Date.now();
  await d.ok('run', '-d', '--name', 'ex', 'bb:1', 'sleep', '600');
  assert.equal((await d.docker('exec', 'ex', 'sh', '-c', 'exit 3')).code, 3);
  await eventually('its end is told', async () => (await told(since, 'ex')).some(([action]) => action === 'exec_die'));
  await d.ok('rm', '-f', 'ex');
  const events = await told(since, 'ex');
  assert.deepEqual(
    events.map(([action]) => action),
    ['create', 'start', 'exec_create: sh -c exit 3', 'exec_start: sh -c exit 3', 'exec_die', 'kill', 'die', 'destroy'],
  );
  const [, , create, start, die, kill, ended] = events.map(([, attributes]) => attributes);
  assert.match(create!['execID']!, /^[0-9a-f]{64}$/);
  assert.deepEqual([start!['execID'], die!['execID'], die!['exitCode']], [create!['execID'], create!['execID'], '3']);
  assert.deepEqual([kill!['signal'], ended!['exitCode']], ['9', '137']);
});

test('events: mounts before networks before start; networks and mounts before die before stop, as dockerd 28', async () => {
  const since = Date.now();
  await d.ok('network', 'create', 'order-net');
  await d.ok('run', '-d', '--name', 'order', '--network', 'order-net', '-v', 'order-vol:/v', 'bb:1', 'sleep', '600');
  await d.ok('stop', '-s', 'KILL', 'order');
  await d.ok('start', 'order');
  await d.ok('rm', '-f', 'order');
  await d.ok('network', 'rm', 'order-net');
  const events = await d.events(since, { type: ['container', 'network', 'volume'] });
  const ours = events.filter(({ Actor: { ID, Attributes } }) => (Attributes['name'] ?? ID).startsWith('order'));
  const up = ['volume mount', 'network connect', 'container start', 'container kill'];
  const down = ['network disconnect', 'volume unmount', 'container die'];
  assert.deepEqual(
    ours.map(({ Type, Action }) => `${Type} ${Action}`),
    ['network create', 'volume create', 'container create'].concat(
      up,
      down,
      'container stop',
      up,
      down,
      'container destroy',
      'network destroy',
    ),
  );
});

test('events: since and until are exact to the nanosecond, the same after the daemon was killed, and nothing is told twice', async () => {
  await d.ok('run', '-d', '--name', 'ex2', 'bb:1', 'sh', '-c', 'sleep 1; exit 5');
  for (let n = 0; n < 5; n++) await d.ok('volume', 'create', `v${n}`);
  const all = async (query: string) =>
    (await d.api('GET', `/events?${query}`)).text.split('\n').filter((line) => line !== '');
  const now = () => String(Date.now() / 1000 + 1);
  const before = await all(`since=1&until=${now()}`);
  await d.down('SIGKILL');
  await sleep(1_500);
  await d.up();
  const after = await all(`since=1&until=${now()}`);
  assert.deepEqual(after.slice(0, before.length), before, 'the past is what it was');
  const timeOf = (line: string) => BigInt(/"timeNano":(\d+)/.exec(line)![1]!);
  const times = after.map(timeOf);
  assert(
    times.every((time, index) => index === 0 || time > times[index - 1]!),
    'their times grow',
  );
  const deaths = after.filter((line) => line.includes('"Action":"die"') && line.includes('"name":"ex2"'));
  assert.equal(deaths.length, 1);
  assert.match(deaths[0]!, /"exitCode":"5"/);
  const at = (time: bigint) => `${time / 1_000_000_000n}.${String(time % 1_000_000_000n).padStart(9, '0')}`;
  const [from, to] = [before.length - 4, before.length - 2];
  assert.deepEqual(
    await all(`since=${at(times[from]!)}&until=${at(times[to]!)}`),
    after.slice(from, to + 1),
    'both ends are in it',
  );
  assert.deepEqual(await all(`since=${at(times[from]! + 1n)}&until=${at(times[to]! - 1n)}`), after.slice(from + 1, to));
});

test('events: a reader that does not read for a while loses none, and costs the daemon nothing', async () => {
  const since = String(Date.now() / 1000);
  const reader = await new Promise<IncomingMessage>((resolve, reject) => {
    const sending = request(
      { socketPath: d.socket, path: `/events?since=${since}&filters=${encodeURIComponent('{"type":["volume"]}')}` },
      (answer) => resolve(answer.pause()),
    );
    sending.once('error', reject);
    sending.end();
  });
  const label = 'x'.repeat(1_000);
  const COUNT = 1_000;
  for (let n = 0; n < COUNT; n += 20) {
    await Promise.all(
      Array.from({ length: 20 }, async (_, k) => {
        const name = `slow${n + k}`;
        assert.equal((await d.api('POST', '/volumes/create', { Name: name, Labels: { label } })).status, 201);
        assert.equal((await d.api('DELETE', `/volumes/${name}`)).status, 204);
      }),
    );
  }
  let text = '';
  reader.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  reader.resume();
  const lines = () => text.split('\n').filter((line) => line.endsWith('}'));
  await eventually('all have come', () => lines().length >= 2 * COUNT, 20_000);
  const seen = lines().map((line) => {
    const { Action, Actor } = JSON.parse(line) as { Action: string; Actor: { ID: string } };
    return `${Action} ${Actor.ID}`;
  });
  assert.equal(seen.length, 2 * COUNT, 'none came twice');
  assert.deepEqual(
    new Set(seen),
    new Set(Array.from({ length: COUNT }, (_, n) => [`create slow${n}`, `destroy slow${n}`]).flat()),
  );
  reader.destroy();
});
