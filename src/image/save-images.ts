/**
 * `docker save`: a docker-archive that is an OCI layout too. Layers go in uncompressed, byte for byte as they came.
 * Source: moby v28 image/tarexport/save.go, OCI image spec image-layout.md.
 */
import { NO_REMAP } from '../core/id-map.ts';
import { parseTime } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';

import { digestOf } from './digest.ts';
import { noSuchImage, type ImageRecord } from './image-table.ts';
import type { ImageStores } from './image-stores.ts';
import { MEDIA } from './oci.ts';
import { TarPacker } from './pack-tree.ts';
import { matchesPlatform, platformMismatch } from './platform.ts';
import type { Digest, Platform } from './port.ts';
import {
  familiarName,
  familiarReference,
  formatReference,
  parseAnyReference,
  parseReference,
  repositoryName,
  type Reference,
} from './reference.ts';
import { encodeHeader, padding } from './tar-header.ts';

interface Saved {
  readonly record: ImageRecord;
  readonly references: Reference[];
}

const FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o755;

/** Which images `names` mean is settled at once, so that an unknown one fails before the first byte. */
export function saveImages(
  stores: ImageStores,
  names: readonly string[],
  platform: Platform | null,
): AsyncIterable<Uint8Array> {
  const chosen = chooseImages(stores, names);
  for (const { record, references } of chosen) {
    if (platform !== null && !matchesPlatform(record.file, platform))
      throw platformMismatch(
        references[0] === undefined ? record.id : familiarReference(references[0]),
        record.file,
        platform,
      );
  }
  return archive(stores, chosen);
}

async function* archive(stores: ImageStores, chosen: readonly Saved[]): AsyncGenerator<Uint8Array> {
  using lease = stores.layers.lease();
  for (const { record } of chosen) for (const id of record.chainIds) lease.hold(id);
  const packer = new TarPacker(stores.kernel.files, NO_REMAP);
  const written = new Set<Digest>();
  const blob = async function* (bytes: Buffer, mtimeNs = 0n): AsyncGenerator<Uint8Array> {
    const digest = digestOf(bytes);
    if (written.has(digest)) return;
    written.add(digest);
    yield* packer.made({ name: blobPath(digest), type: 'file', mode: FILE_MODE, mtimeNs }, bytes);
  };
  for (const name of ['blobs/', 'blobs/sha256/']) yield* packer.made({ name, type: 'directory', mode: DIRECTORY_MODE });
  const index: object[] = [];
  const manifests: object[] = [];
  const ids = new Set(chosen.map(({ record }) => record.id));
  for (const { record, references } of chosen) {
    for (const [i, chainId] of record.chainIds.entries()) {
      const diffId = record.file.layers[i]!;
      if (written.has(diffId)) continue;
      written.add(diffId);
      yield* layerBlob(stores, packer, chainId);
    }
    const config = await stores.blobs.get(record.id);
    const manifest = manifestOf(stores, record, config.length);
    yield* blob(config, record.file.createdAt === '' ? 0n : parseTime(record.file.createdAt)); // as Docker's
    yield* blob(manifest);
    index.push(...indexEntries(manifest, references));
    manifests.push(dockerManifest(stores, record, references, ids));
  }
  const files = {
    'index.json': { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: index },
    'manifest.json': manifests,
    'oci-layout': { imageLayoutVersion: '1.0.0' },
    repositories: repositoriesOf(chosen),
  };
  for (const [name, content] of Object.entries(files)) {
    yield* packer.made({ name, type: 'file', mode: FILE_MODE }, Buffer.from(JSON.stringify(content)));
  }
  yield* packer.end();
  for (const { record } of chosen) stores.emit('save', record.id, record.id);
}

