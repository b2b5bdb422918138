import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EngineError } from '../core/engine-error.ts';
import type { EngineEvent } from '../event/port.ts';
import { details, ID, openTestApi, readUntil } from './fake-parts.ts';
import { ROUTES } from './routes/all.ts';

test('GET and HEAD /_ping: answer with the headers that clients negotiate by', async () => {
  await using api = await openTestApi();
  const got = await api.ask('GET', '/_ping');
  assert.equal(got.status, 200);
  assert.equal(got.text, 'OK');
  const {
    'api-version': version,
    'docker-experimental': experimental,
    ostype,
    'builder-version': builder,
    'cache-control': cache,
    pragma,
    swarm,
    server,
  } = got.headers;
  assert.deepEqual(
    { version, experimental, ostype, builder, cache, pragma, swarm },
    {
      version: '1.51',
      experimental: 'false',
      ostype: 'linux',
      builder: '1',
      cache: 'no-cache, no-store, must-revalidate',
      pragma: 'no-cache',
      swarm: 'inactive',
    },
  );
  assert.match(String(server), /^Docker\/28/);
  const head = await api.ask('HEAD', '/v1.24/_ping');
  assert.deepEqual([head.status, head.text, head.headers['content-length']], [200, '', '0']);
});

test("ApiServer: refuses versions and routes that are not there in moby's words", async () => {
  await using api = await openTestApi();
  const cases = [
    ['GET', '/v1.99/version', 400, 'client version 1.99 is too new. Maximum supported API version is 1.51'],
    [
      'GET',
      '/v1.10/version',
      400,
      'client version 1.10 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version',
    ],
    ['GET', '/nothing/here', 404, 'page not found'],
    ['PATCH', '/version', 404, 'page not found'],
    ['GET', '/containers/nope/json', 404, 'No such container: nope'],
    [
      'GET',
      '/swarm',
      503,
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    ],
    ['GET', '/plugins/x/json', 404, 'plugin "x" not found'],
    ['GET', '/containers/x/checkpoints', 501, null],
    ['GET', '/containers/x/logs', 400, 'Bad parameters: you must choose at least one stream'],
    ['POST', '/containers/x/wait?condition=gone', 400, 'invalid condition: "gone"'],
    ['GET', '/containers/json?filters=%5B%5D', 400, 'invalid filter'],
    ['POST', '/containers/x/resize?w=10', 400, 'invalid resize height "": invalid syntax'],
    ['GET', '/containers/%ff/json', 404, 'page not found'],
  ] as const;
  for (const [method, path, status, message] of cases) {
    const answer = await api.ask(method, path);
    assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
    if (message !== null) assert.deepEqual(answer.json, { message }, path);
  }
  const moved = await api.ask('GET', '/v1.51//containers//json?all=1');
  assert.deepEqual([moved.status, moved.headers.location], [301, '/v1.51/containers/json?all=1']);
});

test('ApiServer: a bug answers 500 and the server lives on', async () => {
  await using api = await openTestApi({ containers: { list: () => Promise.reject(new Error('kaput')) } });
  assert.deepEqual(
    [(await api.ask('GET', '/containers/json')).status, (await api.ask('GET', '/_ping')).status],
    [500, 200],
  );
});

test('POST bodies: content type, JSON and emptiness are checked as moby does', async () => {
  await using api = await openTestApi({
    containers: {
      create: async () => ({ id: ID, warnings: ['w'] }),
      connect: () => Promise.reject(new EngineError('CONTAINER_NOT_FOUND', 'No such container: ')),
    },
  });
  const json = { 'Content-Type': 'application/json' };
  for (const path of [
    '/containers/create',
    '/containers/x/exec',
    '/containers/x/update',
    '/exec/x/start',
    '/networks/create',
    '/networks/x/connect',
    '/volumes/create',
    '/commit',
  ]) {
    assert.equal(
      (await api.ask('POST', path, '{}', { 'Content-Type': 'text/plain' })).text,
      '{"message":"unsupported Content-Type header (text/plain): must be \'application/json\'"}\n',
      path,
    );
    assert.deepEqual(
      (await api.ask('POST', path, '{invalid json', json)).json,
      { message: "invalid JSON: invalid character 'i' looking for beginning of object key string" },
      path,
    );
    assert.deepEqual(
      (await api.ask('POST', path, '{} trash', json)).json,
      { message: 'unexpected content after JSON' },
      path,
    );
  }
  assert.deepEqual((await api.ask('POST', '/containers/create', '', json)).json, {
    message: 'invalid JSON: got EOF while reading request body',
  });
  assert.deepEqual((await api.ask('POST', '/containers/create', { HostConfig: {} })).json, {
    message: 'config cannot be empty in order to create a container',
  });
  assert.deepEqual((await api.ask('POST', '/containers/create', { Image: 'x', Tty: 'yes' })).json, {
    message: 'invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.Tty of type bool',
  });
  const created = await api.ask('POST', '/v1.44/containers/create?name=web', { image: 'x', CMD: 'true' });
  assert.deepEqual([created.status, created.json], [201, { Id: ID, Warnings: ['w'] }]);
});

