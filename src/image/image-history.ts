/** `docker history`. Source: moby v28 daemon/images/image_history.go. */
import type { ImageRecord } from './image-table.ts';
import type { ImageStores } from './image-stores.ts';
import type { HistoryEntry } from './port.ts';

/** Newest first; only the image itself and those it was built on here have IDs. */
export function historyOf(stores: ImageStores, record: ImageRecord): HistoryEntry[] {
  const entries: HistoryEntry[] = [];
  let layerIndex = 0;
  for (const line of record.file.history) {
    let sizeBytes = 0;
    if (!line.emptyLayer) sizeBytes = stores.layers.get(record.chainIds[layerIndex++] ?? '')?.sizeBytes ?? 0;
    entries.unshift({
      id: '<missing>',
      created: Math.floor((Date.parse(line.created) || 0) / 1000),
      createdBy: line.createdBy,
      tags: null,
      sizeBytes,
      comment: line.comment,
    });
  }
  let image: ImageRecord | undefined = record;
  for (let i = 0; i < entries.length && image !== undefined; i++) {
    const { tags } = stores.image(image);
    entries[i] = { ...entries[i]!, id: image.id, tags: tags.length === 0 ? null : tags };
    image = image.parentId === '' ? undefined : stores.table.get(image.parentId);
  }
  return entries;
}
