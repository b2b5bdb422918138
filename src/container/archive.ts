/** Files in and out: cp, export and diff. Source: moby daemon/archive.go, archive_unix.go, export.go, changes.go (v28). */
import { posix } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import { newId } from '../core/id.ts';
import type { PathStat } from '../image/port.ts';
import type { Container } from '../lifecycle/container.ts';
import { accountOf } from './account.ts';
import { refuseDead } from './commit.ts';
import { locateOnHost, type HostPath, type PathMount } from './container-path.ts';
import { containerDirectory } from './details.ts';
import { publishEvent } from './events.ts';
import { heldStream } from './held-stream.ts';
import type { Parts } from './parts.ts';
import type { Containers } from './port.ts';
import { codeOf } from './root-files.ts';
import { openRootfs } from './rootfs.ts';
import { imageMountKey, volumeUse } from './start-mounts.ts';

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
  return heldStream(parts.treeArchive.export(rootfs.path), rootfs);
}

export async function archiveStat(parts: Parts, ref: string, path: string): Promise<PathStat> {
  await using files = await openFiles(parts, ref, path);
  return await files.named(await files.inWords(() => parts.treeArchive.stat(files.found.root, files.found.path)));
}

export async function archiveRead(parts: Parts, ref: string, path: string): ReturnType<Containers['archiveRead']> {
  const files = await openFiles(parts, ref, path);
  try {
    const { found } = files;
    const how = { name: nameOf(path), over: files.mountsIn(found.containerPath) };
    const { stat, tar } = await files.inWords(() => parts.treeArchive.read(found.root, found.path, how));
    const named = await files.named(stat);
    publishEvent(parts, files.container, 'archive-path');
    return { stat: named, tar: heldStream(tar, files) };
  } catch (error) {
    await files[Symbol.asyncDispose]();
    throw error;
  }
}

export async function archiveWrite(
  parts: Parts,
  ref: string,
  path: string,
  tar: AsyncIterable<Uint8Array>,
  options: Parameters<Containers['archiveWrite']>[3],
): Promise<void> {
  // The directory itself, wherever its links lead.
  await using files = await openFiles(parts, ref, path, { follow: true });
  const { container, found } = files;
  // Its links are followed already; with the slash, a file would not be found and not be "not a directory".
  const bare = found.path.replace(/(.)\/+$/, '$1');
  const stat = await files.inWords(() => parts.treeArchive.stat(found.root, bare));
  if (stat.goMode < GO_MODE_DIRECTORY) {
    throw new EngineError('CONTAINER_PATH_INVALID', 'extraction point is not a directory');
  }
  if (found.mount !== null && !found.mount.readWrite) {
    throw new EngineError('CONTAINER_PATH_INVALID', 'mounted volume is marked read-only');
  }
  if (found.mount === null && container.spec.host.readonlyRootfs) {
    throw new EngineError('CONTAINER_PATH_INVALID', 'container rootfs is marked read-only');
  }
  const owner = options.copyUidGid ? await ownerOf(parts, container, files.rootfs) : null;
  const how = owner === null ? options : { ...options, owner };
  await files.inWords(() => parts.treeArchive.write(found.root, found.path, tar, how));
  publishEvent(parts, container, 'extract-to-dir');
}

/** A path of a container, reachable on the host while this is open. */
interface OpenFiles extends AsyncDisposable {
  readonly container: Container;
  readonly rootfs: string;
  readonly found: HostPath;
  /** With the name that was asked for, whatever it leads to, and the link target that the container sees. */
  named(stat: PathStat): Promise<PathStat>;
  inWords<T>(run: () => Promise<T>): Promise<T>;
  /** What is mounted below a directory of the container: where on the host it is, by its path in there. */
  mountsIn(directory: string): ReadonlyMap<string, string>;
}

