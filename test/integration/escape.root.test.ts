/**
 * Ways out of a container that others have found, tried on a real kernel. What a default container may is Docker's
 * choice (its seccomp profile, capabilities, masked paths); where a runtime does the work, it is its version that is tried.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { findProgram } from '../../src/runtime/detect.ts';
import { run, TestDaemon } from '../support/daemon.ts';
import { attempts, probeImage } from '../support/escape-probe.ts';

const PATHS = (process.env['PATH'] ?? '').split(':');

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
  await probeImage(d);
});
after(() => d[Symbol.asyncDispose]());

/** What each answer means that is not EPERM. ENOENT: this kernel was built without. */
const OTHERWISE: Readonly<Record<string, string>> = {
  'clone3-user': 'ENOSYS', // its flags are out of the filter's sight: libc is to take clone()
  clone3: 'ENOSYS',
  'ptrace-stranger': 'ESRCH',
  nice: 'EACCES',
  oom_score_adj: 'EACCES',
  'char-null': 'ok', // a device that every container has may be made again
  'sysrq-trigger': 'EROFS|ENOENT',
  core_pattern: 'EROFS',
  modprobe: 'EROFS|ENOENT',
  ip_forward: 'EROFS',
  'sys-kernel': 'EROFS',
  'cgroup-procs': 'EROFS',
  release_agent: 'EROFS',
  kcore: 'empty|ENOENT|EACCES', // where there is AppArmor, its profile refuses before the mask is read
  'proc-keys': 'empty|ENOENT',
  timer_list: 'empty|ENOENT',
  interrupts: 'empty|ENOENT',
  firmware: 'empty|ENOENT',
  'dev-mem': 'ENOENT',
  'dev-kmsg': 'ENOENT',
  'leave-chroot': 'inside',
};

test('a default container: none of the ways out of it is open', async () => {
  const seen = await attempts(d);
  const open = Object.entries(seen).filter(
    ([name, answer]) => !(OTHERWISE[name] ?? 'EPERM').split('|').includes(answer),
  );
  assert.deepEqual(open, []);
  assert(Object.keys(seen).length > 80, 'the probe came to its end');
});

test('a container of another user: no more than root’s, and no capability', async () => {
  const seen = await attempts(d, '--user', '1000:1000');
  const open = Object.entries(seen).filter(([name, answer]) => answer === 'ok' && name !== 'char-null');
  assert.deepEqual(open, []);
  const status = await d.ok(
    'run',
    '--rm',
    '-u',
    'app',
    'bb:1',
    'grep',
    '-E',
    '^Cap(Prm|Eff|Amb|Inh):',
    '/proc/self/status',
  );
  assert.match(status, /^(Cap\w+:\t0{16}\n?){4}$/);
});

test('the probe: sees what is given away on purpose', async () => {
  const privileged = await attempts(d, '--privileged');
  const refused = new Set(['EPERM', 'EROFS', 'empty']);
  for (const name of [
    'mount',
    'fsopen',
    'unshare-user',
    'keyctl',
    'bpf',
    'core_pattern',
    'timer_list',
    'reboot',
    'char-fuse',
  ])
    assert(!refused.has(privileged[name]!), `${name}=${privileged[name]} in a privileged container`);
  const unconfined = await attempts(d, '--security-opt', 'seccomp=unconfined');
  for (const name of ['io_uring_setup', 'userfaultfd', 'add_key', 'clone-user'])
    assert(!refused.has(unconfined[name]!), `${name}=${unconfined[name]} without the filter`);
  assert.match(
    unconfined['mount']!,
    /^(EPERM|EACCES)$/,
    'the capability is still missing, or AppArmor’s profile says no',
  );
});

test('descriptors: a container has its three streams and nothing of the engine’s or the runtime’s', async () => {
  const own = /^0\n1\n2\n3$/; // 3 is the directory that ls reads
  assert.match(await d.ok('run', '--rm', 'bb:1', 'ls', '/proc/self/fd'), own);
  await d.ok('run', '-d', '--name', 'open-files', 'bb:1', 'sleep', '6000');
  assert.match(await d.ok('exec', 'open-files', 'ls', '/proc/self/fd'), own);
  assert.equal(await d.ok('exec', 'open-files', 'ls', '/proc/1/fd'), '0\n1\n2');
  await d.ok('rm', '-f', 'open-files');
});

