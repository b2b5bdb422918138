/** Everything that is kept of images against its digests: reads every byte. */
import { join } from 'node:path';

import { systemClock } from '../../core/clock.ts';
import { silent } from '../../core/log.ts';
import { BlobStore } from '../../image/blob-store.ts';
import { ImageStores } from '../../image/image-stores.ts';
import { ImageTable } from '../../image/image-table.ts';
import { LayerStore } from '../../image/layer-store.ts';
import { decodeSnapshot } from '../../image/snapshots.ts';
import { verifyStores } from '../../image/verify.ts';
import type { Examined } from './examine.ts';
import type { Problem } from './problem.ts';
import { readOnlyStore } from './records.ts';

export async function checkImages({ dataRoot, kernel }: Pick<Examined, 'dataRoot' | 'kernel'>): Promise<Problem[]> {
  await using store = readOnlyStore(dataRoot);
  const snapshots = store.collection('snapshots', decodeSnapshot).load();
  const stores = new ImageStores({
    blobs: await BlobStore.open(join(dataRoot, 'image', 'blobs')),
    layers: await LayerStore.open({ directory: join(dataRoot, 'layer'), files: kernel.files, store, logger: silent }),
    table: new ImageTable(store),
    kernel,
    clock: systemClock,
    logger: silent,
    dockerVersion: '',
    events: { publish: () => {} },
  });
  stores.attach({
    *chainIds() {
      for (const { chainIds } of snapshots.values()) yield* chainIds;
    },
  });
  return (await verifyStores(stores)).map((text) => ({ check: 'image', subject: text, text, repair: null }));
}
