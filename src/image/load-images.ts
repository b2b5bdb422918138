/**
 * `docker load`: a docker-archive or an OCI layout, in one pass. What looks like a layer is unpacked as it comes;
 * the manifests, which may come last, then say where it belongs.
 * Source: moby v28 image/tarexport/load.go (docker-archive, messages), OCI image spec image-layout.md.
 */
import { EngineError } from '../core/engine-error.ts';
import { shortId } from '../core/id.ts';

import { cleanEntryName, parentOf } from './archive-path.ts';
import { ByteSource } from './byte-source.ts';
import { decompress, detectCompression } from './compression.ts';
import { chainIdOf, checkSame, DigestCounter, digestOf } from './digest.ts';
import { isObject, parseConfigFile } from './image-config.ts';
import type { ImageRecord } from './image-table.ts';
import { HOST_PLATFORM, type ImageStores } from './image-stores.ts';
import type { Lease, StagedLayer } from './layer-store.ts';
import { imagesOf, parseManifest, type Descriptor } from './oci.ts';
import { choosePlatform, formatPlatform, matchesPlatform } from './platform.ts';
import type { Digest, Platform, Progress } from './port.ts';
import { familiarReference, parseReference, type Reference } from './reference.ts';
import { BLOCK_BYTES, decodeHeader } from './tar-header.ts';
import { TarReader, type TarEntry } from './tar-reader.ts';

type Part =
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'layer'; staged: StagedLayer | null; readonly diffId: Digest; readonly digest: Digest }
  /** A layer that is here already and was not read. */
  | { readonly kind: 'known'; readonly diffId: Digest }
  | { readonly kind: 'link'; readonly target: string }
  /** Why what looked like a layer is none; tells only if it is needed. */
  | { readonly kind: 'failed'; readonly error: unknown };

/** One image of the archive, in either format. */
interface Candidate {
  readonly config: Buffer;
  readonly configDigest: Digest | null;
  /** Paths in the archive, with the digest where the format gives one. */
  readonly layers: readonly { readonly path: string; readonly digest: Digest | null }[];
  readonly references: readonly Reference[];
  readonly parentId: Digest;
}

/** Of JSON documents, and what is held of them at a time. */
const DOCUMENT_BYTES_MAX = 4 * 1024 * 1024;
const DOCUMENTS_BYTES_MAX = 64 * 1024 * 1024;
const LINKS_MAX = 10;
const NAME_ANNOTATION = 'io.containerd.image.name';
const REFERENCE_ANNOTATION = 'org.opencontainers.image.ref.name';

export async function* loadImages(
  stores: ImageStores,
  source: AsyncIterable<Uint8Array>,
  options: { readonly quiet: boolean; readonly platform: Platform | null },
): AsyncGenerator<Progress> {
  const parts = await readParts(stores, await decompress(source, { allowPrograms: true }));
  try {
    using lease = stores.layers.lease();
    const candidates = parentsFirst(candidatesOf(parts, options.platform ?? null));
    let untagged = '';
    let tagged = 0;
    for (const candidate of candidates) {
      const file = parseConfigFile(candidate.config);
      if (options.platform !== null && !matchesPlatform(file, options.platform)) continue;
      const record = yield* loadOne(stores, candidate, parts, lease, options.quiet);
      untagged += `Loaded image ID: ${record.id}\n`;
      for (const reference of candidate.references) {
        yield* setTag(stores, reference, record);
        tagged++;
      }
      stores.emit('load', record.id, record.id);
    }
    if (untagged === '') throw new EngineError('IMAGE_NOT_FOUND', 'requested platform not found in the archive');
    if (tagged === 0) yield { kind: 'stream', text: untagged };
  } finally {
    for (const part of parts.values()) {
      if (part.kind === 'layer' && part.staged !== null) await stores.layers.discard(part.staged.path);
    }
    await stores.collectLayers();
  }
}

