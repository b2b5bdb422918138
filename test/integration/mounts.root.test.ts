/** Mounts as users and moby's own tests ask for them: each is looked at from inside the container. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { eventually, TestDaemon } from '../support/daemon.ts';

let d: TestDaemon;
const scratch = mkdtempSync(join(tmpdir(), 'longshore-mounts-'));

before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(async () => {
  for (const path of mountsBelow(scratch).toReversed()) execFileSync('umount', ['-l', path]);
  rmSync(scratch, { recursive: true });
  await d[Symbol.asyncDispose]();
});

function mountsBelow(directory: string): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.map((line) => line.split(' ')[4] ?? '').filter((path) => path.startsWith(`${directory}/`));
}

function directory(name: string): string {
  const path = join(scratch, name);
  mkdirSync(path, { recursive: true });
  return path;
}

interface Outcome {
  readonly status: number;
  readonly text: string;
}

/** Creates, starts, waits and removes: what the command said, or the refusal with its status. */
async function outcome(cmd: readonly string[], hostConfig: object, version = '1.51'): Promise<Outcome> {
  const body = { Image: 'bb:1', Cmd: cmd, HostConfig: hostConfig };
  const made = await d.api('POST', `/v${version}/containers/create`, body);
  if (made.status !== 201) return { status: made.status, text: made.json.message };
  const id: string = made.json.Id;
  try {
    const started = await d.api('POST', `/v${version}/containers/${id}/start`);
    if (started.status !== 204) return { status: started.status, text: started.json.message };
    const waited = await d.api('POST', `/containers/${id}/wait`);
    const { stdout, stderr } = await d.docker('logs', id);
    return { status: waited.json.StatusCode, text: (stdout + stderr).trim() };
  } finally {
    await d.api('DELETE', `/containers/${id}?force=1&v=1`);
  }
}

test('--mount type=volume,volume-subpath: a part of the volume, through its links, and never out of it', async () => {
  const at = (subpath: string, target: string, ...cmd: string[]): Promise<Outcome> =>
    outcome(cmd, {
      Mounts: [{ Type: 'volume', Source: 'parts', Target: target, VolumeOptions: { Subpath: subpath } }],
    });
  const script =
    'echo foo >bar.txt; mkdir bin subdir hack; echo world >subdir/hello; ln -s / hack/root; ln -s ../subdir hack/good; ln -s root hack/bad; ln -s /subdir hack/abs';
  await d.ok('run', '--rm', '-v', 'parts:/v', '-w', '/v', 'bb:1', 'sh', '-c', script);
  const { Mountpoint: root } = (await d.api('GET', '/volumes/parts')).json;
  assert.deepEqual(await at('subdir', '/v', 'ls', '/v'), { status: 0, text: 'hello' });
  assert.deepEqual(await at('hack/good', '/v', 'ls', '/v'), { status: 0, text: 'hello' });
  assert.deepEqual(await at('bin', '/bin', 'ls', '/bin/busybox'), { status: 0, text: '/bin/busybox' });
  assert.equal(existsSync(`${root}/bin/busybox`), true); // copied into the part, and not beside it
  assert.equal(existsSync(`${root}/busybox`), false);
  assert.deepEqual(await at('bar.txt', '/v', 'cat', '/v'), { status: 0, text: 'foo' });
  assert.deepEqual(await at('../../etc/passwd', '/v', 'true'), {
    status: 400,
    text: 'invalid mount config for type "volume": subpath must be a relative path within the volume',
  });
  assert.deepEqual(await at('none', '/v', 'true'), {
    status: 404,
    text: `cannot access path ${root}/none: lstat ${root}/none: no such file or directory`,
  });
  for (const subpath of ['hack/root', 'hack/bad', 'hack/abs']) {
    assert.deepEqual(await at(subpath, '/v', 'true'), {
      status: 400,
      text: `path concatenation escapes the base directory, base: ${root}, subpath: ${subpath}`,
    });
  }
  assert.deepEqual(mountsBelow(`${d.directory}/data/containers`), []);
  await d.ok('volume', 'rm', 'parts');
});

