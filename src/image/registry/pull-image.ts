/** `docker pull`. Source: moby v28 distribution/pull_v2.go (order, progress lines, messages). */
import { createReadStream } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { EngineError } from '../../core/engine-error.ts';
import { shortId } from '../../core/id.ts';

import { decompress } from '../compression.ts';
import { chainIdOf } from '../digest.ts';
import { parseConfigFile } from '../image-config.ts';
import type { ImageRecord } from '../image-table.ts';
import { HOST_PLATFORM } from '../image-stores.ts';
import type { Lease, StagedLayer } from '../layer-store.ts';
import { imagesOf, parseManifest, type Descriptor, type Manifest } from '../oci.ts';
import { choosePlatform, formatPlatform, isSamePlatform, matchesPlatform, platformMismatch } from '../platform.ts';
import type { Digest, Images, Platform, Progress } from '../port.ts';
import {
  familiarName,
  familiarReference,
  formatReference,
  parseReference,
  repositoryName,
  withDefaultTag,
  withDigest,
  withTag,
  type Reference,
} from '../reference.ts';

import { figures, withProgress, type Report } from './progress-queue.ts';
import { RegistryClient, type FetchedManifest } from './registry-client.ts';
import { isFinal, pullError, RegistryError } from './registry-error.ts';
import type { RegistryStores } from './registry-stores.ts';

type PullOptions = Parameters<Images['pull']>[0];

const INDEX_DEPTH_MAX = 3;
const CONFIG_ATTEMPTS_MAX = 5;
const CONFIG_RETRY_MS = 250;
/** Configs and layers of images, as such or before a ".". The last four are what old registries said of them. */
const IMAGE_TYPES: readonly string[] = [
  'application/vnd.oci.image',
  'application/vnd.docker',
  'application/octet-stream',
  'application/json',
  'text/html',
  '',
];

interface Place {
  readonly blob: Descriptor;
  readonly diffId: Digest;
  /** Chain ID of the layer below; "" for none. */
  readonly parent: Digest;
  readonly chainId: Digest;
}

export function pullImage(stores: RegistryStores, options: PullOptions): AsyncIterable<Progress> {
  const asked = parseReference(options.reference);
  if (options.allTags && (asked.tag !== '' || asked.digest !== ''))
    throw new EngineError('IMAGE_REFERENCE_INVALID', "tag can't be used with --all-tags/-a");
  const reference = options.allTags ? asked : withDefaultTag(asked);
  return withProgress(options.signal, async (report, signal) => {
    try {
      await RegistryClient.use(
        reference,
        { purpose: 'pull', auth: options.auth, registry: stores.options, signal },
        (client) => new Pull(stores, client, options.platform, report, signal).all(reference, options.allTags),
      );
    } catch (error) {
      if (signal.aborted) throw new EngineError('REGISTRY_UNREACHABLE', 'context canceled', { cause: error });
      throw pullError(error, reference);
    }
    const pulled = stores.images.table.tagged(reference)?.imageId;
    stores.images.emit('pull', familiarReference(reference), familiarName(reference), pulled);
    if (options.platform !== null) warnOfPlatform(stores, reference, options.platform, report);
  });
}

/** An image that is for one platform alone is taken whatever was asked for. Source: moby v28 daemon/images/image_pull.go. */
function warnOfPlatform(stores: RegistryStores, reference: Reference, platform: Platform, report: Report): void {
  const { table } = stores.images;
  const tagged = table.tagged(reference);
  const record = tagged && table.get(tagged.imageId);
  if (record === undefined || matchesPlatform(record.file, platform)) return;
  const { message } = platformMismatch(formatReference(reference), record.file, platform);
  report({ kind: 'status', text: `WARNING: ${message}` });
}

class Pull {
  readonly #client: RegistryClient;
  readonly #stores: RegistryStores;
  readonly #platform: Platform | null;
  readonly #report: Report;
  readonly #signal: AbortSignal;

  constructor(
    stores: RegistryStores,
    client: RegistryClient,
    platform: Platform | null,
    report: Report,
    signal: AbortSignal,
  ) {
    this.#stores = stores;
    this.#client = client;
    this.#platform = platform;
    this.#report = report;
    this.#signal = signal;
  }

  async all(reference: Reference, allTags: boolean): Promise<void> {
    const references = allTags ? (await this.#client.tags()).map((tag) => withTag(reference, tag)) : [reference];
    let isNewer = false;
    for (const each of references) isNewer = (await this.#one(each)) || isNewer;
    const name = allTags ? familiarName(reference) : familiarReference(reference);
    this.#report({
      kind: 'status',
      text: isNewer ? `Status: Downloaded newer image for ${name}` : `Status: Image is up to date for ${name}`,
    });
  }

