/** `docker pull`. Source: moby v28 distribution/pull_v2.go (order, progress lines, messages). */
import { createReadStream } from 'node:fs';

import { EngineError } from '../../core/engine-error.ts';
import { shortId } from '../../core/id.ts';

import { decompress } from '../compression.ts';
import { chainIdOf } from '../digest.ts';
import { parseConfigFile } from '../image-config.ts';
import type { ImageRecord } from '../image-table.ts';
import { HOST_PLATFORM } from '../image-stores.ts';
import type { Lease } from '../layer-store.ts';
import { imagesOf, MEDIA, parseManifest, type Descriptor, type Manifest } from '../oci.ts';
import { choosePlatform, matchesPlatform } from '../platform.ts';
import type { Digest, Images, Platform, Progress } from '../port.ts';
import {
  familiarName,
  familiarReference,
  parseReference,
  repositoryName,
  withDefaultTag,
  withDigest,
  withTag,
  type Reference,
} from '../reference.ts';

import { figures, withProgress, type Report } from './progress-queue.ts';
import { RegistryClient } from './registry-client.ts';
import { pullError } from './registry-error.ts';
import type { RegistryStores } from './registry-stores.ts';

type PullOptions = Parameters<Images['pull']>[0];

const INDEX_DEPTH_MAX = 3;
/** Configs of these types make images; others (Helm charts, signatures …) do not. Empty: it does not say. */
const CONFIG_TYPES: ReadonlySet<string> = new Set([
  MEDIA.dockerConfig,
  MEDIA.ociConfig,
  'application/octet-stream',
  'text/html',
  '',
]);

export function pullImage(stores: RegistryStores, options: PullOptions): AsyncIterable<Progress> {
  const asked = parseReference(options.reference);
  if (options.allTags && (asked.tag !== '' || asked.digest !== ''))
    throw new EngineError('IMAGE_REFERENCE_INVALID', "tag can't be used with --all-tags/-a");
  const reference = options.allTags ? asked : withDefaultTag(asked);
  return withProgress(options.signal, async (report, signal) => {
    try {
      using client = await RegistryClient.connect(reference, {
        purpose: 'pull',
        auth: options.auth,
        registry: stores.options,
        signal,
      });
      await pullAll(new Pull(stores, client, options.platform, report, signal), reference, options.allTags, report);
      stores.images.emit(
        'pull',
        familiarReference(reference),
        familiarName(reference),
        stores.images.table.tagged(reference)?.imageId,
      );
    } catch (error) {
      if (signal.aborted) throw new EngineError('REGISTRY_UNREACHABLE', 'context canceled', { cause: error });
      throw pullError(error, reference);
    }
  });
}

async function pullAll(pull: Pull, reference: Reference, allTags: boolean, report: Report): Promise<void> {
  const references = allTags ? (await pull.client.tags()).map((tag) => withTag(reference, tag)) : [reference];
  let isNewer = false;
  for (const each of references) isNewer = (await pull.one(each)) || isNewer;
  const name = allTags ? familiarName(reference) : familiarReference(reference);
  report({
    kind: 'status',
    text: isNewer ? `Status: Downloaded newer image for ${name}` : `Status: Image is up to date for ${name}`,
  });
}

