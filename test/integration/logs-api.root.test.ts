/** GET /containers/{id}/logs as dockerd answers it, word for word: compared with a real one when this was written. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { after, before, test } from 'node:test';

import { eventually, TestDaemon } from '../support/daemon.ts';

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

type Frame = readonly [stream: number, text: string];

interface Log {
  readonly status: number;
  readonly type: string;
  readonly frames: readonly Frame[];
  readonly message: string;
}

function demux(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  let at = 0;
  while (at + 8 <= bytes.length) {
    const end = at + 8 + bytes.readUInt32BE(at + 4);
    frames.push([bytes[at]!, bytes.toString('utf8', at + 8, end)]);
    at = end;
  }
  assert.equal(at, bytes.length, 'whole frames');
  return frames;
}

function open(
  path: string,
  onData: (bytes: Buffer) => void = () => {},
): { readonly ended: Promise<Log>; readonly destroy: () => void } {
  const { promise, resolve, reject } = Promise.withResolvers<Log>();
  const sending = request({ socketPath: d.socket, path }, (answer) => {
    const chunks: Buffer[] = [];
    answer.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      onData(chunk);
    });
    const finish = (): void => {
      const bytes = Buffer.concat(chunks);
      const isOk = answer.statusCode === 200;
      resolve({
        status: answer.statusCode!,
        type: answer.headers['content-type'] ?? '',
        frames: isOk && answer.headers['content-type'] !== RAW ? demux(bytes) : [],
        message: isOk ? bytes.toString() : (JSON.parse(bytes.toString()) as { message: string }).message,
      });
    };
    answer.once('end', finish);
    answer.once('error', finish); // the daemon went
  });
  sending.once('error', reject);
  sending.end();
  return { ended: promise, destroy: () => sending.destroy() };
}

const RAW = 'application/vnd.docker.raw-stream';
const MULTIPLEXED = 'application/vnd.docker.multiplexed-stream';
const BOTH = 'stdout=1&stderr=1';
const logs = (ref: string, query: string): Promise<Log> => open(`/containers/${ref}/logs?${query}`).ended;

const LINES: readonly Frame[] = [[1, 'o1\n'], [2, 'e1\n'], [1, 'o2\n'], [1, 'end']]; // prettier-ignore
const SCRIPT = 'echo o1; sleep 0.1; echo e1 >&2; sleep 0.1; echo o2; printf end';

test('logs: what is refused, with dockerd’s status and words', async () => {
  const id = await d.ok('run', '-d', 'bb:1', 'true');
  await d.ok('wait', id);
  const none = await d.ok('run', '-d', '--log-driver', 'none', 'bb:1', 'true');
  const table: [string, string, number, string][] = [
    [id, '', 400, 'Bad parameters: you must choose at least one stream'],
    [id, 'stdout=0&stderr=false', 400, 'Bad parameters: you must choose at least one stream'],
    ['nope', '', 400, 'Bad parameters: you must choose at least one stream'],
    ['nope', BOTH, 404, 'No such container: nope'],
    [none, BOTH, 501, 'configured logging driver does not support reading'],
    [id, `${BOTH}&since=soon`, 500, 'strconv.ParseInt: parsing "soon": invalid syntax'],
    [id, `${BOTH}&until=1.x`, 500, 'strconv.ParseInt: parsing "x": invalid syntax'],
    [id, `${BOTH}&since=.5`, 500, 'strconv.ParseInt: parsing "": invalid syntax'],
  ];
  for (const [ref, query, status, message] of table) {
    const answer = await logs(ref, query);
    assert.deepEqual([answer.status, answer.message], [status, message], `${ref} ${query}`);
  }
  await d.ok('rm', id, none);
});

test('logs: streams, tails and times in each form', async () => {
  const id = await d.ok('run', '-d', 'bb:1', 'sh', '-c', SCRIPT);
  await d.ok('wait', id);
  const stamped = await logs(id, `${BOTH}&timestamps=1`);
  const times = stamped.frames.map(([, text]) => /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) /.exec(text)![1]!);
  const unix = (time: string): string => `${Date.parse(`${time.slice(0, 19)}Z`) / 1000}.${time.slice(20, 29)}`;
  const [o1, e1, o2, end] = LINES as [Frame, Frame, Frame, Frame];
  const second = times[1]!;
  const table: [string, readonly Frame[]][] = [
    [BOTH, LINES],
    ['stdout=1', [o1, o2, end]],
    ['stderr=True', [e1]],
    ['stdout=yes&stderr=none', [o1, o2, end]],
    [`${BOTH}&follow=1`, LINES],
    [`${BOTH}&tail=all`, LINES],
    [`${BOTH}&tail=`, LINES],
    [`${BOTH}&tail=abc`, LINES],
    [`${BOTH}&tail=-1`, LINES],
    [`${BOTH}&tail=1.5`, LINES],
    [`${BOTH}&tail=99999999999999999999`, LINES],
    [`${BOTH}&tail=0`, []],
    [`${BOTH}&tail=%2B2`, [o2, end]],
    ['stderr=1&tail=2', []], // lines are counted before streams are chosen
    ['stderr=1&tail=3', [e1]],
    [`${BOTH}&since=0&until=0`, LINES],
    [`${BOTH}&since=${unix(second)}`, [e1, o2, end]],
    [`${BOTH}&until=${unix(second)}`, [o1, e1]],
    [`${BOTH}&since=${unix(second)}&until=${unix(second)}`, [e1]],
    [`${BOTH}&since=${second}`, [e1, o2, end]],
    [`${BOTH}&since=${second.replace('Z', '%2B00:00')}`, [e1, o2, end]],
    [`${BOTH}&since=1h&until=1ms`, LINES],
    [`${BOTH}&since=${unix(second)}&tail=1`, [end]],
    [`${BOTH}&since=9999999999`, []],
    [`${BOTH}&until=-1`, []],
  ];
  for (const [query, expected] of table) {
    const { status, frames, type } = await logs(id, query);
    assert.deepEqual([status, type, frames], [200, MULTIPLEXED, expected], query);
  }
  const old = await open(`/v1.41/containers/${id}/logs?${BOTH}`).ended;
  assert.equal(old.type, RAW);
  await d.ok('rm', id);
});

test('logs: details, a terminal’s log, and of what never ran', async () => {
  const { json } = await d.api('POST', '/containers/create', {
    Image: 'bb:1',
    Cmd: ['echo', 'x'],
    Env: ['X=1', 'Y=a=b', 'Z=no'],
    Labels: { a: 'b', c: 'd e&', z: 'no' },
    HostConfig: { LogConfig: { Type: 'json-file', Config: { labels: 'a,c', env: 'X,Y', tag: '{{.Name}}/{{.ID}}' } } },
  });
  const id = json.Id as string;
  assert.deepEqual((await logs(id, `${BOTH}&follow=1`)).frames, [], 'never started: nothing, and no waiting');
  assert.equal(await d.inspect(id, '{{.LogPath}}'), '');
  await d.ok('start', '-a', id);
  const name = (await d.inspect(id, '{{.Name}}')).slice(1);
  const details = `X=1,Y=a%3Db,a=b,c=d+e%26,tag=${name}%2F${id.slice(0, 12)}`;
  assert.deepEqual((await logs(id, `${BOTH}&details=1`)).frames, [[1, `${details} x\n`]]);
  const both = (await logs(id, `${BOTH}&details=1&timestamps=1`)).frames[0]?.[1] ?? '';
  assert.match(both, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z X=1,/);
  const file = readFileSync(await d.inspect(id, '{{.LogPath}}'), 'utf8');
  assert.equal(
    file.replace(/"time":"[^"]+"/, '"time":"T"'),
    `{"log":"x\\n","stream":"stdout","attrs":{"X":"1","Y":"a=b","a":"b","c":"d e\\u0026","tag":"${name}/${id.slice(0, 12)}"},"time":"T"}\n`,
  );
  const tty = await d.ok('run', '-dt', 'bb:1', 'sh', '-c', SCRIPT);
  await d.ok('wait', tty);
  const raw = await logs(tty, BOTH);
  assert.deepEqual([raw.type, raw.message], [RAW, 'o1\r\ne1\r\no2\r\nend']);
  await d.ok('rm', id, tty);
});

test('logs: follow ends with the run, also by a restart; since in the future waits; until ends it', async () => {
  const script = 'trap "echo bye; exit 0" TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done';
  const id = await d.ok('run', '-d', 'bb:1', 'sh', '-c', script);
  const nowS = Date.now() / 1000;
  const bounded = logs(id, `${BOTH}&follow=1&until=${nowS + 1}`);
  const late = logs(id, `${BOTH}&follow=1&timestamps=1&since=${nowS + 1}`);
  const followed = logs(id, `${BOTH}&follow=1&tail=0`);
  const ofBounded = (await bounded).frames;
  assert(ofBounded.length >= 5 && Number(ofBounded.at(-1)?.[1]) < 30, 'until ends it while the container runs');
  await d.ok('restart', id);
  const frames = (await followed).frames;
  assert.equal(frames.at(-1)?.[1], 'bye\n');
  const first = (await late).frames[0]?.[1] ?? '';
  assert(Date.parse(first.slice(0, 23).concat('Z')) / 1000 >= nowS + 0.999, first);
  assert.equal(await d.inspect(id, '{{.State.Running}}'), 'true');
  await d.ok('rm', '-f', id);
});

test('logs: a daemon that restarts under a follower: the next follower gets each line once', async () => {
  const id = await d.ok(
    'run',
    '-d',
    'bb:1',
    'sh',
    '-c',
    'i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.1; done',
  );
  let bytes = 0;
  const before = open(`/containers/${id}/logs?${BOTH}&follow=1&timestamps=1`, (chunk) => (bytes += chunk.length));
  await eventually('some lines', () => bytes > 300);
  await d.down('SIGKILL');
  const seen = (await before.ended).frames.map(([, text]) => text.trimEnd().split(' ') as [string, string]);
  await d.up();
  const [lastTime = ''] = seen.at(-1) ?? [];
  const since = `${Date.parse(`${lastTime.slice(0, 19)}Z`) / 1000}.${lastTime.slice(20, 29)}`;
  const rest = await logs(id, `${BOTH}&follow=1&since=${since}`);
  const all = [...seen.slice(0, -1).map(([, text]) => text), ...rest.frames.map(([, text]) => text.trimEnd())];
  assert.deepEqual(
    all,
    Array.from({ length: 60 }, (_, i) => String(i)),
  );
  await d.ok('rm', id);
});
