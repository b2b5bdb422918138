/** Numbers for COPY --chown=user:group, from the passwd and group files of the root file system being built. */
import { close } from 'node:fs';
import { open } from 'node:fs/promises';

import type { Files } from '../kernel/port.ts';
import { resolveUser } from '../runtime/spec/resolve-user.ts';

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
  return async (root, text) => {
    const [passwd, group] = await Promise.all([read(root, '/etc/passwd'), read(root, '/etc/group')]);
    const { uid, gid } = resolveUser(passwd, group, text, null);
    // Without a group, Docker takes the user's number for it where passwd does not say.
    return { uid, gid: text.includes(':') || passwd !== '' ? gid : uid };
  };
}

function closeDescriptor(fd: number): void {
  close(fd, () => {});
}
