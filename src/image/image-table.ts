/**
 * Which images and tags there are: maps in memory, each change written through to the store before anybody sees
 * it. Changes are synchronous, so that none is ever half done.
 */
import { EngineError } from '../core/engine-error.ts';
import type { Collection, Store } from '../store/port.ts';

import { chainIdsOf } from './digest.ts';
import type { ConfigFile, ConfigHistory } from './image-config.ts';
import { isObject } from './image-config.ts';
import type { Digest, Image } from './port.ts';
import {
  familiarReference,
  formatReference,
  isDigest,
  parseAnyReference,
  parseReference,
  repositoryName,
  withDefaultTag,
  type Reference,
} from './reference.ts';

/** An image as kept; the config's bytes are the blob of the same digest. */
export interface ImageRecord {
  readonly id: Digest;
  /** "" for none. */
  readonly parentId: Digest;
  readonly file: ConfigFile;
  /** Chain IDs, bottom first; as many as layers. */
  readonly chainIds: readonly Digest[];
  readonly sizeBytes: number;
  readonly manifestDigest: Digest;
}

export interface TagRecord {
  readonly imageId: Digest;
  readonly taggedAt: string;
}

const HEX_PREFIX = /^(?:sha256:)?([0-9a-f]{1,64})$/;

export class ImageTable {
  readonly #images: Map<Digest, ImageRecord>;
  /** By full reference, with a tag or a digest. */
  readonly #tags: Map<string, TagRecord>;
  readonly #imageRecords: Collection<ImageRecord>;
  readonly #tagRecords: Collection<TagRecord>;
  readonly #references = new Map<Digest, Set<string>>();
  readonly #published = new Map<Digest, Image>();
  #sorted: readonly Image[] | null = null;

