/**
 * Containers as systemd's scopes, and their limits in both hands. In the virtual machine alone, with systemd as process 1:
 *   LSVM_SYSTEMD=1 sh test/vm/run.sh test/vm/systemd.test.ts
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

import { run, TestDaemon } from '../support/daemon.ts';

describe('a host with systemd and cgroup v2', { skip: process.env['LSVM_SYSTEMD'] !== '1' }, () => {
  let d: TestDaemon;
  before(async () => {
    d = await TestDaemon.start('--exec-opt', 'native.cgroupdriver=systemd');
    await d.image();
  });
  after(() => d[Symbol.asyncDispose]());

  const start = async (name: string, hostConfig: object): Promise<string> => {
    const body = { Image: 'bb:1', Cmd: ['sleep', '1000'], HostConfig: { NetworkMode: 'none', ...hostConfig } };
    const created = await d.api('POST', `/containers/create?name=${name}`, body);
    assert.equal(created.status, 201, created.text);
    const started = await d.api('POST', `/containers/${name}/start`);
    assert.equal(started.status, 204, started.text);
    return created.json.Id;
  };
  const property = async (unit: string, name: string): Promise<string> =>
    (await run('systemctl', ['show', '--property', name, '--value', unit])).stdout.trim();

  test('systemd: is the driver, and a container is a scope with its limits', async () => {
    assert.equal((await d.api('GET', '/info')).json.CgroupDriver, 'systemd');
    const id = await start('scope', { Memory: 64 << 20, PidsLimit: 77, CpuShares: 512 });
    const { State } = (await d.api('GET', '/containers/scope/json')).json;
    const scope = `longshore-${id}.scope`;
    const directory = `/sys/fs/cgroup/system.slice/${scope}`;
    assert.equal(readFileSync(`/proc/${State.Pid}/cgroup`, 'utf8').trim(), `0::/system.slice/${scope}`);
    assert.equal(readFileSync(`${directory}/memory.max`, 'utf8').trim(), `${64 << 20}`);
    assert.equal(readFileSync(`${directory}/pids.max`, 'utf8').trim(), '77');

    const update = await d.api('POST', '/containers/scope/update', { Memory: 96 << 20, MemorySwap: -1, PidsLimit: 55 });
    assert.equal(update.status, 200, update.text);
    assert.equal((await run('systemctl', ['daemon-reload'])).code, 0);
    assert.equal(readFileSync(`${directory}/memory.max`, 'utf8').trim(), `${96 << 20}`, 'also after a reload');
    assert.equal(readFileSync(`${directory}/pids.max`, 'utf8').trim(), '55');
    assert.equal(await property(scope, 'TasksMax'), '55');

    const stats = (await d.api('GET', '/containers/scope/stats?stream=0&one-shot=1')).json;
    assert.deepEqual([stats.memory_stats.limit, stats.pids_stats.limit, stats.pids_stats.current], [96 << 20, 55, 1]);
    const top = (await d.api('GET', '/containers/scope/top')).json;
    assert.deepEqual(
      top.Processes.map((row: string[]) => row.at(-1)),
      ['sleep 1000'],
    );
    for (const [path, status] of [
      ['pause', 204],
      ['unpause', 204],
      ['kill', 204],
    ] as const)
      assert.equal((await d.api('POST', `/containers/scope/${path}`)).status, status);
    assert.equal((await d.api('DELETE', '/containers/scope?force=1')).status, 204);
    assert.equal(existsSync(directory), false);
    assert.equal(await property(scope, 'LoadState'), 'not-found');
  });

  test('systemd: the OOM killer ends a container, and a slice may be the parent', async () => {
    const body = { Image: 'bb:1', Cmd: ['dd', 'if=/dev/zero', 'of=/dev/null', 'bs=100M', 'count=1'] };
    const hostConfig = {
      Memory: 24 << 20,
      MemorySwap: 24 << 20,
      CgroupParent: 'longshore-test.slice',
      NetworkMode: 'none',
    };
    await d.api('POST', '/containers/create?name=oom', { ...body, HostConfig: hostConfig });
    assert.equal((await d.api('POST', '/containers/oom/start')).status, 204);
    assert.equal((await d.api('POST', '/containers/oom/wait')).json.StatusCode, 137);
    await d.api('DELETE', '/containers/oom');
    const refused = await d.api('POST', '/containers/create', { ...body, HostConfig: { CgroupParent: '/x' } });
    assert.deepEqual(
      [refused.status, refused.json.message],
      [400, 'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"'],
    );
  });

  test('systemd: a container lives on when the daemon is killed, and is found again', async () => {
    await start('stays', {});
    const { State } = (await d.api('GET', '/containers/stays/json')).json;
    await d.down('SIGKILL');
    await d.up();
    assert.equal((await d.api('GET', '/containers/stays/json')).json.State.Pid, State.Pid);
    assert.equal((await d.api('DELETE', '/containers/stays?force=1')).status, 204);
  });
});
