/**
 * AppArmor, on a kernel that has it, in the virtual machine (test/vm/run.sh) alone: the default profile is loaded by the
 * engine, holds containers and their execs, comes back when it was removed, and gives way to another that is asked for.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

import { TestDaemon } from '../support/daemon.ts';

const SECURITY = '/sys/kernel/security/apparmor';
const OWN_POLICY = 'profile longshore-test { file, signal, capability, deny /tmp/secret w, }\n';

describe('a host with AppArmor', { skip: process.env['LSVM_BOOT'] === undefined }, () => {
  let d: TestDaemon;
  const loaded = (): string => readFileSync(`${SECURITY}/profiles`, 'utf8');
  const run = (...options: string[]): Promise<string> => d.ok('run', '--rm', ...options);
  const confinedAs = (...options: string[]): Promise<string> =>
    run(...options, 'bb:1', 'cat', '/proc/self/attr/current');
  before(async () => {
    assert.ok(existsSync(SECURITY), 'this kernel has no AppArmor');
    if (loaded().includes('docker-default')) writeFileSync(`${SECURITY}/.remove`, 'docker-default');
    d = await TestDaemon.start();
    await d.image();
  });
  after(() => d[Symbol.asyncDispose]());

  test('info names it, and the default profile is in the kernel', async () => {
    assert.match(await d.ok('info', '--format', '{{.SecurityOptions}}'), /name=apparmor/);
    assert.match(loaded(), /^docker-default \(enforce\)$/m);
  });

  test('containers and execs are confined by it; privileged and unconfined ones are not', async () => {
    assert.equal(await confinedAs(), 'docker-default (enforce)');
    assert.equal(await confinedAs('--init'), 'docker-default (enforce)');
    assert.equal(await confinedAs('--privileged'), 'unconfined');
    assert.equal(await confinedAs('--security-opt', 'apparmor=unconfined'), 'unconfined');
    const id = await d.ok('run', '-d', '--name', 'held', 'bb:1', 'sleep', '1000');
    assert.equal(await d.ok('inspect', '--format', '{{.AppArmorProfile}}', id), 'docker-default');
    assert.equal(await d.ok('exec', id, 'cat', '/proc/self/attr/current'), 'docker-default (enforce)');
    // As in Docker: capabilities, and no other profile.
    assert.equal(await d.ok('exec', '--privileged', id, 'cat', '/proc/self/attr/current'), 'docker-default (enforce)');
    // Its signals arrive: from the engine, and from one process of it to another.
    assert.equal(await d.ok('exec', id, 'sh', '-c', 'sleep 100 & kill $! && wait $!; echo $?'), '143');
    await d.ok('kill', '-s', 'USR1', id);
    await d.ok('rm', '-f', id);
  });

  test('what seccomp, capabilities and masks would let through, it denies', async () => {
    const open = [
      '--cap-add',
      'ALL',
      '--security-opt',
      'seccomp=unconfined',
      '--security-opt',
      'systempaths=unconfined',
    ];
    const attempts = [
      'mkdir -p /tmp/m; mount -t tmpfs none /tmp/m && echo mounted',
      'echo 1 >/proc/sys/vm/compact_memory && echo sysctl',
      'echo core >/proc/sys/kernel/core_pattern && echo pattern',
      'echo h >/proc/sysrq-trigger && echo sysrq',
      'head -c 1 /proc/kcore >/dev/null && echo kcore',
      'echo 0 >/sys/kernel/profiling && echo sys',
      'ls /sys/kernel/security/apparmor >/dev/null && echo security',
      'echo fine >/tmp/file && cat /tmp/file; chown 5 /tmp/file; umount /dev/shm && echo umounted',
      'true',
    ].join('; ');
    const script = ['bb:1', 'sh', '-c', `exec 2>/dev/null; ${attempts}`];
    assert.equal(await run(...open, ...script), 'fine\numounted');
    assert.match(await run(...open, '--security-opt', 'apparmor=unconfined', ...script), /^mounted\nsysctl\n/);
  });

  test('one that was removed is loaded again by the next start, or exec', async () => {
    const id = await d.ok('run', '-d', '--security-opt', 'apparmor=docker-default', 'bb:1', 'sleep', '1000');
    for (const look of [() => confinedAs(), () => d.ok('exec', id, 'cat', '/proc/self/attr/current')]) {
      writeFileSync(`${SECURITY}/.remove`, 'docker-default');
      assert.doesNotMatch(loaded(), /docker-default/);
      assert.equal(await look(), 'docker-default (enforce)');
    }
    await d.ok('rm', '-f', id);
  });

  test('an own profile holds; one that is not there keeps the container from starting', async () => {
    execFileSync('apparmor_parser', ['-Kr'], { input: OWN_POLICY });
    const own = ['--security-opt', 'apparmor=longshore-test', 'bb:1', 'sh', '-c'];
    const look = 'cat /proc/self/attr/current; (echo x >/tmp/secret) 2>/dev/null || echo denied';
    assert.equal(await run(...own, look), 'longshore-test (enforce)\ndenied');
    const missing = await d.docker('run', '--rm', '--security-opt', 'apparmor=nobody-has-this', 'bb:1', 'true');
    assert.equal(missing.code, 125);
    assert.match(missing.stderr, /unable to apply apparmor profile: "nobody-has-this" is not loaded on this host/);
    assert.equal(await d.ok('ps', '-aq'), '');
  });
});