  /** True when the reference now names another image than before. */
  async #one(reference: Reference): Promise<boolean> {
    const { images } = this.#stores;
    const digest = reference.digest || (await this.#client.manifestDigest(reference.tag));
    const known = digest === null ? null : this.#known(withDigest(reference, digest));
    const fetched = known === null ? await this.#manifest(reference, digest) : null;
    const id = reference.digest === '' ? reference.tag : formatReference(reference);
    this.#report({ kind: 'status', id, text: `Pulling from ${reference.path}` });
    const record = known ?? (await this.#fetchImage(reference, fetched!));
    const named = digest !== null && known !== null ? digest : fetched!.digest;
    this.#report({ kind: 'status', text: `Digest: ${named}` });
    const byDigest = withDigest(reference, named);
    const isNewer = images.table.tagged(reference.digest === '' ? reference : byDigest)?.imageId !== record.id;
    images.recordReference(byDigest, record.id);
    if (isNewer && reference.digest === '') images.recordReference(reference, record.id);
    return isNewer;
  }

  /** What an earlier pull has found under this digest, if it is for the platform that is wanted now. */
  #known(byDigest: Reference): ImageRecord | null {
    const { table } = this.#stores.images;
    const record = table.get(table.tagged(byDigest)?.imageId ?? '');
    return record !== undefined && isSamePlatform(record.file, this.#wanted) ? record : null;
  }

  get #wanted(): Platform {
    return this.#platform ?? HOST_PLATFORM;
  }

