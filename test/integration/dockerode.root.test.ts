/** dockerode's streams, as its users and its own tests call them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough, type Duplex } from 'node:stream';
import { after, before, test } from 'node:test';

import Docker from 'dockerode';

import { eventually, TestDaemon } from '../support/daemon.ts';

let daemon: TestDaemon;
let docker: Docker;
before(async () => {
  daemon = await TestDaemon.start();
  await daemon.image();
  docker = new Docker({ socketPath: daemon.socket });
});
after(() => daemon[Symbol.asyncDispose]());

/** What is read of a stream, as it comes. */
function collect(stream: NodeJS.ReadableStream): { readonly text: () => string; readonly end: Promise<unknown> } {
  let text = '';
  stream.on('data', (chunk: Buffer | string) => (text += String(chunk)));
  return { text: () => text, end: Promise.race([once(stream, 'end'), once(stream, 'close')]) };
}

/** demuxStream of docker-modem takes the frames apart. */
function demux(stream: NodeJS.ReadableStream): { out: () => string; err: () => string; end: Promise<unknown> } {
  const [out, err] = [new PassThrough(), new PassThrough()];
  const texts = [collect(out).text, collect(err).text] as const;
  docker.modem.demuxStream(stream, out, err);
  return { out: texts[0], err: texts[1], end: Promise.race([once(stream, 'end'), once(stream, 'close')]) };
}

test('dockerode: attach before the start, demuxStream, half-closed stdin, wait', async () => {
  const options = { stream: true, stdout: true, stderr: true };
  const container = await docker.createContainer({
    Image: 'bb:1', Cmd: ['sh', '-c', 'echo first; echo bad >&2; cat; echo end'],
    OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
  }); // prettier-ignore
  const stream = await container.attach({ ...options, stdin: true, hijack: true });
  const got = demux(stream);
  const watching = demux(await container.attach(options)); // without a hijack: as a response
  await container.start();
  stream.write('typed\n');
  stream.end();
  assert.deepEqual(await container.wait(), { StatusCode: 0 });
  await Promise.all([got.end, watching.end]);
  for (const { out, err } of [got, watching]) assert.deepEqual([out(), err()], ['first\ntyped\nend\n', 'bad\n']);
  await container.remove();
});

test('dockerode: attach to a terminal, resize and SIGWINCH, detach keys', async () => {
  const container = await docker.createContainer({
    Image: 'bb:1', Tty: true, OpenStdin: true, Cmd: ['sh', '-c', 'trap "stty size" WINCH; while :; do read x && echo "got $x"; done'],
    HostConfig: { ConsoleSize: [11, 22] },
  } as Docker.ContainerCreateOptions); // prettier-ignore
  const stream = await container.attach({
    stream: true, stdin: true, stdout: true, stderr: true, hijack: true, detachKeys: 'ctrl-a,x',
  } as Docker.ContainerAttachOptions); // prettier-ignore
  const got = collect(stream);
  await container.start();
  stream.write('hello\n');
  await eventually('the echo', () => got.text().includes('got hello'));
  await container.resize({ h: 40, w: 120 });
  await eventually('the new size', () => got.text().includes('40 120'));
  stream.write('\x01x');
  await got.end;
  assert.equal((await container.inspect()).State.Running, true);
  await container.remove({ force: true });
});

test('dockerode: exec with hijacked stdin, resize, inspect, detached; a terminal is raw', async () => {
  const container = await docker.createContainer({ Image: 'bb:1', Cmd: ['sleep', '1000'] });
  await container.start();
  const exec = await container.exec({
    Cmd: ['sh', '-c', 'wc -c; echo "$A" >&2; exit 6'], Env: ['A=x y'],
    AttachStdin: true, AttachStdout: true, AttachStderr: true,
  }); // prettier-ignore
  const stream: Duplex = await exec.start({ hijack: true, stdin: true });
  const got = demux(stream);
  stream.end(Buffer.alloc(300_000));
  await got.end;
  assert.deepEqual([got.out().trim(), got.err()], ['300000', 'x y\n']);
  const { ExitCode, Running, ContainerID } = await exec.inspect();
  assert.deepEqual([ExitCode, Running, ContainerID], [6, false, container.id]);

  const shell = await container.exec({ Cmd: ['sh'], Tty: true, AttachStdin: true, AttachStdout: true });
  const terminal: Duplex = await shell.start({ hijack: true, stdin: true, Tty: true });
  const seen = collect(terminal);
  await shell.resize({ h: 13, w: 57 });
  terminal.write('stty size; exit 5\n');
  await seen.end;
  assert.match(seen.text(), /^13 57\r$/m);
  assert.equal((await shell.inspect()).ExitCode, 5);

  const detached = await container.exec({ Cmd: ['sh', '-c', 'echo done > /done'] });
  await detached.start({ Detach: true });
  await eventually('its end', async () => !(await detached.inspect()).Running);
  assert.equal((await detached.inspect()).ExitCode, 0);
  await container.remove({ force: true });
});

test('dockerode: logs followed and demultiplexed end with the container; events tell of it all', async () => {
  const events = await docker.getEvents({ filters: { type: ['container'], label: ['of=dockerode'] } });
  const told = collect(events);
  const container = await docker.createContainer({
    Image: 'bb:1', Labels: { of: 'dockerode' },
    Cmd: ['sh', '-c', 'for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.1; done; kill -9 $$'],
  }); // prettier-ignore
  await container.start();
  const followed = demux(await container.logs({ follow: true, stdout: true, stderr: true }));
  await followed.end;
  assert.deepEqual([followed.out(), followed.err()], ['out 1\nout 2\nout 3\n', 'err 1\nerr 2\nerr 3\n']);
  const whole = await container.logs({ stdout: true, timestamps: true });
  assert.match(whole.toString('latin1').slice(8), /\d{4}-\d\d-\d\dT[\d:.]{18}Z out 3\n$/);
  await container.remove();
  await eventually('the last event', () => told.text().includes('"destroy"'));
  const actions = told
    .text()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { Action: string }).Action);
  assert.deepEqual(actions, ['create', 'start', 'die', 'destroy']);
  (events as unknown as Duplex).destroy();
});

test('dockerode: run() pipes a whole container, and stats come as a stream', async () => {
  const out = new PassThrough();
  const got = collect(out);
  const [end, container] = (await docker.run('bb:1', ['sh', '-c', 'echo whole; exit 2'], out, { Tty: true })) as [
    { StatusCode: number },
    Docker.Container,
  ];
  assert.deepEqual([end.StatusCode, got.text()], [2, 'whole\r\n']);
  await container.remove();

  const busy = await docker.createContainer({ Image: 'bb:1', Cmd: ['sleep', '1000'] });
  await busy.start();
  const stats = (await busy.stats({ stream: true })) as unknown as Duplex;
  const [first] = (await once(stats, 'data')) as [Buffer];
  assert.ok((JSON.parse(first.toString()) as { memory_stats: { usage: number } }).memory_stats.usage > 0);
  stats.destroy();
  await busy.remove({ force: true });
});
