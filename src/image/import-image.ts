/** `docker import` and `docker commit`: one new layer and a config become an image. Source: moby v28 daemon/images/image_import.go, image_commit.go. */
import { decompress } from './compression.ts';
import { applyChanges } from './config-change.ts';
import { EMPTY_CONFIG, formatConfigFile, type ConfigFile } from './image-config.ts';
import { HOST_PLATFORM, type ImageStores } from './image-stores.ts';
import type { Digest, Image, Images, Snapshots, ImageConfig } from './port.ts';
import { parseReference, withDefaultTag } from './reference.ts';
import { EngineError } from '../core/engine-error.ts';

/** The reference is checked before anything is read. */
export async function importTar(stores: ImageStores, options: Parameters<Images['importTar']>[0]): Promise<Image> {
  const reference = options.reference === null ? null : withDefaultTag(parseReference(options.reference));
  if (reference !== null && reference.digest !== '')
    throw new EngineError('IMAGE_REFERENCE_INVALID', 'cannot import digest reference');
  const config = applyChanges(EMPTY_CONFIG, options.changes);
  const platform = options.platform ?? HOST_PLATFORM;
  if (platform.os !== HOST_PLATFORM.os) throw new EngineError('PARAMETER_INVALID', 'operating system is not supported');
  using lease = stores.layers.lease();
  const tar = await decompress(options.source, { allowPrograms: true });
  const layer = await stores.layers.add({ tar, parent: '', lease });
  const created = stores.now();
  const file: ConfigFile = {
    createdAt: created,
    author: '',
    comment: options.message,
    architecture: platform.architecture,
    variant: platform.variant,
    os: platform.os,
    osVersion: '',
    dockerVersion: stores.dockerVersion,
    config,
    layers: [layer.diffId],
    history: [{ created, createdBy: '', author: '', comment: options.message, emptyLayer: false }],
  };
  const record = await stores.add(formatConfigFile(file));
  if (reference !== null) stores.tag(reference, record.id);
  stores.emit('import', record.id, record.id);
  return stores.image(record);
}

/** Another config over the same layers. Source: moby v28 builder/dockerfile commitContainer for steps without files. */
export async function deriveImage(
  stores: ImageStores,
  parentId: Digest,
  options: Parameters<Images['derive']>[1],
): Promise<Image> {
  const parent = parentId === '' ? null : stores.table.get(parentId);
  if (parent === undefined) throw new EngineError('IMAGE_NOT_FOUND', `No such image: ${parentId}`);
  using lease = stores.layers.lease();
  for (const id of parent?.chainIds ?? []) lease.hold(id);
  const created = stores.now();
  const platform = options.platform ?? parent?.file ?? HOST_PLATFORM;
  const file: ConfigFile = {
    createdAt: created,
    author: options.author,
    comment: '',
    architecture: platform.architecture,
    variant: platform.variant,
    os: platform.os,
    osVersion: parent?.file.osVersion ?? '',
    dockerVersion: stores.dockerVersion,
    config: options.config,
    containerConfig: options.containerConfig,
    layers: parent?.file.layers ?? [],
    history: [
      ...(parent?.file.history ?? []),
      { created, createdBy: createdBy(options.containerConfig), author: options.author, comment: '', emptyLayer: true },
    ],
  };
  return stores.image(await stores.add(formatConfigFile(file), { parentId }));
}

/** The parent's history goes on with one line; an unchanged top makes no layer. */
export async function commitTop(
  stores: ImageStores,
  options: {
    readonly tar: AsyncIterable<Uint8Array>;
    readonly chainIds: readonly Digest[];
    readonly commit: Parameters<Snapshots['commit']>[1];
  },
): Promise<Image> {
  const { commit } = options;
  const reference = commit.reference === null ? null : withDefaultTag(parseReference(commit.reference));
  const parent = commit.parentId === '' ? null : stores.table.get(commit.parentId);
  if (parent === undefined) throw new EngineError('IMAGE_NOT_FOUND', `No such image: ${commit.parentId}`);
  using lease = stores.layers.lease();
  for (const id of options.chainIds) lease.hold(id);
  const below = options.chainIds.at(-1) ?? '';
  const layer = await stores.layers.stage(options.tar);
  const isEmpty = layer.diffId === EMPTY_TAR_DIFF_ID;
  if (isEmpty) await stores.layers.discard(layer.path);
  else await stores.layers.adopt(layer, below, lease);
  const created = stores.now();
  const platform = parent?.file ?? HOST_PLATFORM;
  const diffIds = options.chainIds.map((id) => stores.layers.get(id)!.diffId);
  const file: ConfigFile = {
    createdAt: created,
    author: commit.author,
    comment: commit.message,
    architecture: platform.architecture,
    variant: platform.variant,
    os: platform.os,
    osVersion: parent?.file.osVersion ?? '',
    dockerVersion: stores.dockerVersion,
    config: commit.config,
    containerConfig: commit.containerConfig,
    layers: isEmpty ? diffIds : [...diffIds, layer.diffId],
    history: [
      ...(parent?.file.history ?? []),
      {
        created,
        createdBy: createdBy(commit.containerConfig),
        author: commit.author,
        comment: commit.message,
        emptyLayer: isEmpty,
      },
    ],
  };
  const record = await stores.add(formatConfigFile(file), { parentId: commit.parentId });
  if (reference !== null) stores.tag(reference, record.id);
  return stores.image(record);
}

function createdBy({ cmd }: ImageConfig): string {
  return (cmd ?? []).join(' ');
}

/** The digest of 1,024 zeros, a tar without entries. */
export const EMPTY_TAR_DIFF_ID = 'sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef';
