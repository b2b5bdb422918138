/**
 * HEAD, GET and PUT of /containers/{id}/archive, case by case as dockerd 20.10 answered them on the same tree (and, where a
 * status differs, as moby v28's code has it): running and stopped, links, volumes, binds, what is read-only.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { TestDaemon, eventually, type Answer } from '../support/daemon.ts';

const SETUP = `mkdir -p /a/b /t /data/vol; echo hi >/a/f; echo x >/a/b/g; ln /a/b/g /a/b/h; ln -s f /a/lf; ln -s b /a/lb
  ln -s /nowhere /a/broken; ln -s loop2 /a/loop1; ln -s loop1 /a/loop2; ln -s ../../../../../a/b /a/up; ln -s /a/b /labs; ln -s /vol /lvol
  chown 12:34 /a/f; chmod 4750 /a/f; chmod 1777 /t; mkfifo /a/fifo; echo v >/vol/in; touch /a/file; mkdir /a/dir`;
const DIRECTORY = 2 ** 31;
const LINK = 2 ** 27;

/** What GET names in its archive, in order; null: no such file. */
const READS: Readonly<Record<string, readonly string[] | null>> = {
  '/a/f': ['f'],
  'a/f': ['f'],
  '../a/f': ['f'],
  '/a/b': ['b/', 'b/g', 'b/h'],
  '//a//b//': ['b/', 'b/g', 'b/h'],
  '/a/b/.': ['./', './g', './h'],
  '/a/lb': ['lb'],
  '/a/lb/': ['lb/', 'lb/g', 'lb/h'],
  '/a/lb/.': ['./', './g', './h'],
  '/a/lb/g': ['g'],
  '/a/lb/../f': ['f'],
  '/a/up/': ['up/', 'up/g', 'up/h'],
  '/labs/': ['labs/', 'labs/g', 'labs/h'],
  '/a/broken': ['broken'],
  '/a/broken/': null,
  '/nope': null,
  '/nope/x': null,
  '/vol': ['vol/', 'vol/in'],
  '/vol/.': ['./', './in'],
  '/lvol': ['lvol'],
  '/lvol/': ['lvol/', 'lvol/in'],
  '/bnd': ['bnd/', 'bnd/abs', 'bnd/f', 'bnd/l', 'bnd/sub/'],
  '/bnd/l': ['l'],
  '/bnd/sub/..': ['bnd/', 'bnd/abs', 'bnd/f', 'bnd/l', 'bnd/sub/'],
  '/bnd/abs': ['abs'],
  '/rom/f': ['f'],
  '/single': ['single'],
  '/data': ['data/', 'data/vol/', 'data/vol/in'],
};

/** name, size, mode as Go has it, linkTarget. */
const STATS: Readonly<Record<string, readonly [string, number | null, number, string]>> = {
  '/a/f': ['f', 3, 0o750 + 2 ** 23, ''],
  '/a/lf': ['lf', 1, LINK + 0o777, '/a/f'],
  '/a/lb': ['lb', 1, LINK + 0o777, '/a/b'],
  '/a/broken': ['broken', 8, LINK + 0o777, '/nowhere'],
  '/a/fifo': ['fifo', 0, 2 ** 25 + 0o644, ''],
  '/t': ['t', null, DIRECTORY + 2 ** 20 + 0o777, ''],
  '/t/.': ['.', null, DIRECTORY + 2 ** 20 + 0o777, ''],
  '/': ['/', null, DIRECTORY + 0o755, ''],
  '/vol': ['vol', null, DIRECTORY + 0o755, ''],
  '/lvol': ['lvol', 4, LINK + 0o777, '/vol'],
};

const NOT_FOUND = (path: string, id: string): string => `Could not find the file ${path} in container ${id}`;

