/**
 * Where a path of a container is on the host: in its rootfs, or in a volume or bind that is mounted over it. Links are
 * followed as the container would see them. What comes out is a root and a path to be resolved inside that root again
 * (by TreeArchive), so that a link which changes meanwhile leads to the wrong file of the container and never out of it.
 */
import { lstat, readlink, stat } from 'node:fs/promises';
import { posix } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import { codeOf } from './root-files.ts';

const LINKS_MAX = 40; // as the kernel's

/** A mount whose content the host can reach; tmpfs lives in the container's own namespace only. */
export interface PathMount {
  readonly destination: string;
  readonly source: string;
  /** The part of `source` that is mounted, relative to it; found inside of it, as a container may have made it a link. */
  readonly subpath?: string;
  readonly readWrite: boolean;
}

export interface HostPath {
  readonly root: string;
  /** Absolute, below `root`. */
  readonly path: string;
  /** null: the rootfs. */
  readonly mount: PathMount | null;
  /** As the container sees it, free of links (but for the last component). */
  readonly containerPath: string;
}

/** The last component is not followed when it is a link, unless the path ends in "/" or "/.". */
export async function locateOnHost(rootfs: string, mounts: readonly PathMount[], path: string): Promise<HostPath> {
  const byDestination = new Map(mounts.map((mount) => [posix.resolve('/', mount.destination), mount]));
  const follow = /\/\.?$/.test(path);
  let waiting = path.split('/');
  let current = '/'; // as the container sees it, free of links
  let links = 0;
  for (let name; (name = waiting.shift()) !== undefined;) {
    if (name === '' || name === '.') continue;
    const next = posix.resolve(current, name);
    const isLast = waiting.every((part) => part === '' || part === '.');
    const target = isLast && !follow ? null : await linkAt(place(rootfs, byDestination, next));
    if (name === '..' || target === null) {
      current = next;
      continue;
    }
    if (++links > LINKS_MAX) {
      throw new EngineError('CONTAINER_PATH_INVALID', `too many levels of symbolic links: ${path}`);
    }
    waiting = [...target.split('/'), ...waiting];
    if (target.startsWith('/')) current = '/';
  }
  const found = place(rootfs, byDestination, current);
  return found.mount === null ? found : atFile(found);
}

/** The deepest mount at or above the path. */
function place(rootfs: string, mounts: ReadonlyMap<string, PathMount>, path: string): HostPath {
  for (let at = path; at !== '/'; at = posix.dirname(at)) {
    const mount = mounts.get(at);
    if (mount === undefined) continue;
    const inside = posix.resolve('/', mount.subpath ?? '', path.slice(at.length + 1));
    return { root: mount.source, path: inside, mount, containerPath: path };
  }
  return { root: rootfs, path, mount: null, containerPath: path };
}

/** A single file that is mounted: the root must be a directory. */
async function atFile(found: HostPath): Promise<HostPath> {
  if (found.path !== '/' || (await stat(found.root)).isDirectory()) return found;
  return { ...found, root: posix.dirname(found.root), path: `/${posix.basename(found.root)}` };
}

async function linkAt({ root, path }: HostPath): Promise<string | null> {
  try {
    const onHost = posix.join(root, path);
    return (await lstat(onHost)).isSymbolicLink() ? await readlink(onHost) : null;
  } catch (error) {
    // What is not there is no link; whoever opens the result says so in the right words.
    if (['ENOENT', 'ENOTDIR', 'EINVAL'].includes(codeOf(error) ?? '')) return null;
    throw error;
  }
}
