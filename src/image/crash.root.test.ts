/** SIGKILL in the middle of pulls, imports, commits, loads, tags and removals: what is kept verifies, and nothing leaks. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { systemClock } from '../core/clock.ts';
import { silent } from '../core/log.ts';
import { openKernel } from '../kernel/kernel.ts';
import type { Kernel } from '../kernel/port.ts';
import { openStore } from '../store/store.ts';

import { chainIdsOf } from './digest.ts';
import { openImages } from './images.ts';
import type { Images } from './port.ts';
import { FakeRegistry } from './registry/fake-registry.ts';

const ROUNDS = Number(process.env['CRASH_ROUNDS'] ?? 5);
const PULL = { allTags: false, platform: null, auth: null, signal: new AbortController().signal };

/** What the child does, over and over, until it is killed. */
const WORK = `
  import { Readable } from 'node:stream';
  const at = (path) => new URL(path, ${JSON.stringify(import.meta.url)}).href;
  const { systemClock } = await import(at('../core/clock.ts'));
  const { silent } = await import(at('../core/log.ts'));
  const { openKernel } = await import(at('../kernel/kernel.ts'));
  const { openStore } = await import(at('../store/store.ts'));
  const { openImages } = await import(at('./images.ts'));
  const { encodeHeader, padding } = await import(at('./tar-header.ts'));
  const [, , dataRoot, registry] = process.argv;
  const kernel = await openKernel();
  const store = openStore({ path: dataRoot + '/state.db', clock: systemClock, logger: silent });
  const images = await openImages({ dataRoot, kernel, store, events: { publish() {} }, clock: systemClock, logger: silent });
  await images.snapshots.sweep(new Set());
  const tar = (seed) => {
    const parts = [];
    for (let i = 0; i < 40; i++) {
      const content = Buffer.alloc(20000, seed + ' ' + i);
      parts.push(encodeHeader({ name: 'd' + i % 5 + '/f' + i, type: 'file', mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n, linkName: '', major: 0, minor: 0, xattrs: new Map(), sizeBytes: content.length }), content, padding(content.length));
    }
    return Readable.from([...parts, Buffer.alloc(1024)]);
  };
  console.log('ready');
  for (let i = 0; ; i++) {
    const seed = Math.random();
    const base = await images.importTar({ source: tar(seed), reference: 'a:' + i % 3, message: '', changes: [], platform: null });
    await images.snapshots.create('c', base.id);
    const root = await images.snapshots.mount('c', { readOnly: false, volatile: false });
    await (await import('node:fs/promises')).writeFile(root + '/new', String(seed));
    await images.snapshots.commit('c', { config: base.config, reference: 'b:' + i % 3, author: '', message: '', containerConfig: base.config, parentId: base.id });
    await images.snapshots.unmount('c');
    await images.snapshots.remove('c');
    const saved = [];
    for await (const chunk of images.save(['b:' + i % 3], { platform: null })) saved.push(Buffer.from(chunk));
    await images.remove('b:' + i % 3, { force: false, prune: true }, () => null);
    for await (const _ of images.load(Readable.from(saved), { quiet: true, platform: null }));
    const pulled = images.pull({ reference: registry + '/p:' + i % 3, allTags: false, platform: null, auth: null, signal: new AbortController().signal });
    for await (const _ of pulled);
    if (i % 4 === 3) await images.prune({ matches: () => true, danglingOnly: false }, () => null);
  }
`;

let dataRoot: string;
let kernel: Kernel;
before(async () => {
  kernel = await openKernel();
  dataRoot = await mkdtemp(join(tmpdir(), 'image-crash-'));
  await writeFile(join(dataRoot, 'work.mjs'), WORK);
  await writeFile(
    join(dataRoot, 'pull.mjs'),
    `${WORK.slice(0, WORK.indexOf('const tar ='))}
    console.log('ready');
    const pulled = images.pull({ reference: registry + '/one:1', allTags: false, platform: null, auth: null, signal: new AbortController().signal });
    for await (const _ of pulled);
    setInterval(() => {}, 1000);`,
  );
});
after(async () => {
  await kernel[Symbol.asyncDispose]();
  await rm(dataRoot, { recursive: true, force: true });
});

/** A process at work, once it is ready. */
async function startWork(
  file: string,
  directory: string,
  registry: FakeRegistry,
): Promise<{ readonly kill: () => Promise<void> }> {
  const argv = [join(dataRoot, file), directory, registry.host];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise<string | null>((resolve) => child.once('exit', (_, signal) => resolve(signal)));
  await Promise.race([new Promise((resolve) => child.stdout.once('data', resolve)), exited]);
  return {
    kill: async () => {
      child.kill('SIGKILL');
      assert.equal(await exited, 'SIGKILL');
    },
  };
}