/** Of a one-file archive: the status, and what is said. */
const WRITES: Readonly<Record<string, readonly [number, string | null]>> = {
  '/t': [200, null],
  't/': [200, null],
  '/t/.': [200, null],
  '/a/lb': [200, null],
  '/labs/': [200, null],
  '/vol': [200, null],
  '/lvol': [200, null],
  '/bnd': [200, null],
  '/a/f': [400, 'extraction point is not a directory'],
  '/single': [400, 'extraction point is not a directory'],
  '/rom': [400, 'mounted volume is marked read-only'],
  '/nope': [404, 'Could not find the file /nope in container ID'],
  '/a/broken': [404, 'Could not find the file /a/broken in container ID'],
  '': [400, 'bad parameter: pathcannot be empty'],
};

function url(id: string, path: string, query = ''): string {
  return `/containers/${id}/archive?path=${encodeURIComponent(path)}${query}`;
}

function statOf({ headers }: Answer): Readonly<Record<string, unknown>> {
  return JSON.parse(Buffer.from(String(headers['x-docker-container-path-stat']), 'base64').toString()) as never;
}

/** A tar with one file or directory "x", made by GNU tar. */
function oneTar(daemon: TestDaemon, name = 'x', isDirectory = false): Buffer {
  const directory = join(daemon.directory, 'one');
  execFileSync('sh', ['-c', `rm -rf ${directory}; mkdir ${directory}`]);
  if (isDirectory) mkdirSync(join(directory, name));
  else writeFileSync(join(directory, name), 'one');
  return execFileSync('tar', ['-C', directory, '--owner=77', '--group=88', '--numeric-owner', '-c', name]);
}

/** GNU tar would take a slash off, and needs the whole archive in a file. */
function namesIn(daemon: TestDaemon, path: string): string[] {
  const tar = execFileSync('curl', ['-sS', '--unix-socket', daemon.socket, `http://d${path}`], { maxBuffer: 1 << 26 });
  const list = execFileSync('tar', ['-tPf', '-'], { input: tar, maxBuffer: 1 << 24 }).toString();
  return list.split('\n').filter((line) => line !== '');
}