/** A parent that is in the archive, too, is there when its child is told of it. */
function parentsFirst(candidates: readonly Candidate[]): Candidate[] {
  const byId = new Map(candidates.map((candidate) => [digestOf(candidate.config), candidate]));
  const ordered = new Set<Candidate>();
  for (const candidate of candidates) {
    const line = new Set<Candidate>(); // its ancestors; a hostile archive may have parents of each other
    for (let at = byId.get(digestOf(candidate.config)); at !== undefined && !ordered.has(at) && !line.has(at);) {
      line.add(at);
      at = byId.get(at.parentId);
    }
    for (const one of [...line].toReversed()) ordered.add(one);
    ordered.add(candidate);
  }
  return [...ordered];
}

async function* loadOne(
  stores: ImageStores,
  candidate: Candidate,
  parts: Map<string, Part>,
  lease: Lease,
  isQuiet: boolean,
): AsyncGenerator<Progress, ImageRecord> {
  const { layers: diffIds, os } = parseConfigFile(candidate.config);
  if (os === 'windows')
    throw new EngineError('IMAGE_ARCHIVE_INVALID', `cannot load ${os} image on ${HOST_PLATFORM.os}`);
  if (diffIds.length !== candidate.layers.length) {
    throw new EngineError(
      'IMAGE_ARCHIVE_INVALID',
      `invalid manifest, layers length mismatch: expected ${diffIds.length}, got ${candidate.layers.length}`,
    );
  }
  let parent = '';
  for (const [i, { path, digest }] of candidate.layers.entries()) {
    const diffId = diffIds[i]!;
    const chainId = chainIdOf(parent, diffId);
    lease.hold(chainId);
    if (stores.layers.get(chainId) === undefined) {
      const part = partAt(parts, path);
      const sizeBytes = await placeLayer(stores, part, { path, digest, diffId, parent, index: i }, lease);
      if (!isQuiet)
        yield { kind: 'status', id: shortId(diffId), text: 'Loading layer', current: sizeBytes, total: sizeBytes };
    }
    parent = chainId;
  }
  const parentId =
    candidate.parentId !== '' && stores.table.get(candidate.parentId) !== undefined ? candidate.parentId : '';
  return await stores.add(candidate.config, {
    parentId,
    ...(candidate.configDigest !== null && { expectedId: candidate.configDigest }),
  });
}

/** Returns the bytes of its tar. */
async function placeLayer(
  stores: ImageStores,
  part: Part | undefined,
  wanted: {
    readonly path: string;
    readonly digest: Digest | null;
    readonly diffId: Digest;
    readonly parent: Digest;
    readonly index: number;
  },
  lease: Lease,
): Promise<number> {
  if (part?.kind === 'failed') throw part.error;
  if (part === undefined || (part.kind !== 'layer' && part.kind !== 'known')) {
    throw new EngineError('IMAGE_ARCHIVE_INVALID', `invalid archive: layer ${wanted.path} is missing`);
  }
  if (part.diffId !== wanted.diffId) {
    throw new EngineError(
      'IMAGE_ARCHIVE_INVALID',
      `invalid diffID for layer ${wanted.index}: expected "${wanted.diffId}", got "${part.diffId}"`,
    );
  }
  if (part.kind === 'layer') {
    if (wanted.digest !== null) checkSame(`layer ${wanted.path}`, wanted.digest, part.digest);
    if (part.staged !== null) {
      const { staged } = part;
      part.staged = null;
      return (await stores.layers.adopt(staged, wanted.parent, lease)).tarBytes;
    }
  }
  // The same content lies over other layers: it is unpacked once more.
  const twin = stores.layers.findByDiffId(wanted.diffId);
  if (twin === undefined)
    throw new EngineError('IMAGE_ARCHIVE_INVALID', `invalid archive: layer ${wanted.path} is missing`);
  return (await stores.layers.add({ tar: stores.layers.tar(twin.chainId), parent: wanted.parent, lease })).tarBytes;
}