test('working directory: a descriptor of the runtime’s leads nowhere (CVE-2024-21626)', async () => {
  await d.ok('run', '-d', '--name', 'cwd', 'bb:1', 'sleep', '6000');
  const escaped = 'ls -d ../../../../../../../../proc/1/root >/dev/null; cat ../../../../../../../../../etc/os-release';
  const tries = [3, 6, 7, 8, 9, 10].flatMap((fd) => [
    d.docker('run', '--rm', '-w', `/proc/self/fd/${fd}`, 'bb:1', 'sh', '-c', escaped),
    d.docker('exec', '-w', `/proc/self/fd/${fd}`, 'cwd', 'sh', '-c', escaped),
  ]);
  for (const { code, stdout } of await Promise.all(tries)) {
    assert.notEqual(code, 0);
    assert.match(stdout, /^$|chdir to cwd/); // of an exec, the error is output
  }
  await d.ok('rm', '-f', 'cwd');
});

test('/proc/PID/exe: the runtime that enters a container is not written to (CVE-2019-5736)', async () => {
  const real = realpathSync((await findProgram('runc', PATHS)) ?? (await findProgram('crun', PATHS)) ?? '');
  const copy = join(d.directory, 'runc');
  copyFileSync(real, copy);
  chmodSync(copy, 0o755);
  const hash = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
  await using other = await TestDaemon.start('--add-runtime', `copied=${copy}`);
  await other.image();
  await other.ok('create', '--name', 'attacker', '--runtime', 'copied', 'bb:1', 'sleep', '6000');
  await other.ok('cp', '-q', join(d.directory, 'escape-probe'), 'attacker:/escape-probe');
  await other.ok('start', 'attacker');
  const attack = other.docker('exec', 'attacker', '/escape-probe', 'overwrite');
  const entered = (async () => {
    for (let i = 0; i < 8; i++) await other.ok('exec', 'attacker', 'true');
  })();
  const [{ stdout }] = await Promise.all([attack, entered]);
  assert.doesNotMatch(stdout, /written/);
  assert.match(stdout, /over|nobody came/, 'the attack was made');
  // The other half of it: the runtime as the container's own program.
  await other.docker('run', '--rm', '--runtime', 'copied', '--entrypoint', '/proc/self/exe', 'bb:1', '--version');
  assert.equal(hash(copy), hash(real));
});

test('mount points: a link in the image leads to a place in the container', async () => {
  const outside = join(d.directory, 'outside');
  mkdirSync(outside);
  writeFileSync(join(outside, 'file'), 'of the host');
  const script = `ln -s ${outside}/of-a-bind /plain; ln -s ../../../../../../..${outside} /climbing; rm -rf /work; ln -s ${outside} /work; rm -f /etc/hosts /etc/resolv.conf; true`;
  await d.ok('run', '--name', 'links', 'bb:1', 'sh', '-c', script);
  await d.ok('commit', 'links', 'links:1');
  await d.ok('rm', 'links');
  const source = join(d.directory, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'mine'), 'x');
  const mounts = [
    '-v',
    `${source}:/plain`,
    '--tmpfs',
    '/climbing/deep',
    '-v',
    'links-volume:/work/volume',
    '-w',
    '/work/dir',
  ];
  const seen = await d.ok(
    'run',
    '--rm',
    ...mounts,
    'links:1',
    'sh',
    '-c',
    'ls /plain; pwd -P; touch /climbing/deep/x /work/volume/y; ls /climbing/deep',
  );
  assert.deepEqual(seen.split('\n'), ['mine', `${outside}/dir`, 'x']);
  assert.deepEqual((await run('ls', ['-A', outside])).stdout, 'file\n', 'nothing was made or mounted on the host');
  assert.equal(readFileSync(join(outside, 'file'), 'utf8'), 'of the host');
  await d.ok('volume', 'rm', 'links-volume');
});

test('/proc as a link in the image: refused, or inside; never the host’s', async () => {
  const outside = join(d.directory, 'outside-proc');
  mkdirSync(outside);
  await d.ok('run', '--name', 'proc-link', 'bb:1', 'sh', '-c', 'true');
  const tar = join(d.directory, 'hostile');
  mkdirSync(tar);
  for (const name of ['proc', 'sys', 'dev']) symlinkSync(outside, join(tar, name));
  const { bytes } = await run('sh', ['-c', `tar -C ${tar} -c .`]);
  await d.dockerWith({ input: bytes }, 'import', '-', 'hostile:1');
  await d.docker('run', '--rm', 'hostile:1', '/proc/self/exe');
  assert.equal((await run('ls', ['-A', outside])).stdout, '');
  const mounted = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(outside));
  assert.deepEqual(mounted, []);
  await d.ok('rm', 'proc-link');
});

