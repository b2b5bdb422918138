/** Names in archives, which are not to be trusted. */
import { posix } from 'node:path';

import { EngineError } from '../core/engine-error.ts';

/** PATH_MAX; the kernel takes no more, and it bounds how deep a tree can be. */
const PATH_LENGTH_MAX = 4095;

/**
 * "./a//b/" is "a/b"; the root is "". A leading slash is taken off, as Docker and tar do: such names lie inside the
 * target too. @throws IMAGE_ARCHIVE_INVALID for names that lead out
 */
export function cleanEntryName(name: string): string {
  if (name.includes('\0')) throw outside(name);
  if (name.length > PATH_LENGTH_MAX) throw refuse(`${name.slice(0, 64)}…`, 'has a name that is too long');
  const clean = posix.normalize(name.replace(/^\/+/, '') || '.').replace(/\/$/, '');
  if (clean === '..' || clean.startsWith('../')) throw outside(name);
  return clean === '.' ? '' : clean;
}

/** The target of a hard link, which names another entry. @throws IMAGE_ARCHIVE_INVALID naming the link */
export function cleanLinkTarget(entry: string, target: string): string {
  try {
    return cleanEntryName(target);
  } catch {
    throw refuse(entry, `is a hard link to ${JSON.stringify(target)}, which leads out of the target directory`);
  }
}

export function parentOf(clean: string): string {
  const slash = clean.lastIndexOf('/');
  return slash === -1 ? '' : clean.slice(0, slash);
}

export function baseOf(clean: string): string {
  return clean.slice(clean.lastIndexOf('/') + 1);
}

export function refuse(entry: string, why: string): EngineError {
  return new EngineError('IMAGE_ARCHIVE_INVALID', `archive entry ${JSON.stringify(entry)} ${why}`);
}

function outside(name: string): EngineError {
  return refuse(name, 'leads out of the target directory');
}