async function openFiles(parts: Parts, ref: string, asked: string, options = { follow: false }): Promise<OpenFiles> {
  const container = parts.resolver.resolve(ref);
  await using stack = new AsyncDisposableStack();
  const rootfs = stack.use(await openRootfs(parts, container)).path;
  const mounts = await takeMounts(parts, container, stack);
  const absolute = asked.startsWith('/') ? asked : `/${asked}`;
  const path = options.follow && !absolute.endsWith('/') ? `${absolute}/` : absolute;
  const found = withEnding(besideItself(await locateOnHost(rootfs, mounts, path)), path);
  const kept = stack.move();
  return {
    container,
    rootfs,
    found,
    named: async (stat) => ({
      ...stat,
      name: nameOf(asked),
      linkTarget: stat.linkTarget === '' ? '' : (await locateOnHost(rootfs, mounts, `${path}/`)).containerPath,
    }),
    inWords: (run) => inWords(ref, asked, run),
    mountsIn: (directory) => mountsIn(mounts, directory),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Volumes, binds, images, and the files that the engine keeps for the container. A tmpfs is the container's own. */
async function takeMounts(parts: Parts, container: Container, stack: AsyncDisposableStack): Promise<PathMount[]> {
  const mounts: PathMount[] = [];
  for (const [index, mount] of container.mounts.entries()) {
    const source = await takeMount(parts, container, index, stack);
    if (source !== null) mounts.push({ ...mount, source });
  }
  if (container.run > 0 && !container.spec.process.networkDisabled) {
    const directory = containerDirectory(parts.settings.dataRoot, container.id);
    for (const file of ['hostname', 'hosts', 'resolv.conf']) {
      const destination = `/etc/${file}`;
      if (mounts.some((mount) => mount.destination === destination)) continue;
      mounts.push({ destination, source: posix.join(directory, file), readWrite: true });
    }
  }
  return mounts;
}

/** Where its root is on the host; null: nowhere. */
async function takeMount(
  parts: Parts,
  container: Container,
  index: number,
  stack: AsyncDisposableStack,
): Promise<string | null> {
  const mount = container.mounts[index]!;
  const { volumes, images } = parts;
  switch (mount.type) {
    case 'tmpfs':
      return null;
    case 'bind':
      return mount.source;
    case 'image': {
      const key = imageMountKey(container.id, index);
      stack.defer(() => images.snapshots.unmount(key));
      return await images.snapshots.mount(key, { readOnly: true, volatile: false });
    }
    case 'volume': {
      // As in Docker, a copy mounts and tells of it, whether the container runs or not.
      const use = { ...volumeUse(container, mount), copyId: newId() };
      stack.defer(() => volumes.release(mount.name, use));
      return await volumes.acquire(mount.name, use);
    }
  }
}

function mountsIn(mounts: readonly PathMount[], directory: string): Map<string, string> {
  const top = directory === '/' ? '/' : `${directory}/`;
  const found = new Map<string, string>();
  for (const { destination, source } of mounts) {
    const at = posix.resolve('/', destination);
    if (at.startsWith(top) && at !== top) found.set(at.slice(top.length), source);
  }
  return found;
}

/** The root of a mount as an entry of the directory that it is in on the host, so that it has a name. */
function besideItself(found: HostPath): HostPath {
  if (found.mount === null || found.path !== '/') return found;
  return { ...found, root: posix.dirname(found.root), path: `/${posix.basename(found.root)}` };
}

/** "dir/." and "dir/" mean the directory and not a link or file of that name: kept for whoever looks. */
function withEnding(found: HostPath, path: string): HostPath {
  const ending = posix.basename(path) === '.' ? '/.' : path.endsWith('/') ? '/' : '';
  if (found.path === '/') return ending === '/.' ? { ...found, path: '/.' } : found;
  return { ...found, path: found.path + ending };
}

/** As Go's filepath.Base of the absolute path, its trailing dot kept: what moby names copies by. */
function nameOf(asked: string): string {
  if (posix.basename(asked) === '.') return '.';
  return posix.basename(posix.join('/', asked)) || '/';
}

/** Whose the files become where their owners shall be the container's; null: as the archive says. */
async function ownerOf(
  parts: Parts,
  container: Container,
  rootfs: string,
): Promise<{ uid: number; gid: number } | null> {
  const { user } = container.spec.process;
  if (user === '') return null;
  const { uid, gid } = await accountOf(parts, container, rootfs, user);
  return { uid, gid };
}

async function inWords<T>(ref: string, path: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (cause) {
    const isMissing =
      cause instanceof EngineError
        ? cause.code === 'CONTAINER_PATH_NOT_FOUND'
        : ['ENOENT', 'ENOTDIR'].includes(codeOf(cause) ?? '');
    if (!isMissing) throw cause;
    if (codeOf(cause) === 'ENOTDIR' || (cause instanceof Error && codeOf(cause.cause) === 'ENOTDIR')) {
      throw new EngineError('CONTAINER_PATH_INVALID', `lstat ${path}: not a directory`, { cause });
    }
    throw new EngineError('CONTAINER_PATH_NOT_FOUND', `Could not find the file ${path} in container ${ref}`, { cause });
  }
}
