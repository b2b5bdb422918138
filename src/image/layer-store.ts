/**
 * Layers by chain ID, each unpacked once under DIRECTORY/HEX/diff and shared by images and containers, its recipe
 * beside it. A layer is unpacked into a temporary directory, renamed, then recorded: what is recorded is whole.
 * What is not recorded is swept at the next open.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import type { Files } from '../kernel/port.ts';
import type { Collection, Store } from '../store/port.ts';

import { ByteSource } from './byte-source.ts';
import { chainIdOf, checkSame, DigestCounter, hexOf } from './digest.ts';
import { extractLayer } from './extract-layer.ts';
import { isObject } from './image-config.ts';
import { RecipeWriter, replay } from './layer-recipe.ts';
import type { Digest } from './port.ts';
import { isDigest } from './reference.ts';

export interface Layer {
  readonly chainId: Digest;
  readonly diffId: Digest;
  /** Bytes of its regular files and of the targets of its symbolic links. */
  readonly sizeBytes: number;
  /** Bytes of its uncompressed tar. */
  readonly tarBytes: number;
}

/** Unpacked, and not yet at its place. */
export interface StagedLayer extends Omit<Layer, 'chainId'> {
  readonly path: string;
}

const TEMPORARY = 'tmp-';
const EMPTY = 'empty';
const EMPTY_INIT = 'empty-init';

/** Keeps layers while something is made of them. They need not be there yet. */
export class Lease implements Disposable {
  readonly #counts: Map<Digest, number>;
  #mine: Digest[] = [];

  constructor(counts: Map<Digest, number>) {
    this.#counts = counts;
  }

  hold(chainId: Digest): void {
    this.#mine.push(chainId);
    this.#counts.set(chainId, (this.#counts.get(chainId) ?? 0) + 1);
  }

