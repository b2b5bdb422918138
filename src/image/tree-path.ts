/** Paths inside a directory tree as a process chrooted to it would see them: links are followed, never out of it. */
import { constants, type BigIntStats } from 'node:fs';
import { close, lstat as lstatCallback } from 'node:fs';
import { readlink } from 'node:fs/promises';
import { posix } from 'node:path';
import { promisify } from 'node:util';

import { EngineError } from '../core/engine-error.ts';
import type { Files } from '../kernel/port.ts';

const O_PATH = 0o10000000;
const { O_DIRECTORY } = constants;
const LINKS_MAX = 255;
const closeFd = promisify(close);
const lstat = promisify(lstatCallback) as (path: string, options: { bigint: true }) => Promise<BigIntStats>;

/** A directory held open; `at` reaches it whatever happens to its name. */
export interface OpenDirectory extends AsyncDisposable {
  readonly at: string;
}

/** "a/../b/." is "/b/.": cleaned, absolute, and a trailing "/" or "/." kept, since it means "follow". Source: moby PreserveTrailingDotOrSeparator. */
export function absolutePath(path: string): string {
  if (path.includes('\0')) throw new EngineError('CONTAINER_PATH_INVALID', 'invalid path');
  const clean = posix.join('/', path).replace(/\/+$/, '') || '/';
  if (/(?:^|\/)\.$/.test(path)) return clean === '/' ? '/.' : `${clean}/.`;
  return path.endsWith('/') && clean !== '/' ? `${clean}/` : clean;
}

/** @throws CONTAINER_PATH_NOT_FOUND */
export async function openDirectoryInRoot(files: Files, root: string, path: string): Promise<OpenDirectory> {
  let fd: number;
  try {
    fd = await files.openInRoot(root, path, O_PATH | O_DIRECTORY, 0);
  } catch (error) {
    if (isCode(error, 'ENOENT') || isCode(error, 'ENOTDIR') || isCode(error, 'ELOOP')) throw notFound(path, error);
    throw error;
  }
  return { at: `/proc/self/fd/${fd}`, [Symbol.asyncDispose]: async () => await closeFd(fd) };
}

/** lstat; a trailing slash or dot follows. @throws CONTAINER_PATH_NOT_FOUND */
export async function lstatInRoot(files: Files, root: string, absolute: string): Promise<BigIntStats> {
  const { directory, base } = splitPath(absolute);
  await using parent = await openDirectoryInRoot(files, root, directory);
  try {
    return await lstat(`${parent.at}/${base}`, { bigint: true });
  } catch (error) {
    if (isCode(error, 'ENOENT') || isCode(error, 'ENOTDIR')) throw notFound(absolute, error);
    throw error;
  }
}

/** The directory to resolve, and the last component, which is not followed: "." where the path says to follow. */
export function splitPath(absolute: string): { readonly directory: string; readonly base: string } {
  if (absolute === '/' || absolute.endsWith('/') || absolute.endsWith('/.')) return { directory: absolute, base: '.' };
  return { directory: posix.dirname(absolute), base: posix.basename(absolute) };
}

/** Where a path leads in the end; of a broken link, as far as it can be told. */
export async function followInRoot(files: Files, root: string, absolute: string): Promise<string> {
  await using top = await openDirectoryInRoot(files, root, '/');
  const topPath = await readlink(top.at);
  let path = absolute;
  for (let i = 0; i < LINKS_MAX; i++) {
    const { directory, base } = splitPath(path);
    let at: string;
    let real: string;
    let target: string;
    try {
      await using parent = await openDirectoryInRoot(files, root, directory);
      at = await readlink(parent.at);
      real = topPath === '/' ? at : at.slice(topPath.length) || '/';
      target = await readlink(`${parent.at}/${base}`);
    } catch (error) {
      if (error instanceof EngineError) return posix.normalize(path); // the way to it is broken
      if (isCode(error, 'EINVAL') || isCode(error, 'ENOENT')) return posix.join(real!, base); // no link, or nothing
      throw error;
    }
    path = posix.resolve(real, target);
  }
  throw new EngineError('CONTAINER_PATH_INVALID', `too many links in ${absolute}`);
}

export function notFound(path: string, cause?: unknown): EngineError {
  return new EngineError('CONTAINER_PATH_NOT_FOUND', `Could not find the file ${path}`, { cause });
}

export function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
