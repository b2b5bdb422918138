/** Pulls, removals, prunes and snapshots of the same images at once: what is kept is whole, and what nobody has is gone. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { EngineError } from '../../core/engine-error.ts';
import { FakeRegistry } from './fake-registry.ts';
import { DEFAULTS, Fixture, importFile, linesOf } from './fixture.ts';

const RUN_MS = Number(process.env['RACE_MS'] ?? 2000);
const RUN_MS_MAX = RUN_MS + 40_000;
/** Each racer is to have got through so often, however slow the machine. */
const STEPS_MIN = 4;
const RACERS = ['pull', 'pull too', 'remove', 'prune', 'import', 'snapshot'] as const;

test('openImages: pulls, removals, prunes and snapshots race, and nothing is lost or left', async () => {
  await using fixture = await Fixture.make();
  await using registry = await FakeRegistry.start();
  const images = await fixture.open('race');
  // Layers that images share, in different places: [a] [a b] [a b c] [b] [c a].
  const { layers, config } = registry.addImage('r', 'base', [3000, 4000, 5000]);
  const file = JSON.parse(registry.blobs.get(config.digest)!.toString());
  const tags = ['0', '01', '012', '1', '20'];
  for (const tag of tags) {
    const chosen = Array.from(tag, Number);
    const diffIds = chosen.map((i) => file.rootfs.diff_ids[i]);
    const bytes = Buffer.from(JSON.stringify({ ...file, author: tag, rootfs: { type: 'layers', diff_ids: diffIds } }));
    const blob = registry.addBlob(bytes, config.mediaType);
    const content = { schemaVersion: 2, config: blob, layers: chosen.map((i) => layers[i]) };
    registry.addManifest('r', tag, content, 'application/vnd.docker.distribution.manifest.v2+json');
  }
  const startMs = performance.now();
  const inUse = new Map<string, string>();
  const usedBy = (imageId: string): { containerId: string; running: boolean } | null => {
    const containerId = [...inUse].find(([, id]) => id === imageId)?.[0];
    return containerId === undefined ? null : { containerId, running: true };
  };
  const counts = new Map<string, number>(RACERS.map((name) => [name, 0]));
  let failed = false;
  const isOver = (): boolean => {
    const runMs = performance.now() - startMs;
    return (
      failed || runMs > RUN_MS_MAX || (runMs > RUN_MS && [...counts.values()].every((count) => count >= STEPS_MIN))
    );
  };
  const over = async (name: (typeof RACERS)[number], step: (i: number) => Promise<unknown>): Promise<void> => {
    for (let i = 0; !isOver(); i++) {
      try {
        await step(i);
        counts.set(name, counts.get(name)! + 1);
      } catch (error) {
        // Removed meanwhile, or in use: what a client would be told.
        if (!(error instanceof EngineError) || !['IMAGE_NOT_FOUND', 'IMAGE_IN_USE'].includes(error.code)) {
          failed = true;
          throw new Error(`${name}, step ${i}`, { cause: error });
        }
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  };
  const nameOf = (i: number): string => `${registry.host}/r:${tags[i % tags.length]}`;
  const ends = await Promise.allSettled([
    over('pull', async (i) => await linesOf(images.pull({ ...DEFAULTS, reference: nameOf(i) }))),
    over('pull too', async (i) => await linesOf(images.pull({ ...DEFAULTS, reference: nameOf(3 * i) }))),
    over('remove', async (i) => await images.remove(nameOf(2 * i), { force: true, prune: true }, usedBy)),
    over('prune', async () => {
      await new Promise((resolve) => setTimeout(resolve, 100));
      await images.prune({ matches: () => true, danglingOnly: false }, usedBy);
    }),
    over('import', async (i) => await importFile(images, `i:${i % 2}`, String(i))),
    over('snapshot', async (i) => {
      const container = `c${i}`;
      const { id } = images.resolve(nameOf(4 * i));
      inUse.set(container, id);
      try {
        await images.snapshots.create(container, id);
        assert.ok((await images.snapshots.sizes(container)).rootBytes >= 0);
      } finally {
        await images.snapshots.remove(container);
        inUse.delete(container);
      }
    }),
  ]);
  // All of them have ended: what the test removes is used by none.
  assert.deepEqual(
    ends.flatMap((end) => (end.status === 'rejected' ? [end.reason] : [])),
    [],
  );
  for (const count of counts.values()) assert.ok(count >= STEPS_MIN, JSON.stringify([...counts]));
  assert.deepEqual(await images.verify!(), []);
  await images.prune({ matches: () => true, danglingOnly: false }, () => null);
  for (const { id } of images.list()) await images.remove(id, { force: true, prune: true }, () => null);
  const left = async (): Promise<string[]> =>
    (await readdir(join(fixture.scratch, 'race/layer'))).filter((name) => !name.startsWith('empty'));
  for (let i = 0; i < 100 && (await left()).length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(await left(), []);
  assert.deepEqual(await readdir(join(fixture.scratch, 'race/image/blobs/sha256')), []);
  assert.deepEqual(await readdir(join(fixture.scratch, 'race/image/download')), []);
});