  [Symbol.dispose](): void {
    for (const id of this.#mine) {
      const left = (this.#counts.get(id) ?? 1) - 1;
      if (left === 0) this.#counts.delete(id);
      else this.#counts.set(id, left);
    }
    this.#mine = [];
  }
}

export class LayerStore {
  readonly #directory: string;
  readonly #files: Files;
  readonly #logger: Logger;
  readonly #records: Collection<Layer>;
  readonly #layers: Map<Digest, Layer>;
  readonly #held = new Map<Digest, number>();
  /** Renames and removals take turns. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(directory: string, files: Files, store: Store, logger: Logger) {
    this.#directory = directory;
    this.#files = files;
    this.#logger = logger;
    this.#records = store.collection('layers', decodeLayer);
    this.#layers = this.#records.load();
  }

  static async open(options: {
    readonly directory: string;
    readonly files: Files;
    readonly store: Store;
    readonly logger: Logger;
  }): Promise<LayerStore> {
    const layers = new LayerStore(options.directory, options.files, options.store, options.logger);
    await mkdir(join(options.directory, EMPTY), { recursive: true, mode: 0o711 });
    return layers;
  }

  get(chainId: Digest): Layer | undefined {
    return this.#layers.get(chainId);
  }

  all(): IterableIterator<Layer> {
    return this.#layers.values();
  }

  /** Where it is unpacked. */
  path(chainId: Digest): string {
    return join(this.#directory, hexOf(chainId), 'diff');
  }

  /** Everything is below it. */
  get directory(): string {
    return this.#directory;
  }

  /** A new name, swept at the next open. */
  temporaryPath(): string {
    return join(this.#directory, TEMPORARY + randomBytes(8).toString('hex'));
  }

  /** Of the InitLayers over this layer; over none for undefined. It goes with the layer. */
  initPath(chainId: Digest | undefined): string {
    return join(this.#directory, chainId === undefined ? EMPTY_INIT : join(hexOf(chainId), 'init'));
  }

  /** A directory without anything, for images without layers. */
  get emptyPath(): string {
    return join(this.#directory, EMPTY);
  }

  /** What is held through it is not collected until it is disposed of. */
  lease(): Lease {
    return new Lease(this.#held);
  }

  /** Unpacks an uncompressed tar, whatever it will lie over. @throws IMAGE_ARCHIVE_INVALID */
  async stage(tar: AsyncIterable<Uint8Array>): Promise<StagedLayer> {
    const path = this.temporaryPath();
    await mkdir(join(path, 'diff'), { recursive: true, mode: 0o755 });
    const recipe = new RecipeWriter(join(path, 'recipe'));
    const counter = new DigestCounter();
    const source = new ByteSource(counter.through(tar));
    try {
      const extracted = await extractLayer({ source, root: join(path, 'diff'), files: this.#files, recipe });
      await recipe.finish();
      return { path, diffId: counter.digest(), tarBytes: counter.sizeBytes, ...extracted };
    } catch (error) {
      await recipe.abandon();
      await this.discard(path);
      throw error;
    } finally {
      await source.close();
    }
  }

  /**
   * Gives a staged layer its place over `parent`. `lease` holds it from then on, so that the caller can record its
   * image before anybody collects. The staged one is used up.
   */
  async adopt({ path, ...layer }: StagedLayer, parent: Digest, lease: Lease): Promise<Layer> {
    const adopted: Layer = { chainId: chainIdOf(parent, layer.diffId), ...layer };
    return await this.#inTurn(async () => {
      lease.hold(adopted.chainId);
      const known = this.#layers.get(adopted.chainId);
      if (known !== undefined) {
        await this.discard(path);
        return known;
      }
      await rename(path, join(this.#directory, hexOf(adopted.chainId)));
      this.#records.put(adopted.chainId, adopted, { durable: true });
      this.#layers.set(adopted.chainId, adopted);
      return adopted;
    });
  }

  /** stage() and adopt(). */
  async add(options: {
    readonly tar: AsyncIterable<Uint8Array>;
    readonly parent: Digest;
    readonly lease: Lease;
  }): Promise<Layer> {
    return await this.adopt(await this.stage(options.tar), options.parent, options.lease);
  }

  /** Any layer with this content; it may lie over other layers than wanted. */
  findByDiffId(diffId: Digest): Layer | undefined {
    for (const layer of this.#layers.values()) if (layer.diffId === diffId) return layer;
    return undefined;
  }

  /** The tar it came from, byte for byte. @throws IMAGE_CORRUPT at the end when it is not */
  async *tar(chainId: Digest): AsyncGenerator<Uint8Array> {
    const layer = this.#layers.get(chainId);
    if (layer === undefined) throw new EngineError('IMAGE_CORRUPT', `layer ${chainId} is missing`);
    using lease = this.lease();
    lease.hold(chainId);
    const counter = new DigestCounter();
    yield* counter.through(replay(join(this.#directory, hexOf(chainId), 'recipe'), this.path(chainId)));
    checkSame(`layer ${chainId}`, layer.diffId, counter.digest());
  }

  /** Removes those of `candidates` that are neither in `used` nor held, and returns them. */
  async collect(candidates: Iterable<Digest>, used: () => ReadonlySet<Digest>): Promise<Layer[]> {
    return await this.#inTurn(async () => {
      const reachable = used();
      const removed: Layer[] = [];
      for (const id of candidates) {
        const layer = this.#layers.get(id);
        if (layer === undefined || reachable.has(id) || this.#held.has(id)) continue;
        this.#records.delete(id, { durable: true });
        this.#layers.delete(id);
        removed.push(layer);
        const doomed = this.temporaryPath();
        await rename(join(this.#directory, hexOf(id)), doomed);
        void this.discard(doomed);
      }
      return removed;
    });
  }

  /** Removes what a crash left. Call it before anything is added. */
  async sweep(): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      if (name === EMPTY || name === EMPTY_INIT || this.#layers.has(`sha256:${name}`)) continue;
      const doomed = name.startsWith(TEMPORARY) ? name : TEMPORARY + randomBytes(8).toString('hex');
      if (doomed !== name) await rename(join(this.#directory, name), join(this.#directory, doomed));
      void this.discard(join(this.#directory, doomed));
    }
  }

  async #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(run);
    this.#turn = result.catch(() => {});
    return await result;
  }

  /** Never fails: what stays is swept later. */
  async discard(path: string): Promise<void> {
    try {
      await this.#files.removeTree(path);
      await rm(path, { recursive: true, force: true });
    } catch (error) {
      this.#logger.warn({ path, error: messageOf(error) }, 'a discarded layer could not be removed');
    }
  }
}

function decodeLayer(value: unknown): Layer {
  if (!isObject(value)) throw new Error('not an object');
  const { chainId, diffId, sizeBytes, tarBytes } = value;
  if (typeof chainId !== 'string' || !isDigest(chainId) || typeof diffId !== 'string' || !isDigest(diffId))
    throw new Error('chainId, diffId');
  if (typeof sizeBytes !== 'number' || typeof tarBytes !== 'number') throw new Error('sizeBytes, tarBytes');
  return value as unknown as Layer;
}
