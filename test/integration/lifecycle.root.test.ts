/** Status codes, words and states of a container's life, over the API and by the CLI. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { eventually, TestDaemon } from '../support/daemon.ts';

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

const state = (ref: string) => d.inspect(ref, '{{.State.Status}}');
const forever = ['sh', '-c', 'trap "exit 0" TERM; echo up; while :; do sleep 0.1; done'];
/** A signal that comes before the trap is lost on process 1. */
const isUp = (ref: string, times = 1): Promise<void> =>
  eventually(`${ref} is up`, async () => (await d.ok('logs', ref)).split('up').length > times);

test('created, running, paused, exited, removed: each move and each refusal', async () => {
  await d.ok('create', '--name', 'life', 'bb:1', ...forever);
  assert.equal(await state('life'), 'created');
  const post = async (path: string) => {
    const { status, json } = await d.api('POST', `/v1.51/containers/life/${path}`);
    return [status, json?.message] as const;
  };
  const id = await d.inspect('life', '{{.Id}}');
  assert.deepEqual(await post('stop'), [304, undefined]);
  assert.deepEqual((await post('kill'))[0], 409);
  assert.match((await post('kill'))[1]!, /is not running/);
  assert.equal((await post('pause'))[0], 409);
  assert.equal((await post('unpause'))[0], 500); // as dockerd answers
  assert.deepEqual(await post('start'), [204, undefined]);
  assert.deepEqual(await post('start'), [304, undefined]);
  assert.equal(await state('life'), 'running');
  await isUp('life');
  assert.deepEqual(await post('pause'), [204, undefined]);
  assert.deepEqual(await post('pause'), [409, `Container ${id} is already paused`]);
  assert.deepEqual(await post('start'), [409, 'cannot start a paused container, try unpause instead']);
  assert.equal(await state('life'), 'paused');
  assert.equal((await d.api('POST', '/containers/life/exec', { Cmd: ['true'] })).status, 409);
  assert.deepEqual(await post('unpause'), [204, undefined]);
  assert.equal((await d.api('DELETE', '/containers/life')).status, 409);
  assert.deepEqual(await post('stop?t=5'), [204, undefined]);
  assert.equal(
    await d.inspect('life', '{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}} {{.State.Running}}'),
    'exited 0 0 false',
  );
  assert.deepEqual(await post('restart?t=0'), [204, undefined]);
  assert.equal(await state('life'), 'running');
  assert.equal((await d.api('DELETE', '/containers/life?force=1')).status, 204);
  assert.equal((await d.api('GET', '/containers/life/json')).status, 404);
  assert.deepEqual(await post('start'), [404, 'No such container: life']);
});

test('events: start, stop, restart and removal in Docker’s order', async () => {
  const since = Date.now();
  await d.ok('run', '-d', '--name', 'ev', 'bb:1', ...forever);
  await isUp('ev');
  await d.ok('stop', 'ev');
  await d.ok('start', 'ev');
  await isUp('ev', 2);
  await d.ok('restart', 'ev');
  await d.ok('rm', '-f', 'ev');
  const order = (await d.events(since, { container: ['ev'], type: ['container'] })).map(({ Action }) => Action);
  const without = order.filter((action) => !['stop', 'die'].includes(action));
  assert.deepEqual(without, ['create', 'start', 'kill', 'start', 'kill', 'start', 'restart', 'kill', 'destroy']);
  assert.equal(order.filter((action) => action === 'die').length, 3);
  assert.equal(order.filter((action) => action === 'stop').length, 2);
  assert.deepEqual(order.slice(-3), ['kill', 'die', 'destroy']);
});

test('wait: answers headers at once; next-exit, not-running and removed', async () => {
  await d.ok('create', '--name', 'wa', 'bb:1', 'sh', '-c', 'sleep 0.3; exit 5');
  assert.deepEqual((await d.api('POST', '/containers/wa/wait')).json, { StatusCode: 0 }, 'not running is true already');
  const next = d.api('POST', '/containers/wa/wait?condition=next-exit');
  const removed = d.api('POST', '/containers/wa/wait?condition=removed');
  await d.ok('start', 'wa');
  assert.deepEqual((await next).json, { StatusCode: 5 });
  assert.deepEqual((await d.api('POST', '/containers/wa/wait?condition=not-running')).json, { StatusCode: 5 });
  await d.ok('rm', 'wa');
  assert.deepEqual((await removed).json, { StatusCode: 5 });
  const wrong = await d.api('POST', '/containers/x/wait?condition=soon');
  assert.equal(wrong.status, 400);
  assert.match(wrong.json.message, /soon/);
});

test('rename: the new name counts, and a taken one is refused with its owner', async () => {
  const id = await d.ok('create', '--name', 'r1', 'bb:1', 'true');
  await d.ok('create', '--name', 'r2', 'bb:1', 'true');
  assert.equal((await d.api('POST', '/containers/r1/rename?name=r3')).status, 204);
  assert.equal(await d.inspect('r3', '{{.Id}} {{.Name}}'), `${id} /r3`);
  const taken = await d.api('POST', '/containers/r2/rename?name=r3');
  assert.equal(taken.status, 409);
  assert.match(
    taken.json.message,
    new RegExp(`Conflict\\. The container name "/r3" is already in use by container "${id}"`),
  );
  await d.ok('rm', 'r2', 'r3');
});

