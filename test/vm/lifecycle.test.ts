/**
 * The life of a container on cgroup v2, each move once and over HTTP: what `npm test` can wait for in the virtual machine
 * (test/integration/lifecycle.root.test.ts has the rest, with the docker CLI).
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, TestDaemon } from '../support/daemon.ts';

describe('lifecycle', { skip: process.env['LSVM_BOOT'] === undefined }, () => {
  let d: TestDaemon;
  before(async () => {
    d = await TestDaemon.start();
    await d.image();
  });
  after(() => d[Symbol.asyncDispose]());

  const post = async (path: string, status: number, body?: object): Promise<void> => {
    const answer = await d.api('POST', path, body);
    assert.equal(answer.status, status, `${path}: ${answer.text}`);
  };
  const create = (name: string, command: string, hostConfig: object = {}): Promise<void> =>
    post(`/containers/create?name=${name}`, 201, { Image: 'bb:1', Cmd: ['sh', '-c', command], HostConfig: hostConfig });
  // oxlint-disable-next-line typescript/no-explicit-any -- answers are what is under test
  const inspect = async (name: string): Promise<any> => (await d.api('GET', `/containers/${name}/json`)).json;
  const state = async (name: string): Promise<string> => {
    const { State } = await inspect(name);
    return `${State.Status} ${State.ExitCode}`;
  };
  const actions = async (name: string, sinceMs: number): Promise<string> =>
    (await d.events(sinceMs, { container: [name] })).map(({ Action }) => Action).join(' ');

  test('created, running, paused, stopped, restarted, killed, removed; with its events, and nothing is left', async () => {
    const sinceMs = Date.now();
    await create('life', "trap 'exit 3' TERM; while :; do sleep 0.2; done");
    assert.equal(await state('life'), 'created 0');
    await post('/containers/life/start', 204);
    await post('/containers/life/start', 304);
    const { State } = await inspect('life');
    const cgroup = `/sys/fs/cgroup${/^0::(.*)$/m.exec(readFileSync(`/proc/${State.Pid}/cgroup`, 'utf8'))![1]}`;
    await post('/containers/life/pause', 204);
    assert.match(readFileSync(`${cgroup}/cgroup.events`, 'utf8'), /frozen 1/);
    assert.equal(await state('life'), 'paused 0');
    await post('/containers/life/unpause', 204);
    await post('/containers/life/stop?t=60', 204);
    assert.equal(await state('life'), 'exited 3');
    assert.equal(existsSync(cgroup), false);
    await post('/containers/life/restart', 204);
    await post('/containers/life/kill', 204);
    await d.api('POST', '/containers/life/wait');
    assert.equal(await state('life'), 'exited 137');
    assert.equal((await d.api('DELETE', '/containers/life')).status, 204);
    assert.equal((await d.api('GET', '/containers/life/json')).status, 404);
    assert.equal(
      await actions('life', sinceMs),
      'create start pause unpause kill die stop start restart kill die destroy',
    );
  });

  test('a policy restarts what fails, and gives up; --rm leaves nothing', async () => {
    await create('policy', 'exit 4', { RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 1 } });
    await post('/containers/policy/start', 204);
    await eventually('it gives up', async () => {
      const { State, RestartCount } = await inspect('policy');
      return `${State.Status} ${State.ExitCode} ${RestartCount}` === 'exited 4 1';
    });
    await create('gone', 'true', { AutoRemove: true });
    await post('/containers/gone/start', 204);
    await eventually('it is removed', async () => (await d.api('GET', '/containers/gone/json')).status === 404);
    const unknown = await d.api('POST', '/containers/create?name=none', { Image: 'bb:1', Cmd: ['no-such'] });
    assert.equal(unknown.status, 201);
    assert.equal((await d.api('POST', '/containers/none/start')).status, 400);
    assert.equal(await state('none'), 'created 127');
  });

  test('a daemon that is killed finds what runs, and what ended meanwhile', async () => {
    await create('runs', 'sleep 1000');
    await create('ends', 'sleep 2; exit 7');
    await post('/containers/runs/start', 204);
    await post('/containers/ends/start', 204);
    const { State } = await inspect('runs');
    await d.down('SIGKILL');
    await sleep(4_000);
    await d.up();
    assert.equal((await inspect('runs')).State.Pid, State.Pid);
    await eventually('its end is known', async () => (await state('ends')) === 'exited 7');
  });
});