class Pull {
  readonly client: RegistryClient;
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
    this.client = client;
    this.#platform = platform;
    this.#report = report;
    this.#signal = signal;
  }

  /** True when the reference now names another image than before. */
  async one(reference: Reference): Promise<boolean> {
    const { images } = this.#stores;
    const wanted = reference.digest === '' ? reference.tag : reference.digest;
    const fetched = await this.client.manifest(wanted);
    this.#report({ kind: 'status', id: wanted, text: `Pulling from ${familiarPath(reference)}` });
    const image = await this.#chooseImage(parseManifest(fetched.bytes, fetched.mediaType), 0);
    const record = await this.#pullImage(reference, image.manifest, image.digest ?? fetched.digest);
    this.#report({ kind: 'status', text: `Digest: ${fetched.digest}` });
    const byDigest = withDigest(reference, fetched.digest);
    const named = reference.digest === '' ? reference : byDigest;
    const isNewer = images.table.tagged(named)?.imageId !== record.id;
    images.recordReference(byDigest, record.id);
    if (isNewer) images.recordReference(named, record.id);
    return isNewer;
  }

  async #chooseImage(
    manifest: Manifest,
    depth: number,
  ): Promise<{ readonly manifest: Manifest & { readonly kind: 'image' }; readonly digest: Digest | null }> {
    if (manifest.kind === 'image') return { manifest, digest: null };
    const wanted = this.#platform ?? HOST_PLATFORM;
    const chosen = choosePlatform(imagesOf(manifest.manifests), wanted);
    const shown = `${wanted.os}/${wanted.architecture}${wanted.variant === '' ? '' : `/${wanted.variant}`}`;
    if (chosen === null || depth === INDEX_DEPTH_MAX)
      throw new EngineError('REGISTRY_NOT_FOUND', `no matching manifest for ${shown} in the manifest list entries`);
    const fetched = await this.client.manifest(chosen.digest);
    const inner = await this.#chooseImage(parseManifest(fetched.bytes, fetched.mediaType), depth + 1);
    return { manifest: inner.manifest, digest: inner.digest ?? fetched.digest };
  }

  async #pullImage(
    reference: Reference,
    manifest: Manifest & { readonly kind: 'image' },
    manifestDigest: Digest,
  ): Promise<ImageRecord> {
    const { images } = this.#stores;
    if (!CONFIG_TYPES.has(manifest.config.mediaType))
      throw new EngineError('IMAGE_ARCHIVE_INVALID', `unsupported media type ${manifest.config.mediaType}`);
    using lease = images.layers.lease();
    const config = await this.#config(manifest.config);
    const file = parseConfigFile(config);
    if (this.#platform !== null && !matchesPlatform(file, this.#platform)) {
      const show = ({ os, architecture, variant }: Platform): string =>
        [os, architecture, variant].filter((part) => part !== '').join('/');
      throw new EngineError(
        'IMAGE_NOT_FOUND',
        `image with reference ${familiarReference(reference)} was found but its platform (${show(file)}) does not match the specified platform (${show(this.#platform)})`,
      );
    }
    if (file.layers.length !== manifest.layers.length)
      throw new EngineError('IMAGE_CORRUPT', "layers from manifest don't match image configuration");
    try {
      await this.#layers(reference, manifest.layers, file.layers, lease);
      return await images.add(config, { expectedId: manifest.config.digest, manifestDigest });
    } catch (error) {
      await images.collectLayers();
      throw error;
    }
  }

  async #config({ digest }: Descriptor): Promise<Buffer> {
    const { images } = this.#stores;
    return images.table.get(digest) === undefined ? await this.client.blob(digest) : await images.blobs.get(digest);
  }

  /** Downloads side by side, unpacks one after the other from the bottom. */
  async #layers(
    reference: Reference,
    blobs: readonly Descriptor[],
    diffIds: readonly Digest[],
    lease: Lease,
  ): Promise<void> {
    const { images, downloads, sources } = this.#stores;
    const stop = new AbortController();
    const signal = AbortSignal.any([this.#signal, stop.signal]);
    const started = new Map<Digest, Promise<string>>();
    let isDone = false;
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
        const download = downloads.fetch(this.client, blob, this.#downloadEvents(blob), signal);
        download.catch(() => stop.abort(new Error('another layer failed'))); // awaited below
        started.set(blob.digest, download);
      }
      for (const { blob, diffId, parent: below } of missing) {
        const path = await firstFailure(started.get(blob.digest)!, started.values());
        const staged = await images.layers.stage(await decompress(this.#reading(path, blob), { allowPrograms: false }));
        if (staged.diffId !== diffId) {
          await images.layers.discard(staged.path);
          throw new EngineError('IMAGE_CORRUPT', "layers from manifest don't match image configuration");
        }
        await images.layers.adopt(staged, below, lease);
        this.#say(blob, 'Pull complete');
      }
      for (const { blob, diffId } of places) {
        if (!/zstd|tar$/.test(blob.mediaType))
          sources.add(diffId, { digest: blob.digest, size: blob.size, repository: repositoryName(reference) });
      }
      isDone = true;
    } finally {
      stop.abort(new Error('done'));
      for (const [digest, download] of started) {
        await download.then(
          () => downloads.release(digest, { keep: !isDone }),
          () => {},
        );
      }
    }
  }

  #downloadEvents(blob: Descriptor): Parameters<RegistryStores['downloads']['fetch']>[2] {
    const progress = figures(this.#report, shortId(blob.digest), 'Downloading', blob.size);
    return {
      waiting: () => this.#say(blob, 'Waiting'),
      progress,
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

/** Without the domain, as the CLI shows it: "library/busybox". */
function familiarPath({ path }: Reference): string {
  return path;
}
