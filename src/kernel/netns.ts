/**
 * Network namespaces, as seen by the one thread that enters them. Source: setns(2), network_namespaces(7).
 */
import koffi from 'koffi';

import {
  CLONE_NEWNET,
  check,
  closeFile,
  MNT_DETACH,
  MS_BIND,
  native,
  openFile,
  text,
  UMOUNT_NOFOLLOW,
} from './libc.ts';
import { ERRNO, isErrno, KernelError, quoted } from './kernel-error.ts';

const O_CREAT_EXCL_WRONLY = 0o100 | 0o200 | 0o1;

/** SAFETY: opened when the worker starts; inside a window /proc/self/ns/net would be the container's. */
const hostNamespace = openFile('/proc/thread-self/ns/net', 0);

/**
 * Runs `action` with this thread in the namespace, and leaves it again.
 * SAFETY: `action` is synchronous. Whatever it started (a pool thread, a Worker, a process) would stay in there.
 */
export function insideNamespace<T>(namespaceFd: number, path: string, action: () => T): T {
  check(native.setns(namespaceFd, CLONE_NEWNET), 'setns', () => `${quoted(path)}, CLONE_NEWNET`);
  return leavingAfter(action);
}

/** The same by path. */
export function insideNamespaceAt<T>(path: string, action: () => T): T {
  const fd = openFile(path, 0);
  try {
    return insideNamespace(fd, path, action);
  } finally {
    closeFile(fd);
  }
}

/** Binds the namespace of somebody else's at `path` and runs `action` in it; takes the mount away when anything fails. */
export function bindNamespaceAt(path: string, source: string, action: () => void): void {
  const made = ensureMountPoint(path);
  let mounted = false;
  try {
    check(
      native.mount(text(source, 'mount'), path, '', MS_BIND, null),
      'mount',
      () => `${quoted(source)}, ${quoted(path)}, MS_BIND`,
    );
    mounted = true;
    insideNamespaceAt(path, action);
  } catch (error) {
    if (mounted) native.umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    if (made) native.unlinkat(-100, path, 0);
    throw error;
  }
}

/** Makes a namespace, binds it at `path` and runs `action` in it; takes the mount away when anything fails. */
export function createNamespaceAt(path: string, action: () => void): void {
  const made = ensureMountPoint(path);
  let mounted = false;
  try {
    check(native.unshare(CLONE_NEWNET), 'unshare', () => 'CLONE_NEWNET');
    leavingAfter(() => {
      check(
        native.mount('/proc/thread-self/ns/net', path, '', MS_BIND, null),
        'mount',
        () => `netns, ${quoted(path)}, MS_BIND`,
      );
      mounted = true;
      action();
    });
  } catch (error) {
    if (mounted) native.umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    if (made) native.unlinkat(-100, path, 0);
    throw error;
  }
}

/** Unmounts and unlinks. What is gone already is fine. */
export function removeNamespaceAt(path: string): void {
  text(path, 'umount2');
  if (native.umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
    const errno = koffi.errno();
    if (errno !== ERRNO.EINVAL && errno !== ERRNO.ENOENT)
      throw new KernelError('umount2', errno, `${quoted(path)}, MNT_DETACH`);
  }
  if (native.unlinkat(-100, path, 0) < 0) {
    const errno = koffi.errno();
    if (errno !== ERRNO.ENOENT) throw new KernelError('unlinkat', errno, quoted(path));
  }
}

export function closeHostNamespace(): void {
  closeFile(hostNamespace);
}

function leavingAfter<T>(action: () => T): T {
  try {
    const result = action();
    if (result instanceof Promise) throw new Error('asynchronous work inside a namespace window');
    return result;
  } finally {
    // SAFETY: a thread that cannot get home must not go on: its next link or rule would land in a container.
    if (native.setns(hostNamespace, CLONE_NEWNET) < 0) native.abort();
  }
}

/** True when the file was made. A plain file left by a reboot is taken; a namespace that lives is not. */
function ensureMountPoint(path: string): boolean {
  try {
    closeFile(openFile(path, O_CREAT_EXCL_WRONLY, 0o444));
    return true;
  } catch (error) {
    if (!isErrno(error, ERRNO.EEXIST)) throw error;
  }
  if (isNamespace(path))
    throw new KernelError('open', ERRNO.EEXIST, `${quoted(path)}, O_EXCL`, 'a namespace is bound there');
  return false;
}

function isNamespace(path: string): boolean {
  try {
    insideNamespaceAt(path, () => undefined);
    return true;
  } catch (error) {
    if (isErrno(error, ERRNO.EINVAL)) return false;
    throw error;
  }
}
