/**
 * The build cache is the image store itself: a child of the same parent, made by the same step, with the same config.
 * With --cache-from only what those images were made of counts. Source: moby v28 image/cache, builder/dockerfile imageprobe.
 */
import { isDeepStrictEqual } from 'node:util';

import { EngineError } from '../core/engine-error.ts';
import type { Digest, Image, ImageConfig, Images } from '../image/port.ts';

export interface StepCache {
  find(parentId: Digest, createdBy: string, config: ImageConfig): Promise<Image | null>;
}

/** For one stage. What is not there to cache from is passed over, as Docker does. */
export function openStepCache(images: Images, from: readonly string[]): StepCache {
  if (from.length === 0)
    return { find: async (parentId, createdBy, config) => findCached(images, parentId, createdBy, config) };
  let sources = from.flatMap((reference) => resolved(images, reference) ?? []);
  return {
    async find(parentId, createdBy, config) {
      const own = findCached(images, parentId, createdBy, config);
      if (own !== null && sources.some((source) => isAncestor(images, own.id, source))) return own;
      for (const source of sources) {
        const found = await images.retrace(parentId, source.id, { createdBy, config });
        if (found === null) continue;
        if (found.id !== source.id) sources = [source];
        return found;
      }
      return null;
    },
  };
}

function resolved(images: Images, reference: Digest): Image | null {
  try {
    return images.resolve(reference);
  } catch (error) {
    if (error instanceof EngineError) return null;
    throw error;
  }
}

function isAncestor(images: Images, id: Digest, image: Image): boolean {
  for (let at: Image | null = image; at !== null && at.parentId !== ''; at = resolved(images, at.parentId))
    if (at.parentId === id) return true;
  return false;
}

function findCached(images: Images, parentId: Digest, createdBy: string, config: ImageConfig): Image | null {
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
