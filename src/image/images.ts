/** The images of the engine: opens the stores under DATA_ROOT and joins what the other files of this room do. */
import { dirname, join } from 'node:path';

import type { Clock } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';
import { NO_REMAP, type IdMap } from '../core/id-map.ts';
import type { Logger } from '../core/log.ts';
import type { EventPublisher } from '../event/port.ts';
import type { Kernel } from '../kernel/port.ts';
import type { Store } from '../store/port.ts';

import { BlobStore } from './blob-store.ts';
import { ImageStores } from './image-stores.ts';
import { ImageTable, type ImageRecord } from './image-table.ts';
import { commitTop, deriveImage, importTar } from './import-image.ts';
import { retraceImage } from './retrace-image.ts';
import { historyOf } from './image-history.ts';
import { pruneImages, removeImage } from './remove-image.ts';
import { LayerStore } from './layer-store.ts';
import { loadImages } from './load-images.ts';
import { Downloads } from './registry/downloads.ts';
import { REGISTRY_DEFAULTS, type RegistryOptions } from './registry/endpoint.ts';
import { LayerSources } from './registry/layer-sources.ts';
import { pullImage } from './registry/pull-image.ts';
import { pushImage } from './registry/push-image.ts';
import type { RegistryStores } from './registry/registry-stores.ts';
import { Semaphore } from './registry/semaphore.ts';
import { Turns } from './registry/turns.ts';
import { saveImages } from './save-images.ts';
import { verifyStores } from './verify.ts';
import { matchesPlatform, platformMismatch } from './platform.ts';
import type { Digest, HistoryEntry, Image, Images, Platform, Progress, Snapshots } from './port.ts';
import { parseReference, withDefaultTag } from './reference.ts';
import { shiftedFiles } from './shifted-files.ts';
import { SnapshotStore } from './snapshots.ts';

export interface ImagesOptions {
  readonly dataRoot: string;
  readonly kernel: Kernel;
  /** Whose layers and tops of containers are on disk; nobody else's where it is left out. */
  readonly ids?: IdMap;
  readonly store: Store;
  readonly events: EventPublisher;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What "docker_version" says in configs made here. */
  readonly dockerVersion?: string;
  /** Where it differs from REGISTRY_DEFAULTS. */
  readonly registry?: Partial<RegistryOptions>;
}

/** Reads records only; left-overs of a crash are removed before it resolves, off the main loop. */
export async function openImages(options: ImagesOptions): Promise<Images> {
  const { dataRoot, kernel, store, logger, ids = NO_REMAP } = options;
  const [blobs, layers] = await Promise.all([
    BlobStore.open(join(dataRoot, 'image', 'blobs')),
    LayerStore.open({ directory: join(dataRoot, 'layer'), files: shiftedFiles(kernel.files, ids), store, logger }),
  ]);
  const table = new ImageTable(store);
  const stores = new ImageStores({ ...options, dockerVersion: options.dockerVersion ?? '', blobs, table, layers });
  const snapshots = await SnapshotStore.open({
    directory: join(dataRoot, 'snapshot'),
    kernel,
    ids,
    layers,
    images: table,
    store,
    logger,
    commitLayer: (commit) => commitTop(stores, commit),
    collectLayers: (chainIds) => stores.collectLayers(chainIds),
  });
  stores.attach(snapshots);
  await layers.sweep();
  await stores.collectLayers();
  await stores.sweepBlobs();
  const registryOptions: RegistryOptions = { ...REGISTRY_DEFAULTS, ...options.registry };
  const downloads = await Downloads.open(
    join(dataRoot, 'image', 'download'),
    { concurrentMax: registryOptions.concurrentDownloadsMax, attemptsMax: registryOptions.downloadAttemptsMax },
    logger,
  );
  const sources = new LayerSources(store);
  sources.keepOnly(new Set([...layers.all()].map(({ diffId }) => diffId)));
  const registry: RegistryStores = {
    images: stores,
    downloads,
    sources,
    uploads: new Semaphore(registryOptions.concurrentUploadsMax),
    unpacking: new Turns(),
    options: registryOptions,
  };
  return new EngineImages(stores, snapshots, registry);
}

