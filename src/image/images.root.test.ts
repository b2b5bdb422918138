/** The room against the real kernel: what goes in as a tar runs as an overlay and comes out the same. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { lstat, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { systemClock } from '../core/clock.ts';
import { silent } from '../core/log.ts';
import type { NewEvent } from '../event/port.ts';
import { openKernel } from '../kernel/kernel.ts';
import type { Kernel } from '../kernel/port.ts';
import { openStore } from '../store/store.ts';

import { openImages } from './images.ts';
import type { Images } from './port.ts';

let kernel: Kernel;
let scratch: string;
let images: Images;
const events: NewEvent[] = [];

async function open(): Promise<Images> {
  const store = openStore({ path: join(scratch, 'state.db'), clock: systemClock, logger: silent });
  return await openImages({
    dataRoot: scratch,
    kernel,
    store,
    events: { publish: (event) => events.push(event) },
    clock: systemClock,
    logger: silent,
  });
}

before(async () => {
  kernel = await openKernel();
  scratch = await mkdtemp(join(tmpdir(), 'image-test-'));
  images = await open();
});
after(async () => {
  await images.snapshots.sweep(new Set());
  await kernel[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

/** Made by the host's tar from what `script` makes in an empty directory. */
function tarOf(script: string, ...flags: string[]): AsyncIterable<Uint8Array> {
  const directory = execFileSync('mktemp', ['-d', join(scratch, 'src-XXXXXX')])
    .toString()
    .trim();
  execFileSync('sh', ['-ec', script], { cwd: directory });
  return spawn('tar', ['-C', directory, '--numeric-owner', '--xattrs', '--xattrs-include=*', ...flags, '-c', '.'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  }).stdout;
}

test('Images.importTar: becomes an image that resolves by name, ID and prefix, with its events', async () => {
  events.length = 0;
  const image = await images.importTar({
    source: tarOf('echo hi >f; mkdir d; ln -s f l'),
    reference: 'base:1',
    message: 'm',
    changes: ['CMD ["sh"]', 'ENV A=b'],
    platform: null,
  });
  assert.deepEqual(image.tags, ['base:1']);
  assert.deepEqual(image.config.cmd, ['sh']);
  assert.equal(images.resolve('base:1'), image);
  assert.equal(images.resolve(image.id.slice(7, 19)), image);
  assert.equal(images.resolve('docker.io/library/base:1'), image);
  assert.throws(() => images.resolve('base'), { message: 'No such image: base:latest' });
  assert.deepEqual(
    events.map(({ action, actor }) => [action, actor.attributes['name']]),
    [
      ['tag', 'base:1'],
      ['import', image.id],
    ],
  );
});

test('Snapshots: a commit of what did not change makes no layer, and leaves none', async () => {
  const base = await images.importTar({
    source: tarOf('echo 1 >a'),
    reference: 'same:1',
    message: '',
    changes: [],
    platform: null,
  });
  await images.snapshots.create('same', base.id, { init: false });
  const { config } = base;
  const options = { config, reference: null, author: '', message: '', containerConfig: config, parentId: base.id };
  const image = await images.snapshots.commit('same', options);
  await images.snapshots.remove('same');
  assert.deepEqual(image.layers, base.layers);
  const unused = (await images.verify!()).filter((problem) => problem.endsWith('nothing uses it'));
  assert.deepEqual(unused, []);
});

test('Snapshots: mount, change, diff, commit, run again', async () => {
  const base = await images.importTar({
    source: tarOf('mkdir d keep; echo 1 >d/a; echo 2 >d/b; echo 3 >gone; chmod 701 .'),
    reference: 'snap:1',
    message: '',
    changes: [],
    platform: null,
  });
  await images.snapshots.create('c1', base.id);
  const root = await images.snapshots.mount('c1', { readOnly: false, volatile: false });
  assert.equal((await lstat(root)).mode & 0o7777, 0o755);
  execFileSync(
    'sh',
    ['-ec', 'echo new >d/new; rm gone; rm -r keep; mkdir keep; echo x >keep/y; chmod 600 d/a; mkfifo p'],
    { cwd: root },
  );
  assert.deepEqual(await images.snapshots.changes('c1'), [
    { path: '/d', kind: 'modified' },
    { path: '/d/a', kind: 'modified' },
    { path: '/d/new', kind: 'added' },
    { path: '/gone', kind: 'deleted' },
    { path: '/keep', kind: 'modified' },
    { path: '/keep/y', kind: 'added' },
    { path: '/p', kind: 'added' },
  ]);
  const image = await images.snapshots.commit('c1', {
    config: base.config,
    reference: 'snap:2',
    author: 'me',
    message: 'msg',
    containerConfig: { ...base.config, cmd: ['sh'] },
    parentId: base.id,
  });
  assert.equal(image.layers.length, 2);
  assert.equal((await images.snapshots.sizes('c1')).writableBytes, 4 + 2 + 2);
  await images.snapshots.create('c2', image.id);
  const second = await images.snapshots.mount('c2', { readOnly: true, volatile: false });
  const docker = ['.dockerenv', 'dev', 'etc', 'proc', 'sys']; // init-layers.ts
  assert.deepEqual(
    (await readdir(second)).filter((name) => !docker.includes(name)),
    ['d', 'keep', 'p'],
  );
  assert.deepEqual(await readdir(join(second, 'keep')), ['y']);
  assert.equal(await readFile(join(second, 'd/new'), 'utf8'), 'new\n');
  await assert.rejects(writeFile(join(second, 'z'), ''), { code: 'EROFS' });
  for (const id of ['c1', 'c2']) {
    await images.snapshots.unmount(id);
    await images.snapshots.remove(id);
  }
  assert.deepEqual(await readdir(join(scratch, 'snapshot')), []);
  assert.deepEqual(
    images.history('snap:2').map(({ comment, createdBy }) => [comment, createdBy]),
    [
      ['msg', 'sh'],
      ['', ''],
    ],
  );
});
