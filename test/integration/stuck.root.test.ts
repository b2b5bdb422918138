/**
 * A process that does not go away after SIGKILL: the request is told what holds it up, nothing else waits, and what was
 * asked for happens by itself once the process is gone. A frozen process of cgroup v1 is such a one.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';

import { doctor, eventually, TestDaemon } from '../support/daemon.ts';

const FREEZER = '/sys/fs/cgroup/freezer';
const skip = existsSync(FREEZER) ? false : 'cgroup v2 delivers SIGKILL to a frozen process';

test(
  'stop, rm -f: an error that names pid, state and wait channel; the removal goes on by itself',
  { skip },
  async () => {
    await using d = await TestDaemon.start();
    await d.image();
    await d.ok('run', '-d', '--name', 'stuck', 'bb:1', 'sleep', '600');
    await d.ok('run', '-d', '--name', 'other', 'bb:1', 'sleep', '600');
    const pid = await d.inspect('stuck', '{{.State.Pid}}');
    // Not in its own cgroup: the engine would thaw that.
    const cell = `${FREEZER}/longshore-test-${process.pid}`;
    mkdirSync(cell);
    try {
      writeFileSync(`${cell}/cgroup.procs`, pid);
      writeFileSync(`${cell}/freezer.state`, 'FROZEN');
      const words = new RegExp(
        `tried to kill container, but did not receive an exit event: process ${pid} \\(sleep\\) is in state D \\(uninterruptible disk sleep\\), waiting in \\w+`,
      );
      const began = performance.now();
      const stop = d.api('POST', '/containers/stuck/stop?t=1');
      await eventually('its phase can be seen', async () =>
        /SIGKILL was sent; process \d+ is waited for/.test(
          JSON.stringify((await d.api('GET', '/containers/stuck/why')).json.Next),
        ),
      );
      await d.ok('restart', '-t', '0', 'other');
      const { status, json } = await stop;
      assert.equal(status, 500);
      assert.match(json.message, words);
      assert(performance.now() - began < 20_000);
      assert.equal(await d.inspect('stuck', '{{.State.Running}} {{.State.Pid}}'), `true ${pid}`);

      const removal = await d.api('DELETE', '/containers/stuck?force=1');
      assert.equal(removal.status, 500);
      assert.match(removal.json.message, words);
      // Also a daemon that comes up in the middle of it goes on with it.
      await d.down('SIGKILL');
      await d.up();
      assert.equal(await d.inspect('other', '{{.State.Running}}'), 'true');
      assert.match((await d.api('GET', '/containers/stuck/why')).text, /is still there after SIGKILL/);
      writeFileSync(`${cell}/freezer.state`, 'THAWED');
      await eventually('it is removed', async () => (await d.docker('inspect', 'stuck')).code === 1);
      assert.deepEqual((await doctor(d, '--skip-images')).problems, []);
    } finally {
      writeFileSync(`${cell}/freezer.state`, 'THAWED');
      await eventually('the cell is empty', () => {
        try {
          rmdirSync(cell);
          return true;
        } catch {
          return false;
        }
      });
    }
  },
);