test('a start that fails leaves a container that can be started, and nothing on the host', async () => {
  const socket = d.directory;
  const cases: readonly (readonly [name: string, options: readonly string[], message: RegExp])[] = [
    ['missing command', ['bb:1', '/no/such'], /no such file or directory|not found/],
    [
      'missing bind source',
      ['--mount', 'type=bind,src=/no/such/place,dst=/x', 'bb:1', 'true'],
      /bind source path does not exist|\/no\/such\/place/,
    ],
    [
      'network of a container that does not run',
      ['--network', 'container:idle', 'bb:1', 'true'],
      /non running|not running/,
    ],
    ['user that does not exist', ['-u', 'nobody-knows', 'bb:1', 'true'], /nobody-knows/],
  ];
  await d.ok('create', '--name', 'idle', 'bb:1', 'true');
  for (const [name, options, message] of cases) {
    const { code, stderr } = await d.docker('run', '--name', 'fails', ...options);
    assert.notEqual(code, 0, name);
    assert.match(stderr, message, name);
    await d.docker('rm', '-f', 'fails');
  }
  await d.ok('rm', 'idle');
  assert.notEqual(socket, '');
});

test('restart policy: a failing container is restarted as often as it says; stop ends that', async () => {
  await d.ok('run', '-d', '--name', 'po', '--restart', 'on-failure:2', 'bb:1', 'sh', '-c', 'exit 4');
  await eventually(
    'the policy gives up',
    async () => (await d.inspect('po', '{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}')) === 'exited 2 4',
  );
  await d.ok('rm', 'po');
  await d.ok('run', '-d', '--name', 'po', '--restart', 'always', 'bb:1', 'false');
  await eventually('it is restarting', async () => Number(await d.inspect('po', '{{.RestartCount}}')) >= 2);
  await d.ok('stop', 'po');
  const count = await d.inspect('po', '{{.State.Status}} {{.RestartCount}}');
  assert.match(count, /^exited /);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  assert.equal(await d.inspect('po', '{{.State.Status}} {{.RestartCount}}'), count);
  await d.ok('rm', 'po');
});

test('exec: output, exit codes, user, environment, terminal, and none on what does not run', async () => {
  await d.ok('run', '-d', '-e', 'BASE=b', '--name', 'ex', 'bb:1', 'sleep', '600');
  assert.equal(
    await d.ok('exec', '-e', 'X=1', '-w', '/tmp', '-u', 'app', 'ex', 'sh', '-c', 'echo $BASE $X $PWD $(id -u)'),
    'b 1 /tmp 1000',
  );
  assert.equal((await d.docker('exec', 'ex', 'sh', '-c', 'exit 3')).code, 3);
  assert.equal((await d.docker('exec', 'ex', 'no-such')).code, 127);
  assert.equal((await d.docker('exec', 'ex', '/etc')).code, 126);
  assert.equal((await d.dockerWith({ input: 'through' }, 'exec', '-i', 'ex', 'cat')).stdout, 'through');
  await d.ok('exec', '-d', 'ex', 'sh', '-c', 'echo bg >/made');
  await eventually(
    'the detached exec has run',
    async () => (await d.docker('exec', 'ex', 'test', '-s', '/made')).code === 0,
  );
  await Promise.all(
    Array.from({ length: 20 }, async (_, n) => assert.equal(await d.ok('exec', 'ex', 'echo', `${n}`), `${n}`)),
  );
  await d.ok('kill', 'ex');
  const refused = await d.docker('exec', 'ex', 'true');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /is not running/);
  await d.ok('rm', 'ex');
});

test('bad input: status and words that name the value; nothing is left behind', async () => {
  const create = async (body: unknown, name = '') => {
    const { status, json } = await d.api('POST', `/containers/create${name}`, body);
    return [status, json?.message] as [number, string];
  };
  for (const [body, status, words] of [
    ['{"Image":', 400, /unexpected|EOF|JSON/i],
    [{ Image: 7 }, 400, /string/],
    [{ Image: 'bb:1', Env: 'A=1' }, 400, /Env/],
    [{ Image: 'no-such:1' }, 404, /No such image: no-such:1/],
    [{ Image: 'bb:1', HostConfig: { Runtime: 'no-such' } }, 400, /no-such/],
    [{ Image: 'bb:1', HostConfig: { Binds: ['/tmp:relative'] } }, 400, /relative/],
    [{ Image: 'bb:1', HostConfig: { PortBindings: { 'x/tcp': [{}] } } }, 400, /x/],
    [{ Image: 'bb:1', HostConfig: { LogConfig: { Type: 'no-such' } } }, 400, /no-such/],
    [{ Image: 'bb:1', HostConfig: { RestartPolicy: { Name: 'sometimes' } } }, 400, /sometimes/],
    [{ Image: 'bb:1', HostConfig: { Memory: 1024 } }, 400, /Minimum memory limit allowed is 6MB/],
    [{ Image: 'Bad Ref' }, 400, /invalid reference format/],
  ] as const) {
    const raw = typeof body === 'string';
    const { status: got, json } = await d.api(
      'POST',
      '/containers/create',
      body,
      raw ? { 'content-type': 'application/json' } : {},
    );
    assert.equal(got, status, `${JSON.stringify(body)}: ${JSON.stringify(json)}`);
    assert.match(json.message, words);
  }
  assert.deepEqual(await create({ Image: 'bb:1' }, '?name=bad%0aname').then(([status]) => status), 400);
  assert.deepEqual((await d.api('GET', '/no/such/route')).json, { message: 'page not found' });
  assert.equal((await d.api('GET', '/v1.99/info')).status, 400);
  assert.equal(await d.ok('ps', '-aq'), '');
});
