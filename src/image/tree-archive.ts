/**
 * Files in and out of a container: `docker cp`, export, and stat. Whatever links the container has or makes
 * meanwhile, nothing outside `root` is read or written.
 * Source: moby v28 daemon/archive_unix.go, daemon/containerfs_linux.go.
 */
import type { BigIntStats } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { posix } from 'node:path';

import { formatTime } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';
import type { IdMap } from '../core/id-map.ts';
import type { Files, Kernel } from '../kernel/port.ts';

import { ByteSource } from './byte-source.ts';
import { decompress } from './compression.ts';
import { extractInto } from './extract-into.ts';
import { TarPacker } from './pack-tree.ts';
import type { PathStat, TreeArchive } from './port.ts';
import { shiftedFiles } from './shifted-files.ts';
import {
  absolutePath,
  followInRoot,
  isCode,
  lstatInRoot,
  notFound,
  openDirectoryInRoot,
  splitPath,
} from './tree-path.ts';
import { walkRuns } from './walk-tree.ts';

/** Go's os.FileMode bits. */
const GO_MODE = {
  directory: 2 ** 31,
  symlink: 1 << 27,
  device: 1 << 26,
  fifo: 1 << 25,
  socket: 1 << 24,
  setuid: 1 << 23,
  setgid: 1 << 22,
  character: 1 << 21,
  sticky: 1 << 20,
};

/** Owners in archives are those that containers of `ids` see. */
export function treeArchive(kernel: Pick<Kernel, 'files'>, ids: IdMap): TreeArchive {
  const files = shiftedFiles(kernel.files, ids);
  return {
    stat: async (root, path) => {
      const absolute = absolutePath(path);
      return await describe(files, root, absolute, await lstatInRoot(files, root, absolute));
    },
    read: async (root, path, options = {}) => {
      const absolute = absolutePath(path);
      const stat = await lstatInRoot(files, root, absolute);
      return {
        stat: await describe(files, root, absolute, stat),
        tar: pack(new TarPacker(files, ids), { files, root, absolute, stat, ...options }),
      };
    },
    write: async (root, path, tar, options) => {
      const target = await followInRoot(files, root, absolutePath(path));
      const stat = await lstatInRoot(files, root, target);
      if (!stat.isDirectory()) throw new EngineError('CONTAINER_PATH_INVALID', 'extraction point is not a directory');
      const source = new ByteSource(await decompress(tar, { allowPrograms: true }));
      try {
        const owner = options.copyUidGid ? options.owner : undefined;
        await extractInto({ source, files, root, target, noOverwriteDirNonDir: options.noOverwriteDirNonDir, owner });
      } finally {
        await source.close();
      }
    },
    export: (root) => exportTree(new TarPacker(files, ids), root),
  };
}

async function* exportTree(packer: TarPacker, root: string): AsyncGenerator<Uint8Array> {
  for await (const run of walkRuns(root)) yield* packer.run(run.map((entry) => ({ ...entry, name: entry.path })));
  yield* packer.end();
}

async function describe(files: Files, root: string, absolute: string, stat: BigIntStats): Promise<PathStat> {
  return {
    name: posix.basename(absolute) || '/',
    sizeBytes: Number(stat.size),
    goMode: goModeOf(stat),
    modifiedAt: formatTime(stat.mtimeNs < 0n ? 0n : stat.mtimeNs),
    linkTarget: stat.isSymbolicLink() ? await followInRoot(files, root, absolute) : '',
  };
}

/** First the path itself under its base name, then, of a directory, what is in it. */
async function* pack(
  packer: TarPacker,
  {
    files,
    root,
    absolute,
    stat,
    name: given = posix.basename(absolute),
    over,
  }: { files: Files; root: string; absolute: string; stat: BigIntStats } & NonNullable<
    Parameters<TreeArchive['read']>[2]
  >,
): AsyncGenerator<Uint8Array> {
  const { directory, base } = splitPath(absolute);
  const name = given === '/' ? '' : given; // below "/" the slash is the separator
  await using parent = await openDirectoryInRoot(files, root, directory);
  if (!stat.isDirectory()) {
    yield* packer.entry({ name, path: base, at: `${parent.at}/${base}`, stat });
  } else {
    await using source =
      base === '.'
        ? await openDirectoryInRoot(files, root, directory)
        : await openPinned(files, parent.at, base, absolute);
    const top = await lstat(`${source.at}/.`, { bigint: true });
    yield* packer.entry({ name, path: '', at: `${source.at}/.`, stat: top });
    for await (const run of walkRuns(source.at, over))
      yield* packer.run(run.map((entry) => ({ ...entry, name: `${name}/${entry.path}` })));
  }
  yield* packer.end();
}

/** The directory `base`, which must not have become a link since it was looked at. */
async function openPinned(
  files: Files,
  parentAt: string,
  base: string,
  absolute: string,
): ReturnType<typeof openDirectoryInRoot> {
  try {
    const stat = await lstat(`${parentAt}/${base}`, { bigint: true });
    if (!stat.isDirectory()) throw notFound(absolute);
    return await openDirectoryInRoot(files, parentAt, base); // rooted at its parent: a link made now leads nowhere else
  } catch (error) {
    if (isCode(error, 'ENOENT')) throw notFound(absolute, error);
    throw error;
  }
}

function goModeOf(stat: BigIntStats): number {
  const mode = Number(stat.mode);
  let go = mode & 0o777;
  if (stat.isDirectory()) go += GO_MODE.directory;
  if (stat.isSymbolicLink()) go += GO_MODE.symlink;
  if (stat.isBlockDevice()) go += GO_MODE.device;
  if (stat.isCharacterDevice()) go += GO_MODE.device + GO_MODE.character;
  if (stat.isFIFO()) go += GO_MODE.fifo;
  if (stat.isSocket()) go += GO_MODE.socket;
  if ((mode & 0o4000) !== 0) go += GO_MODE.setuid;
  if ((mode & 0o2000) !== 0) go += GO_MODE.setgid;
  if ((mode & 0o1000) !== 0) go += GO_MODE.sticky;
  return go;
}
