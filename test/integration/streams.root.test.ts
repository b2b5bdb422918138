/** attach, exec and logs as clients use them, on a real kernel: by the API itself, both hijack forms, and the real CLI. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, test } from 'node:test';

import { WebSocket } from 'ws';

import { eventually, run, TestDaemon } from '../support/daemon.ts';
import { Hijacked } from '../support/hijacked.ts';

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

const create = async (config: object): Promise<string> => {
  const { status, json, text } = await d.api('POST', '/containers/create', { Image: 'bb:1', ...config });
  assert.equal(status, 201, text);
  return json.Id as string;
};
const start = async (id: string): Promise<void> =>
  assert.equal((await d.api('POST', `/containers/${id}/start`)).status, 204);
const exec = async (id: string, config: object): Promise<string> => {
  const { status, json, text } = await d.api('POST', `/containers/${id}/exec`, {
    AttachStdout: true,
    AttachStderr: true,
    ...config,
  });
  assert.equal(status, 201, text);
  return json.Id as string;
};
const STREAMS = 'stream=1&stdin=1&stdout=1&stderr=1';

for (const form of ['upgrade', 'plain'] as const) {
  test(`attach (${form}): before the start, first byte, both outputs, half-closed stdin`, async () => {
    const id = await create({
      Cmd: ['sh', '-c', 'echo first; echo bad >&2; cat; echo end'],
      OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
    }); // prettier-ignore
    const client = await Hijacked.open(d, `/containers/${id}/attach?${STREAMS}`, null, form);
    assert.equal(client.status, form === 'upgrade' ? 101 : 200, client.head);
    // moby names the framing only where the client upgrades.
    const framing = form === 'upgrade' ? 'multiplexed-stream' : 'raw-stream';
    assert.match(client.head, new RegExp(`content-type: application/vnd\\.docker\\.${framing}`, 'i'));
    await start(id);
    client.socket.end('typed\n');
    await client.end();
    assert.deepEqual(client.demuxed(), { stdout: 'first\ntyped\nend\n', stderr: 'bad\n' });
    await d.ok('rm', '-f', id);
  });

  test(`exec (${form}): stdin sent with the request, output, exit code`, async () => {
    const id = await d.ok('run', '-d', 'bb:1', 'sleep', '1000');
    const execId = await exec(id, {
      AttachStdin: true,
      Cmd: ['sh', '-c', 'read x; echo "got $x"; echo no >&2; exit 7'],
    });
    const client = await Hijacked.open(d, `/exec/${execId}/start`, { Detach: false, Tty: false }, form, {
      early: form === 'upgrade' ? 'abc\n' : '',
    });
    if (form === 'plain') client.socket.write('abc\n');
    await client.end();
    assert.deepEqual(client.demuxed(), { stdout: 'got abc\n', stderr: 'no\n' });
    const { json } = await d.api('GET', `/exec/${execId}/json`);
    assert.deepEqual([json.Running, json.ExitCode, json.ProcessConfig.entrypoint], [false, 7, 'sh']);
    await d.ok('rm', '-f', id);
  });
}

test('attach: detach keys, the default and own ones, leave the container running and are an event', async () => {
  for (const [keys, query] of [
    ['\x10\x11', ''],
    ['ab', '&detachKeys=a,b'],
  ] as const) {
    const sinceMs = Date.now();
    const id = await create({ Cmd: ['cat'], Tty: true, OpenStdin: true });
    await start(id);
    const client = await Hijacked.open(d, `/containers/${id}/attach?${STREAMS}${query}`, null, 'upgrade');
    assert.match(client.head, /application\/vnd\.docker\.raw-stream/i);
    client.socket.write('hey\r');
    await client.until(() => client.raw.includes('hey'));
    client.socket.write(keys);
    await client.end();
    assert.equal(await d.inspect(id, '{{.State.Running}}'), 'true');
    const actions = (await d.events(sinceMs, { container: [id] })).map(({ Action }) => Action);
    assert.deepEqual(actions, ['create', 'start', 'attach', 'detach'], `keys ${JSON.stringify(keys)}`);

    const execSinceMs = Date.now();
    const execId = await exec(id, {
      Cmd: ['cat'],
      AttachStdin: true,
      Tty: true,
      ...(query !== '' && { DetachKeys: 'a,b' }),
    });
    const inside = await Hijacked.open(d, `/exec/${execId}/start`, { Tty: true }, 'upgrade');
    inside.socket.write(keys);
    await inside.end();
    assert.equal((await d.api('GET', `/exec/${execId}/json`)).json.Running, true);
    const execActions = (await d.events(execSinceMs, { container: [id] })).map(({ Action }) => Action.split(':')[0]);
    assert.deepEqual(execActions, ['exec_create', 'exec_start', 'exec_detach']);
    await d.ok('rm', '-f', id);
  }
});

test('attach: several clients at once, each gets everything; logs=1 gives what was before', async () => {
  const id = await create({ Cmd: ['sh', '-c', 'echo before; read x; echo "$x"'], OpenStdin: true });
  await start(id);
  await eventually('the first line', async () => (await d.ok('logs', id)) === 'before');
  const [a, b] = (await Promise.all(
    [0, 1].map(() => Hijacked.open(d, `/containers/${id}/attach?${STREAMS}&logs=1`, null, 'upgrade')),
  )) as [Hijacked, Hijacked];
  b.socket.write('go\n');
  await Promise.all([a.end(), b.end()]);
  for (const client of [a, b]) assert.equal(client.demuxed().stdout, 'before\ngo\n');
  await d.ok('rm', '-f', id);
});

test('attach/ws: text in, binary out, closed when the container ends', async () => {
  const id = await create({ Cmd: ['sh', '-c', 'read x; echo "ws $x"; echo e >&2'], OpenStdin: true });
  await start(id);
  const ws = new WebSocket(`ws+unix://${d.socket}:/v1.47/containers/${id}/attach/ws?${STREAMS}`);
  let text = '';
  const kinds = new Set<boolean>();
  ws.on('message', (data: Buffer, isBinary: boolean) => {
    text += data.toString();
    kinds.add(isBinary);
  });
  await new Promise((resolve, reject) => ws.once('open', resolve).once('error', reject));
  ws.send('hello\n');
  await new Promise((resolve) => ws.once('close', resolve));
  assert.deepEqual([text.split('\n').toSorted(), [...kinds]], [['', 'e', 'ws hello'], [true]]);
  await d.ok('rm', '-f', id);
});

test('exec: a terminal has the size that was asked for, from the program’s first instruction on', async () => {
  const id = await d.ok('run', '-d', 'bb:1', 'sleep', '1000');
  const execId = await exec(id, { Tty: true, Cmd: ['stty', 'size'], ConsoleSize: [33, 77] });
  const client = await Hijacked.open(d, `/exec/${execId}/start`, { Tty: true, ConsoleSize: [33, 77] }, 'upgrade');
  await client.end();
  assert.equal(client.raw.trim(), '33 77');
  await d.ok('rm', '-f', id);
});

test('exec: ends with its container, with a code; unknown programs are 126 and 127', async () => {
  const id = await d.ok('run', '-d', 'bb:1', 'sleep', '1000');
  const execId = await exec(id, { Cmd: ['sleep', '1000'] });
  const client = await Hijacked.open(d, `/exec/${execId}/start`, {}, 'upgrade');
  assert.equal((await d.docker('exec', id, 'nope')).code, 127);
  assert.equal((await d.docker('exec', id, '/etc')).code, 126);
  await d.ok('kill', id);
  await client.end();
  await eventually('the exec to be gone or over', async () => {
    const { status, json } = await d.api('GET', `/exec/${execId}/json`);
    return status === 404 || (json.Running === false && json.ExitCode === 137);
  });
  await d.ok('rm', '-f', id);
});

test('exec: four hundred at once; nothing of them is left on disk', async () => {
  const id = await d.ok('run', '-d', 'bb:1', 'sleep', '1000');
  const codes: number[] = [];
  const one = async (i: number): Promise<void> => {
    const execId = await exec(id, { Cmd: ['sh', '-c', `echo ${i}; exit ${i % 50}`] });
    const client = await Hijacked.open(d, `/exec/${execId}/start`, {}, 'upgrade');
    await client.until(() => client.isEnded, 120_000);
    assert.equal(client.demuxed().stdout, `${i}\n`);
    codes.push((await d.api('GET', `/exec/${execId}/json`)).json.ExitCode as number);
    assert.equal(codes.at(-1), i % 50);
  };
  await Promise.all(Array.from({ length: 400 }, (_, i) => one(i)));
  assert.equal(codes.length, 400);
  assert.equal((await d.api('GET', `/containers/${id}/json`)).json.ExecIDs, null);
  const state = join(d.directory, 'exec/shim', id);
  assert.deepEqual(
    readdirSync(state).filter((name) => name.startsWith('exec-')),
    [],
  );
  await d.ok('rm', '-f', id);
});

test('a daemon restart: attach again, an exec that ran is known no worse than before, and logs go on', async () => {
  const id = await create({ Cmd: ['sh', '-c', 'echo one; while read x; do echo "$x"; done'], OpenStdin: true });
  await start(id);
  const lost = await Hijacked.open(d, `/containers/${id}/attach?${STREAMS}`, null, 'upgrade');
  lost.socket.write('two\n');
  await lost.until(() => lost.demuxed().stdout.includes('two\n'));
  await d.down('SIGKILL');
  await d.up();
  const again = await Hijacked.open(d, `/containers/${id}/attach?${STREAMS}`, null, 'upgrade');
  again.socket.write('three\n');
  await again.until(() => again.demuxed().stdout === 'three\n');
  assert.equal(await d.ok('logs', id), 'one\ntwo\nthree');
  again.socket.destroy();
  await d.ok('rm', '-f', id);
});

test('a daemon that was killed: execs that ran are known again, with pid, exit code and events', async () => {
  const sinceMs = Date.now();
  const id = await d.ok('run', '-d', 'bb:1', 'sleep', '1000');
  const started = async (cmd: string[], more: object = {}): Promise<string> => {
    const execId = await exec(id, { Cmd: cmd, ...more });
    assert.equal((await d.api('POST', `/exec/${execId}/start`, { Detach: true })).status, 200);
    return execId;
  };
  const inspect = async (execId: string): Promise<Record<string, unknown>> =>
    (await d.api('GET', `/exec/${execId}/json`)).json;
  const over = await started(['true']);
  await eventually('the end of the first', async () => (await inspect(over))['Running'] === false);
  const ending = await started(['sh', '-c', 'while [ ! -e /go ]; do sleep 0.05; done; exit 9']);
  const lasting = await started(['sh', '-c', 'sleep 1000; exit 4'], { User: '1000', Env: ['A=b'], WorkingDir: '/tmp' });
  const before = await inspect(lasting);
  const ended = (await inspect(ending))['Pid'] as number;
  assert.ok((before['Pid'] as number) > 1);
  await d.down('SIGKILL');
  writeFileSync(`/proc/${before['Pid'] as number}/root/go`, '');
  await eventually('the end of one', () => !existsSync(`/proc/${ended}`));
  await d.up();
  assert.deepEqual(await inspect(lasting), before);
  const { Running, ExitCode, ProcessConfig } = (await inspect(ending)) as Record<string, any>; // oxlint-disable-line typescript/no-explicit-any
  assert.deepEqual([Running, ExitCode, ProcessConfig.entrypoint], [false, 9, 'sh']);
  assert.deepEqual((await d.api('GET', `/containers/${id}/json`)).json.ExecIDs, [lasting]);
  assert.equal((await d.api('POST', `/exec/${lasting}/resize?h=1&w=1`)).status, 200);
  process.kill(before['Pid'] as number, 'SIGTERM');
  await eventually('the end of the last', async () => (await inspect(lasting))['Running'] === false);
  assert.equal((await inspect(lasting))['ExitCode'], 143);
  const dead = (await d.events(sinceMs, { container: [id] })).filter(({ Action }) => Action === 'exec_die');
  assert.deepEqual(
    dead.map(({ Actor: { Attributes } }) => [Attributes['execID'], Attributes['exitCode']]),
    [[over, '0'], [ending, '9'], [lasting, '143']],
  ); // prettier-ignore
  assert.deepEqual(
    readdirSync(join(d.directory, 'exec/shim', id)).filter((name) => name.startsWith('exec-')),
    [],
  );
  await d.ok('rm', '-f', id);
});

test('logs --follow: ends when the container ends, and at once while it waits for its restart', async () => {
  const id = await d.ok('run', '-d', '--restart', 'always', 'bb:1', 'sh', '-c', 'echo hi; sleep 0.5; exit 1');
  const { code, stdout } = await d.dockerWith({ timeoutMs: 20_000 }, 'logs', '--follow', id);
  assert.equal(code, 0);
  assert.match(stdout, /^(hi\n)+$/);
  // After some restarts the wait is long enough to be met.
  await eventually('a long wait', async () => Number(await d.inspect(id, '{{.RestartCount}}')) >= 4, 40_000);
  await eventually('waiting', async () => (await d.inspect(id, '{{.State.Status}}')) === 'restarting', 20_000);
  const waiting = await d.dockerWith({ timeoutMs: 20_000 }, 'logs', '--follow', id);
  assert.equal(waiting.code, 0);
  await d.ok('rm', '-f', id);
});

test('logs: since, until and tail over rotated and compressed files', async () => {
  const script =
    'for i in $(seq 1 600); do echo "line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"; if [ $i = 300 ]; then sleep 1.2; date -u +%s.%N >&2; sleep 1.2; fi; done';
  for (const compress of ['false', 'true']) {
    const id = await d.ok(
      'run',
      '-d',
      '--log-opt',
      'max-size=20k',
      '--log-opt',
      'max-file=9',
      '--log-opt',
      `compress=${compress}`,
      'bb:1',
      'sh',
      '-c',
      script,
    );
    await d.ok('wait', id);
    const path = await d.inspect(id, '{{.LogPath}}');
    const files = readdirSync(join(path, '..')).filter((name) => name.includes('-json.log.'));
    assert(files.length >= 3, files.join());
    if (compress === 'true')
      assert(
        files.some((name) => name.endsWith('.gz')),
        files.join(),
      );
    const { stdout: all, stderr: mark } = await d.docker('logs', id);
    assert.deepEqual(
      all
        .trim()
        .split('\n')
        .map((line) => Number(line.split(' ')[1])),
      Array.from({ length: 600 }, (_, i) => i + 1),
    );
    const at = mark.trim();
    const lines = async (...argv: string[]): Promise<number[]> =>
      (await d.docker('logs', ...argv, id)).stdout
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => Number(line.split(' ')[1]));
    const wholeS = at.split('.')[0] as string;
    assert.deepEqual([(await lines('--since', wholeS)).length, (await lines('--until', wholeS)).length], [300, 300]);
    assert.deepEqual((await lines('--since', new Date(Number(wholeS) * 1000).toISOString()))[0], 301);
    assert.deepEqual(await lines('--tail', '3'), [598, 599, 600]);
    assert.deepEqual(
      (await lines('--tail', '450', '--until', wholeS)).length,
      150 - 1,
      'the mark is one of the last 450',
    );
    assert.deepEqual((await lines('--tail', '0')).length, 0);
    assert.deepEqual((await lines('--since', '1h')).length, 600);
    await d.ok('rm', '-f', id);
  }
});

/** Where lines that are to be 1, 2, 3 … are not. */
function gaps(text: string): string {
  const numbers = text.trim().split('\n').map(Number);
  const found = numbers.flatMap((n, i) =>
    n === (numbers[i - 1] ?? 0) + 1 ? [] : [`${n} after ${numbers[i - 1] ?? 0}`],
  );
  return `${numbers.length} lines: ${[...found, `the last is ${numbers.at(-1)}`].join(', ')}`;
}