test('archive: HEAD, GET and PUT answer as dockerd, of a running and of a stopped container', async () => {
  await using daemon = await TestDaemon.start();
  await daemon.image();
  const bind = join(daemon.directory, 'bind');
  mkdirSync(join(bind, 'sub'), { recursive: true });
  writeFileSync(join(bind, 'f'), 'f');
  symlinkSync('f', join(bind, 'l'));
  symlinkSync('/etc/passwd', join(bind, 'abs'));
  mkdirSync(join(daemon.directory, 'ro'));
  writeFileSync(join(daemon.directory, 'ro/f'), '');
  writeFileSync(join(daemon.directory, 'single'), '');
  for (const isRunning of [true, false]) {
    const what = isRunning ? 'running' : 'stopped';
    const volumes = [`vol-${what}:/vol`, `vol-${what}:/data/vol`, `${bind}:/bnd`];
    const directory = daemon.directory;
    const binds = [...volumes, `${directory}/ro:/rom:ro`, `${directory}/single:/single`].flatMap((bound) => [
      '-v',
      bound,
    ]);
    const command = ['bb:1', 'sh', '-c', `${SETUP}; touch /ready; exec sleep 100000`];
    const id = await daemon.ok('run', '-d', '--network', 'none', ...binds, ...command);
    await eventually('it is set up', async () => (await daemon.api('HEAD', url(id, '/ready'))).status === 200);
    if (!isRunning) await daemon.ok('kill', id);

    for (const [path, names] of Object.entries(READS)) {
      const { status } = await daemon.api('HEAD', url(id, path));
      assert.equal(status, names === null ? 404 : 200, `${what} HEAD ${path}`);
      if (names !== null) assert.deepEqual(namesIn(daemon, url(id, path)), names, `${what} GET ${path}`);
      else assert.equal((await daemon.api('GET', url(id, path))).json.message, NOT_FOUND(path, id));
    }
    for (const [path, [name, size, mode, linkTarget]] of Object.entries(STATS)) {
      const { mtime, ...stat } = statOf(await daemon.api('HEAD', url(id, path)));
      assert.deepEqual(stat, { name, size: size ?? stat['size'], mode, linkTarget }, `${what} ${path}`);
      assert.match(String(mtime), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/);
    }
    const one = oneTar(daemon);
    for (const [path, [status, message]] of Object.entries(WRITES)) {
      const put = await daemon.api('PUT', url(id, path), one);
      assert.equal(put.status, status, `${what} PUT ${path}: ${put.text}`);
      if (message !== null) assert.equal(put.json.message, message.replace('ID', id), `${what} PUT ${path}`);
    }
    for (const path of ['/t/x', '/a/b/x', '/vol/x', '/bnd/x', '/data/vol/x'])
      assert.equal(statOf(await daemon.api('HEAD', url(id, path)))['size'], 3, `${what} ${path}`);

    // What replaces what.
    const strict = '&noOverwriteDirNonDir=true';
    const overFile = await daemon.api('PUT', url(id, '/a', strict), oneTar(daemon, 'file', true));
    assert.deepEqual(
      [overFile.status, overFile.json.message],
      [400, 'cannot overwrite non-directory "/a/file" with directory "/a"'],
    );
    const overDirectory = await daemon.api('PUT', url(id, '/a', strict), oneTar(daemon, 'dir'));
    assert.deepEqual(
      [overDirectory.status, overDirectory.json.message],
      [400, 'cannot overwrite directory "/a/dir" with non-directory "/a"'],
    );
    assert.equal((await daemon.api('PUT', url(id, '/a'), oneTar(daemon, 'file', true))).status, 200);
    assert.equal((await daemon.api('PUT', url(id, '/a'), oneTar(daemon, 'dir'))).status, 200);
    const modes = await Promise.all(
      ['/a/file', '/a/dir'].map(async (path) => statOf(await daemon.api('HEAD', url(id, path)))['mode']),
    );
    assert.deepEqual(
      modes.map((mode) => Number(mode) >= DIRECTORY),
      [true, false],
    );
    await daemon.ok('rm', '-f', '-v', id);
    rmSync(join(bind, 'x'));
  }
});

test('archive: a read-only root, and owners by copyUIDGID', async () => {
  await using daemon = await TestDaemon.start();
  await daemon.image();
  const readOnly = await daemon.ok('create', '--read-only', '-v', '/vol', 'bb:1');
  const one = oneTar(daemon);
  const refused = await daemon.api('PUT', url(readOnly, '/etc'), one);
  assert.deepEqual([refused.status, refused.json.message], [400, 'container rootfs is marked read-only']);
  assert.equal((await daemon.api('PUT', url(readOnly, '/vol'), one)).status, 200);
  assert.equal((await daemon.api('GET', url(readOnly, '/etc/passwd'))).status, 200);
  const owners = {
    '': '77:88',
    '7777:': '7777:0',
    ':7777': '0:7777',
    app: '1000:1000',
    'app:staff': '1000:50',
    '7777:staff': '7777:50',
    '1000': '1000:1000',
    '7777': '7777:0',
  };
  for (const [user, owner] of Object.entries(owners)) {
    const id = await daemon.ok('create', ...(user === '' ? [] : ['-u', user]), 'bb:1');
    assert.equal((await daemon.api('PUT', url(id, '/tmp', '&copyUIDGID=true'), one)).status, 200, user);
    const tar = execFileSync('curl', ['-sS', '--unix-socket', daemon.socket, `http://d${url(id, '/tmp/x')}`]);
    assert.match(
      execFileSync('tar', ['-tv', '--numeric-owner'], { input: tar }).toString(),
      new RegExp(` ${owner.replace(':', '/')} `),
      user,
    );
    await daemon.ok('rm', id);
  }
});
