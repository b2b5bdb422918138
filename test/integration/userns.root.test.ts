/**
 * --userns-remap: a container's root is nobody on the host. What is on disk has the host's IDs, what comes in and goes out
 * has the container's. Each daemon here has an /etc of its own, so that the host's accounts stay as they are.
 */
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';

import * as tar from 'tar-stream';

import { findProgram } from '../../src/runtime/detect.ts';
import { eventually, run, TestDaemon } from '../support/daemon.ts';
import { attempts, probeImage } from '../support/escape-probe.ts';

const PATHS = (process.env['PATH'] ?? '').split(':');
/** cap_net_admin+ep, as files have it outside of user namespaces (revision 2). */
const NET_ADMIN = Buffer.from('0100000200100000000000000000000000000000', 'hex');
const ROOT = 200_000;
/** Container ID 1000, which is the first of the second range. */
const APP = 300_000;
const APP_GROUP = ROOT + 1000;

function accounts(): Record<string, string> {
  return {
    passwd: `${readFileSync('/etc/passwd', 'utf8')}remapped:x:55555:55555::/:/bin/false\n`,
    group: `${readFileSync('/etc/group', 'utf8')}remapped:x:55555:\n`,
    // Two ranges follow each other in the container.
    subuid: `remapped:${ROOT}:1000\nsomebody:1:1\nremapped:${APP}:64536\n`,
    subgid: `remapped:${ROOT}:65536\n`,
  };
}