test('--mount type=image: read-only, in parts, in use, and still there when the image and the daemon are gone', async () => {
  const tree = directory('image');
  for (const path of ['subdir', 'hack']) mkdirSync(join(tree, path));
  writeFileSync(join(tree, 'foo'), 'bar');
  writeFileSync(join(tree, 'subdir/hello'), 'world');
  symlinkSync('../subdir', join(tree, 'hack/good'));
  symlinkSync('../../../../../docker', join(tree, 'hack/bad'));
  await d.dockerWith({ input: execFileSync('tar', ['-C', tree, '-c', '.']) }, 'import', '-', 'tree:1');
  const at = (subpath: string, ...cmd: string[]): Promise<Outcome> =>
    outcome(cmd, { Mounts: [{ Type: 'image', Source: 'tree:1', Target: '/i', ImageOptions: { Subpath: subpath } }] });
  assert.deepEqual(await at('', 'cat', '/i/foo'), { status: 0, text: 'bar' });
  assert.deepEqual(await at('hack/good', 'ls', '/i'), { status: 0, text: 'hello' });
  assert.deepEqual(await at('subdir/hello', 'cat', '/i'), { status: 0, text: 'world' });
  assert.equal((await at('', 'touch', '/i/x')).status, 1);
  assert.equal((await at('hack/bad', 'true')).status, 400);
  assert.equal((await at('none', 'true')).status, 404);

  const mounts = ['--mount', 'type=image,source=tree:1,target=/a', '--mount', 'type=image,source=tree:1,target=/b'];
  const id = await d.ok('run', '-d', '--name', 'im', ...mounts, 'bb:1', 'sh', '-c', 'cat /a/foo /b/foo; sleep 6000');
  const image = (await d.ok('image', 'inspect', '--format', '{{.Id}}', 'tree:1')).slice('sha256:'.length);
  const refused = await d.docker('rmi', 'tree:1');
  assert.match(
    refused.stderr,
    new RegExp(`\\(must force\\) - container ${id.slice(0, 12)} is using its referenced image ${image.slice(0, 12)}`),
  );
  await d.down('SIGKILL');
  await d.up();
  await d.ok('stop', '-t', '0', 'im');
  await eventually('the image is unmounted', () => mountsBelow(`${d.directory}/data/snapshot`).length === 0);
  await d.ok('rmi', '-f', 'tree:1');
  await d.ok('start', 'im');
  assert.equal(await d.ok('exec', 'im', 'cat', '/b/foo'), 'bar');
  const copied = join(scratch, 'copied');
  await d.ok('cp', 'im:/a/subdir/hello', copied);
  assert.equal(readFileSync(copied, 'utf8'), 'world');
  const [mount] = JSON.parse(await d.inspect('im', '{{json .Mounts}}'));
  assert.deepEqual([mount.Type, mount.Name, mount.RW], ['image', 'tree:1', false]);
  await d.ok('rm', '-f', 'im');
});

test('binds: recursive or not, read-only all the way down since 1.44, sources that are not there', async () => {
  const [outer, inner] = [directory('outer'), directory('inner')];
  mkdirSync(join(outer, 'mnt'));
  writeFileSync(join(inner, 'file'), '');
  execFileSync('mount', ['--bind', inner, join(outer, 'mnt')]);
  const bind = (options: object, readOnly = true): object => ({
    Mounts: [{ Type: 'bind', Source: outer, Target: '/foo', ReadOnly: readOnly, BindOptions: options }],
  });
  const touch = ['sh', '-c', 'touch /foo/x 2>/dev/null; echo $?; touch /foo/mnt/file 2>/dev/null; echo $?'];
  const said = async (hostConfig: object, version?: string): Promise<string> =>
    (await outcome(touch, hostConfig, version)).text.replaceAll('\n', ' ');
  assert.equal(await said(bind({})), '1 1');
  assert.equal(await said({ Binds: [`${outer}:/foo:ro,rprivate`] }), '1 1');
  assert.equal(await said({ Binds: [`${outer}:/foo:ro`] }, '1.43'), '1 0');
  assert.equal(await said(bind({}), '1.43'), '1 0');
  assert.equal(await said(bind({ ReadOnlyNonRecursive: true })), '1 0');
  assert.equal(await said(bind({ ReadOnlyForceRecursive: true })), '1 1');
  assert.equal(await said(bind({}, false)), '0 0');
  assert.equal((await outcome(['test', '-e', '/foo/mnt/file'], bind({ NonRecursive: true }))).status, 1);

  const missing = join(scratch, 'missing/deep');
  const asked = (options: object): object => ({
    Mounts: [{ Type: 'bind', Source: missing, Target: '/m', BindOptions: options }],
  });
  assert.deepEqual(await outcome(['true'], asked({})), {
    status: 400,
    text: `invalid mount config for type "bind": bind source path does not exist: ${missing}`,
  });
  assert.deepEqual(await outcome(['true'], asked({ CreateMountpoint: true })), { status: 0, text: '' });
  rmSync(join(scratch, 'missing'), { recursive: true });
  assert.deepEqual(await outcome(['true'], { Binds: [`${missing}:/m:z`] }), { status: 0, text: '' });
  assert.equal(statSync(missing).mode & 0o7777, 0o755);
});

