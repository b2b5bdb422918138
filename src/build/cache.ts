/** The build cache is the image store itself: a child of the same parent, made by the same step, with the same config. */
import { isDeepStrictEqual } from 'node:util';

import type { Digest, Image, ImageConfig, Images } from '../image/port.ts';

export function findCached(images: Images, parentId: Digest, createdBy: string, config: ImageConfig): Image | null {
  for (const image of images.list()) {
    if (image.parentId !== parentId || !isDeepStrictEqual(plain(image.config), plain(config))) continue;
    const history = images.history(image.id);
    // FROM scratch has no parent, as have images that were pulled: a step of ours is the only one then.
    if (history[0]?.createdBy === createdBy && (parentId !== '' || history.length === 1)) return image;
  }
  return null;
}

/** null, empty and missing are the same in a config that went through JSON. */
function plain(config: ImageConfig): object {
  return Object.fromEntries(Object.entries(config).map(([key, value]) => [key, isEmpty(value) ? null : value]));
}

function isEmpty(value: unknown): boolean {
  return (
    value === null || value === '' || value === false || (typeof value === 'object' && Object.keys(value).length === 0)
  );
}
