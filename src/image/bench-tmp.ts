import { createReadStream, createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { systemClock } from '../core/clock.ts';
import { silent } from '../core/log.ts';
import { openKernel } from '../kernel/kernel.ts';
import { openStore } from '../store/store.ts';
import { openImages } from './images.ts';
const dataRoot = '/tmp/image-bench/data';
await rm(dataRoot, { recursive: true, force: true });
const kernel = await openKernel();
const open = () =>
  openImages({
    dataRoot,
    kernel,
    store: openStore({ path: dataRoot + '/s.db', clock: systemClock, logger: silent }),
    events: { publish() {} },
    clock: systemClock,
    logger: silent,
  });
const images = await open();
const time = async (what: string, run: () => Promise<unknown>) => {
  const t = performance.now();
  let worst = 0;
  let last = t;
  const timer = setInterval(() => {
    const n = performance.now();
    worst = Math.max(worst, n - last - 5);
    last = n;
  }, 5);
  await run();
  clearInterval(timer);
  console.log(
    what,
    Math.round(performance.now() - t),
    'ms, loop stall max',
    Math.round(worst),
    'rss',
    Math.round(process.memoryUsage.rss() / 1e6),
  );
};
await time('import', () =>
  images.importTar({
    source: createReadStream('/tmp/image-bench/layer.tar'),
    reference: 'b:1',
    message: '',
    changes: [],
    platform: null,
  }),
);
await time('save', () =>
  pipeline(images.save(['b:1'], { platform: null }), createWriteStream('/tmp/image-bench/saved.tar')),
);
const id = images.resolve('b:1').id;
await time('create+mount', async () => {
  await images.snapshots.create('x', id);
});
await time('mount', async () => {
  await images.snapshots.mount('x', { readOnly: false, volatile: false });
});
await time('unmount', async () => {
  await images.snapshots.unmount('x');
  await images.snapshots.remove('x');
});
await time('remove', () => images.remove('b:1', { force: false, prune: true }, () => null));
await time('load', async () => {
  for await (const p of images.load(createReadStream('/tmp/image-bench/saved.tar'), { quiet: false, platform: null }))
    console.log(JSON.stringify(p));
});
await time('load again', async () => {
  for await (const p of images.load(createReadStream('/tmp/image-bench/saved.tar'), { quiet: false, platform: null }))
    console.log(JSON.stringify(p));
});
await time('reopen', open);
await kernel[Symbol.asyncDispose]();
await rm(dataRoot, { recursive: true, force: true });