test('logs --follow: every line once, in order, while files rotate and are packed under it', async () => {
  const lines = 15_000;
  const options = ['--log-opt', 'max-size=64k', '--log-opt', 'max-file=60', '--log-opt', 'compress=true'];
  // It lives until files have been packed: at its end what is not stays as it is.
  const script = `sleep 1; i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo $i; done; until [ -e /packed ]; do sleep 0.1; done`;
  const id = await d.ok('run', '-d', ...options, 'bb:1', 'sh', '-c', script);
  const follower = d.dockerWith({ timeoutMs: 120_000 }, 'logs', '--follow', id);
  const directory = join(await d.inspect(id, '{{.LogPath}}'), '..');
  const files = (): string[] => readdirSync(directory).filter((name) => name.includes('-json.log'));
  await eventually('a rotated file is packed', () => files().some((name) => name.endsWith('.gz')), 60_000);
  await d.ok('exec', id, 'touch', '/packed');
  const followed = await follower;
  const { stdout } = await d.docker('logs', id);
  const expected = `${Array.from({ length: lines }, (_, i) => i + 1).join('\n')}\n`;
  assert(stdout === expected, `read, ${gaps(stdout)}`);
  assert(followed.stdout === expected, `followed, ${gaps(followed.stdout)}, code ${followed.code}: ${followed.stderr}`);
  assert(!files().some((name) => name.endsWith('.tmp')), files().join());
  await d.ok('rm', '-f', id);
});

