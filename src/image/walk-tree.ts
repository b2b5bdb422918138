/**
 * Goes through a directory tree that a hostile process may be changing at the same time. Every directory is opened
 * without following links and read through its descriptor (/proc/self/fd/N), so that no renamed directory or
 * planted link can lead the walk out of the tree.
 */
import { constants, type BigIntStats } from 'node:fs';
import { lstat, open, readdir, realpath, type FileHandle } from 'node:fs/promises';

import { decodeFileName, fsPath } from '../core/file-name.ts';

export interface TreeEntry {
  /** Below the root of the walk: "a/b". */
  readonly path: string;
  /** Where to reach it while the walk stands on it; its last component is not to be followed. */
  readonly at: string;
  readonly stat: BigIntStats;
}

const STATS_AT_ONCE = 64;
const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;

/** Parents before children, names in order. What vanishes meanwhile is left out. */
export async function* walkTree(root: string): AsyncGenerator<TreeEntry> {
  for await (const run of walkRuns(root)) yield* run;
}

/**
 * The same, by runs of entries of one directory: all of a run can be reached until the next is asked for. `over`: files
 * and directories that show at these paths instead of those of the tree, as what is mounted there.
 */
export async function* walkRuns(
  root: string,
  over: ReadonlyMap<string, string> = new Map(),
): AsyncGenerator<readonly TreeEntry[]> {
  const directory = await open(root, O_RDONLY | O_DIRECTORY);
  try {
    yield* walkDirectory(directory, '', over);
  } finally {
    await directory.close();
  }
}

/** The entries of one directory, in order. */
export async function* readEntries(
  directory: FileHandle,
): AsyncGenerator<{ readonly name: string; readonly at: string; readonly stat: BigIntStats }> {
  const base = `/proc/self/fd/${directory.fd}`;
  const names = (await readdir(base, { encoding: 'buffer' })).map(decodeFileName).toSorted(byBytes);
  for (let from = 0; from < names.length; from += STATS_AT_ONCE) {
    const slice = names.slice(from, from + STATS_AT_ONCE);
    const stats = await Promise.all(slice.map((name) => statOrNull(`${base}/${name}`)));
    for (const [i, stat] of stats.entries()) {
      if (stat !== null) yield { name: slice[i]!, at: `${base}/${slice[i]!}`, stat };
    }
  }
}

/** null when it is no directory any more. */
export async function openDirectory(at: string): Promise<FileHandle | null> {
  try {
    return await open(fsPath(at), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

async function* walkDirectory(
  directory: FileHandle,
  prefix: string,
  over: ReadonlyMap<string, string>,
): AsyncGenerator<readonly TreeEntry[]> {
  let run: TreeEntry[] = [];
  for await (const { name, ...own } of readEntries(directory)) {
    const path = prefix + name;
    const source = over.get(path);
    const { at, stat } = (source === undefined ? null : await mounted(source)) ?? own;
    run.push({ path, at, stat });
    const isDirectory = stat.isDirectory();
    if (!isDirectory && run.length < STATS_AT_ONCE) continue;
    yield run;
    run = [];
    const child = isDirectory ? await openDirectory(at) : null;
    if (child === null) continue;
    try {
      yield* walkDirectory(child, `${path}/`, over);
    } finally {
      await child.close();
    }
  }
  if (run.length > 0) yield run;
}

/** null when it is gone. */
async function mounted(source: string): Promise<Pick<TreeEntry, 'at' | 'stat'> | null> {
  try {
    const at = await realpath(source); // a mount follows links
    return { at, stat: await lstat(at, { bigint: true }) };
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

async function statOrNull(path: string): Promise<BigIntStats | null> {
  try {
    return await lstat(fsPath(path), { bigint: true });
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

export function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(String(error.code));
}

function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
