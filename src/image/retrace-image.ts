/** A step of an image that was built elsewhere, made an image of its own again. Source: moby v28 image/cache. */
import { isDeepStrictEqual } from 'node:util';

import { formatConfigFile } from './image-config.ts';
import type { ImageStores } from './image-stores.ts';
import type { ImageRecord } from './image-table.ts';
import type { Digest, Image, Images } from './port.ts';

export async function retraceImage(
  stores: ImageStores,
  parentId: Digest,
  sourceId: Digest,
  { createdBy, config }: Parameters<Images['retrace']>[2],
): Promise<Image | null> {
  const parent = parentId === '' ? null : stores.table.get(parentId);
  const source = stores.table.get(sourceId);
  if (parent === undefined || source === undefined) return null;
  const { history, layers } = source.file;
  const at = parent?.file.history.length ?? 0;
  const next = history[at];
  if (next === undefined || next.createdBy !== createdBy || !isBuiltOn(source, parent)) return null;
  if (at === history.length - 1) {
    stores.table.add({ ...source, parentId });
    return stores.image(stores.table.get(sourceId)!);
  }
  using lease = stores.layers.lease();
  for (const id of source.chainIds) lease.hold(id);
  const kept = history.slice(0, at + 1);
  const { containerConfig: _, ...rest } = source.file; // that of the last step
  const file = {
    ...rest,
    createdAt: next.created,
    config,
    dockerVersion: stores.dockerVersion,
    comment: '',
    layers: layers.slice(0, layerCount(kept)),
    history: kept,
  };
  return stores.image(await stores.add(formatConfigFile(file), { parentId }));
}

function isBuiltOn(source: ImageRecord, parent: ImageRecord | null): boolean {
  if (parent === null) return true;
  const { history, layers } = parent.file;
  return (
    layerCount(history) === layers.length &&
    isDeepStrictEqual(history, source.file.history.slice(0, history.length)) &&
    isDeepStrictEqual(layers, source.file.layers.slice(0, layers.length))
  );
}

function layerCount(history: readonly { readonly emptyLayer: boolean }[]): number {
  return history.filter(({ emptyLayer }) => !emptyLayer).length;
}
