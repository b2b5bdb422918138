import assert from 'node:assert/strict';
import { PassThrough, Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';

import { EngineError } from '../core/engine-error.ts';
import { ID, openTestApi, readUntil } from './fake-parts.ts';

/** A process's stream: what the test writes to `output` is read by the api, what the api writes is in `input`. */
function fakeProcess(): { stream: Duplex; output: PassThrough; input: PassThrough } {
  const output = new PassThrough();
  const input = new PassThrough();
  return { stream: Duplex.from({ readable: output, writable: input }), output, input };
}

test('POST /containers/{name}/attach: 101 and 200, both ways, each end by itself', async () => {
  for (const upgrade of [true, false]) {
    const { stream, output, input } = fakeProcess();
    await using api = await openTestApi({
      containers: {
        attach: async () => ({ tty: false, past: null, stream: Promise.resolve(stream), detachKeys: null }),
      },
    });
    const headers = upgrade ? 'Connection: Upgrade\r\nUpgrade: tcp\r\n' : '';
    const socket = await api.raw(
      `POST /v1.51/containers/x/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n${headers}\r\n${upgrade ? 'early ' : ''}`,
    );
    const head = await readUntil(socket, '\r\n\r\n');
    if (upgrade)
      assert.equal(
        head,
        'HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n',
      );
    else assert.equal(head, 'HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n');
    socket.end('late'); // the client's half: stdin ends, output goes on
    let stdin = '';
    for await (const chunk of input) stdin += String(chunk);
    assert.equal(stdin, upgrade ? 'early late' : 'late');
    output.end('bytes');
    assert.equal(await readUntil(socket, null), 'bytes');
  }
});

test('POST /containers/{name}/attach: answers at once and connects when the container starts', async () => {
  const started = Promise.withResolvers<Duplex | null>();
  await using api = await openTestApi({
    containers: {
      attach: async () => ({ tty: true, past: null, stream: started.promise, detachKeys: Buffer.from([16, 17]) }),
    },
  });
  const socket = await api.raw(
    'POST /v1.41/containers/x/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n',
  );
  assert.match(
    await readUntil(socket, '\r\n\r\n'),
    /^HTTP\/1.1 101 UPGRADED\r\nContent-Type: application\/vnd.docker.raw-stream\r\n/,
  );
  socket.write('before');
  const { stream, output, input } = fakeProcess();
  started.resolve(stream);
  output.write('hello');
  assert.equal(await readUntil(socket, 'hello'), 'hello');
  assert.equal(String(await new Promise((resolve) => input.once('data', resolve))), 'before');
  // ctrl-p ctrl-q leaves: the connection ends, the process is not told of an end of its input.
  let inputEnded = false;
  input.on('end', () => (inputEnded = true));
  socket.write(Buffer.from([0x61, 16, 17, 0x62]));
  assert.equal(await readUntil(socket, null), '');
  assert.equal(inputEnded, false);
});

test('POST /containers/{name}/attach: an unknown container is answered as text on the raw connection', async () => {
  await using api = await openTestApi({
    containers: {
      attach: async (ref) => {
        throw new EngineError('CONTAINER_NOT_FOUND', `No such container: ${ref}`);
      },
    },
  });
  for (const headers of ['Connection: Upgrade\r\nUpgrade: tcp\r\n', '']) {
    const socket = await api.raw(`POST /containers/nope/attach HTTP/1.1\r\nHost: x\r\n${headers}\r\n`);
    assert.equal(
      await readUntil(socket, null),
      'HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nNo such container: nope\r\n',
    );
  }
});

test('POST /exec/{id}/start: the body may come with the head and stdin behind it', async () => {
  const { stream, output, input } = fakeProcess();
  const exec = {
    id: 'e',
    containerId: ID,
    config: {
      tty: false,
      attachStdin: true,
      attachStdout: true,
      attachStderr: true,
      detachKeys: '',
      env: null,
      cmd: ['cat'],
      privileged: false,
      user: '',
      workingDir: '',
    },
    state: { at: 'created' },
  } as const;
  let asked: unknown;
  const ended = Promise.resolve(0);
  await using api = await openTestApi({
    containers: {
      execInspect: () => ({ exec, process: { entrypoint: 'cat', arguments: [] } }),
      execStart: async (id, options) => {
        asked = { id, options };
        if (options.detach) return { tty: false, stream: null, ended, detachKeys: null };
        return { tty: false, stream, ended, detachKeys: null };
      },
    },
  });
  const body = '{"Detach":false,"Tty":false}';
  const socket = await api.raw(
    `POST /v1.51/exec/e/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: ${body.length}\r\n\r\n${body}stdin`,
  );
  const head = await readUntil(socket, '\r\n\r\n');
  assert.match(
    head,
    /^HTTP\/1.1 101 UPGRADED\r\nContent-Type: application\/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nApi-Version: 1.51\r\n/,
  );
  assert.equal(String(await new Promise((resolve) => input.once('data', resolve))), 'stdin');
  output.end('out');
  assert.equal(await readUntil(socket, null), 'out');
  assert.deepEqual(asked, { id: 'e', options: { detach: false, tty: false, consoleSize: null } });
  assert.equal((await api.ask('POST', '/exec/e/start', { Detach: true })).status, 200);
  assert.equal(
    (await api.ask('POST', '/exec/e/start', { Detach: true }, { Connection: 'Upgrade', Upgrade: 'tcp' })).status,
    200,
  );
});

test('POST /exec/{id}/start: a command that is not there is told in the stream, a stopped container by status', async () => {
  const exec = { id: 'e', containerId: ID, config: { attachStdin: false }, state: { at: 'created' } } as never;
  let failure = new EngineError('RUNTIME_INVALID_COMMAND', 'OCI runtime exec failed: not found');
  await using api = await openTestApi({
    containers: {
      execInspect: () => ({ exec, process: { entrypoint: '', arguments: [] } }),
      execCheck: () => {
        if (failure.code === 'CONTAINER_NOT_RUNNING') throw failure;
      },
      execStart: () => Promise.reject(failure),
    },
  });
  const upgrade =
    'POST /exec/e/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}';
  const inStream = await readUntil(await api.raw(upgrade), null);
  assert.ok(
    inStream.endsWith('\r\n\r\n\x01\0\0\0\0\0\0$OCI runtime exec failed: not found\r\n'),
    JSON.stringify(inStream),
  );
  failure = new EngineError('CONTAINER_NOT_RUNNING', 'container x is not running');
  assert.match(
    await readUntil(await api.raw(upgrade), null),
    /^HTTP\/1.1 409 Conflict\r\n[^]*\{"message":"container x is not running"\}\n$/,
  );
  assert.deepEqual((await api.ask('POST', '/exec/e/start', {})).json, { message: 'container x is not running' });
});

test("GET /containers/{name}/attach/ws: binary frames without Docker's headers", async () => {
  const { stream, output, input } = fakeProcess();
  await using api = await openTestApi({
    containers: { attach: async () => ({ tty: false, past: null, stream: Promise.resolve(stream), detachKeys: null }) },
  });
  const { WebSocket } = await import('ws');
  const ws = new WebSocket(`ws+unix:${api.path}:/v1.51/containers/x/attach/ws?stream=1&stdin=1&stdout=1`);
  await new Promise((resolve) => ws.once('open', resolve));
  ws.send('typed');
  assert.equal(String(await new Promise((resolve) => input.once('data', resolve))), 'typed');
  output.write(Buffer.from('\x01\0\0\0\0\0\0\x02hi', 'latin1'));
  const [data, isBinary] = await new Promise<[Buffer, boolean]>((resolve) =>
    ws.once('message', (...message: [Buffer, boolean]) => resolve(message)),
  );
  assert.deepEqual([String(data), isBinary], ['hi', true]);
  output.end();
  await new Promise((resolve) => ws.once('close', resolve));
});

test('close: ends streams that have no end of their own', async () => {
  await using api = await openTestApi({
    events: {
      async *subscribe({ signal }) {
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        yield* [];
      },
    },
    containers: {
      attach: async () => ({ tty: true, past: null, stream: new Promise<null>(() => {}), detachKeys: null }),
    },
  });
  const events = await api.raw('GET /events HTTP/1.1\r\nHost: x\r\n\r\n');
  await readUntil(events, '\r\n\r\n');
  const attach = await api.raw('POST /containers/x/attach?stream=1 HTTP/1.1\r\nHost: x\r\n\r\n');
  await readUntil(attach, '\r\n\r\n');
  await api.api.close(100);
  await Promise.all([readUntil(events, null), readUntil(attach, null)]);
});

test('POST /exec/{id}/start: the framing is what the start asks for', async () => {
  for (const [tty, askedTty, written, expected] of [
    [true, false, 'raw', '\x01\0\0\0\0\0\0\x03raw'],
    [false, true, '\x01\0\0\0\0\0\0\x03raw', 'raw'],
  ] as const) {
    const { stream, output } = fakeProcess();
    const exec = { id: 'e', containerId: ID, config: { attachStdin: false }, state: { at: 'created' } } as never;
    await using api = await openTestApi({
      containers: {
        execInspect: () => ({ exec, process: { entrypoint: '', arguments: [] } }),
        execStart: async () => ({ tty, stream, ended: Promise.resolve(0), detachKeys: null }),
      },
    });
    output.end(Buffer.from(written, 'latin1'));
    const body = JSON.stringify({ Tty: askedTty });
    const socket = await api.raw(
      `POST /exec/e/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    const answer = await readUntil(socket, null);
    assert.equal(answer.slice(answer.indexOf('\r\n\r\n') + 4), expected);
  }
});

test('POST /exec/{id}/start: the connection ends when the exit code is known, and without it a moment later', async () => {
  const exec = { id: 'e', containerId: ID, config: { attachStdin: false }, state: { at: 'created' } } as never;
  for (const isKnown of [true, false]) {
    const { stream, output } = fakeProcess();
    const ended = Promise.withResolvers<number>();
    await using api = await openTestApi({
      containers: {
        execInspect: () => ({ exec, process: { entrypoint: '', arguments: [] } }),
        execStart: async () => ({ tty: true, stream, ended: ended.promise, detachKeys: null }),
      },
    });
    const socket = await api.raw(
      'POST /exec/e/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"Tty":true}',
    );
    output.end('out');
    await readUntil(socket, 'out');
    let isOver = false;
    const over = readUntil(socket, null).then(() => (isOver = true));
    await sleep(50);
    assert.equal(isOver, false, 'not before the code is known');
    if (isKnown) ended.resolve(0);
    await over;
  }
});