function* setTag(stores: ImageStores, reference: Reference, record: ImageRecord): Generator<Progress> {
  const before = stores.table.tagged(reference);
  const shown = familiarReference(reference);
  if (before !== undefined && before.imageId !== record.id) {
    yield {
      kind: 'stream',
      text: `The image ${shown} already exists, renaming the old one with ID ${before.imageId} to empty string\n`,
    };
  }
  stores.recordReference(reference, record.id);
  yield { kind: 'stream', text: `Loaded image: ${shown}\n` };
}

/** Everything in the archive: documents in memory, layers unpacked. */
async function readParts(stores: ImageStores, tar: AsyncIterable<Uint8Array>): Promise<Map<string, Part>> {
  const parts = new Map<string, Part>();
  const source = new ByteSource(tar);
  const reader = new TarReader(source);
  let documentBytes = 0;
  try {
    for (let entry; (entry = await reader.next()) !== null;) {
      const name = cleanEntryName(entry.name);
      if (entry.type === 'symlink')
        parts.set(name, { kind: 'link', target: cleanEntryName(`${parentOf(name)}/${entry.linkName}`) });
      else if (entry.type === 'link') parts.set(name, { kind: 'link', target: cleanEntryName(entry.linkName) });
      if (entry.type !== 'file' || parts.has(name)) continue;
      const part = await readPart(stores, entry, name, reader);
      if (part === null) continue;
      if (part.kind === 'bytes') documentBytes += part.bytes.length;
      if (documentBytes > DOCUMENTS_BYTES_MAX)
        throw new EngineError('IMAGE_ARCHIVE_INVALID', 'invalid archive: too many documents');
      parts.set(name, part);
    }
    return parts;
  } catch (error) {
    for (const part of parts.values()) if (part.kind === 'layer') await stores.layers.discard(part.staged!.path);
    throw error;
  } finally {
    await source.close();
  }
}

/** null: a large file that is neither document nor layer. */
async function readPart(stores: ImageStores, entry: TarEntry, name: string, reader: TarReader): Promise<Part | null> {
  const named = /^blobs\/sha256\/([0-9a-f]{64})$/.exec(name);
  if (named !== null && stores.layers.findByDiffId(`sha256:${named[1]}`) !== undefined)
    return { kind: 'known', diffId: `sha256:${named[1]}` };
  const content = new ByteSource(reader.content());
  const start = Buffer.from(await content.peek(BLOCK_BYTES));
  if (!looksLikeLayer(start)) {
    if (entry.sizeBytes > DOCUMENT_BYTES_MAX) return null;
    return { kind: 'bytes', bytes: Buffer.from(await content.take(entry.sizeBytes)) };
  }
  try {
    if (detectCompression(start) === 'none') {
      const staged = await stores.layers.stage(content.rest());
      return { kind: 'layer', staged, diffId: staged.diffId, digest: staged.diffId };
    }
    const counter = new DigestCounter();
    const compressed = counter.through(content.rest());
    const staged = await stores.layers.stage(await decompress(compressed, { allowPrograms: false }));
    // What follows a compressed stream is not part of it, but of the digest.
    for await (const chunk of reader.content()) counter.update(chunk);
    return { kind: 'layer', staged, diffId: staged.diffId, digest: counter.digest() };
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return { kind: 'failed', error };
  }
}

function looksLikeLayer(start: Buffer): boolean {
  if (detectCompression(start) !== 'none') return true;
  if (start.length < BLOCK_BYTES) return false;
  try {
    return decodeHeader(start) !== null || start.every((byte) => byte === 0);
  } catch {
    return false;
  }
}

function candidatesOf(parts: ReadonlyMap<string, Part>, platform: Platform | null): Candidate[] {
  const manifest = partAt(parts, 'manifest.json');
  if (manifest?.kind === 'bytes') return dockerCandidates(parts, manifest.bytes);
  const index = partAt(parts, 'index.json');
  if (index?.kind === 'bytes') return ociCandidates(parts, index.bytes, platform);
  throw new EngineError('IMAGE_ARCHIVE_INVALID', 'invalid archive: does not contain a manifest.json');
}

