/** Checks everything that is kept against its digests. Slow: reads every byte. */
import { messageOf } from '../core/engine-error.ts';

import type { ImageStores } from './image-stores.ts';

export async function verifyStores(stores: ImageStores): Promise<string[]> {
  const problems: string[] = [];
  const check = async (what: string, run: () => Promise<void>): Promise<void> => {
    try {
      await run();
    } catch (error) {
      problems.push(`${what}: ${messageOf(error)}`);
    }
  };
  for (const record of stores.table.records()) {
    await check(`image ${record.id}`, async () => void (await stores.blobs.get(record.id)));
    for (const chainId of record.chainIds) {
      if (stores.layers.get(chainId) === undefined) problems.push(`image ${record.id}: layer ${chainId} is missing`);
    }
  }
  const used = stores.usedLayers();
  for (const { chainId } of stores.layers.all()) {
    if (!used.has(chainId)) problems.push(`layer ${chainId}: nothing uses it`);
    await check(`layer ${chainId}`, async () => {
      for await (const _ of stores.layers.tar(chainId)); // compares the digest at its end
    });
  }
  return problems;
}
