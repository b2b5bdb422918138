/** How every failed native call is reported; crosses the worker's border with its fields (see kernel.ts). */
import { constants } from 'node:os';

/** Symbolic names to Linux errno values. */
export const ERRNO = constants.errno;

/** Of two names for one number (EAGAIN, EWOULDBLOCK) the first stands. */
const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(ERRNO)
    .toReversed()
    .map(([name, errno]) => [errno, name]),
);

/** A system call said no. `code` is the symbolic errno, such as ESRCH (FAILED where a library gave none); `text` is what the kernel or a library said besides. */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  readonly syscall: string;
  readonly errno: number;
  readonly code: string;
  /** The arguments, as written in the message. */
  readonly detail: string;
  /** "" when there was nothing but the errno. */
  readonly text: string;

  constructor(syscall: string, errno: number, detail: string, text = '') {
    const code = errno > 0 ? (NAMES.get(errno) ?? `errno ${errno}`) : 'FAILED';
    super(`${syscall}(${detail}): ${code}${text === '' ? '' : `: ${text}`}`);
    this.syscall = syscall;
    this.errno = errno;
    this.code = code;
    this.detail = detail;
    this.text = text;
  }
}

/** True for a KernelError with one of these errnos. */
export function isErrno(error: unknown, ...errnos: readonly number[]): error is KernelError {
  return error instanceof KernelError && errnos.includes(error.errno);
}

/** A path or name as it stands in an error message: quoted, with control characters escaped. */
export function quoted(text: string): string {
  return JSON.stringify(text);
}
