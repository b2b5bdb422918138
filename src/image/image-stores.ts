/** What the operations on images share: the stores, the events, and how an image comes to be and goes. */
import { formatTime, type Clock } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import type { EventPublisher } from '../event/port.ts';
import type { Kernel } from '../kernel/port.ts';

import type { BlobStore } from './blob-store.ts';
import { checkSame, digestOf } from './digest.ts';
import { parseConfigFile } from './image-config.ts';
import { recordOf, type ImageRecord, type ImageTable } from './image-table.ts';
import type { LayerStore } from './layer-store.ts';
import type { Digest, Image, Platform } from './port.ts';
import { familiarReference, type Reference } from './reference.ts';
import type { SnapshotStore } from './snapshots.ts';

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  arm64: 'arm64',
  arm: 'arm',
  riscv64: 'riscv64',
  ppc64: 'ppc64le',
  s390x: 's390x',
  loong64: 'loong64',
  mips64el: 'mips64le',
};

export const HOST_PLATFORM: Platform = {
  os: 'linux',
  architecture: ARCHITECTURES[process.arch] ?? process.arch,
  variant: process.arch === 'arm' ? 'v7' : '',
};

export class ImageStores {
  readonly blobs: BlobStore;
  readonly table: ImageTable;
  readonly layers: LayerStore;
  readonly kernel: Kernel;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Written into the configs of images made here. */
  readonly dockerVersion: string;
  readonly #events: EventPublisher;
  readonly #adding = new Map<Digest, number>();
  #snapshots: Pick<SnapshotStore, 'chainIds'> | null = null;

  constructor(options: {
    readonly blobs: BlobStore;
    readonly table: ImageTable;
    readonly layers: LayerStore;
    readonly kernel: Kernel;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly dockerVersion: string;
    readonly events: EventPublisher;
  }) {
    this.blobs = options.blobs;
    this.table = options.table;
    this.layers = options.layers;
    this.kernel = options.kernel;
    this.clock = options.clock;
    this.logger = options.logger;
    this.dockerVersion = options.dockerVersion;
    this.#events = options.events;
  }

  /** Snapshots hold layers too; they are opened after the stores. */
  attach(snapshots: Pick<SnapshotStore, 'chainIds'>): void {
    this.#snapshots = snapshots;
  }

  now(): string {
    return formatTime(this.clock.wallNs());
  }

  /** The config becomes an image; all its layers must be there and held. @throws IMAGE_CORRUPT, IMAGE_ARCHIVE_INVALID */
  async add(
    config: Uint8Array,
    rest: { readonly parentId?: Digest; readonly manifestDigest?: Digest; readonly expectedId?: Digest } = {},
  ): Promise<ImageRecord> {
    const file = parseConfigFile(config);
    const id = digestOf(config);
    if (rest.expectedId !== undefined) checkSame('image config', rest.expectedId, id);
    const draft = recordOf(id, file, { ...rest, sizeBytes: 0 });
    let sizeBytes = 0;
    for (const chainId of draft.chainIds) {
      const layer = this.layers.get(chainId);
      if (layer === undefined) throw new EngineError('IMAGE_CORRUPT', `image ${id} lacks layer ${chainId}`);
      sizeBytes += layer.sizeBytes;
    }
    this.#adding.set(id, (this.#adding.get(id) ?? 0) + 1);
    try {
      await this.blobs.put(config, id);
      this.table.add({ ...draft, sizeBytes });
    } finally {
      const left = this.#adding.get(id)! - 1;
      if (left === 0) this.#adding.delete(id);
      else this.#adding.set(id, left);
    }
    return this.table.get(id)!;
  }

  /** Its blobs go too, unless the same image is coming again just now. */
  async delete(record: ImageRecord): Promise<void> {
    this.table.delete(record.id);
    await this.blobs.remove(record.id, () => this.table.get(record.id) === undefined && !this.#adding.has(record.id));
  }

  /** Removes configs whose image was never recorded, or no longer is. */
  async sweepBlobs(): Promise<void> {
    for (const digest of await this.blobs.list()) {
      await this.blobs.remove(digest, () => this.table.get(digest) === undefined && !this.#adding.has(digest));
    }
  }

  /** Tags and says so. */
  tag(reference: Reference, id: Digest): void {
    if (this.table.get(id) === undefined) throw new EngineError('IMAGE_NOT_FOUND', `No such image: ${id}`); // removed meanwhile
    this.table.tag(reference, id, this.now());
    this.emit('tag', id, familiarReference(reference));
  }

  /** A tag or digest, without an event: loads and pulls tell of themselves. */
  recordReference(reference: Reference, id: Digest): void {
    if (this.table.tagged(reference)?.imageId !== id) this.table.tag(reference, id, this.now());
  }

  /** Moby's LogImageEvent: the labels of the image and the name are the attributes. */
  emit(action: string, actorId: string, name: string, imageId: Digest = actorId): void {
    const labels = this.table.get(imageId)?.file.config.labels ?? {};
    this.#events.publish({ type: 'image', action, actor: { id: actorId, attributes: { ...labels, name } } });
  }

  image(record: ImageRecord): Image {
    return this.table.publish(record);
  }

  /** Removes those layers that no image and no container has: what an operation that failed, or the last user, has left. */
  async collectLayers(
    chainIds: Iterable<Digest> = Array.from(this.layers.all(), ({ chainId }) => chainId),
  ): Promise<void> {
    await this.layers.collect(chainIds, () => this.usedLayers());
  }

  usedLayers(): Set<Digest> {
    const used = new Set<Digest>(this.#snapshots?.chainIds() ?? []);
    for (const record of this.table.records()) for (const id of record.chainIds) used.add(id);
    return used;
  }
}
