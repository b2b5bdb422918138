/**
 * What only a whole host can show: cgroup v2 with every controller, privileged containers, limits above those of a
 * container that the tests may run in. In the virtual machine (test/vm/run.sh) alone.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

import { eventually, TestDaemon } from '../support/daemon.ts';

describe('a host with cgroup v2', { skip: process.env['LSVM_BOOT'] === undefined }, () => {
  let d: TestDaemon;
  before(async () => {
    d = await TestDaemon.start();
    await d.image();
  });
  after(() => d[Symbol.asyncDispose]());

  test('info: cgroup v2, crun, and no warning about a limit that works', async () => {
    assert.equal(
      await d.ok('info', '--format', '{{.CgroupVersion}} {{.CgroupDriver}} {{.DefaultRuntime}}'),
      '2 cgroupfs crun',
    );
    const warnings = await d.ok('info', '--format', '{{json .Warnings}}');
    assert.doesNotMatch(warnings, /memory limit|cpu|pids|cpuset|io\.max/i);
  });

  test("cgroup namespace: private by default and read-only, the host's when asked, writable when privileged", async () => {
    assert.equal(await d.ok('run', '--rm', 'bb:1', 'cat', '/proc/self/cgroup'), '0::/');
    assert.notEqual(await d.ok('run', '--rm', '--cgroupns', 'host', 'bb:1', 'cat', '/proc/self/cgroup'), '0::/');
    assert.match(
      await d.ok(
        'run',
        '--rm',
        'bb:1',
        'sh',
        '-c',
        'mkdir /sys/fs/cgroup/x 2>&1; cat /sys/fs/cgroup/cgroup.controllers',
      ),
      /Read-only file system[^]*memory/,
    );
    assert.equal(
      await d.ok(
        'run',
        '--rm',
        '--privileged',
        'bb:1',
        'sh',
        '-c',
        'mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x && echo made',
      ),
      'made',
    );
  });

  test('--privileged: every capability, every device, no masked path, mounts work', async () => {
    const all = /^CapBnd:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]!;
    const seen = await d.ok(
      'run',
      '--rm',
      '--privileged',
      'bb:1',
      'sh',
      '-c',
      'grep -E "CapEff|Seccomp:|NoNewPrivs" /proc/self/status; mount -t tmpfs none /mnt 2>/dev/null || mkdir /m && mount -t tmpfs none /m && echo mounted; dd if=/dev/vdc of=/dev/null bs=512 count=1 2>/dev/null && echo read; echo 1 >/proc/sys/vm/compact_memory && echo written',
    );
    assert.match(seen, new RegExp(`CapEff:\\s*${all}`));
    assert.match(seen, /Seccomp:\s*0/);
    assert.match(seen, /mounted\nread\nwritten$/);
    const plain = await d.ok(
      'run',
      '--rm',
      'bb:1',
      'sh',
      '-c',
      'grep CapEff /proc/self/status; ls /dev | grep -c vdc; mknod /tmp/d b 254 32 && head -c 1 /tmp/d 2>&1; true',
    );
    assert.match(plain, /CapEff:\s*00000000a80425fb\n0\n[^]*Operation not permitted/);
  });

  test('--ulimit and sysctl: above what the daemon has', async () => {
    assert.equal(
      await d.ok('run', '--rm', '--ulimit', 'nofile=600000:600000', 'bb:1', 'sh', '-c', 'ulimit -n; ulimit -Hn'),
      '600000\n600000',
    );
    assert.equal(
      await d.ok('run', '--rm', '--sysctl', 'net.core.somaxconn=777', 'bb:1', 'cat', '/proc/sys/net/core/somaxconn'),
      '777',
    );
  });

  test('pause: frozen, told so, and a stop of it ends it', async () => {
    await d.ok('run', '-d', '--name', 'paused', 'bb:1', 'sh', '-c', 'while :; do :; done');
    await d.ok('pause', 'paused');
    const pid = await d.inspect('paused', '{{.State.Pid}}');
    const cgroup = `/sys/fs/cgroup${/^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))![1]}`;
    assert.match(readFileSync(`${cgroup}/cgroup.events`, 'utf8'), /frozen 1/);
    await d.ok('unpause', 'paused');
    await d.ok('pause', 'paused');
    await d.ok('stop', '-t', '0', 'paused');
    await eventually(
      'it ended',
      async () => (await d.inspect('paused', '{{.State.Status}} {{.State.ExitCode}}')) === 'exited 137',
    );
    await d.ok('rm', 'paused');
  });

  test('both runtimes: crun and runc run the same container', async () => {
    for (const runtime of ['crun', 'runc']) {
      assert.equal(
        await d.ok(
          'run',
          '--rm',
          '--runtime',
          runtime,
          '--memory',
          '32m',
          'bb:1',
          'sh',
          '-c',
          'cat /sys/fs/cgroup/memory.max; hostname >/dev/null; echo ok',
        ),
        `${32 << 20}\nok`,
        runtime,
      );
    }
  });
});