  constructor(store: Store) {
    this.#imageRecords = store.collection('images', decodeImageRecord);
    this.#tagRecords = store.collection('image-tags', decodeTagRecord);
    this.#images = this.#imageRecords.load();
    this.#tags = this.#tagRecords.load();
    for (const [reference, { imageId }] of this.#tags) {
      if (this.#images.has(imageId)) this.#index(imageId).add(reference);
      else this.#tags.delete(reference); // the image's record was set aside; so may come back
    }
  }

  get(id: Digest): ImageRecord | undefined {
    return this.#images.get(id);
  }

  records(): IterableIterator<ImageRecord> {
    return this.#images.values();
  }

  /** Moby's order: an ID, a reference, the beginning of an ID. @throws IMAGE_NOT_FOUND "No such image: x" */
  find(nameOrId: string): ImageRecord {
    const any = parseAnyReference(nameOrId);
    if (any.kind === 'id') {
      const record = this.#images.get(any.id);
      if (record === undefined) throw noSuchImage(any.id);
      return record;
    }
    const reference = withDefaultTag(any.reference);
    const byName = this.#byReference(reference);
    const record = byName === undefined ? this.byPrefix(nameOrId) : this.#images.get(byName.imageId);
    if (record === undefined) throw noSuchImage(familiarReference(reference));
    return record;
  }

  /** The record behind a full reference, digests included. */
  tagged(reference: Reference): TagRecord | undefined {
    return this.#tags.get(formatReference(reference));
  }

  /** Full references of an image, sorted. */
  referencesOf(id: Digest): string[] {
    return [...this.#index(id)].toSorted();
  }

  /** Whether any image ends with this layer. */
  hasTop(chainId: Digest): boolean {
    for (const record of this.#images.values()) if (record.chainIds.at(-1) === chainId) return true;
    return false;
  }

  childrenOf(id: Digest): ImageRecord[] {
    return [...this.#images.values()].filter((record) => record.parentId === id);
  }

  /** Full references of a repository. */
  referencesIn(repository: string): string[] {
    return [...this.#tags.keys()].filter((full) => repositoryName(parseReference(full)) === repository).toSorted();
  }

  add(record: ImageRecord): void {
    const known = this.#images.get(record.id);
    const kept =
      known === undefined
        ? record
        : {
            ...known,
            manifestDigest: record.manifestDigest || known.manifestDigest,
            parentId: known.parentId || record.parentId,
          };
    this.#imageRecords.put(record.id, kept, { durable: true });
    this.#images.set(record.id, kept);
    this.#changed(record.id);
  }

  delete(id: Digest): void {
    this.#imageRecords.delete(id, { durable: true });
    this.#images.delete(id);
    this.#references.delete(id);
    this.#changed(id);
    for (const child of this.childrenOf(id)) {
      const orphan = { ...child, parentId: '' as const };
      this.#imageRecords.put(child.id, orphan);
      this.#images.set(child.id, orphan);
      this.#changed(child.id);
    }
  }

  tag(reference: Reference, imageId: Digest, taggedAt: string): void {
    const full = formatReference(reference);
    const before = this.#tags.get(full);
    const record = { imageId, taggedAt };
    this.#tagRecords.put(full, record, { durable: true });
    this.#tags.set(full, record);
    if (before !== undefined) {
      this.#index(before.imageId).delete(full);
      this.#changed(before.imageId);
    }
    this.#index(imageId).add(full);
    this.#changed(imageId);
  }

  untag(full: string): void {
    const before = this.#tags.get(full);
    this.#tagRecords.delete(full, { durable: true });
    this.#tags.delete(full);
    if (before === undefined) return;
    this.#index(before.imageId).delete(full);
    this.#changed(before.imageId);
  }

  /** The same object until something about the image changes. */
  publish(record: ImageRecord): Image {
    let image = this.#published.get(record.id);
    if (image === undefined) {
      image = this.#describe(record);
      this.#published.set(record.id, image);
    }
    return image;
  }

  /** Newest first. */
  list(): readonly Image[] {
    this.#sorted ??= [...this.#images.values()]
      .map((record) => ({ image: this.publish(record), atMs: Date.parse(record.file.createdAt) || 0 }))
      .toSorted((a, b) => b.atMs - a.atMs)
      .map(({ image }) => image);
    return this.#sorted;
  }

  #describe(record: ImageRecord): Image {
    const references = this.referencesOf(record.id).map(parseReference);
    const times = references.map((reference) => this.tagged(reference)?.taggedAt ?? '').toSorted();
    const { layers, history: _, ...file } = record.file;
    return {
      ...file,
      id: record.id,
      parentId: record.parentId,
      tags: references.filter(({ digest }) => digest === '').map(familiarReference),
      digests: references.filter(({ digest }) => digest !== '').map(familiarReference),
      taggedAt: times.at(-1) ?? '',
      sizeBytes: record.sizeBytes,
      layers,
      manifestDigest: record.manifestDigest,
    };
  }

  /** "name:tag@digest" is looked up by its digest, which says more. */
  #byReference(reference: Reference): TagRecord | undefined {
    if (reference.digest === '') return this.tagged(reference);
    return this.tagged({ ...reference, tag: '' });
  }

  /** The only image whose ID begins so. */
  byPrefix(text: string): ImageRecord | undefined {
    const prefix = HEX_PREFIX.exec(text)?.[1];
    if (prefix === undefined) return undefined;
    let found: ImageRecord | undefined;
    for (const record of this.#images.values()) {
      if (!record.id.startsWith(prefix, 'sha256:'.length)) continue;
      if (found !== undefined) return undefined; // ambiguous: Docker says "no such image" too
      found = record;
    }
    return found;
  }

  #index(id: Digest): Set<string> {
    let references = this.#references.get(id);
    if (references === undefined) this.#references.set(id, (references = new Set()));
    return references;
  }

  #changed(id: Digest): void {
    this.#published.delete(id);
    this.#sorted = null;
  }
}

export function noSuchImage(name: string): EngineError {
  return new EngineError('IMAGE_NOT_FOUND', `No such image: ${name}`);
}

export function recordOf(
  id: Digest,
  file: ConfigFile,
  rest: { readonly sizeBytes: number; readonly parentId?: Digest; readonly manifestDigest?: Digest },
): ImageRecord {
  return {
    id,
    file,
    chainIds: chainIdsOf(file.layers),
    parentId: rest.parentId ?? '',
    sizeBytes: rest.sizeBytes,
    manifestDigest: rest.manifestDigest ?? '',
  };
}

export type { ConfigHistory };

/** The config was checked when it came; here only that the record is whole. */
function decodeImageRecord(value: unknown): ImageRecord {
  if (!isObject(value)) throw new Error('not an object');
  const { id, file, chainIds, sizeBytes, parentId, manifestDigest } = value;
  if (typeof id !== 'string' || !isDigest(id)) throw new Error('id');
  if (typeof parentId !== 'string' || typeof manifestDigest !== 'string') throw new Error('parentId, manifestDigest');
  if (typeof sizeBytes !== 'number' || sizeBytes < 0) throw new Error('sizeBytes');
  if (!isObject(file) || !isObject(file['config']) || !Array.isArray(file['history']) || !Array.isArray(file['layers']))
    throw new Error('file');
  if (!Array.isArray(chainIds) || !chainIds.every((chain) => typeof chain === 'string' && isDigest(chain)))
    throw new Error('chainIds');
  if (chainIds.length !== file['layers'].length) throw new Error('chainIds and layers differ');
  return value as unknown as ImageRecord;
}

function decodeTagRecord(value: unknown): TagRecord {
  if (!isObject(value) || typeof value['imageId'] !== 'string' || typeof value['taggedAt'] !== 'string')
    throw new Error('not a tag');
  return { imageId: value['imageId'], taggedAt: value['taggedAt'] };
}
