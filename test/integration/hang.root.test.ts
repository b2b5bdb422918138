/** What hangs holds up nothing but itself: reads are answered while a stop, a log reader and an attach do not move. */
import assert from 'node:assert/strict';
import { request, type IncomingMessage } from 'node:http';
import { test } from 'node:test';

import { eventually, TestDaemon } from '../support/daemon.ts';

const ROUNDS = 20;
/** What an answer may take; the slowest of a round may be held up by a host that is busy with other tests. */
const ANSWER_MS = 100;
const ANSWER_MS_WORST = 2_000;

/** Opens a stream and never reads from it. */
function stall(d: TestDaemon, method: string, path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const sending = request({ socketPath: d.socket, method, path }, (answer) => {
      answer.pause();
      resolve(answer);
    });
    sending.once('error', reject);
    sending.end();
  });
}

test('ps, inspect, events: answer within 100 ms while a stop hangs and a log reader, an attach and an events reader are stalled', async (t) => {
  await using d = await TestDaemon.start();
  await d.image();
  await d.ok('run', '-d', '--name', 'deaf', 'bb:1', 'sh', '-c', 'trap "" TERM; while :; do sleep 1; done');
  // Writes until everything between it and its readers is full, then slowly.
  await d.ok(
    'run',
    '-d',
    '--name',
    'loud',
    'bb:1',
    'sh',
    '-c',
    'head -c 8000000 /dev/zero | tr "\\0" "x" | fold -w 100; while :; do echo more; sleep 0.05; done',
  );
  await eventually(
    'it is loud',
    async () => (await d.api('GET', '/containers/loud/logs?stdout=1&tail=1')).text.length > 8,
  );
  const stalled = [
    await stall(d, 'GET', '/containers/loud/logs?stdout=1&follow=1'),
    await stall(d, 'POST', '/containers/loud/attach?stdout=1&stream=1&logs=1'),
    await stall(d, 'GET', '/events?since=1'),
  ];
  const stopping = d.api('POST', '/containers/deaf/stop?t=600');
  await eventually('the stop has begun', async () =>
    /SIGKILL follows/.test((await d.api('GET', '/containers/deaf/why')).text),
  );

  const reads = {
    ps: '/containers/json?all=1',
    inspect: '/containers/deaf/json',
    'inspect loud': '/containers/loud/json',
    events: '/events?since=1&until=2',
    top: '/containers/deaf/top',
  };
  for (const [what, path] of Object.entries(reads)) {
    const tookMs: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const began = performance.now();
      assert.equal((await d.api('GET', path)).status, 200, what);
      tookMs.push(performance.now() - began);
    }
    tookMs.sort((a, b) => a - b);
    const [median, worst] = [tookMs[ROUNDS / 2]!, tookMs.at(-1)!];
    t.diagnostic(`${what}: ${median.toFixed(1)} ms, at most ${worst.toFixed(1)} ms`);
    assert(
      median < ANSWER_MS && worst < ANSWER_MS_WORST,
      `${what} took ${tookMs.map((ms) => ms.toFixed(0)).join(' ')} ms`,
    );
  }
  // Others live on, too: a whole life of another container beside it, and the loud one can be stopped.
  assert.equal(await d.ok('run', '--rm', 'bb:1', 'echo', 'alive'), 'alive');
  await d.ok('stop', '-t', '0', 'loud');
  for (const stream of stalled) stream.destroy();
  await d.ok('kill', 'deaf');
  assert.equal((await stopping).status, 204);
});