async function* layerBlob(stores: ImageStores, packer: TarPacker, chainId: Digest): AsyncGenerator<Uint8Array> {
  const layer = stores.layers.get(chainId);
  if (layer === undefined) throw new EngineError('IMAGE_CORRUPT', `layer ${chainId} is missing`);
  const header = {
    name: blobPath(layer.diffId),
    type: 'file',
    mode: FILE_MODE,
    uid: 0,
    gid: 0,
    sizeBytes: layer.tarBytes,
    mtimeNs: 0n,
    linkName: '',
    major: 0,
    minor: 0,
    xattrs: new Map(),
  } as const;
  yield* packer.raw(encodeHeader(header));
  for await (const chunk of stores.layers.tar(chainId))
    yield* packer.raw(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
  yield* packer.raw(padding(layer.tarBytes));
}

/** A name without a tag means all tags of the repository. */
function chooseImages(stores: ImageStores, names: readonly string[]): Saved[] {
  const { table } = stores;
  const chosen = new Map<Digest, Saved>();
  const add = (record: ImageRecord | undefined, reference: Reference | null, shown: string): void => {
    if (record === undefined) throw noSuchImage(shown);
    const saved = chosen.get(record.id) ?? { record, references: [] };
    chosen.set(record.id, saved);
    if (reference === null || reference.tag === '') return;
    if (!saved.references.some((known) => formatReference(known) === formatReference(reference)))
      saved.references.push(reference);
  };
  for (const name of names) {
    const any = parseAnyReference(name);
    if (any.kind === 'id') {
      add(table.get(any.id), null, any.id);
      continue;
    }
    const { reference } = any;
    if (familiarName(reference) === 'sha256') {
      add(table.byPrefix(name), null, name); // the beginning of an ID, with its algorithm
      continue;
    }
    if (reference.tag !== '' || reference.digest !== '') {
      const found = table.tagged(reference.digest === '' ? reference : { ...reference, tag: '' });
      add(found && table.get(found.imageId), reference.digest === '' ? reference : null, name);
      continue;
    }
    const inRepository = table.referencesIn(repositoryName(reference)).map(parseReference);
    for (const full of inRepository) add(table.get(table.tagged(full)!.imageId), full, name);
    if (inRepository.length === 0) add(table.byPrefix(name), null, name);
  }
  return [...chosen.values()];
}

function manifestOf(stores: ImageStores, record: ImageRecord, configBytes: number): Buffer {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.ociManifest,
      config: { mediaType: MEDIA.ociConfig, digest: record.id, size: configBytes },
      layers: layerDescriptors(stores, record),
    }),
  );
}

function layerDescriptors(
  stores: ImageStores,
  record: ImageRecord,
): { mediaType: string; size: number; digest: Digest }[] {
  return record.chainIds.map((id, i) => ({
    mediaType: MEDIA.ociLayer,
    size: stores.layers.get(id)?.tarBytes ?? 0,
    digest: record.file.layers[i]!,
  }));
}

function indexEntries(manifest: Buffer, references: readonly Reference[]): object[] {
  const descriptor = { mediaType: MEDIA.ociManifest, digest: digestOf(manifest), size: manifest.length };
  if (references.length === 0) return [descriptor];
  return references.map((reference) => ({
    ...descriptor,
    annotations: {
      'io.containerd.image.name': formatReference(reference),
      'org.opencontainers.image.ref.name': reference.tag,
    },
  }));
}

function dockerManifest(
  stores: ImageStores,
  record: ImageRecord,
  references: readonly Reference[],
  saved: ReadonlySet<Digest>,
): object {
  // The nearest that is in the archive: what is not there cannot be a parent where it is loaded.
  let { parentId } = record;
  while (parentId !== '' && !saved.has(parentId)) parentId = stores.table.get(parentId)?.parentId ?? '';
  return {
    Config: blobPath(record.id),
    RepoTags: references.length === 0 ? null : references.map(familiarReference),
    Layers: record.file.layers.map(blobPath),
    ...(parentId !== '' && { Parent: parentId }),
    LayerSources: Object.fromEntries(layerDescriptors(stores, record).map((layer) => [layer.digest, layer])),
  };
}

/** What clients before Docker 1.10 read; some tools still look for it. */
function repositoriesOf(chosen: readonly Saved[]): Record<string, Record<string, string>> {
  const repositories: Record<string, Record<string, string>> = {};
  for (const { record, references } of chosen) {
    for (const reference of references) {
      (repositories[familiarName(reference)] ??= {})[reference.tag] = (record.file.layers.at(-1) ?? record.id).slice(
        'sha256:'.length,
      );
    }
  }
  return repositories;
}

function blobPath(digest: Digest): string {
  return `blobs/${digest.replace(':', '/')}`;
}
