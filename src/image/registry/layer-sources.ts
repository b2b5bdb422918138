/** Under which digests a layer is known at registries, learnt from pulls and pushes: what is there needs not be sent again. Source: the idea of moby's distribution/metadata v2_metadata_service.go. */
import type { Collection, Store } from '../../store/port.ts';

import { isObject } from '../image-config.ts';
import type { Digest } from '../port.ts';
import { isDigest } from '../reference.ts';

export interface LayerSource {
  /** Of the gzip-compressed blob. */
  readonly digest: Digest;
  readonly size: number;
  /** "registry.example:5000/team/app" */
  readonly repository: string;
}

const SOURCES_MAX = 20;

export class LayerSources {
  readonly #records: Collection<readonly LayerSource[]>;
  readonly #sources: Map<Digest, readonly LayerSource[]>;

  constructor(store: Store) {
    this.#records = store.collection('layer-sources', decodeSources);
    this.#sources = this.#records.load();
  }

  /** Newest first. */
  of(diffId: Digest): readonly LayerSource[] {
    return this.#sources.get(diffId) ?? [];
  }

  add(diffId: Digest, source: LayerSource): void {
    const others = this.of(diffId).filter(
      ({ digest, repository }) => digest !== source.digest || repository !== source.repository,
    );
    const sources = [source, ...others].slice(0, SOURCES_MAX);
    this.#records.put(diffId, sources);
    this.#sources.set(diffId, sources);
  }

  /** Forgets layers that are gone. */
  keepOnly(diffIds: ReadonlySet<Digest>): void {
    for (const diffId of this.#sources.keys()) {
      if (diffIds.has(diffId)) continue;
      this.#records.delete(diffId);
      this.#sources.delete(diffId);
    }
  }
}

function decodeSources(value: unknown): readonly LayerSource[] {
  if (!Array.isArray(value)) throw new Error('not a list');
  return value.map((item: unknown) => {
    if (!isObject(item)) throw new Error('not an object');
    const { digest, size, repository } = item;
    if (typeof digest !== 'string' || !isDigest(digest) || typeof size !== 'number' || typeof repository !== 'string')
      throw new Error('not a source');
    return { digest, size, repository };
  });
}