test('POST /containers/{name}/start and stop: 204 once and 304 then', async () => {
  let asked: unknown;
  await using api = await openTestApi({
    containers: {
      start: async () => 'already-running',
      stop: async (ref, options, by) => {
        asked = { ref, options, by };
        return 'stopped';
      },
    },
  });
  assert.deepEqual(
    [
      (await api.ask('POST', '/containers/web/start')).status,
      (await api.ask('POST', '/v1.51/containers/web/stop?t=3&signal=INT', undefined, { 'User-Agent': 'me/1' })).status,
    ],
    [304, 204],
  );
  assert.deepEqual(asked, {
    ref: 'web',
    options: { signal: 'INT', timeoutS: 3 },
    by: { description: 'POST /v1.51/containers/web/stop from me/1' },
  });
  assert.equal((await api.ask('POST', '/v1.40/containers/web/stop?signal=INT')).status, 204);
  assert.deepEqual((asked as { options: unknown }).options, { signal: null, timeoutS: null });
  assert.equal((await api.ask('POST', '/containers/web/start', { Binds: ['a:b'] })).status, 400);
});

test('POST /containers/{name}/wait: headers come before the exit', async () => {
  const exit = Promise.withResolvers<{ exitCode: number; error: string }>();
  await using api = await openTestApi({ containers: { wait: () => ({ result: exit.promise }) } });
  const socket = await api.raw('POST /v1.51/containers/x/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  assert.match(await readUntil(socket, '\r\n\r\n'), /^HTTP\/1\.1 200 OK\r\n/);
  exit.resolve({ exitCode: 7, error: '' });
  assert.match(await readUntil(socket, null), /\{"StatusCode":7\}\n/);
});

test('GET /events: subscribes before the headers, writes whole nanoseconds', async () => {
  const event: EngineEvent = {
    type: 'container',
    action: 'start',
    actor: { id: ID, attributes: { image: 'busybox', name: 'web' } },
    scope: 'local',
    timeNs: 1_800_000_000_123_456_789n,
    sequence: 1,
  };
  await using api = await openTestApi({
    events: {
      async *subscribe({ matches }) {
        if (matches(event)) yield event;
      },
    },
  });
  const answer = await api.ask('GET', '/events?filters=%7B%22container%22%3A%5B%22web%22%5D%7D');
  assert.equal(
    answer.text,
    `{"status":"start","id":"${ID}","from":"busybox","Type":"container","Action":"start","Actor":{"ID":"${ID}","Attributes":{"image":"busybox","name":"web"}},"scope":"local","time":1800000000,"timeNano":1800000000123456789}\n`,
  );
  assert.equal((await api.ask('GET', '/events?filters=%7B%22container%22%3A%5B%22other%22%5D%7D')).text, '');
});

test('GET /containers/{name}/logs: frames, times and attributes', async () => {
  const entry = (stream: 'stdout' | 'stderr', line: string) => ({
    stream,
    line: Buffer.from(line),
    timeNs: 1n,
    time: '2026-01-02T03:04:05.12Z',
    attributes: { b: 'x y', a: '1' },
  });
  let asked: unknown;
  await using api = await openTestApi({
    containers: {
      logs: async (_, options) => {
        asked = options;
        return {
          tty: false,
          entries: (async function* () {
            yield [entry('stdout', 'one\n'), entry('stderr', 'two\n')];
            yield [entry('stdout', 'three')];
          })(),
        };
      },
    },
  });
  const answer = await api.ask(
    'GET',
    '/containers/x/logs?stdout=1&stderr=1&tail=5&since=1.5&until=1700000000.000000001',
  );
  assert.equal(answer.text, '\x01\0\0\0\0\0\0\x04one\n\x02\0\0\0\0\0\0\x04two\n\x01\0\0\0\0\0\0\x05three');
  assert.equal(answer.headers['content-type'], 'application/vnd.docker.multiplexed-stream');
  assert.deepEqual(asked, {
    stdout: true,
    stderr: true,
    sinceNs: 1_500_000_000n,
    untilNs: 1_700_000_000_000_000_001n,
    tail: 5,
    follow: false,
  });
  const detailed = await api.ask('GET', '/v1.41/containers/x/logs?stderr=1&timestamps=1&details=1&tail=many');
  assert.equal(
    detailed.text,
    '\x02\0\0\0\0\0\0\x2f2026-01-02T03:04:05.120000000Z a=1,b=x+y two\n'.replace(
      '\x2f',
      String.fromCharCode(30 + 1 + 9 + 1 + 4),
    ),
  );
  assert.equal(detailed.headers['content-type'], 'application/vnd.docker.raw-stream');
});

test('GET /containers/{name}/logs?follow=1: the reader is told when the client goes', async () => {
  const aborted = Promise.withResolvers<void>();
  await using api = await openTestApi({
    containers: {
      logs: async (_, __, signal) => ({
        tty: true,
        entries: (async function* () {
          yield [{ stream: 'stdout' as const, line: Buffer.from('x'), timeNs: 1n, time: '', attributes: {} }];
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
          aborted.resolve();
        })(),
      }),
    },
  });
  const socket = await api.raw('GET /containers/x/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n');
  await readUntil(socket, 'x\r\n');
  socket.destroy();
  await aborted.promise;
});

test('POST /images/create: a failure before the first line is a status, a later one a line', async () => {
  await using api = await openTestApi({
    images: {
      async *pull({ reference, allTags }) {
        if (reference === 'gone') throw new EngineError('IMAGE_NOT_FOUND', `${allTags}`);
        yield { kind: 'status', text: 'Pulling from library/busybox', id: '1' };
        yield { kind: 'status', text: 'Downloading', id: 'abc', current: 1500, total: 3000 };
        throw new Error('broken');
      },
    },
  });
  const gone = await api.ask('POST', '/images/create?fromImage=gone');
  assert.deepEqual([gone.status, gone.json], [404, { message: 'true' }]);
  const late = await api.ask('POST', '/images/create?fromImage=busybox&tag=1');
  assert.equal(late.status, 200);
  assert.deepEqual(
    late.text
      .split('\r\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as unknown),
    [
      { status: 'Pulling from library/busybox', id: '1' },
      {
        status: 'Downloading',
        progressDetail: { current: 1500, total: 3000 },
        progress: `[${'='.repeat(25)}>${' '.repeat(25)}]    1.5kB/3kB`,
        id: 'abc',
      },
      { errorDetail: { message: 'broken' }, error: 'broken' },
    ],
  );
});

test('GET /containers/json: a thousand containers within 30 ms', async () => {
  const one = details(
    { Image: 'busybox', Labels: { a: '1' } },
    { at: 'running', pid: 1, startedAt: '2026-01-02T03:04:05Z', oomKilled: false },
  );
  await using api = await openTestApi({ containers: { list: async () => Array.from({ length: 1000 }, () => one) } });
  await api.ask('GET', '/containers/json');
  const times: number[] = [];
  for (let round = 0; round < 5; round++) {
    const startedMs = performance.now();
    await api.ask('GET', '/containers/json');
    times.push(performance.now() - startedMs);
  }
  assert.ok(Math.min(...times) < 30, `${Math.min(...times).toFixed(1)} ms`);
});

test('ROUTES: no two are the same', () => {
  const keys = ROUTES.map(({ method, path }) => `${method} ${path.replace(/\{\w+\}/g, '{}')}`);
  assert.deepEqual(keys, [...new Set(keys)]);
});

test('PUT /containers/{name}/archive: a body that is not read to its end does not cost the client its answer', async () => {
  await using api = await openTestApi({
    containers: {
      archiveWrite: async (_, path, tar) => {
        for await (const chunk of tar) {
          if (path === '/stop') return;
          const message = `Could not find the file ${path} in container x (${chunk.length > 0})`;
          throw new EngineError('CONTAINER_PATH_NOT_FOUND', message);
        }
      },
    },
  });
  const body = 'x'.repeat(5_000_000);
  const headers = { 'Content-Type': 'application/x-tar' };
  const failed = await api.ask('PUT', '/containers/x/archive?path=/nope', body, headers);
  assert.deepEqual(
    [failed.status, failed.json],
    [404, { message: 'Could not find the file /nope in container x (true)' }],
  );
  assert.equal((await api.ask('PUT', '/containers/x/archive?path=/stop', body, headers)).status, 200);
});