test('binds: what is shared is seen on both sides, a slave sees, and a private source is refused', async () => {
  const [shared, other] = [directory('shared'), directory('other')];
  mkdirSync(join(shared, 'mnt'));
  writeFileSync(join(other, 'seen'), 'Test');
  const bind = (propagation: string): object => ({
    Privileged: true,
    Mounts: [{ Type: 'bind', Source: shared, Target: '/v', BindOptions: { Propagation: propagation } }],
  });
  execFileSync('mount', ['--bind', shared, shared]);
  execFileSync('mount', ['--make-private', shared]);
  assert.deepEqual(await outcome(['true'], bind('shared')), {
    status: 500,
    text: `path ${shared} is mounted on ${shared} but it is not a shared mount`,
  });
  assert.deepEqual(await outcome(['true'], bind('rslave')), {
    status: 500,
    text: `path ${shared} is mounted on ${shared} but it is not a shared or slave mount`,
  });
  execFileSync('mount', ['--make-shared', shared]);
  assert.equal((await outcome(['mount', '--bind', '/v/mnt', '/v/mnt'], bind('shared'))).status, 0);
  assert.deepEqual(mountsBelow(shared), [join(shared, 'mnt')]);
  execFileSync('umount', [join(shared, 'mnt')]);

  await d.ok('run', '-d', '--name', 'slave', '-v', `${shared}:/v:slave`, 'bb:1', 'sleep', '6000');
  await d.ok('run', '-d', '--name', 'apart', '-v', `${shared}:/v`, 'bb:1', 'sleep', '6000');
  execFileSync('mount', ['--bind', other, join(shared, 'mnt')]);
  assert.equal(await d.ok('exec', 'slave', 'cat', '/v/mnt/seen'), 'Test');
  assert.equal((await d.docker('exec', 'apart', 'cat', '/v/mnt/seen')).code, 1);
  execFileSync('umount', [join(shared, 'mnt')]);
  await d.ok('rm', '-f', 'slave', 'apart');
});

test('volumes with a device: mounted once, for as long as anybody uses them, whoever dies meanwhile', async () => {
  const device = join(scratch, 'disk');
  writeFileSync(device, '');
  execFileSync('truncate', ['-s', '8M', device]);
  execFileSync('mkfs.ext4', ['-q', '-F', device]);
  const loop = execFileSync('losetup', ['-f', '--show', device]).toString().trim();
  try {
    await d.ok('volume', 'create', '-o', 'type=ext4', '-o', `device=${loop}`, 'disk');
    await d.ok('volume', 'create', '-o', 'type=tmpfs', '-o', 'device=tmpfs', '-o', 'o=size=1m,uid=1000', 'memory');
    const since = Date.now();
    const using = ['-v', 'disk:/disk', '-v', 'disk:/again', '-v', 'memory:/memory'];
    await d.ok('run', '-d', '--name', 'one', ...using, 'bb:1', 'sleep', '600');
    await d.ok('run', '-d', '--name', 'two', ...using, 'bb:1', 'sleep', '600');
    await d.ok('exec', 'one', 'sh', '-c', 'echo kept >/disk/f; echo fleeting >/memory/f; sync /disk/f');
    assert.equal(await d.ok('exec', 'two', 'cat', '/again/f', '/memory/f'), 'kept\nfleeting');
    assert.equal(await d.ok('exec', 'two', 'stat', '-c', '%u', '/memory'), '1000');
    const mounted = (): number => mountsBelow(`${d.directory}/data/volumes`).length;
    assert.equal(mounted(), 2);
    await d.down('SIGKILL');
    await d.up();
    await d.ok('rm', '-f', 'one');
    assert.equal(mounted(), 2);
    assert.equal(await d.ok('exec', 'two', 'cat', '/memory/f'), 'fleeting');
    const copied = join(scratch, 'from-disk');
    await d.ok('cp', 'two:/disk/f', copied);
    await d.ok('stop', '-t', '0', 'two');
    await eventually('all are unmounted', () => mounted() === 0);
    await d.ok('cp', 'two:/disk/f', copied); // for this it is mounted again
    assert.equal(readFileSync(copied, 'utf8'), 'kept\n');
    await eventually('it is unmounted again', () => mounted() === 0);
    const events = await d.events(since, { type: ['volume'], volume: ['disk'] });
    const two = await d.inspect('two', '{{.Id}}');
    const ofTwo = events.filter(({ Actor }) => Actor.Attributes['container'] === two);
    const told = ofTwo.map(({ Action, Actor }) => `${Action} ${Actor.Attributes['destination'] ?? ''}`);
    // The CLI sends what -v says in any order: each two are told of in that.
    const pairs = told.map((_, index) => told.slice(index, index + 2).toSorted()).filter((_, index) => index % 2 === 0);
    const mount = ['mount /again', 'mount /disk'];
    const unmount = ['unmount ', 'unmount '];
    assert.deepEqual(pairs, [mount, mount, unmount, unmount, mount, unmount]);
    await d.ok('rm', 'two');
    assert.equal(await d.ok('volume', 'prune', '-af'), 'Total reclaimed space: 0B'); // nothing of theirs is ours
    await d.ok('volume', 'rm', 'disk', 'memory');
  } finally {
    execFileSync('losetup', ['-d', loop]);
  }
});

