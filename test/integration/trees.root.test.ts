/**
 * Every file of an image survives each way that it can go: its mode, owner, time, links, device number, extended
 * attributes and content. A tree of every kind of file, and Debian as mmdebstrap makes it.
 *
 *     TREE_VARIANT=standard TREE_INCLUDE=python3,gcc node --test test/integration/trees.root.test.ts   # hundreds of MB
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { openKernel } from '../../src/kernel/kernel.ts';
import type { Files } from '../../src/kernel/port.ts';
import { TestDaemon } from '../support/daemon.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { assertSameTree, listTree, makeTree, packWithTar, unpackWithTar } from '../support/trees.ts';

const CACHE = join(import.meta.dirname, '../../build/trees');
const TIMEOUT_MS = 600_000;
const SLEEP = ['sleep', '100000'];

/** What the engine puts below every container, so that a container's view has it and its image has not. */
const ADDED =
  /^(?:\.dockerenv|(?:dev|etc|proc|sys|dev\/(?:console|pts|shm)|etc\/(?:hosts|hostname|resolv\.conf|mtab)))$/;
const isAdded = (path: string): boolean => ADDED.test(path);

interface Scene {
  readonly daemon: TestDaemon;
  readonly files: Files;
  readonly scratch: string;
  /** Of the tree that the image was made of. */
  readonly expected: ReadonlyMap<string, string>;
  readonly sleep: readonly string[];
}

