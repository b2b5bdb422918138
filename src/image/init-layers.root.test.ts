/** What every container has below its top, against the real kernel, with an image that tries to lead out of its root. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { lstat, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { systemClock } from '../core/clock.ts';
import { silent } from '../core/log.ts';
import { openKernel } from '../kernel/kernel.ts';
import type { Kernel } from '../kernel/port.ts';
import { openStore } from '../store/store.ts';

import { openImages } from './images.ts';
import type { Images } from './port.ts';

let kernel: Kernel;
let scratch: string;
let images: Images;

before(async () => {
  kernel = await openKernel();
  scratch = await mkdtemp(join(tmpdir(), 'init-layers-test-'));
  images = await openImages({
    dataRoot: join(scratch, 'data'),
    kernel,
    store: openStore({ path: join(scratch, 'state.db'), clock: systemClock, logger: silent }),
    events: { publish: () => {} },
    clock: systemClock,
    logger: silent,
  });
});
after(async () => {
  await images.snapshots.sweep(new Set());
  await kernel[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

async function imported(script: string): Promise<string> {
  const directory = await mkdtemp(join(scratch, 'src-'));
  execFileSync('sh', ['-ec', script], { cwd: directory });
  const source = spawn('tar', ['-C', directory, '--numeric-owner', '-c', '.'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const options = { reference: null, message: '', changes: [], platform: null };
  return (await images.importTar({ source: source.stdout, ...options })).id;
}

test('InitLayers: a container has the mount points and marks of Docker, and diff, size and commit know of none', async () => {
  const id = await imported('mkdir -m 750 etc; echo x >etc/hosts; echo y >etc/passwd; mkdir -m 700 proc');
  await images.snapshots.create('c1', id as never);
  const root = await images.snapshots.mount('c1', { readOnly: false, volatile: false });
  assert.deepEqual((await readdir(root)).toSorted(), ['.dockerenv', 'dev', 'etc', 'proc', 'sys']);
  assert.deepEqual((await readdir(join(root, 'etc'))).toSorted(), [
    'hostname',
    'hosts',
    'mtab',
    'passwd',
    'resolv.conf',
  ]);
  assert.deepEqual((await readdir(join(root, 'dev'))).toSorted(), ['console', 'pts', 'shm']);
  assert.equal(await readlink(join(root, 'etc/mtab')), '/proc/mounts');
  assert.equal(await readFile(join(root, 'etc/hosts'), 'utf8'), '', 'what will be mounted over is empty below');
  assert.equal((await lstat(join(root, '.dockerenv'))).mode & 0o777, 0o755);
  assert.equal((await lstat(join(root, 'etc'))).mode & 0o777, 0o750, 'directories of the image stay as they are');
  assert.equal((await lstat(join(root, 'proc'))).mode & 0o777, 0o700);

  assert.deepEqual(await images.snapshots.changes('c1'), []);
  assert.equal((await images.snapshots.sizes('c1')).writableBytes, 0);
  await writeFile(join(root, 'etc/new'), 'n');
  assert.deepEqual(await images.snapshots.changes('c1'), [
    { path: '/etc', kind: 'modified' },
    { path: '/etc/new', kind: 'added' },
  ]);
  const options = {
    reference: null,
    author: '',
    message: '',
    config: images.resolve(id).config,
    containerConfig: { ...images.resolve(id).config, cmd: ['sh'] },
    parentId: images.resolve(id).id,
  };
  const image = await images.snapshots.commit('c1', options);
  const saved = execFileSync('tar', ['-tf', '-'], { input: await layerOf(image.id) }).toString();
  assert.equal(saved, 'etc/\netc/new\n');
  await images.snapshots.unmount('c1');
  await images.snapshots.remove('c1');
});

test('InitLayers: links of the image where Docker makes files are replaced, never followed', async () => {
  const outside = join(scratch, 'outside');
  execFileSync('mkdir', [outside]);
  const id = await imported(`ln -s ${outside} etc; ln -s ${outside}/x .dockerenv; ln -s ${outside} dev`);
  await images.snapshots.create('c2', id as never);
  const root = await images.snapshots.mount('c2', { readOnly: false, volatile: false });
  assert.deepEqual(await readdir(outside), []);
  assert((await lstat(join(root, 'etc'))).isDirectory());
  assert((await lstat(join(root, '.dockerenv'))).isFile());
  await images.snapshots.unmount('c2');
  await images.snapshots.remove('c2');
});

/** The tar of an image's top layer. */
async function layerOf(id: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of images.save([id], { platform: null })) chunks.push(chunk);
  const directory = await mkdtemp(join(scratch, 'saved-'));
  execFileSync('tar', ['-C', directory, '-xf', '-'], { input: Buffer.concat(chunks) });
  const manifest = JSON.parse(await readFile(join(directory, 'manifest.json'), 'utf8')) as { Layers: string[] }[];
  return await readFile(join(directory, manifest[0]!.Layers.at(-1)!));
}
