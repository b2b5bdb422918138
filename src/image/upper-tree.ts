/**
 * What the writable top of an overlay says: the changes against what lies below, and the layer it becomes.
 * Source: overlayfs.rst; moby pkg/archive changes.go (what counts as a change and which parents are named).
 */
import type { BigIntStats } from 'node:fs';
import { lstat, open, readdir, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { decodeFileName, fsPath } from '../core/file-name.ts';
import { toContainer, type IdMap } from '../core/id-map.ts';
import type { Files } from '../kernel/port.ts';

import { TarPacker } from './pack-tree.ts';
import { isGone, openDirectory, readEntries, walkTree } from './walk-tree.ts';

export interface Change {
  /** Absolute in the container. */
  readonly path: string;
  readonly kind: 'modified' | 'added' | 'deleted';
}

const OPAQUE_XATTR = 'trusted.overlay.opaque';
const CAPABILITY_XATTR = 'security.capability';
const PERMISSIONS = 0o777n;
/** Of whiteouts in archives, as moby's. */
const WHITEOUT_MODE = 0o600;

/** `lowers`: topmost first. Sorted by path. */
export async function diffTree(upper: string, lowers: readonly string[], files: Files): Promise<Change[]> {
  const changes: Change[] = [];
  const directory = await open(upper);
  try {
    await diffDirectory(
      directory,
      '',
      { stat: await directory.stat({ bigint: true }), directories: lowers },
      files,
      changes,
    );
  } finally {
    await directory.close();
  }
  return changes.toSorted((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

/** The top as a layer's tar: whiteouts spelled as the OCI image spec has them. */
export async function* upperTar(upper: string, files: Files, ids: IdMap): AsyncGenerator<Buffer> {
  const packer = new TarPacker(files, ids);
  for await (const entry of walkTree(upper)) {
    const { path, stat } = entry;
    const slash = path.lastIndexOf('/') + 1;
    if (isWhiteout(stat)) {
      yield* packer.made({
        name: `${path.slice(0, slash)}.wh.${path.slice(slash)}`,
        type: 'file',
        mode: WHITEOUT_MODE,
        mtimeNs: stat.mtimeNs,
      });
      continue;
    }
    yield* packer.entry({ ...entry, name: path });
    if (stat.isDirectory() && (await isOpaque(entry.at, files))) {
      yield* packer.made({
        name: `${path}/.wh..wh..opq`,
        type: 'file',
        mode: Number(stat.mode & PERMISSIONS),
        ...toContainer(ids, { uid: Number(stat.uid), gid: Number(stat.gid) }),
        mtimeNs: stat.mtimeNs,
      });
    }
  }
  yield* packer.end();
}

/** A path as the layers below have it; `directories` are those that make it up, topmost first. */
interface Below {
  readonly stat: BigIntStats;
  readonly directories: readonly string[];
  /** The layer's own path of the one that shows. */
  readonly at?: string;
}

async function diffDirectory(
  directory: FileHandle,
  path: string,
  below: Below | null,
  files: Files,
  changes: Change[],
): Promise<void> {
  const seen = new Set<string>();
  for await (const { name, at, stat } of readEntries(directory)) {
    seen.add(name);
    const old = below === null ? null : await lookBelow(below.directories, name, files);
    const childPath = `${path}/${name}`;
    if (isWhiteout(stat)) {
      if (old !== null) changes.push({ path: childPath, kind: 'deleted' });
      continue;
    }
    const before = changes.length;
    if (old === null) changes.push({ path: childPath, kind: 'added' });
    else if (await isDifferent(old, stat, at, files)) changes.push({ path: childPath, kind: 'modified' });
    const isTold = changes.length > before;
    if (!stat.isDirectory()) continue;
    const child = await openDirectory(at);
    if (child === null) continue;
    try {
      await diffDirectory(child, childPath, old?.stat.isDirectory() === true ? old : null, files, changes);
    } finally {
      await child.close();
    }
    // A directory is told of when something in it changed.
    if (!isTold && changes.length > before) changes.push({ path: childPath, kind: 'modified' });
  }
  if (below !== null && path !== '' && (await isOpaque(`/proc/self/fd/${directory.fd}/.`, files))) {
    for (const name of await namesBelow(below.directories, files)) {
      if (!seen.has(name)) changes.push({ path: `${path}/${name}`, kind: 'deleted' });
    }
  }
}

async function lookBelow(directories: readonly string[], name: string, files: Files): Promise<Below | null> {
  const found: string[] = [];
  let top: BigIntStats | null = null;
  for (const [i, directory] of directories.entries()) {
    const at = join(directory, name);
    const stat = await lstatOrNull(at);
    if (stat === null) continue;
    if (isWhiteout(stat)) break;
    if (!stat.isDirectory()) {
      if (top === null) return { stat, directories: [], at };
      break;
    }
    top ??= stat;
    found.push(at);
    if (i + 1 < directories.length && (await isOpaque(at, files))) break;
  }
  return top === null ? null : { stat: top, directories: found, at: found[0]! };
}

async function namesBelow(directories: readonly string[], files: Files): Promise<string[]> {
  const names = new Set<string>();
  for (const directory of directories)
    for (const name of await readdir(fsPath(directory), { encoding: 'buffer' })) names.add(decodeFileName(name));
  const visible: string[] = [];
  for (const name of names) if ((await lookBelow(directories, name, files)) !== null) visible.push(name);
  return visible;
}

/** Docker looks at neither size nor time of directories. */
async function isDifferent(old: Below, stat: BigIntStats, at: string, files: Files): Promise<boolean> {
  const { stat: was } = old;
  if (was.mode !== stat.mode || was.uid !== stat.uid || was.gid !== stat.gid || was.rdev !== stat.rdev) return true;
  if (!stat.isDirectory() && (was.mtimeNs !== stat.mtimeNs || was.size !== stat.size)) return true;
  if (!stat.isFile()) return false;
  const [before, now] = await Promise.all([
    files.getXattr(old.at!, CAPABILITY_XATTR),
    files.getXattr(at, CAPABILITY_XATTR),
  ]);
  return !(before ?? Buffer.alloc(0)).equals(now ?? Buffer.alloc(0));
}

function isWhiteout(stat: BigIntStats): boolean {
  return stat.isCharacterDevice() && stat.rdev === 0n;
}

async function isOpaque(at: string, files: Files): Promise<boolean> {
  const value = await files.getXattr(at, OPAQUE_XATTR);
  return value?.toString('latin1') === 'y';
}

async function lstatOrNull(path: string): Promise<BigIntStats | null> {
  try {
    return await lstat(fsPath(path), { bigint: true });
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}
