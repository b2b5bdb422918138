/** Who a user of a container is, by the passwd and group files in its rootfs. */
import type { ResolvedUser } from '../runtime/spec/input.ts';
import { resolveUser } from '../runtime/spec/resolve-user.ts';
import type { Container } from '../lifecycle/container.ts';
import type { Parts } from './parts.ts';

/** Files above this are nobody's honest ones. */
const ACCOUNT_BYTES_MAX = 4 * 1024 * 1024;

/** `user` as in ProcessSpec. @throws {EngineError} for a name that is not there */
export async function accountOf(
  { rootFiles }: Pick<Parts, 'rootFiles'>,
  container: Container,
  rootfs: string,
  user: string,
): Promise<ResolvedUser> {
  const [passwd, group] = await Promise.all([
    rootFiles.readText(rootfs, '/etc/passwd', ACCOUNT_BYTES_MAX),
    rootFiles.readText(rootfs, '/etc/group', ACCOUNT_BYTES_MAX),
  ]);
  return resolveUser(passwd, group, user, container.spec.host.groupAdd);
}