class EngineImages implements Images {
  readonly snapshots: Snapshots;
  readonly #stores: ImageStores;
  readonly #registry: RegistryStores;

  constructor(stores: ImageStores, snapshots: SnapshotStore, registry: RegistryStores) {
    this.#registry = registry;
    this.#stores = stores;
    this.snapshots = snapshots;
  }

  resolve(nameOrId: string, platform?: Platform): Image {
    return this.#stores.image(this.#find(nameOrId, platform ?? null));
  }

  #find(nameOrId: string, platform: Platform | null): ImageRecord {
    const record = this.#stores.table.find(nameOrId);
    if (platform !== null && !matchesPlatform(record.file, platform))
      throw platformMismatch(nameOrId, record.file, platform);
    return record;
  }

  list(): readonly Image[] {
    return this.#stores.table.list();
  }

  async tag(nameOrId: string, text: string): Promise<void> {
    const record = this.#stores.table.find(nameOrId);
    const reference = withDefaultTag(parseReference(text));
    if (reference.digest !== '')
      throw new EngineError('IMAGE_REFERENCE_INVALID', 'refusing to create a tag with a digest reference');
    this.#stores.tag(reference, record.id);
  }

  async remove(...[nameOrId, options, inUse]: Parameters<Images['remove']>): ReturnType<Images['remove']> {
    return await removeImage(this.#stores, nameOrId, options, inUse);
  }

  history(nameOrId: string, platform?: Platform): readonly HistoryEntry[] {
    return historyOf(this.#stores, this.#find(nameOrId, platform ?? null));
  }

  async derive(...[parentId, options]: Parameters<Images['derive']>): Promise<Image> {
    return await deriveImage(this.#stores, parentId, options);
  }

  async retrace(...[parentId, sourceId, step]: Parameters<Images['retrace']>): Promise<Image | null> {
    return await retraceImage(this.#stores, parentId, sourceId, step);
  }

  async importTar(options: Parameters<Images['importTar']>[0]): Promise<Image> {
    return await importTar(this.#stores, options);
  }

  load(...[source, options]: Parameters<Images['load']>): AsyncIterable<Progress> {
    return loadImages(this.#stores, source, options);
  }

  save(...[names, options]: Parameters<Images['save']>): AsyncIterable<Uint8Array> {
    return saveImages(this.#stores, names, options.platform);
  }

  pull(options: Parameters<Images['pull']>[0]): AsyncIterable<Progress> {
    return pullImage(this.#registry, options);
  }

  push(options: Parameters<Images['push']>[0]): AsyncIterable<Progress> {
    return pushImage(this.#registry, options);
  }

  async verify(): Promise<readonly string[]> {
    return await verifyStores(this.#stores);
  }

  async prune(...[options, inUse]: Parameters<Images['prune']>): ReturnType<Images['prune']> {
    return await pruneImages(this.#stores, options, inUse);
  }

  layerDirectories(imageId: Digest): readonly string[] {
    const chainIds = this.#stores.table.get(imageId)?.chainIds ?? [];
    return chainIds.map((id) => dirname(this.#stores.layers.path(id))).toReversed();
  }

  async diskUsage(): Promise<{ readonly layersBytes: number; readonly sharedBytesById: ReadonlyMap<Digest, number> }> {
    const { layers, table } = this.#stores;
    let layersBytes = 0;
    for (const layer of layers.all()) layersBytes += layer.sizeBytes;
    const users = new Map<Digest, number>();
    for (const record of table.records()) for (const id of record.chainIds) users.set(id, (users.get(id) ?? 0) + 1);
    const sharedBytesById = new Map<Digest, number>();
    for (const record of table.records()) {
      const shared = record.chainIds.filter((id) => (users.get(id) ?? 0) > 1);
      sharedBytesById.set(
        record.id,
        shared.reduce((sum, id) => sum + (layers.get(id)?.sizeBytes ?? 0), 0),
      );
    }
    return { layersBytes, sharedBytesById };
  }
}