test('logs: long lines, no newline at the end, binary, timestamps and details', async () => {
  const id = await d.ok(
    'run', '-d', '--label', 'a=b', '--log-opt', 'labels=a', 'bb:1', 'sh', '-c',
    'head -c 40000 /dev/zero | tr "\\0" x; echo; printf "\\001\\377\\000z"; printf "\\nlast"',
  ); // prettier-ignore
  await d.ok('wait', id);
  const { stdout } = await d.docker('logs', id);
  const [long, binary, last] = stdout.split('\n');
  assert.deepEqual([long?.length, last], [40_000, 'last']);
  assert.equal(binary?.at(-1), 'z');
  const detailed = await d.docker('logs', '--timestamps', '--details', '--tail', '1', id);
  assert.match(detailed.stdout, /^\d{4}-\d\d-\d\dT[\d:.]+Z a=b last\n?$/);
  const entries = readFileSync(await d.inspect(id, '{{.LogPath}}'), 'utf8')
    .trim()
    .split('\n');
  assert.equal(entries.length, 5, 'three pieces of a long line, and two');
  await d.ok('rm', '-f', id);
});

test('a client that does not read holds up neither the container’s log nor another client', async () => {
  const id = await create({
    Cmd: ['sh', '-c', 'i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero | tr "\\0" y; echo; i=$((i+1)); done'],
  });
  const stalled = await Hijacked.open(d, `/containers/${id}/attach?${STREAMS}`, null, 'upgrade');
  stalled.socket.pause();
  const reading = await Hijacked.open(d, `/containers/${id}/attach?${STREAMS}`, null, 'upgrade');
  await start(id);
  await reading.until(() => reading.isEnded, 60_000);
  assert.equal(reading.demuxed().stdout.length, 40 * 100_001);
  stalled.socket.destroy();
  const logged = await run('docker', ['logs', id], { env: { DOCKER_HOST: d.host } });
  assert.equal(logged.bytes.length, 40 * 100_001);
  await sleep(10);
  await d.ok('rm', '-f', id);
});
