/** AF_UNIX datagram sockets, which Node has not: the host's syslog and journal listen on such. Worker thread only. */
import { check, closeFile, native, SOCK_CLOEXEC, SOCK_NONBLOCK, text } from './libc.ts';
import { ERRNO, KernelError, quoted } from './kernel-error.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_NOSIGNAL = 0x4000;
const SUN_PATH_BYTES = 108;
/** ENOBUFS is what a datagram beyond the kernel's limit for one allocation is. */
const TOO_LARGE: readonly number[] = [ERRNO.EMSGSIZE, ERRNO.ENOBUFS];

/** Nothing can be changed in it any more: the receiver may map it. */
const F_ADD_SEALS = 1033;
const SEALS = 0xf; // of seals, of growing, of shrinking, of writing
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;

/**
 * How many of them, from the first on, the receiver took before its queue was full. `large`: what is too large for a
 * datagram is an error, or goes as a sealed memfd (systemd's JOURNAL_NATIVE_PROTOCOL).
 */
export function sendDatagrams(
  path: string,
  messages: readonly Uint8Array[],
  large: 'error' | 'memfd' = 'error',
): number {
  const bytes = Buffer.from(text(path, 'sendto'));
  if (bytes.length === 0 || bytes.length >= SUN_PATH_BYTES)
    throw new KernelError('sendto', ERRNO.EINVAL, quoted(path), 'not a path of a socket');
  const address = Buffer.alloc(2 + SUN_PATH_BYTES);
  address.writeUInt16LE(AF_UNIX, 0);
  bytes.copy(address, 2);
  const fd = check(native.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), 'socket', () => 'AF_UNIX');
  try {
    let sent = 0;
    for (const message of messages) {
      try {
        sendOne(fd, message, address, large, path);
      } catch (error) {
        if (error instanceof KernelError && error.errno === ERRNO.EAGAIN) break;
        // What was taken must not be sent again: the next call tells the error if it stays.
        if (sent > 0) break;
        throw error;
      }
      sent++;
    }
    return sent;
  } finally {
    closeFile(fd);
  }
}

function sendOne(fd: number, message: Uint8Array, address: Buffer, large: 'error' | 'memfd', path: string): void {
  try {
    // SAFETY: the size is the message's own, the address is alive until the call returns.
    const result = native.sendto(fd, message, message.length, MSG_NOSIGNAL, address, address.length);
    check(result, 'sendto', () => quoted(path));
  } catch (error) {
    if (large === 'error' || !(error instanceof KernelError) || !TOO_LARGE.includes(error.errno)) throw error;
    sendMemfd(fd, message, address, path);
  }
}

function sendMemfd(fd: number, message: Uint8Array, address: Buffer, path: string): void {
  const memfd = check(native.memfdCreate('entry', MFD_CLOEXEC | MFD_ALLOW_SEALING), 'memfd_create', () => 'entry');
  try {
    for (let at = 0; at < message.length;) {
      // SAFETY: what is left of the message, and as long.
      const rest = message.subarray(at);
      at += check(native.write(memfd, rest, rest.length), 'write', () => 'memfd');
    }
    check(native.fcntl(memfd, F_ADD_SEALS, SEALS), 'fcntl', () => 'F_ADD_SEALS');
    const control = Buffer.alloc(24); // a cmsghdr of 16 bytes, an int, and its padding
    control.writeBigUInt64LE(20n, 0);
    control.writeInt32LE(SOL_SOCKET, 8);
    control.writeInt32LE(SCM_RIGHTS, 12);
    control.writeInt32LE(memfd, 16);
    // SAFETY: both buffers are alive until the call returns, and their sizes are their own.
    const header = {
      name: address,
      nameSize: address.length,
      data: null,
      dataCount: 0,
      control,
      controlSize: control.length,
      flags: 0,
    } as const;
    check(native.sendmsg(fd, header, MSG_NOSIGNAL), 'sendmsg', () => quoted(path));
  } finally {
    closeFile(memfd);
  }
}