  /** By digest, so that it is what the tag named; registries that cannot do that are asked for the tag. */
  async #manifest(reference: Reference, digest: Digest | null): Promise<FetchedManifest> {
    if (reference.digest === '' && digest !== null) {
      try {
        return await this.#client.manifest(digest);
      } catch (error) {
        if (!(error instanceof RegistryError) || error.status !== 404) throw error;
      }
    }
    return await this.#client.manifest(reference.digest || reference.tag);
  }

  async #fetchImage(reference: Reference, fetched: FetchedManifest): Promise<ImageRecord> {
    const image = await this.#chooseImage(parseManifest(fetched.bytes, fetched.mediaType), 0);
    return await this.#pullImage(reference, image.manifest, image.digest ?? fetched.digest);
  }

  async #chooseImage(
    manifest: Manifest,
    depth: number,
  ): Promise<{ readonly manifest: Manifest & { readonly kind: 'image' }; readonly digest: Digest | null }> {
    if (manifest.kind === 'image') return { manifest, digest: null };
    const chosen = choosePlatform(imagesOf(manifest.manifests), this.#wanted);
    if (chosen === null || depth === INDEX_DEPTH_MAX) {
      const shown = formatPlatform(this.#wanted);
      throw new EngineError('REGISTRY_NOT_FOUND', `no matching manifest for ${shown} in the manifest list entries`);
    }
    const fetched = await this.#client.manifest(chosen.digest);
    const inner = await this.#chooseImage(parseManifest(fetched.bytes, fetched.mediaType), depth + 1);
    return { manifest: inner.manifest, digest: inner.digest ?? fetched.digest };
  }

  async #pullImage(
    reference: Reference,
    manifest: Manifest & { readonly kind: 'image' },
    manifestDigest: Digest,
  ): Promise<ImageRecord> {
    const { images } = this.#stores;
    const known = images.table.get(manifest.config.digest);
    if (known !== undefined) {
      this.#learn(reference, manifest.layers, known.file.layers);
      return known;
    }
    for (const { mediaType } of [manifest.config, ...manifest.layers]) checkMediaType(mediaType);
    using lease = images.layers.lease();
    const config = await this.#config(manifest.config);
    const file = parseConfigFile(config);
    if (file.layers.length !== manifest.layers.length)
      throw new EngineError('IMAGE_CORRUPT', "layers from manifest don't match image configuration");
    try {
      await this.#layers(manifest.layers, file.layers, lease);
      this.#learn(reference, manifest.layers, file.layers);
      return await images.add(config, { expectedId: manifest.config.digest, manifestDigest });
    } catch (error) {
      await images.collectLayers();
      throw error;
    }
  }

  /** Where the layers can be had: what is at a registry needs not be sent there again. */
  #learn(reference: Reference, blobs: readonly Descriptor[], diffIds: readonly Digest[]): void {
    for (const [i, { digest, size, mediaType }] of blobs.entries()) {
      const diffId = diffIds[i];
      if (diffId !== undefined && !/zstd|tar$/.test(mediaType))
        this.#stores.sources.add(diffId, { digest, size, repository: repositoryName(reference) });
    }
  }

  async #config({ digest }: Descriptor): Promise<Buffer> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#client.blob(digest);
      } catch (error) {
        this.#signal.throwIfAborted();
        if (isFinal(error) || attempt === CONFIG_ATTEMPTS_MAX) throw configError(error, attempt);
        await sleep(CONFIG_RETRY_MS * 2 ** (attempt - 1), undefined, { signal: this.#signal });
      }
    }
  }

  /** Downloads side by side, unpacks one after the other from the bottom. */
  async #layers(blobs: readonly Descriptor[], diffIds: readonly Digest[], lease: Lease): Promise<void> {
    const { images, downloads } = this.#stores;
    const stop = new AbortController();
    const signal = AbortSignal.any([this.#signal, stop.signal]);
    const started = new Map<Digest, Promise<string>>();
    /** Worth keeping if this pull fails: whole, and not found to be wrong. */
    const good = new Set<Digest>(blobs.map(({ digest }) => digest));
    let parent = '';
    const places = blobs.map((blob, i) => {
      const place = { blob, diffId: diffIds[i]!, parent, chainId: chainIdOf(parent, diffIds[i]!) };
      lease.hold((parent = place.chainId));
      return place;
    });
    const missing = places.filter(({ chainId }) => images.layers.get(chainId) === undefined);
    for (const place of places) this.#say(place.blob, missing.includes(place) ? 'Pulling fs layer' : 'Already exists');
    try {
      for (const { blob } of missing) {
        if (started.has(blob.digest)) continue;
        const download = downloads.fetch(this.#client, blob, this.#downloadEvents(blob), signal);
        download.catch((error: unknown) => stop.abort(error)); // awaited below
        started.set(blob.digest, download);
      }
      for (const place of missing) {
        const path = await firstFailure(started.get(place.blob.digest)!, started.values());
        try {
          await this.#unpack(place, path, lease);
        } catch (error) {
          good.delete(place.blob.digest);
          throw error;
        }
      }
      good.clear();
    } finally {
      stop.abort(new Error('done'));
      for (const [digest, download] of started) {
        await download.then(
          () => downloads.release(digest, { keep: good.has(digest) }),
          () => {},
        );
      }
    }
  }

  /** Once, also where several pulls have the same layer. */
  async #unpack(place: Place, path: string, lease: Lease): Promise<void> {
    const { images, unpacking } = this.#stores;
    using _turn = await unpacking.enter(place.chainId, this.#signal);
    if (images.layers.get(place.chainId) === undefined) {
      const staged = await this.#stage(path, place.blob);
      if (staged.diffId !== place.diffId) {
        await images.layers.discard(staged.path);
        throw new EngineError('IMAGE_CORRUPT', "layers from manifest don't match image configuration");
      }
      await images.layers.adopt(staged, place.parent, lease);
    }
    this.#say(place.blob, 'Pull complete');
  }

  async #stage(path: string, blob: Descriptor): Promise<StagedLayer> {
    try {
      const tar = await decompress(this.#reading(path, blob), { allowPrograms: false });
      return await this.#stores.images.layers.stage(tar);
    } catch (error) {
      this.#signal.throwIfAborted();
      if (!(error instanceof EngineError)) throw error;
      throw new EngineError(error.code, `failed to register layer: ${error.message}`, { cause: error });
    }
  }

  #downloadEvents(blob: Descriptor): Parameters<RegistryStores['downloads']['fetch']>[2] {
    const progress = figures(this.#report, shortId(blob.digest), 'Downloading', blob.size);
    return {
      waiting: () => this.#say(blob, 'Waiting'),
      progress,
      retrying: (seconds) => this.#say(blob, `Retrying in ${seconds} second${seconds === 1 ? '' : 's'}`),
      verifying: () => this.#say(blob, 'Verifying Checksum'),
      complete: () => this.#say(blob, 'Download complete'),
    };
  }

  async *#reading(path: string, blob: Descriptor): AsyncGenerator<Uint8Array> {
    const progress = figures(this.#report, shortId(blob.digest), 'Extracting', blob.size);
    let bytes = 0;
    for await (const chunk of createReadStream(path, {
      highWaterMark: 256 * 1024,
      signal: this.#signal,
    }) as AsyncIterable<Buffer>) {
      yield chunk;
      progress((bytes += chunk.length));
    }
  }

  #say(blob: Descriptor, text: string): void {
    this.#report({ kind: 'status', id: shortId(blob.digest), text });
  }
}

/** Waits for `wanted`, but not in vain when another has failed. */
async function firstFailure<T>(wanted: Promise<T>, all: Iterable<Promise<T>>): Promise<T> {
  return await Promise.race([wanted, ...[...all].map((other) => other.then(() => wanted))]);
}

/** Signatures, charts and models are kept in registries too. Source: moby v28 distribution/pull_v2.go checkSupportedMediaType(). */
function checkMediaType(mediaType: string): void {
  const lower = mediaType.toLowerCase();
  if (lower.startsWith('application/vnd.docker.ai.')) {
    const message = 'AI models are not yet supported by the Engine, please use "docker model pull/run" instead';
    throw new EngineError('IMAGE_ARCHIVE_INVALID', message);
  }
  if (IMAGE_TYPES.some((type) => lower === type || (type !== '' && lower.startsWith(`${type}.`)))) return;
  throw new EngineError('IMAGE_ARCHIVE_INVALID', `unsupported media type ${mediaType}`);
}

function configError(error: unknown, attempts: number): unknown {
  if (!(error instanceof EngineError)) return error;
  const message = `error pulling image configuration: download failed after attempts=${attempts}: ${error.message}`;
  return new EngineError(error.code, message, { cause: error });
}
