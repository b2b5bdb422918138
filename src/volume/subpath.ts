/**
 * A path inside a volume (or an image's tree) that must not lead out of it, whatever links lie there and whoever changes
 * them meanwhile: what was opened is what is used. Source: moby volume/internal/safepath (v28).
 */
import { close, fstat } from 'node:fs';
import { mkdir, rmdir, unlink, writeFile } from 'node:fs/promises';
import { posix } from 'node:path';
import { promisify } from 'node:util';

import { EngineError } from '../core/engine-error.ts';
import type { Files, Mounts } from '../kernel/port.ts';

const O_PATH = 0o10_000_000; // not in node:fs
const MS_BIND = 0x1000;
const CAUSES: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  ENOTDIR: 'not a directory',
  ELOOP: 'too many levels of symbolic links',
};

const statFd = promisify(fstat);
const closeFd = promisify(close);

interface Opened extends AsyncDisposable {
  /** Good while it is open, for this process. */
  readonly path: string;
}

/**
 * Binds `subpath` of `root` at `target`, which is made. The caller unmounts it.
 * @throws CONTAINER_PATH_NOT_FOUND "cannot access path x: …", CONTAINER_PATH_INVALID "path concatenation escapes …"
 */
export async function bindSubpath(
  kernel: { readonly files: Pick<Files, 'openInRoot'>; readonly mounts: Pick<Mounts, 'mount'> },
  { root, subpath, target }: { readonly root: string; readonly subpath: string; readonly target: string },
): Promise<void> {
  const fd = await openBeneath(kernel.files, root, subpath);
  try {
    await makeTarget(target, (await statFd(fd)).isDirectory());
    await kernel.mounts.mount({ source: `/proc/self/fd/${fd}`, target, type: '', flags: MS_BIND, data: '' });
  } finally {
    await closeFd(fd);
  }
}

/** A directory for a directory and a file for a file; of the run before it may be the other. */
async function makeTarget(target: string, isDirectory: boolean): Promise<void> {
  await rmdir(target).catch(() => unlink(target).catch(() => {})); // never what it holds, should it still be a mount
  await mkdir(isDirectory ? target : posix.dirname(target), { recursive: true, mode: 0o700 });
  if (!isDirectory) await writeFile(target, '', { mode: 0o600 });
}

/** null: there is no such directory. "" is the root itself. @throws CONTAINER_PATH_INVALID where it leads out */
export async function openDirectory(
  files: Pick<Files, 'openInRoot'>,
  root: string,
  subpath: string,
): Promise<Opened | null> {
  if (subpath === '') return { path: root, [Symbol.asyncDispose]: async () => {} };
  let fd: number;
  try {
    fd = await openBeneath(files, root, subpath);
  } catch (error) {
    if (error instanceof EngineError && error.code === 'CONTAINER_PATH_NOT_FOUND') return null;
    throw error;
  }
  if (!(await statFd(fd)).isDirectory()) {
    await closeFd(fd);
    return null;
  }
  // With "/." the link of the descriptor is followed by calls that follow none.
  return { path: `/proc/self/fd/${fd}/.`, [Symbol.asyncDispose]: () => closeFd(fd) };
}

async function openBeneath(files: Pick<Files, 'openInRoot'>, root: string, subpath: string): Promise<number> {
  try {
    return await files.openInRoot(root, subpath, O_PATH, 0, 'refused');
  } catch (error) {
    const { code } = error as { readonly code?: string };
    if (code === 'EXDEV') {
      const message = `path concatenation escapes the base directory, base: ${root}, subpath: ${subpath}`;
      throw new EngineError('CONTAINER_PATH_INVALID', message, { cause: error });
    }
    const cause = CAUSES[code ?? ''];
    if (cause === undefined) throw error;
    const path = posix.join(root, subpath);
    const message = `cannot access path ${path}: lstat ${path}: ${cause}`;
    throw new EngineError('CONTAINER_PATH_NOT_FOUND', message, { cause: error });
  }
}