async function withScene(use: (daemon: TestDaemon, files: Files, scratch: string) => Promise<void>): Promise<void> {
  await using kernel = await openKernel();
  await using daemon = await TestDaemon.start();
  const scratch = await mkdtemp(join(tmpdir(), 'longshore-trees-'));
  try {
    await use(daemon, kernel.files, scratch);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function slow(daemon: TestDaemon, ...argv: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await daemon.dockerWith({ timeoutMs: TIMEOUT_MS }, ...argv);
  assert.equal(code, 0, `docker ${argv.join(' ')}: ${stderr}`);
  return stdout.trim();
}

/** What a running container of the image sees, mounts left out; and that it has changed nothing. */
async function checkRun({ daemon, files, expected, sleep }: Scene, image: string, after: string): Promise<void> {
  const id = await daemon.ok('run', '-d', image, ...sleep);
  const merged = await daemon.inspect(id, '{{.GraphDriver.Data.MergedDir}}');
  assertSameTree(await listTree(merged, files), expected, `run after ${after}`, isAdded);
  assert.equal(await daemon.ok('diff', id), '', `diff after ${after}`);
  await daemon.ok('rm', '-f', id);
}

async function checkImage(scene: Scene, image: string): Promise<void> {
  const { daemon, scratch } = scene;
  await checkRun(scene, image, 'import');

  await using registry = await startDockerRegistry(scratch);
  const pushed = `${registry.address}/tree:1`;
  await daemon.ok('tag', image, pushed);
  await slow(daemon, 'push', '-q', pushed);
  const id = await daemon.inspect(image, '{{.Id}}');
  await daemon.ok('rmi', image, pushed);
  await slow(daemon, 'pull', '-q', pushed);
  assert.equal(await daemon.inspect(pushed, '{{.Id}}'), id);
  await checkRun(scene, pushed, 'push and pull');

  const saved = join(scratch, 'saved.tar');
  await slow(daemon, 'save', '-o', saved, pushed);
  await daemon.ok('rmi', pushed);
  await slow(daemon, 'load', '-q', '-i', saved);
  await rm(saved);
  assert.equal(await daemon.inspect(pushed, '{{.Id}}'), id);
  await checkRun(scene, pushed, 'save and load');
  await daemon.ok('tag', pushed, image);
}

/** Export and commit write sparse files out, as Docker does: sizes and contents stay. */
async function checkContainer(scene: Scene, image: string, tar: string): Promise<void> {
  const { daemon, files, scratch, expected, sleep } = scene;
  const container = await daemon.ok('create', image, ...sleep);
  const [exported, unpacked] = [join(scratch, 'exported.tar'), join(scratch, 'exported')];
  await slow(daemon, 'export', '-o', exported, container);
  await mkdir(unpacked);
  unpackWithTar(exported, unpacked);
  assertSameTree(await listTree(unpacked, files), expected, 'export', isAdded);
  await daemon.ok('rm', container);
  await Promise.all([rm(exported), rm(unpacked, { recursive: true })]);

  // The whole tree once more by PUT, into an image that has nothing of it; the top becomes an image.
  const bare = await daemon.image('bare:1');
  const id = await daemon.ok('run', '-d', bare, 'sleep', '100000');
  await daemon.ok('exec', id, 'mkdir', '/tree');
  execFileSync('curl', [
    '-sSf',
    '--unix-socket',
    daemon.socket,
    '-T',
    tar,
    `http://d/containers/${id}/archive?path=/tree`,
  ]);
  const merged = await daemon.inspect(id, '{{.GraphDriver.Data.MergedDir}}');
  assertSameTree(await listTree(join(merged, 'tree'), files), expected, 'PUT archive');
  await slow(daemon, 'commit', id, 'committed:1');
  const other = await daemon.ok('run', '-d', 'committed:1', 'sleep', '100000');
  const committed = await daemon.inspect(other, '{{.GraphDriver.Data.MergedDir}}');
  assertSameTree(await listTree(join(committed, 'tree'), files), expected, 'commit');
  assert.equal(await daemon.ok('diff', other), '');

  // And out again by GET.
  const [got, gotTree] = [join(scratch, 'got.tar'), join(scratch, 'got')];
  const get = `http://d/containers/${other}/archive?path=/tree`;
  execFileSync('curl', ['-sSf', '--unix-socket', daemon.socket, '-o', got, get]);
  await mkdir(gotTree);
  unpackWithTar(got, gotTree);
  assertSameTree(await listTree(join(gotTree, 'tree'), files), expected, 'GET archive');
  await daemon.ok('rm', '-f', id, other);
}

test('layers: every kind of file comes through import, push, pull, save, load, run, export, PUT, GET and commit', () =>
  withScene(async (daemon, files, scratch) => {
    const root = join(scratch, 'root');
    await mkdir(join(root, 'bin'), { recursive: true });
    await copyFile('/bin/busybox', join(root, 'bin/busybox'));
    await makeTree(root, files, { huge: false });
    const expected = await listTree(root, files);
    const tar = join(scratch, 'tree.tar');
    packWithTar(root, tar);
    await slow(daemon, 'import', tar, 'tree:1');
    const scene = { daemon, files, scratch, expected, sleep: ['/bin/busybox', ...SLEEP] };
    await checkImage(scene, 'tree:1');
    await checkContainer(scene, 'tree:1', tar);
  }));

test('layers: a sparse file of 8 GiB stays sparse through import, push, pull, save and load, in each format of GNU tar', () =>
  withScene(async (daemon, files, scratch) => {
    const root = join(scratch, 'root');
    await mkdir(join(root, 'bin'), { recursive: true });
    await copyFile('/bin/busybox', join(root, 'bin/busybox'));
    await makeTree(root, files, { huge: true });
    const expected = await listTree(root, files);
    const tar = join(scratch, 'tree.tar');
    packWithTar(root, tar);
    await slow(daemon, 'import', tar, 'huge:1');
    await checkImage({ daemon, files, scratch, expected, sleep: ['/bin/busybox', ...SLEEP] }, 'huge:1');
    await rm(join(root, 'huge')); // what GNU's own format cannot say: xattrs, fractions of seconds
    for (const options of [['--sparse-version=0.0'], ['--sparse-version=0.1'], ['--format=gnu', '--no-xattrs']]) {
      const lesser = join(scratch, 'lesser.tar');
      packWithTar(root, lesser, ...options);
      await slow(daemon, 'import', lesser, 'lesser:1');
      const id = await daemon.ok('create', 'lesser:1', '/bin/busybox');
      const sparse = join(scratch, 'sparse.tar');
      await slow(daemon, 'cp', `${id}:/sparse`, sparse);
      execFileSync('cmp', [sparse, join(root, 'sparse')]);
      await daemon.ok('rm', id);
    }
  }));

test('layers: Debian as mmdebstrap makes it comes through all of it', () =>
  withScene(async (daemon, files, scratch) => {
    const tar = await debianTree();
    const root = join(scratch, 'root');
    await mkdir(root);
    unpackWithTar(tar, root);
    const expected = await listTree(root, files);
    assert(expected.size > 3000, `${expected.size} files`);
    await slow(daemon, 'import', tar, 'debian:tree');
    const scene = { daemon, files, scratch, expected, sleep: SLEEP };
    assert.match(await daemon.ok('run', '--rm', 'debian:tree', 'cat', '/etc/os-release'), /Debian/);
    await checkImage(scene, 'debian:tree');
    await checkContainer(scene, 'debian:tree', tar);
  }));

/** Made once; CI keeps build/. */
async function debianTree(): Promise<string> {
  const { TREE_VARIANT: variant = 'minbase', TREE_INCLUDE: include = '' } = process.env;
  const path = join(
    CACHE,
    `bookworm-${variant}${include === '' ? '' : `-${include.replaceAll(/[^a-z0-9]/g, '-')}`}.tar`,
  );
  if (existsSync(path)) return path;
  await mkdir(CACHE, { recursive: true });
  const making = `${path}.${process.pid}`;
  const chosen = [`--variant=${variant}`, ...(include === '' ? [] : [`--include=${include}`])];
  execFileSync('mmdebstrap', ['--quiet', '--mode=root', '--format=tar', ...chosen, 'bookworm', making], {
    stdio: 'pipe',
  });
  await rename(making, path);
  return path;
}
