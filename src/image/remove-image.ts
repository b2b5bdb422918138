/** `docker rmi` and `docker image prune`. Source: moby v28 daemon/images/image_delete.go and image_prune.go, rule by rule. */
import { EngineError } from '../core/engine-error.ts';
import { shortId } from '../core/id.ts';

import type { ImageRecord } from './image-table.ts';
import type { ImageStores } from './image-stores.ts';
import { matchesPlatform, platformMismatch } from './platform.ts';
import type { Digest, Images, RemovedImage } from './port.ts';
import {
  familiar,
  familiarReference,
  formatReference,
  parseReference,
  repositoryName,
  withDefaultTag,
} from './reference.ts';

type InUse = Parameters<Images['remove']>[2];

/** Which conflicts stop a removal. */
interface Checks {
  readonly references: boolean;
  readonly stoppedContainers: boolean;
}

const FORCED: Checks = { references: false, stoppedContainers: false };
const CAREFUL: Checks = { references: true, stoppedContainers: true };

export async function removeImage(
  stores: ImageStores,
  nameOrId: string,
  options: Parameters<Images['remove']>[1],
  inUse: InUse,
): Promise<RemovedImage[]> {
  const { table } = stores;
  const record = table.find(nameOrId);
  if ((options.platforms ?? []).length > 1)
    throw new EngineError('PARAMETER_INVALID', 'multiple platforms are not supported');
  for (const platform of options.platforms ?? []) {
    if (!matchesPlatform(record.file, platform)) throw platformMismatch(nameOrId, record.file, platform);
  }
  const removed: RemovedImage[] = [];
  const isByName = !isIdPrefix(record.id, nameOrId);
  if (isByName) {
    const user = inUse(record.id);
    if (!options.force && user !== null && isSingleReference(table.referencesOf(record.id))) {
      throw new EngineError(
        'IMAGE_IN_USE',
        `conflict: unable to remove repository reference "${nameOrId}" (must force) - container ${shortId(user.containerId)} is using its referenced image ${shortId(record.id)}`,
      );
    }
    untagByName(stores, record.id, nameOrId, removed);
    if (table.referencesOf(record.id).length > 0) return removed;
  } else if (isSingleReference(table.referencesOf(record.id))) {
    const conflict = conflictOf(
      stores,
      record,
      options.force ? FORCED : { references: false, stoppedContainers: true },
      inUse,
    );
    if (conflict !== null) throw conflict.error;
    untagAll(stores, record.id, removed);
  }
  await deleteWithParents(stores, record, { ...options, isQuiet: isByName }, inUse, removed);
  return removed;
}

export async function pruneImages(
  stores: ImageStores,
  options: Parameters<Images['prune']>[0],
  inUse: InUse,
): ReturnType<Images['prune']> {
  const { table, layers } = stores;
  const sizes = new Map([...layers.all()].map((layer) => [layer.chainId, layer.sizeBytes]));
  const removed: RemovedImage[] = [];
  // A copy: the table changes underneath.
  for (const record of Array.from(table.records())) {
    const hasChildren = table.childrenOf(record.id).length > 0;
    const references = table.referencesOf(record.id);
    if (hasChildren && (options.danglingOnly || references.length === 0)) continue;
    if (table.get(record.id) === undefined || !options.matches(stores.image(record))) continue;
    if (options.danglingOnly && references.some((full) => parseReference(full).tag !== '')) continue;
    for (const name of references.length > 0 ? references : [record.id]) {
      try {
        removed.push(...(await removeImage(stores, name, { force: false, prune: true }, inUse)));
      } catch (error) {
        // In use, or gone with the one before: left alone.
        if (!(error instanceof EngineError) || (error.kind !== 'conflict' && error.kind !== 'not-found')) throw error;
      }
    }
  }
  const reclaimedBytes = removed.reduce(
    (sum, item) => sum + ('deleted' in item ? (sizes.get(item.deleted) ?? 0) : 0),
    0,
  );
  return { removed, reclaimedBytes };
}

