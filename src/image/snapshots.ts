/**
 * The writable top of each container: DIRECTORY/ID/{diff,work,merged}, an overlay mount while somebody needs it.
 * Which layers lie under it is kept in a record, so that they outlive their image's removal.
 */
import { chmod, chown, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { EngineError, messageOf } from '../core/engine-error.ts';
import { rootOf, type IdMap } from '../core/id-map.ts';
import type { Logger } from '../core/log.ts';
import type { Kernel } from '../kernel/port.ts';
import type { Collection, Store } from '../store/port.ts';

import { isObject } from './image-config.ts';
import type { ImageTable } from './image-table.ts';
import { InitLayers } from './init-layers.ts';
import type { LayerStore } from './layer-store.ts';
import type { Digest, Image, Snapshots } from './port.ts';
import { isDigest } from './reference.ts';
import { shiftedFiles } from './shifted-files.ts';
import { diffTree, upperTar } from './upper-tree.ts';
import { sizeOfTree } from './tree-size.ts';

interface SnapshotRecord {
  /** Bottom first. */
  readonly chainIds: readonly Digest[];
  /** Whether the InitLayers' one lies between them and the top; absent: an older container has none. */
  readonly init?: boolean;
}

interface Mounted {
  count: number;
  readOnly: boolean;
}

const CONTAINER_ID = /^[0-9a-zA-Z][0-9a-zA-Z_.-]*$/;

/** What a commit hands on: the top as a tar, over these layers. */
export type CommitLayer = (options: {
  readonly tar: AsyncIterable<Uint8Array>;
  readonly chainIds: readonly Digest[];
  readonly commit: Parameters<Snapshots['commit']>[1];
}) => Promise<Image>;

export class SnapshotStore implements Snapshots {
  readonly #directory: string;
  readonly #kernel: Kernel;
  readonly #ids: IdMap;
  readonly #layers: LayerStore;
  readonly #inits: InitLayers;
  readonly #images: ImageTable;
  readonly #logger: Logger;
  readonly #commitLayer: CommitLayer;
  readonly #collectLayers: SnapshotStoreOptions['collectLayers'];
  readonly #records: Collection<SnapshotRecord>;
  readonly #snapshots: Map<string, SnapshotRecord>;
  readonly #mounted = new Map<string, Mounted>();
  /** Mounting and unmounting of one container take turns. */
  readonly #turns = new Map<string, Promise<unknown>>();

  private constructor(options: SnapshotStoreOptions) {
    this.#directory = options.directory;
    this.#kernel = options.kernel;
    this.#ids = options.ids;
    this.#layers = options.layers;
    this.#inits = new InitLayers(options.kernel, options.layers, rootOf(options.ids));
    this.#images = options.images;
    this.#logger = options.logger;
    this.#commitLayer = options.commitLayer;
    this.#collectLayers = options.collectLayers;
    this.#records = options.store.collection('snapshots', decodeSnapshot);
    this.#snapshots = this.#records.load();
  }

  static async open(options: SnapshotStoreOptions): Promise<SnapshotStore> {
    const snapshots = new SnapshotStore(options);
    await mkdir(options.directory, { recursive: true, mode: 0o711 });
    await snapshots.#inits.recover();
    // A mount that outlived the daemon counts once: its container's.
    for (const target of await options.kernel.mounts.below(options.directory)) {
      const match = target.startsWith(`${options.directory}/`)
        ? /^([^/]+)\/merged$/.exec(target.slice(options.directory.length + 1))
        : null;
      if (match !== null) snapshots.#mounted.set(match[1]!, { count: 1, readOnly: false });
    }
    return snapshots;
  }

  /** Layers that must stay. */
  *chainIds(): Generator<Digest> {
    for (const { chainIds } of this.#snapshots.values()) yield* chainIds;
  }

  async create(containerId: string, imageId: Digest, { init } = { init: true }): Promise<void> {
    if (!CONTAINER_ID.test(containerId)) throw new Error(`not a container ID: ${containerId}`);
    const image = imageId === '' ? { chainIds: [] } : this.#images.get(imageId);
    if (image === undefined) throw new EngineError('IMAGE_NOT_FOUND', `No such image: ${imageId}`);
    const { chainIds } = image;
    for (const id of chainIds) {
      if (this.#layers.get(id) === undefined)
        throw new EngineError('IMAGE_CORRUPT', `image ${imageId} lacks layer ${id}`);
    }
    const record: SnapshotRecord = { chainIds, ...(init && { init }) };
    this.#records.put(containerId, record, { durable: true });
    this.#snapshots.set(containerId, record);
    try {
      if (init) await this.#inits.ensure(chainIds, this.#imageDirs(chainIds));
      const root = rootOf(this.#ids);
      const directory = join(this.#directory, containerId);
      await mkdir(directory, { mode: 0o710 });
      await chown(directory, 0, root.gid);
      const { upperDir, workDir, mergedDir } = this.describe(containerId);
      await Promise.all([
        mkdir(upperDir, { mode: 0o755 }),
        mkdir(workDir, { mode: 0o700 }),
        mkdir(mergedDir, { mode: 0o700 }),
      ]);
      // The root of the mount shows the attributes of the top, whatever the umask.
      await chown(upperDir, root.uid, root.gid);
      await chmod(upperDir, 0o755);
    } catch (error) {
      await this.remove(containerId);
      throw error;
    }
  }

  path(containerId: string): string {
    return join(this.#directory, containerId, 'merged');
  }

  describe(containerId: string): {
    readonly lowerDir: string;
    readonly upperDir: string;
    readonly workDir: string;
    readonly mergedDir: string;
  } {
    const directory = join(this.#directory, containerId);
    return {
      lowerDir: this.#lowerDirs(this.#snapshots.get(containerId) ?? { chainIds: [] }).join(':'),
      upperDir: join(directory, 'diff'),
      workDir: join(directory, 'work'),
      mergedDir: join(directory, 'merged'),
    };
  }

  async mount(
    containerId: string,
    options: { readonly readOnly: boolean; readonly volatile: boolean },
  ): Promise<string> {
    return await this.#inTurn(containerId, async () => {
      const record = this.#need(containerId);
      const target = this.path(containerId);
      const mounted = this.#mounted.get(containerId);
      if (mounted !== undefined) {
        if (mounted.readOnly && !options.readOnly)
          throw new EngineError('CONTAINER_PATH_INVALID', 'container rootfs is marked read-only');
        mounted.count++;
        return target;
      }
      const { upperDir, workDir } = this.describe(containerId);
      if (record.init === true) await this.#inits.ensure(record.chainIds, this.#imageDirs(record.chainIds));
      const lowerDirs = this.#lowerDirs(record);
      if (options.readOnly)
        await this.#kernel.mounts.overlay({ lowerDirs: [upperDir, ...lowerDirs], upper: null, target });
      else
        await this.#kernel.mounts.overlay({
          lowerDirs,
          upper: { upperDir, workDir },
          target,
          volatile: options.volatile,
        });
      this.#mounted.set(containerId, { count: 1, readOnly: options.readOnly });
      return target;
    });
  }

  async unmount(containerId: string): Promise<void> {
    await this.#inTurn(containerId, async () => {
      const mounted = this.#mounted.get(containerId);
      if (mounted === undefined || --mounted.count > 0) return;
      this.#mounted.delete(containerId);
      await this.#kernel.mounts.unmount(this.path(containerId));
    });
  }

  async remove(containerId: string): Promise<void> {
    await this.#inTurn(containerId, async () => {
      const directory = join(this.#directory, containerId);
      if (this.#mounted.delete(containerId)) await this.#kernel.mounts.unmount(this.path(containerId));
      await this.#kernel.files.removeTree(directory);
      const { chainIds = [] } = this.#snapshots.get(containerId) ?? {};
      if (this.#snapshots.delete(containerId)) this.#records.delete(containerId, { durable: true });
      // Its image may have been removed by force: then nobody else has these layers.
      if (chainIds.length > 0 && !this.#images.hasTop(chainIds.at(-1)!))
        await this.#collectLayers(chainIds.toReversed());
    });
  }

  async sizes(containerId: string): Promise<{ readonly writableBytes: number; readonly rootBytes: number }> {
    const { chainIds } = this.#need(containerId);
    const writableBytes = await sizeOfTree(this.describe(containerId).upperDir);
    const imageBytes = chainIds.reduce((sum, id) => sum + (this.#layers.get(id)?.sizeBytes ?? 0), 0);
    return { writableBytes, rootBytes: imageBytes + writableBytes };
  }

  async changes(containerId: string): ReturnType<Snapshots['changes']> {
    const record = this.#need(containerId);
    return await diffTree(this.describe(containerId).upperDir, this.#lowerDirs(record), this.#kernel.files);
  }

  async commit(containerId: string, commit: Parameters<Snapshots['commit']>[1]): Promise<Image> {
    const { chainIds } = this.#need(containerId);
    const tar = upperTar(this.describe(containerId).upperDir, shiftedFiles(this.#kernel.files, this.#ids), this.#ids);
    return await this.#commitLayer({ tar, chainIds, commit });
  }

  async sweep(known: ReadonlySet<string>): Promise<void> {
    const names = new Set([...(await readdir(this.#directory)), ...this.#snapshots.keys()]);
    for (const name of names) {
      if (known.has(name)) continue;
      try {
        await this.remove(name);
      } catch (error) {
        this.#logger.warn({ snapshot: name, error: messageOf(error) }, 'a left-over snapshot could not be removed');
      }
    }
  }

  /** Topmost first, as overlayfs has them. */
  #lowerDirs({ chainIds, init }: SnapshotRecord): string[] {
    const imageDirs = this.#imageDirs(chainIds);
    return init === true ? [this.#inits.path(chainIds), ...imageDirs] : imageDirs;
  }

  #imageDirs(chainIds: readonly Digest[]): string[] {
    if (chainIds.length === 0) return [this.#layers.emptyPath];
    return chainIds.toReversed().map((id) => this.#layers.path(id));
  }

  #need(containerId: string): SnapshotRecord {
    const record = this.#snapshots.get(containerId);
    if (record === undefined) throw new EngineError('CONTAINER_NOT_FOUND', `No such container: ${containerId}`);
    return record;
  }

  async #inTurn<T>(containerId: string, run: () => Promise<T>): Promise<T> {
    const result = (this.#turns.get(containerId) ?? Promise.resolve()).then(run);
    const settled = result.catch(() => {});
    this.#turns.set(containerId, settled);
    void settled.then(() => {
      if (this.#turns.get(containerId) === settled) this.#turns.delete(containerId);
    });
    return await result;
  }
}

export interface SnapshotStoreOptions {
  readonly directory: string;
  readonly kernel: Kernel;
  readonly ids: IdMap;
  readonly layers: LayerStore;
  readonly images: ImageTable;
  readonly store: Store;
  readonly logger: Logger;
  readonly commitLayer: CommitLayer;
  /** Removes those that nobody needs any more. */
  readonly collectLayers: (chainIds: readonly Digest[]) => Promise<void>;
}

export function decodeSnapshot(value: unknown): SnapshotRecord {
  if (
    !isObject(value) ||
    !Array.isArray(value['chainIds']) ||
    !value['chainIds'].every((id) => typeof id === 'string' && isDigest(id))
  ) {
    throw new Error('not a snapshot');
  }
  return { chainIds: value['chainIds'] as Digest[], ...(value['init'] === true ? { init: true } : {}) };
}