function dockerCandidates(parts: ReadonlyMap<string, Part>, bytes: Buffer): Candidate[] {
  let list: unknown;
  try {
    list = JSON.parse(bytes.toString());
  } catch (error) {
    throw new EngineError('IMAGE_ARCHIVE_INVALID', 'invalid manifest.json: not JSON', { cause: error });
  }
  if (!Array.isArray(list)) throw new EngineError('IMAGE_ARCHIVE_INVALID', 'invalid manifest.json: not a list');
  return list.map((item: unknown) => {
    if (
      !isObject(item) ||
      typeof item['Config'] !== 'string' ||
      !isStrings(item['Layers'] ?? []) ||
      !isStrings(item['RepoTags'] ?? [])
    ) {
      throw new EngineError('IMAGE_ARCHIVE_INVALID', 'invalid manifest.json: Config, Layers or RepoTags');
    }
    const references = ((item['RepoTags'] ?? []) as string[]).map((tag) => {
      const reference = parseReference(tag);
      if (reference.tag === '') throw new EngineError('IMAGE_REFERENCE_INVALID', `invalid tag ${JSON.stringify(tag)}`);
      return { ...reference, digest: '' };
    });
    return {
      config: documentAt(parts, item['Config']),
      configDigest: null,
      layers: ((item['Layers'] ?? []) as string[]).map((path) => ({ path, digest: null })),
      references,
      parentId: typeof item['Parent'] === 'string' ? item['Parent'] : '',
    };
  });
}

/** An index in the index is one image for several platforms. */
function ociCandidates(parts: ReadonlyMap<string, Part>, bytes: Buffer, platform: Platform | null): Candidate[] {
  const index = parseManifest(bytes);
  if (index.kind !== 'index') throw new EngineError('IMAGE_ARCHIVE_INVALID', 'invalid index.json');
  return imagesOf(index.manifests).map((descriptor) => {
    const names = [descriptor.annotations[NAME_ANNOTATION], descriptor.annotations[REFERENCE_ANNOTATION]].filter(
      (name) => name !== undefined && /[:/]/.test(name),
    );
    const references = names
      .slice(0, 1)
      .map((name) => parseReference(name!))
      .filter(({ tag }) => tag !== '');
    return { ...ociCandidate(parts, descriptor, platform ?? HOST_PLATFORM, 0), references, parentId: '' };
  });
}

function ociCandidate(
  parts: ReadonlyMap<string, Part>,
  descriptor: Descriptor,
  platform: Platform,
  depth: number,
): Pick<Candidate, 'config' | 'configDigest' | 'layers'> {
  const manifest = parseManifest(blobAt(parts, descriptor), descriptor.mediaType);
  if (manifest.kind === 'index') {
    const chosen = choosePlatform(imagesOf(manifest.manifests), platform);
    if (chosen === null || depth > 2)
      throw new EngineError('IMAGE_NOT_FOUND', `no image for ${formatPlatform(platform)} in the archive`);
    return ociCandidate(parts, chosen, platform, depth + 1);
  }
  return {
    config: blobAt(parts, manifest.config),
    configDigest: manifest.config.digest,
    layers: manifest.layers.map(({ digest }) => ({ path: blobPath(digest), digest })),
  };
}

function blobPath(digest: Digest): string {
  return `blobs/${digest.replace(':', '/')}`;
}

function blobAt(parts: ReadonlyMap<string, Part>, { digest }: Descriptor): Buffer {
  const bytes = documentAt(parts, blobPath(digest));
  checkSame(`blob ${digest}`, digest, digestOf(bytes));
  return bytes;
}

function documentAt(parts: ReadonlyMap<string, Part>, path: string): Buffer {
  const part = partAt(parts, path);
  if (part?.kind !== 'bytes') throw new EngineError('IMAGE_ARCHIVE_INVALID', `invalid archive: ${path} is missing`);
  return part.bytes;
}

function partAt(parts: ReadonlyMap<string, Part>, path: string): Part | undefined {
  let at = cleanEntryName(path);
  for (let i = 0; i < LINKS_MAX; i++) {
    const part = parts.get(at);
    if (part?.kind !== 'link') return part;
    at = part.target;
  }
  return undefined;
}

function isStrings(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
