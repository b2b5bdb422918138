/** Extended attributes of the named file itself, never of what a link points to. Source: xattr(7). Worker thread only. */
import koffi from 'koffi';

import { check, native, pathText, text } from './libc.ts';
import { ERRNO, KernelError, quoted } from './kernel-error.ts';

/** XATTR_SIZE_MAX and XATTR_LIST_MAX: the kernel hands out no more. */
const XATTR_BYTES_MAX = 65_536;
const buffer = Buffer.alloc(XATTR_BYTES_MAX);

/** null when the file has no such attribute. */
export function getXattr(path: string, name: string): Uint8Array | null {
  const size = Number(native.lgetxattr(pathText(path, 'lgetxattr'), text(name, 'lgetxattr'), buffer, buffer.length));
  if (size >= 0) return Uint8Array.prototype.slice.call(buffer, 0, size);
  const errno = koffi.errno();
  if (errno === ERRNO.ENODATA) return null;
  throw new KernelError('lgetxattr', errno, `${quoted(path)}, ${quoted(name)}`);
}

export function setXattr(path: string, name: string, value: Uint8Array): void {
  const detail = (): string => `${quoted(path)}, ${quoted(name)}, ${value.length} bytes`;
  if (value.length > XATTR_BYTES_MAX) throw new KernelError('lsetxattr', ERRNO.E2BIG, detail());
  check(
    native.lsetxattr(pathText(path, 'lsetxattr'), text(name, 'lsetxattr'), value, value.length, 0),
    'lsetxattr',
    detail,
  );
}

export function listXattr(path: string): string[] {
  const size = check(native.llistxattr(pathText(path, 'llistxattr'), buffer, buffer.length), 'llistxattr', () =>
    quoted(path),
  );
  return buffer.toString('utf8', 0, size).split('\0').slice(0, -1);
}
