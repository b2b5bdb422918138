/**
 * Numbers for COPY --chown=user:group, from the passwd and group files of the root file system being built.
 * Source: moby v28 builder/dockerfile/internals_linux.go (parseChownFlag, and its words).
 */
import { close } from 'node:fs';
import { open } from 'node:fs/promises';

import { EngineError } from '../core/engine-error.ts';
import type { Files } from '../kernel/port.ts';

const O_RDONLY = 0;
const FILE_BYTES_MAX = 1 << 20;

export function createOwnerLookup(
  files: Pick<Files, 'openInRoot'>,
): (root: string, text: string) => Promise<{ uid: number; gid: number }> {
  const read = async (root: string, path: string): Promise<string> => {
    const fd = await files.openInRoot(root, path, O_RDONLY, 0).catch(() => null);
    if (fd === null) return '';
    await using file = await open(`/proc/self/fd/${fd}`).finally(() => closeDescriptor(fd));
    const { buffer, bytesRead } = await file.read(Buffer.alloc(FILE_BYTES_MAX), 0, FILE_BYTES_MAX, 0);
    return buffer.toString('utf8', 0, bytesRead);
  };
  const numberOf = async (root: string, file: 'passwd' | 'group', name: string): Promise<number> => {
    if (/^[-+]?\d+$/.test(name)) return Number(name);
    const lines = (await read(root, `/etc/${file}`)).split('\n').map((line) => line.split(':'));
    const number = lines.find(([known]) => known === name)?.[2] ?? '';
    if (/^\d+$/.test(number)) return Number(number);
    const [id, kind] = file === 'passwd' ? ['uid', 'user'] : ['gid', 'group'];
    throw refused(`can't find ${id} for ${kind} ${name}: no such ${kind}: ${name}`);
  };
  return async (root, text) => {
    // Who names no group means the one that is called as the user is.
    const [user = '', group = user, ...more] = text.split(':');
    if (more.length > 0) throw refused(`invalid chown string format: ${text}`);
    return { uid: await numberOf(root, 'passwd', user), gid: await numberOf(root, 'group', group) };
  };
}

function refused(why: string): EngineError {
  return new EngineError('BODY_INVALID', `unable to convert uid/gid chown string to host mapping: ${why}`);
}

function closeDescriptor(fd: number): void {
  close(fd, () => {});
}