async function checkKept(directory: string, images: Images): Promise<void> {
  await images.snapshots.sweep(new Set());
  assert.deepEqual(await images.verify!(), []);
  assert.deepEqual(await readdir(join(directory, 'snapshot')), []);
  assert.equal((await readdir(join(directory, 'image/blobs/sha256'))).length, images.list().length);
  const temporary = async (): Promise<string[]> =>
    (await readdir(join(directory, 'layer'))).filter((name) => name.startsWith('tmp-'));
  for (let i = 0; i < 100 && (await temporary()).length > 0; i++) await sleep(20);
  assert.deepEqual(await temporary(), []);
  // As many directories as layers that images use: nothing else is kept.
  const used = new Set(images.list().flatMap((image) => chainIdsOf(image.layers)));
  const kept = (await readdir(join(directory, 'layer'))).filter((name) => /^[0-9a-f]{64}$/.test(name));
  assert.equal(kept.length, used.size);
}

async function openAt(directory: string): Promise<{ readonly images: Images } & AsyncDisposable> {
  const store = openStore({ path: join(directory, 'state.db'), clock: systemClock, logger: silent });
  const events = { publish: () => {} };
  const images = await openImages({ dataRoot: directory, kernel, store, events, clock: systemClock, logger: silent });
  return { images, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
}

test(
  'openImages: after SIGKILL at any moment, what is kept verifies and nothing leaks',
  { timeout: 600_000 },
  async () => {
    await using registry = await FakeRegistry.start();
    for (const tag of ['0', '1', '2']) registry.addImage('p', tag, [30_000, 40_000]);
    const directory = join(dataRoot, 'all');
    await mkdir(directory);
    for (let round = 0; round < ROUNDS; round++) {
      const work = await startWork('work.mjs', directory, registry);
      await sleep(Math.random() * 500);
      await work.kill();
      await using opened = await openAt(directory);
      await checkKept(directory, opened.images);
    }
    assert.deepEqual(await kernel.mounts.below(directory), []);
  },
);

test(
  'pull: killed at any byte, it leaves a usable store, and the next one goes on by range',
  { timeout: 600_000 },
  async () => {
    await using registry = await FakeRegistry.start();
    const { layers } = registry.addImage('one', '1', [60_000, 90_000, 30_000]);
    const totalBytes = layers.reduce((sum, { size }) => sum + size, 0);
    const directory = join(dataRoot, 'pull');
    await mkdir(directory);
    let resumed = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const killAt = Math.floor(Math.random() * totalBytes * 1.1);
      const reached = new Promise<void>((resolve) => {
        registry.slowly = { pieceBytes: 5000, pauseMs: 2, onSent: (bytes) => bytes >= killAt && resolve() };
      });
      registry.sentBytes = 0;
      const work = await startWork('pull.mjs', directory, registry);
      await Promise.race([reached, sleep(400)]);
      await sleep(Math.random() * 20);
      await work.kill();

      const kept = await readdir(join(directory, 'image/download'));
      const sizes = await Promise.all(
        kept.map(async (name) => (await stat(join(directory, 'image/download', name))).size),
      );
      const keptBytes = sizes.reduce((sum, size) => sum + size, 0);
      if (keptBytes > 0) resumed++;
      await using opened = await openAt(directory);
      const { images } = opened;
      await checkKept(directory, images);
      registry.slowly = { pieceBytes: 50_000, pauseMs: 0, onSent: () => {} };
      registry.sentBytes = 0;
      const reference = `${registry.host}/one:1`;
      const isThere = images.list().length === 1;
      const had = (await readdir(join(directory, 'layer'))).filter((name) => /^[0-9a-f]{64}$/.test(name)).length;
      for await (const _ of images.pull({ ...PULL, reference }));
      const image = images.resolve(reference);
      assert.equal(image.layers.length, 3);
      // No byte that had come was asked for again, except what the store had no room for yet (layers are unpacked in order).
      const config = registry.blobs.get(image.id)!.length;
      if (!isThere && had === 0) assert.equal(registry.sentBytes, totalBytes + config - keptBytes);
      await checkKept(directory, images);
      assert.deepEqual(await readdir(join(directory, 'image/download')), []);
      await images.remove(image.id, { force: true, prune: true }, () => null);
      await checkKept(directory, images);
    }
    assert.ok(resumed > 0, 'no pull was killed between two bytes');
  },
);
