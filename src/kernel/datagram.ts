/** AF_UNIX datagram sockets, which Node has not: the host's syslog and journal listen on such. Worker thread only. */
import { check, closeFile, native, SOCK_CLOEXEC, SOCK_NONBLOCK, text } from './libc.ts';
import { ERRNO, KernelError, quoted } from './kernel-error.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_NOSIGNAL = 0x4000;
const SUN_PATH_BYTES = 108;

/** How many of them, from the first on, the receiver took before its queue was full. */
export function sendDatagrams(path: string, messages: readonly Uint8Array[]): number {
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
        // SAFETY: the size is the message's own, the address is alive until the call returns.
        const result = native.sendto(fd, message, message.length, MSG_NOSIGNAL, address, address.length);
        check(result, 'sendto', () => quoted(path));
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
