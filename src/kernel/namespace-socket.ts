/** What a DNS server needs inside a container's namespace: bound sockets, sysctls. Worker thread only. */
import { AF_INET6, parseAddress } from './address.ts';
import { check, closeFile, native, openFile, SOCK_CLOEXEC, SOCK_NONBLOCK } from './libc.ts';
import { ERRNO, KernelError, quoted } from './kernel-error.ts';
import { insideNamespaceAt } from './netns.ts';

const O_WRONLY = 1;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const LISTEN_BACKLOG = 512;
const SOCKADDR_IN6_BYTES = 28;

export function bindSocket(options: {
  readonly namespace: string;
  readonly type: 'udp' | 'tcp';
  readonly address: string;
  readonly port: number;
}): { fd: number; port: number } {
  const { port, type } = options;
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new KernelError('bind', ERRNO.EINVAL, `port=${port}`, 'not a port');
  const address = socketAddress(options.address, port);
  return insideNamespaceAt(options.namespace, () => bindHere(type, address, `${type} ${options.address} port=${port}`));
}

/** `name` with slashes or, as sysctl(8) takes it, with dots. Only net/…: all else is the host's, whatever the namespace. */
export function setSysctlIn(namespace: string, name: string, value: string): void {
  const path = sysctlPath(name);
  insideNamespaceAt(namespace, () => writeSysctlHere(path, value));
}

/** In the namespace that this thread is in. `path` is "net/ipv4/ip_forward". */
export function writeSysctlHere(path: string, value: string): void {
  const fd = openFile(`/proc/sys/${path}`, O_WRONLY);
  try {
    const bytes = Buffer.from(`${value}\n`);
    check(native.write(fd, bytes, bytes.length), 'write', () => `${quoted(`/proc/sys/${path}`)}, ${quoted(value)}`);
  } finally {
    closeFile(fd);
  }
}

/** "net.ipv4.conf.eth0/100.x" is "net/ipv4/conf/eth0.100/x", as in sysctl(8): the first separator decides. */
export function sysctlPath(name: string): string {
  const first = /[./]/.exec(name)?.[0];
  const path = first === '.' ? name.replace(/[./]/g, (separator) => (separator === '.' ? '/' : '.')) : name;
  const segments = path.split('/');
  if (
    segments[0] !== 'net' ||
    segments.length < 2 ||
    segments.some((segment) => segment === '' || segment === '.' || segment === '..' || segment.includes('\0'))
  ) {
    throw new KernelError('sysctl', ERRNO.EINVAL, quoted(name), 'not a sysctl of a network namespace');
  }
  return path;
}

function bindHere(type: 'udp' | 'tcp', address: Buffer, detail: string): { fd: number; port: number } {
  const family = address.readUInt16LE(0);
  const kind = (type === 'udp' ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const fd = check(native.socket(family, kind, 0), 'socket', () => detail);
  try {
    const on = Buffer.from([1, 0, 0, 0]);
    if (type === 'tcp')
      check(native.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, on, on.length), 'setsockopt', () => detail);
    if (family === AF_INET6)
      check(native.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, on, on.length), 'setsockopt', () => detail);
    check(native.bind(fd, address, address.length), 'bind', () => detail);
    if (type === 'tcp') check(native.listen(fd, LISTEN_BACKLOG), 'listen', () => detail);
    const bound = Buffer.alloc(SOCKADDR_IN6_BYTES);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(bound.length);
    check(native.getsockname(fd, bound, size), 'getsockname', () => detail);
    return { fd, port: bound.readUInt16BE(2) };
  } catch (error) {
    closeFile(fd);
    throw error;
  }
}

/** sockaddr_in (16 bytes) or sockaddr_in6 (28). */
function socketAddress(address: string, port: number): Buffer {
  const { family, bytes } = parseAddress(address);
  const encoded = Buffer.alloc(family === AF_INET6 ? SOCKADDR_IN6_BYTES : 16);
  encoded.writeUInt16LE(family, 0);
  encoded.writeUInt16BE(port, 2);
  encoded.set(bytes, family === AF_INET6 ? 8 : 4);
  return encoded;
}