test('anonymous volumes: marked as Docker does, removed with --rm and rm -v only, shared by --volumes-from', async () => {
  const volumes = async (): Promise<string[]> =>
    (await d.ok('volume', 'ls', '-q')).split('\n').filter((name) => /^[0-9a-f]{64}$/.test(name));
  await d.ok('run', '--rm', '-v', '/data', '-v', 'named:/named', 'bb:1', 'true');
  assert.deepEqual([await volumes(), await d.ok('volume', 'ls', '-qf', 'name=named')], [[], 'named']);

  await d.ok('create', '--name', 'owner', '-v', '/home', '--mount', 'type=volume,target=/tmp', 'bb:1', 'sleep', '6000');
  const [first, second] = await volumes();
  assert(first !== undefined && second !== undefined);
  const { Labels } = (await d.api('GET', `/volumes/${first}`)).json;
  assert.deepEqual(Labels, { 'com.docker.volume.anonymous': '' });
  assert.equal(
    await d.ok(
      'run',
      '--rm',
      '--volumes-from',
      'owner:ro',
      'bb:1',
      'sh',
      '-c',
      'ls /home; touch /home/x 2>/dev/null || echo no',
    ),
    'app\nno',
  );
  await d.ok('create', '--name', 'heir', '--volumes-from', 'owner', '-v', '/home', 'bb:1', 'true');
  assert.equal((await volumes()).length, 2);
  await d.ok('rm', '-v', 'owner'); // the other one still has them
  assert.equal((await volumes()).length, 2);
  await d.ok('rm', 'heir');
  const left = await volumes();
  assert.equal(left.length, 2);
  const pruned = (await d.api('POST', '/v1.51/volumes/prune')).json.VolumesDeleted as string[];
  assert.deepEqual(pruned.toSorted(), left.toSorted());
  assert.deepEqual((await d.api('POST', '/v1.41/volumes/prune')).json.VolumesDeleted, ['named']);
});

test('volumes: the content of the image comes along once, and not with nocopy, into a bind or what is not empty', async () => {
  const listing = 'stat -c %a:%u:%g /home /home/app; ls /home';
  const said = async (...flags: string[]): Promise<string> =>
    (await d.docker('run', '--rm', ...flags, 'bb:1', 'sh', '-c', listing)).stdout.replaceAll('\n', ' ').trim();
  const inImage = await said();
  assert.equal(await said('-v', 'fresh:/home'), inImage);
  assert.equal(await said('-v', 'bare:/home:nocopy'), '755:0:0');
  assert.equal(await said('-v', `${directory('bound')}:/home`), '755:0:0');
  await d.ok('run', '--rm', '-v', 'used:/x', 'bb:1', 'touch', '/x/mine');
  assert.equal(await said('-v', 'used:/home'), '755:0:0 mine');
  await d.ok('volume', 'rm', 'fresh', 'bare', 'used');
});

test("binds over the engine's own files: what is mounted there is the user's, and stays as it was", async () => {
  const file = join(scratch, 'file');
  writeFileSync(file, 'mine\n', { mode: 0o640 });
  const targets = ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf'];
  const mounts = targets.map((Target) => ({ Type: 'bind', Source: file, Target }));
  assert.deepEqual(await outcome(['cat', ...targets], { Mounts: mounts }), { status: 0, text: 'mine\nmine\nmine' });
  await d.ok('run', '--name', 'own', '-v', `${file}:/etc/hosts`, 'bb:1', 'true');
  assert.equal(await d.inspect('own', '{{.HostsPath}}'), file);
  assert.match(await d.inspect('own', '{{.ResolvConfPath}}'), /\/containers\/[0-9a-f]{64}\/resolv\.conf$/);
  await d.ok('rm', 'own');
  assert.deepEqual(
    [statSync(file).mode & 0o7777, statSync(file).uid, readFileSync(file, 'utf8')],
    [0o640, 0, 'mine\n'],
  );
});