let d: TestDaemon;
let root: string;
before(async () => {
  d = await TestDaemon.startWithEtc(accounts(), '--userns-remap', 'remapped');
  root = join(d.directory, `data/${ROOT}.${ROOT}`);
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

const sh = (script: string, ...options: string[]) => d.ok('run', '--rm', ...options, 'bb:1', 'sh', '-c', script);
const ownerOf = (path: string) => {
  const { uid, gid } = lstatSync(path);
  return `${uid}:${gid}`;
};

test('info and inspect: say that containers are remapped, and where their files are', async () => {
  const { json } = await d.api('GET', '/info');
  assert(json.SecurityOptions.includes('name=userns'), json.SecurityOptions.join(' '));
  assert.equal(json.DockerRootDir, root);
  assert.equal(statSync(root).mode & 0o777, 0o710);
  assert.equal(ownerOf(root), `0:${ROOT}`);
  await d.ok('create', '--name', 'shown', 'bb:1');
  const { GraphDriver } = (await d.api('GET', '/containers/shown/json')).json;
  for (const path of Object.values(GraphDriver.Data).join(':').split(':').slice(1)) assert(path.startsWith(root), path);
  await d.ok('rm', 'shown');
});

test('a container: maps, owners and rights of its root', async () => {
  const maps = await sh(
    'cat /proc/self/uid_map /proc/self/gid_map | tr -s " "; ls -lnd / /bin /home/app /etc/hosts | awk "{print \\$3,\\$4}"',
  );
  assert.deepEqual(maps.split('\n').map((line) => line.trim()), [
    `0 ${ROOT} 1000`, `1000 ${APP} 64536`, `0 ${ROOT} 65536`, '0 0', '0 0', '0 0', '1000 1000',
  ]); // prettier-ignore
  // Its own network is its root's: ping, a low port, its interfaces, its sysctls.
  assert.equal(await sh('ping -c 1 -W 2 127.0.0.1 >/dev/null && echo pinged'), 'pinged');
  assert.equal(await sh('ip link set lo down && echo down', '--cap-add', 'NET_ADMIN'), 'down');
  assert.equal(await sh('cat /proc/sys/net/ipv4/ip_forward', '--sysctl', 'net.ipv4.ip_forward=0'), '0');
  assert.equal(await sh('echo x >/etc/hosts && echo changed'), 'changed');
  assert.equal(await sh('echo by name >/dev/stdout; id -u >/dev/stderr', '--user', 'app'), 'by name');
  // A root of nobody's: what belongs to the host's root stays out of reach.
  const host = join(d.directory, 'of-the-host');
  writeFileSync(host, 'secret', { mode: 0o600 });
  const { code, stdout } = await d.docker('run', '--rm', '-v', `${host}:/secret`, 'bb:1', 'cat', '/secret');
  assert.deepEqual([code, stdout], [1, '']);
});

test('its processes: are the mapped root’s on the host, whoever starts them', async () => {
  await d.ok('run', '-d', '--name', 'seen', 'bb:1', 'sleep', '6100');
  await d.ok('exec', '-d', '-u', 'app', 'seen', 'sleep', '6200');
  const uids = async () => {
    const { json } = await d.api('GET', '/containers/seen/top?ps_args=-eo+pid');
    return json.Processes.map(
      ([pid]: [string]) => /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1],
    );
  };
  await eventually('both run', async () => (await uids()).length === 2);
  assert.deepEqual((await uids()).toSorted(), [String(ROOT), String(APP)]);
  assert.match(await d.ok('exec', '-t', 'seen', 'sh', '-c', 'ls -ln $(tty)'), /^crw--w---- +1 0 +5 /);
  await d.ok('rm', '-f', 'seen');
  assert.deepEqual(readdirSync(join(d.directory, 'exec/userns')), [], 'its namespace is given back');
});

test('escape: a remapped container gets no further than another, whatever capabilities it has', async () => {
  await probeImage(d);
  const harmless = new Set(['char-null', 'clone3', 'clone3-user', 'clone-user', 'unshare-user']);
  const open = (seen: Record<string, string>) =>
    Object.keys(seen).filter((name) => seen[name] === 'ok' && !harmless.has(name));
  assert.deepEqual(open(await attempts(d)), []);
  // All capabilities, and no filter: they count for what belongs to its own namespaces, and for nothing of the host's.
  const seen = await attempts(d, '--cap-add', 'ALL', '--security-opt', 'seccomp=unconfined');
  assert.equal(seen['mount'], 'ok');
  for (const name of [
    'init_module',
    'kexec_load',
    'clock_settime',
    'settimeofday',
    'reboot',
    'swapon',
    'acct',
    'syslog',
    'open_by_handle_at',
    'char-mem',
    'char-kmsg',
    'block-8:0',
    'realtime',
    'core_pattern',
    'dev-mem',
  ])
    assert.notEqual(seen[name], 'ok', name);
});

test('volumes, binds, tmpfs, shared memory: belong to the container’s root', async () => {
  const bind = join(d.directory, 'made-for-it');
  const mounts = [
    '-v',
    'owned:/home/app',
    '-v',
    'fresh:/fresh',
    '-v',
    `${bind}/deep:/bind`,
    '--tmpfs',
    '/tmpfs',
    '--ipc',
    'shareable',
  ];
  const owners = await sh(
    'touch /fresh/x /bind/x /tmpfs/x /dev/shm/x && ls -lnd /bind /dev/shm /fresh /home/app /tmpfs | awk "{print \\$3}"',
    ...mounts,
  );
  assert.deepEqual(owners.split('\n'), ['0', '0', '0', '1000', '0']);
  assert.equal(ownerOf(`${root}/volumes/owned/_data`), `${APP}:${APP_GROUP}`, 'copied up with its owner');
  assert.equal(ownerOf(`${root}/volumes/fresh/_data/x`), `${ROOT}:${ROOT}`);
  for (const path of [bind, `${bind}/deep`, `${bind}/deep/x`]) assert.equal(ownerOf(path), `${ROOT}:${ROOT}`, path);
  assert.equal(await sh('ls -nd /made/for/it | awk "{print \\$3}"', '-w', '/made/for/it'), '0');
  await d.ok('volume', 'rm', 'owned', 'fresh');
});

test('archives: have the container’s IDs, in and out', async () => {
  await d.ok(
    'run',
    '--name',
    'files',
    'bb:1',
    'sh',
    '-c',
    'cd /tmp && touch a b && chown 1000:1000 a && chown 65535:65535 b && chmod 6755 b',
  );
  const listed = async (archive: Uint8Array) => (await run('tar', ['-tvn'], { input: archive })).stdout;
  const fetched = async (path: string) =>
    listed((await run('docker', ['cp', `files:${path}`, '-'], { env: { DOCKER_HOST: d.host } })).bytes);
  assert.match(await fetched('/tmp/a'), /^-rw-r--r-- 1000\/1000 /);
  assert.match(await fetched('/tmp/b'), /^-rwsr-sr-x 65535\/65535 /);
  const exported = await run('docker', ['export', 'files'], { env: { DOCKER_HOST: d.host } });
  assert.match(await listed(exported.bytes), /1000\/1000 .* tmp\/a\n.* 65535\/65535 .* tmp\/b\n/);
  // Into it, as the archive says.
  const from = join(d.directory, 'from');
  mkdirSync(from);
  writeFileSync(join(from, 'in'), 'x');
  await run('chown', ['7:8', join(from, 'in')]);
  await d.ok('cp', '-q', '-a', join(from, 'in'), 'files:/tmp/in');
  await d.ok('commit', 'files', 'files:1');
  const owners = 'ls -ln /tmp | awk "NR>1{print \\$1,\\$3,\\$4,\\$9}"';
  assert.equal(
    await d.ok('run', '--rm', 'files:1', 'sh', '-c', owners),
    '-rw-r--r-- 1000 1000 a\n-rwsr-sr-x 65535 65535 b\n-rw-r--r-- 7 8 in',
  );
  // A saved image says nothing of the map.
  const saved = (await run('docker', ['save', 'files:1'], { env: { DOCKER_HOST: d.host } })).bytes;
  assert(!(await run('sh', ['-c', 'tar -xO | strings -n 7'], { input: saved })).stdout.includes(ROOT.toString(8)));
  await d.ok('rm', 'files');
  // An owner beyond the ranges cannot be there.
  const beyond = join(d.directory, 'beyond');
  mkdirSync(beyond);
  writeFileSync(join(beyond, 'x'), '');
  await run('chown', ['70000:0', join(beyond, 'x')]);
  const { bytes } = await run('tar', ['--numeric-owner', '-C', beyond, '-c', '.']);
  const imported = await d.dockerWith({ input: bytes }, 'import', '-', 'beyond:1');
  assert.match(imported.stderr, /Container ID 70000 cannot be mapped to a host ID/);
});

test('file capabilities: count in the user namespace, and leave it as they came', async () => {
  const pack = tar.pack();
  const pax = { 'SCHILY.xattr.security.capability': NET_ADMIN.toString('latin1') };
  pack.entry({ name: 'busybox', mode: 0o755, pax }, readFileSync((await findProgram('busybox', PATHS)) ?? ''));
  pack.finalize();
  const bytes = await buffer(pack);
  await d.ok(
    'create',
    '--name',
    'caps',
    '--cap-add',
    'NET_ADMIN',
    '-u',
    'app',
    'bb:1',
    '/tmp/busybox',
    'ip',
    'link',
    'set',
    'lo',
    'down',
  );
  assert.equal(
    (await d.api('PUT', '/containers/caps/archive?path=/tmp', bytes, { 'content-type': 'application/x-tar' })).status,
    200,
  );
  assert.equal(await d.ok('start', '-a', 'caps'), '');
  const { bytes: out } = await run('docker', ['cp', 'caps:/tmp/busybox', '-'], { env: { DOCKER_HOST: d.host } });
  assert(out.includes(NET_ADMIN), 'as it came');
  await d.ok('rm', 'caps');
});

test('build: steps, COPY and --chown see the container’s IDs', async () => {
  const context = join(d.directory, 'context');
  mkdirSync(context);
  writeFileSync(join(context, 'f'), 'x');
  writeFileSync(
    join(context, 'Dockerfile'),
    'FROM bb:1\nCOPY --chown=app:app f /owned\nCOPY f /plain\nRUN touch /made && chown 12:13 /made && chmod 4755 /made\nFROM bb:1\nCOPY --from=0 /owned /plain /made /x/\nCOPY --from=0 --chown=5:6 /plain /y\n',
  );
  const built = await run('docker', ['build', '-q', '-t', 'built:1', context], {
    env: { DOCKER_HOST: d.host, DOCKER_BUILDKIT: '0' },
  });
  assert.equal(built.code, 0, built.stderr);
  const seen = await d.ok('run', '--rm', 'built:1', 'sh', '-c', 'ls -ln /x /y | awk "NF>5{print \\$1,\\$3,\\$4,\\$9}"');
  assert.deepEqual(seen.split('\n').toSorted(), [
    '-rw-r--r-- 0 0 plain',
    '-rw-r--r-- 1000 1000 owned',
    '-rw-r--r-- 5 6 /y',
    '-rwsr-xr-x 12 13 made',
  ]);
});

test('shared namespaces: share the user namespace too', async () => {
  await d.ok(
    'run',
    '-d',
    '--name',
    'donor',
    '--ipc',
    'shareable',
    'bb:1',
    'sh',
    '-c',
    'httpd -p 80 -h /www; exec sleep 6000',
  );
  const user = await d.ok('exec', 'donor', 'readlink', '/proc/self/ns/user');
  assert.equal(
    await sh('readlink /proc/self/ns/user; until wget -qO- 127.0.0.1/; do :; done', '--network', 'container:donor'),
    `${user}\nhello`,
  );
  assert.equal(
    await sh(
      'readlink /proc/self/ns/user; ping -c 1 127.0.0.1 >/dev/null && ps | grep -q [h]ttpd && echo seen',
      '--pid',
      'container:donor',
    ),
    `${user}\nseen`,
  );
  await d.ok('exec', 'donor', 'touch', '/dev/shm/shared');
  assert.equal(await sh('readlink /proc/self/ns/user; ls /dev/shm', '--ipc', 'container:donor'), `${user}\nshared`);
  assert.notEqual(await sh('readlink /proc/self/ns/user'), user, 'others have their own');
  await d.ok('rm', '-f', 'donor');
});

test('--userns=host: the host’s IDs, and what needs them', async () => {
  assert.match(await sh('cat /proc/self/uid_map', '--userns', 'host'), /^ +0 +0 +4294967295$/);
  assert.match(await sh('mount -t tmpfs none /tmp && echo made', '--userns', 'host', '--privileged'), /made/);
  const refused = async (...options: string[]) =>
    (
      await d.api('POST', '/containers/create', {
        Image: 'bb:1',
        HostConfig: Object.fromEntries(options.map((o) => o.split('='))),
      })
    ).json.message;
  assert.equal(await refused('PidMode=host'), 'cannot share the host PID namespace when user namespaces are enabled');
  assert.equal(
    await refused('NetworkMode=host'),
    "cannot share the host's network namespace when user namespaces are enabled",
  );
  const { status, json } = await d.api('POST', '/containers/create', {
    Image: 'bb:1',
    HostConfig: { Privileged: true },
  });
  assert.equal(
    json.message,
    'privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode',
  );
  assert.equal(status, 400);
});

test('a daemon with and without: each keeps its own store', async () => {
  await d.ok('run', '-d', '--name', 'stays', '--restart', 'always', 'bb:1', 'sleep', '6000');
  await d.ok('stop', '-t', '0', 'stays');
  await d.down();
  await d.upWith([]);
  assert.equal(await d.ok('images', '-q'), '');
  assert.equal(await d.ok('ps', '-aq'), '');
  await d.image('plain:1');
  assert.equal(await d.ok('run', '--rm', 'plain:1', 'stat', '-c', '%u', '/bin'), '0');
  await d.down();
  await d.upWith(['--userns-remap', 'remapped']);
  assert.equal(await d.ok('ps', '-a', '--format', '{{.Names}}'), 'stays');
  assert.equal(await d.ok('images', '-q', 'plain:1'), '');
  await d.ok('start', 'stays');
  await d.ok('rm', '-f', 'stays');
});

test('--userns-remap=default: the user dockremap is made, with ranges that nobody has', async () => {
  await using other = await TestDaemon.startWithEtc(
    { subuid: 'a:100000:65536\n', subgid: '' },
    '--userns-remap',
    'default',
  );
  await other.image();
  const map = await other.ok(
    'run',
    '--rm',
    'bb:1',
    'sh',
    '-c',
    'cat /proc/self/uid_map /proc/self/gid_map | tr -s " "',
  );
  assert.equal(map, ' 0 165536 65536\n 0 100000 65536');
  assert.match(readFileSync(join(other.directory, 'etc/passwd'), 'utf8'), /^dockremap:/m);
});