/** Digest references of a repository go with its last tag. */
function untagByName(stores: ImageStores, id: Digest, name: string, removed: RemovedImage[]): void {
  const { table } = stores;
  const asked = withDefaultTag(parseReference(name));
  const reference = asked.digest === '' ? asked : { ...asked, tag: '' };
  table.untag(formatReference(reference));
  stores.emit('untag', id, id);
  removed.push({ untagged: familiarReference(reference) });
  if (reference.digest !== '') return;
  const inRepository = table
    .referencesOf(id)
    .filter((full) => repositoryName(parseReference(full)) === repositoryName(reference));
  if (inRepository.some((full) => parseReference(full).digest === '')) return;
  for (const full of inRepository) {
    table.untag(full);
    removed.push({ untagged: familiar(full) });
  }
}

function untagAll(stores: ImageStores, id: Digest, removed: RemovedImage[]): void {
  for (const full of stores.table.referencesOf(id)) {
    stores.table.untag(full);
    stores.emit('untag', id, id);
    removed.push({ untagged: familiar(full) });
  }
}

/** Then its parents, as far as nobody needs them. `isQuiet`: a conflict only ends it. */
async function deleteWithParents(
  stores: ImageStores,
  record: ImageRecord,
  options: { readonly force: boolean; readonly prune: boolean; readonly isQuiet: boolean },
  inUse: InUse,
  removed: RemovedImage[],
): Promise<void> {
  const conflict = conflictOf(stores, record, options.force ? FORCED : CAREFUL, inUse);
  if (conflict !== null) {
    const isDangling =
      stores.table.referencesOf(record.id).length === 0 && stores.table.childrenOf(record.id).length === 0;
    if (options.isQuiet && (!isDangling || conflict.isUsed)) return;
    throw conflict.error;
  }
  untagAll(stores, record.id, removed);
  await stores.delete(record);
  stores.emit('delete', record.id, record.id);
  removed.push({ deleted: record.id });
  const layers = await stores.layers.collect(record.chainIds.toReversed(), () => stores.usedLayers());
  for (const { chainId } of layers) removed.push({ deleted: chainId });
  const parent = record.parentId === '' ? undefined : stores.table.get(record.parentId);
  if (!options.prune || parent === undefined) return;
  await deleteWithParents(stores, parent, { force: false, prune: true, isQuiet: true }, inUse, removed);
}

function conflictOf(
  stores: ImageStores,
  { id }: ImageRecord,
  checks: Checks,
  inUse: InUse,
): { readonly error: EngineError; readonly isUsed: boolean } | null {
  const conflict = (isHard: boolean, isUsed: boolean, why: string): { error: EngineError; isUsed: boolean } => ({
    isUsed,
    error: new EngineError(
      'IMAGE_IN_USE',
      `conflict: unable to delete ${shortId(id)} (${isHard ? 'cannot be forced' : 'must be forced'}) - ${why}`,
    ),
  });
  if (stores.table.childrenOf(id).length > 0) return conflict(true, false, 'image has dependent child images');
  const user = inUse(id);
  if (user?.running === true)
    return conflict(true, true, `image is being used by running container ${shortId(user.containerId)}`);
  if (checks.references && stores.table.referencesOf(id).length > 0)
    return conflict(false, false, 'image is referenced in multiple repositories');
  if (checks.stoppedContainers && user !== null)
    return conflict(false, true, `image is being used by stopped container ${shortId(user.containerId)}`);
  return null;
}

/** At most one tag, and digests only of its repository. */
function isSingleReference(fullReferences: readonly string[]): boolean {
  if (fullReferences.length <= 1) return true;
  const references = fullReferences.map(parseReference);
  const tagged = references.filter(({ digest }) => digest === '');
  if (tagged.length > 1) return false;
  const repositories = new Set(references.filter(({ digest }) => digest !== '').map(repositoryName));
  return repositories.size === 1 && repositories.has(repositoryName(tagged[0] ?? references[0]!));
}

function isIdPrefix(id: Digest, text: string): boolean {
  return id.startsWith(text) || id.slice('sha256:'.length).startsWith(text);
}