test('/etc/passwd: a pipe, a link to the host’s, a device or a huge one neither hangs nor leaks', async () => {
  const secret = join(d.directory, 'passwd');
  writeFileSync(secret, 'leaked:x:4242:4242::/:/bin/sh\n');
  const files = {
    pipe: 'mkfifo passwd',
    link: `ln -s ../../../../../../../..${secret} passwd`,
    zero: 'mknod passwd c 1 5',
    huge: 'dd if=/dev/zero of=passwd bs=1M count=16 2>/dev/null',
  };
  for (const [name, make] of Object.entries(files)) {
    await d.ok(
      'run',
      '-d',
      '--name',
      name,
      'bb:1',
      'sh',
      '-c',
      `cd /etc; rm passwd; ${make}; echo ready; exec sleep 6000`,
    );
    for (let i = 0; i < 100 && (await d.ok('logs', name)) !== 'ready'; i++);
    const { code, stdout, stderr } = await d.dockerWith({ timeoutMs: 10_000 }, 'exec', '-u', 'leaked', name, 'true');
    assert.notEqual(code, 0, name);
    assert.match(
      stdout + stderr, // of an exec, the error is output
      name === 'huge' ? /larger than/ : /unable to find user leaked: no matching entries in passwd file/,
    );
  }
  await d.ok('rm', '-f', ...Object.keys(files));
});

test('a part of a volume: replaced by a link from another container, it is not what the link says', async () => {
  const outside = join(d.directory, 'outside-volume');
  mkdirSync(outside);
  writeFileSync(join(outside, 'secret'), 'of the host');
  const part = (name: string) => ['--mount', `type=volume,src=parts,dst=/part,volume-subpath=${name}`];
  await d.ok(
    'run',
    '-d',
    '--name',
    'writer',
    '-v',
    'parts:/v',
    'bb:1',
    'sh',
    '-c',
    `mkdir /v/good /v/also; echo ours >/v/good/x; ln -s ${outside} /v/bad; ln -s ../../../../../..${outside} /v/climbs; exec sleep 6000`,
  );
  await d.ok('exec', 'writer', 'sh', '-c', 'until [ -L /v/climbs ]; do :; done');
  assert.equal(await d.ok('run', '--rm', ...part('good'), 'bb:1', 'cat', '/part/x'), 'ours');
  for (const name of ['bad', 'climbs']) {
    const { code, stdout } = await d.docker('run', '--rm', ...part(name), 'bb:1', 'ls', '/part');
    assert.equal(stdout, '');
    assert.notEqual(code, 0);
  }
  // Replaced while it is mounted: copies go where the mount is found, in the volume.
  await d.ok('create', '--name', 'reader', ...part('also'), 'bb:1');
  await d.ok('exec', 'writer', 'sh', '-c', `mv /v/also /v/gone; ln -s ${outside} /v/also`);
  const copied = await d.dockerWith(
    { input: readFileSync(join(d.directory, 'escape-probe')).subarray(0, 0) },
    'cp',
    '-q',
    join(d.directory, 'escape-probe'),
    'reader:/part/',
  );
  assert.notEqual(copied.code, 0);
  assert.notEqual((await d.docker('cp', 'reader:/part/secret', join(d.directory, 'got'))).code, 0);
  assert.equal((await run('ls', ['-A', outside])).stdout, 'secret\n');
  await d.ok('rm', '-f', 'writer', 'reader');
  await d.ok('volume', 'rm', 'parts');
});

test('the engine and other networks: out of a container’s reach', async () => {
  await d.ok('network', 'create', 'apart');
  await d.ok('run', '-d', '--name', 'alone', '--network', 'apart', 'bb:1', 'httpd', '-f', '-p', '80', '-h', '/www');
  const address = await d.inspect('alone', '{{.NetworkSettings.Networks.apart.IPAddress}}');
  assert.notEqual((await d.docker('run', '--rm', 'bb:1', 'wget', '-T', '2', '-qO-', `http://${address}/`)).code, 0);
  // With the host's network a container meets abstract sockets: none of them may be ours.
  const sockets = await d.ok('run', '--rm', '--network', 'host', 'bb:1', 'cat', '/proc/net/unix');
  assert.doesNotMatch(sockets, /@\S*(longshore|shim|docker)/i);
  const reached = await d.docker('run', '--rm', 'bb:1', 'ls', d.directory);
  assert.notEqual(reached.code, 0);
  await d.ok('rm', '-f', 'alone');
  await d.ok('network', 'rm', 'apart');
});
