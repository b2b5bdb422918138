/** SIGKILL in the middle of imports, commits, loads, tags and removals: what is kept verifies, and nothing leaks. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { systemClock } from '../core/clock.ts';
import { silent } from '../core/log.ts';
import { openKernel } from '../kernel/kernel.ts';
import { openStore } from '../store/store.ts';

import { openImages } from './images.ts';

const ROUNDS = Number(process.env['CRASH_ROUNDS'] ?? 5);

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
  const dataRoot = process.argv[2];
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
    await images.snapshots.commit('c', { config: base.config, reference: 'b:' + i % 3, author: '', message: '', createdBy: '', parentId: base.id });
    await images.snapshots.unmount('c');
    await images.snapshots.remove('c');
    const saved = [];
    for await (const chunk of images.save(['b:' + i % 3], { platform: null })) saved.push(Buffer.from(chunk));
    await images.remove('b:' + i % 3, { force: false, prune: true }, () => null);
    for await (const _ of images.load(Readable.from(saved), { quiet: true, platform: null }));
    if (i % 4 === 3) await images.prune({ matches: () => true, danglingOnly: false }, () => null);
  }
`;

test(
  'openImages: after SIGKILL at any moment, what is kept verifies and nothing leaks',
  { timeout: 300_000 },
  async () => {
    const dataRoot = await mkdtemp(join(tmpdir(), 'image-crash-'));
    await writeFile(join(dataRoot, 'work.mjs'), WORK);
    const kernel = await openKernel();
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const child = spawn(process.execPath, [join(dataRoot, 'work.mjs'), dataRoot], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        const exited = new Promise<string | null>((resolve) => child.once('exit', (_, signal) => resolve(signal)));
        await Promise.race([new Promise((resolve) => child.stdout.once('data', resolve)), exited]);
        await sleep(Math.random() * 400);
        child.kill('SIGKILL');
        assert.equal(await exited, 'SIGKILL');

        await using store = openStore({ path: join(dataRoot, 'state.db'), clock: systemClock, logger: silent });
        const images = await openImages({
          dataRoot,
          kernel,
          store,
          events: { publish: () => {} },
          clock: systemClock,
          logger: silent,
        });
        await images.snapshots.sweep(new Set());
        assert.deepEqual(await images.verify!(), []);
        const layers = new Set(images.list().map(({ layers: ids }) => ids.length));
        assert.ok([...layers].every((count) => count <= 2));
        assert.deepEqual(await readdir(join(dataRoot, 'snapshot')), []);
        assert.equal((await readdir(join(dataRoot, 'image/blobs/sha256'))).length, images.list().length);
        for (
          let i = 0;
          i < 100 && (await readdir(join(dataRoot, 'layer'))).some((name) => name.startsWith('tmp-'));
          i++
        )
          await sleep(20);
        assert.deepEqual(
          (await readdir(join(dataRoot, 'layer'))).filter((name) => name.startsWith('tmp-')),
          [],
        );
      }
      assert.deepEqual(await kernel.mounts.below(dataRoot), []);
    } finally {
      await kernel[Symbol.asyncDispose]();
      await rm(dataRoot, { recursive: true, force: true });
    }
  },
);
