/** dockerd's flags for all containers: what they make of a container, and which words refuse them. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { run, TestDaemon } from '../support/daemon.ts';

const directory = mkdtempSync(join(tmpdir(), 'longshore-flags-'));
after(() => rmSync(directory, { recursive: true }));
const isV2 = existsSync('/sys/fs/cgroup/cgroup.controllers');

test('flags: the words that refuse them, before anything is started', async () => {
  const longshore = join(import.meta.dirname, '../../bin/longshore');
  const roots = ['--data-root', join(directory, 'data'), '--exec-root', join(directory, 'exec')];
  const own = [...roots, '--host', `unix://${directory}/s`, '--pidfile', `${directory}/pid`];
  writeFileSync(`${directory}/bad.json`, '{"syscalls": 5}');
  const systemd = existsSync('/run/systemd/system')
    ? [['--exec-opt=native.cgroupdriver=systemd', '--cgroup-parent=/x'], /should be a valid slice named as "xxx.slice"/]
    : [['--exec-opt', 'native.cgroupdriver=systemd'], /native.cgroupdriver=systemd: systemd not running on this host/];
  const cases = [
    [['--exec-opt', 'native.cgroupdriver=none'], /native.cgroupdriver option none not supported/],
    [['--exec-opt', 'isolation=hyperv'], /--exec-opt isolation=hyperv: native.cgroupdriver is the only option/],
    [['--exec-opt', 'x'], /unable to parse key\/value option: x/],
    systemd,
    [['--default-ipc-mode', 'host'], /default IPC mode setting \(host\) is invalid; use "shareable" or "private"/],
    [
      ['--default-cgroupns-mode', 'x'],
      /default cgroup namespace mode setting \(x\) is invalid; use "host" or "private"/,
    ],
    [['--seccomp-profile', '/no/such'], /opening seccomp profile \(\/no\/such\) failed: ENOENT/],
    [['--seccomp-profile', `${directory}/bad.json`], /failed: Decoding seccomp profile failed: "syscalls"/],
    [['--oom-score-adjust', '2000'], /--oom-score-adjust: 2000 is not in \[-1000, 1000\]/],
    [['--cpu-rt-period', 'x'], /invalid argument "x" for "--cpu-rt-period"/],
  ] as [string[], RegExp][];
  for (const [argv, words] of cases) {
    const { code, stderr } = await run(longshore, ['daemon', ...own, ...argv]);
    assert.equal(code, 1, argv.join(' '));
    assert.match(stderr, words);
  }
  assert.equal(existsSync(`${directory}/s`), false);
});

test('--validate: says whether the options and the file are right, and starts nothing', async () => {
  const longshore = join(import.meta.dirname, '../../bin/longshore');
  const file = `${directory}/daemon.json`;
  const validate = async (text: string, ...argv: string[]): Promise<string> => {
    writeFileSync(file, text);
    const { code, stderr } = await run(longshore, ['daemon', '--validate', '--config-file', file, ...argv]);
    return `${code} ${stderr.trim()}`;
  };
  for (const text of ['', ' \n', '{}', '\uFEFF{"debug": true}', `{"hosts": ["unix://${directory}/s"]}`])
    assert.equal(await validate(text), '0 configuration OK', text);
  assert.match(await validate('{'), /^1 longshore: unable to configure the daemon with file .*daemon\.json: .*JSON/);
  assert.match(await validate('{"unknown-option": true}'), /^1 .*don't match any configuration option: unknown-option/);
  assert.match(
    await validate('{}', '--host', 'tcp://0.0.0.0:1'),
    /^1 .*anybody who reaches this address would be root/,
  );
  assert.equal(existsSync(`${directory}/s`), false);
});

test('engine-id and /info: the ID is what the file says, and a listener that asks for no certificate is warned of', async () => {
  await using d = await TestDaemon.start('--host', 'tcp://127.0.0.1:0');
  const { ID, Warnings } = (await d.api('GET', '/info')).json;
  assert.match(ID, /^[0-9a-f-]{36}$/);
  assert.match(Warnings[0], /^WARNING: API is accessible on http:\/\/127\.0\.0\.1:0 without encryption\./);
  await d.down();
  writeFileSync(join(d.directory, 'data/engine-id'), 'moved here\n');
  await d.up();
  assert.equal((await d.api('GET', '/info')).json.ID, 'moved here');
});

test('flags: what a container has that says nothing, and one that does', async () => {
  writeFileSync(
    `${directory}/own.json`,
    '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}',
  );
  const parent = `/longshore-flags-${process.pid}`;
  const defaults = { 'ipc-mode': 'shareable', 'cgroupns-mode': 'private', ulimit: 'nofile=100:200', 'shm-size': '8m' };
  const others = ['--seccomp-profile', `${directory}/own.json`, '--exec-opt', 'native.cgroupdriver=cgroupfs'];
  await using d = await TestDaemon.start(
    ...Object.entries(defaults).map(([name, value]) => `--default-${name}=${value}`),
    ...others,
    `--cgroup-parent=${parent}`,
    '--oom-score-adjust=50',
  );
  await d.image();
  assert.equal(readFileSync(`/proc/${d.pid}/oom_score_adj`, 'utf8').trim(), '50');
  const { SecurityOptions, CgroupDriver } = (await d.api('GET', '/info')).json;
  assert.ok(SecurityOptions.includes(`name=seccomp,profile=${directory}/own.json`));
  assert.equal(CgroupDriver, 'cgroupfs');
  const script = 'mkdir /x 2>&1; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; df -k /dev/shm | tail -n 1';
  assert.match(await d.ok('run', '--rm', 'bb:1', 'sh', '-c', script), /not implemented\n100\n200\n0\nshm +8192 /);
  assert.equal(
    await d.ok('run', '--rm', '--security-opt', 'seccomp=builtin', 'bb:1', 'sh', '-c', 'mkdir /x && echo made'),
    'made',
  );
  await d.ok('run', '-d', '--name', 'says-nothing', 'bb:1', 'sleep', '1000');
  const { HostConfig, State, Id } = (await d.api('GET', '/containers/says-nothing/json')).json;
  assert.deepEqual(
    [HostConfig.IpcMode, HostConfig.CgroupnsMode, HostConfig.ShmSize],
    ['shareable', 'private', 8 << 20],
  );
  const { stdout } = await run('sh', ['-c', `cat /proc/${State.Pid}/cgroup`]);
  assert.match(stdout, new RegExp(`:${parent}/${Id}$`, 'm'));
  await d.ok('rm', '-f', 'says-nothing');
  await run('sh', ['-c', `rmdir /sys/fs/cgroup${parent} /sys/fs/cgroup/*${parent} 2>/dev/null`]);
});

test(
  'flags: real time is given to the cgroups above a container that asks for it',
  { skip: isV2 || !existsSync('/sys/fs/cgroup/cpu/cpu.rt_runtime_us') ? 'this kernel has no real-time groups' : false },
  async () => {
    const parent = `/longshore-rt-${process.pid}`;
    await using d = await TestDaemon.start(
      '--cpu-rt-period',
      '1000000',
      '--cpu-rt-runtime',
      '1000',
      '--cgroup-parent',
      parent,
    );
    await d.image();
    const files = 'cat /sys/fs/cgroup/cpu/cpu.rt_period_us /sys/fs/cgroup/cpu/cpu.rt_runtime_us';
    const asks = ['--cpu-rt-period', '1000000', '--cpu-rt-runtime', '500'];
    assert.equal(await d.ok('run', '--rm', ...asks, 'bb:1', 'sh', '-c', files), '1000000\n500');
    assert.equal(readFileSync(`/sys/fs/cgroup/cpu${parent}/cpu.rt_runtime_us`, 'utf8').trim(), '1000');
    const more = await d.docker(
      'run',
      '--rm',
      '--cpu-rt-period',
      '1000000',
      '--cpu-rt-runtime',
      '5000',
      'bb:1',
      'true',
    );
    assert.equal(more.code, 125, 'more than all have');
    await run('sh', ['-c', `rmdir /sys/fs/cgroup/*${parent} 2>/dev/null`]);
  },
);
