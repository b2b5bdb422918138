/** Files in and out: cp, export and diff. Source: moby daemon/archive.go, archive_unix.go, export.go, changes.go (v28). */
import { posix } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import type { PathStat } from '../image/port.ts';
import type { Container } from '../lifecycle/container.ts';
import { refuseDead } from './commit.ts';
import { containerDirectory } from './details.ts';
import { locateOnHost, type HostPath, type PathMount } from './container-path.ts';
import { publishEvent } from './events.ts';
import type { Parts } from './parts.ts';
import type { Containers } from './port.ts';
import { rebaseTar } from './rebase-tar.ts';
import { codeOf } from './root-files.ts';
import { openRootfs } from './rootfs.ts';

const GO_MODE_DIRECTORY = 2 ** 31; // os.ModeDir

export async function changes(parts: Parts, ref: string): ReturnType<Containers['changes']> {
  const container = parts.resolver.resolve(ref);
  return parts.images.snapshots.changes(container.id);
}

export async function exportTree(parts: Parts, ref: string): Promise<AsyncIterable<Uint8Array>> {
  const container = parts.resolver.resolve(ref);
  refuseDead(container, 'export');
  const rootfs = await openRootfs(parts, container);
  publishEvent(parts, container, 'export');
  return thenRelease(parts.treeArchive.export(rootfs.path), rootfs);
}

export async function archiveStat(parts: Parts, ref: string, path: string): Promise<PathStat> {
  const container = parts.resolver.resolve(ref);
  await using rootfs = await openRootfs(parts, container);
  const found = await locate(parts, container, rootfs.path, path);
  return named(await inWords(ref, path, () => parts.treeArchive.stat(found.root, found.path)), path, found);
}

export async function archiveRead(parts: Parts, ref: string, path: string): ReturnType<Containers['archiveRead']> {
  const container = parts.resolver.resolve(ref);
  await using stack = new AsyncDisposableStack();
  const rootfs = stack.use(await openRootfs(parts, container));
  const found = await locate(parts, container, rootfs.path, path);
  const { stat, tar } = await inWords(ref, path, () => parts.treeArchive.read(found.root, found.path));
  const own = posix.basename(found.path);
  const wanted = posix.basename(path);
  const isRenamed = found.mount !== null && own !== wanted && isWholeMount(found);
  publishEvent(parts, container, 'archive-path');
  const kept = stack.move();
  return { stat: named(stat, path, found), tar: thenRelease(isRenamed ? rebaseTar(tar, own, wanted) : tar, kept) };
}

export async function archiveWrite(
  parts: Parts,
  ref: string,
  path: string,
  tar: AsyncIterable<Uint8Array>,
  options: Parameters<Containers['archiveWrite']>[3],
): Promise<void> {
  const container = parts.resolver.resolve(ref);
  await using rootfs = await openRootfs(parts, container);
  // The directory itself, wherever its links lead.
  const found = await locate(parts, container, rootfs.path, path.endsWith('/') ? path : `${path}/`);
  const stat = await inWords(ref, path, () => parts.treeArchive.stat(found.root, found.path));
  if ((stat.goMode & GO_MODE_DIRECTORY) === 0) {
    throw new EngineError('CONTAINER_PATH_INVALID', 'extraction point is not a directory');
  }
  if (found.mount !== null && !found.mount.readWrite) {
    throw new EngineError('CONTAINER_PATH_INVALID', 'mounted volume is marked read-only');
  }
  if (found.mount === null && container.spec.host.readonlyRootfs) {
    throw new EngineError('CONTAINER_PATH_INVALID', 'container rootfs is marked read-only');
  }
  await inWords(ref, path, () => parts.treeArchive.write(found.root, found.path, tar, options));
  publishEvent(parts, container, 'extract-to-dir');
}

async function locate(parts: Parts, container: Container, rootfs: string, path: string): Promise<HostPath> {
  const absolute = path.startsWith('/') ? path : `/${path}`;
  const found = await locateOnHost(rootfs, pathMounts(parts, container), absolute);
  // "dir/." and "dir/" mean the directory and not a link or file of that name: kept for whoever looks.
  const ending = /\/\.?$/.exec(absolute)?.[0] ?? '';
  const whole = isWholeMount(found) && found.path === '/' ? besideItself(found) : found;
  return { ...whole, path: whole.path === '/' ? '/' : whole.path + ending };
}

/** Volumes, binds, and the files that the engine keeps for the container. */
function pathMounts(parts: Parts, container: Container): PathMount[] {
  const mounts: PathMount[] = container.mounts.flatMap((mount) => {
    if (mount.type === 'bind') return mount;
    if (mount.type !== 'volume') return [];
    const source = posix.join(mount.source, posix.resolve('/', mount.subpath));
    return { destination: mount.destination, source, readWrite: mount.readWrite };
  });
  if (container.run > 0) {
    const directory = containerDirectory(parts.settings.dataRoot, container.id);
    for (const file of ['hostname', 'hosts', 'resolv.conf']) {
      const destination = `/etc/${file}`;
      const isShadowed = mounts.some((mount) => mount.destination === destination);
      if (!isShadowed) mounts.push({ destination, source: posix.join(directory, file), readWrite: true });
    }
  }
  return mounts;
}

function isWholeMount(found: HostPath): boolean {
  return found.mount !== null && posix.join(found.root, found.path) === posix.resolve(found.mount.source);
}

/** The root of a volume as an entry of the directory that it is in, so that it has a name. */
function besideItself(found: HostPath): HostPath {
  return { ...found, root: posix.dirname(found.root), path: `/${posix.basename(found.root)}` };
}

function named(stat: PathStat, path: string, found: HostPath): PathStat {
  return isWholeMount(found) ? { ...stat, name: posix.basename(path) } : stat;
}

async function inWords<T>(ref: string, path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (cause) {
    const isMissing =
      cause instanceof EngineError ? cause.code === 'CONTAINER_PATH_NOT_FOUND' : codeOf(cause) === 'ENOENT';
    if (!isMissing) throw cause;
    throw new EngineError('CONTAINER_PATH_NOT_FOUND', `Could not find the file ${path} in container ${ref}`, { cause });
  }
}

/** Holds the rootfs until the last byte is read or the reader leaves. */
async function* thenRelease(tar: AsyncIterable<Uint8Array>, held: AsyncDisposable): AsyncGenerator<Uint8Array> {
  try {
    yield* tar;
  } finally {
    await held[Symbol.asyncDispose]();
  }
}
