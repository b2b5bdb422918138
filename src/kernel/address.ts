/** IP and MAC addresses between text and the bytes that the kernel wants. Source: RFC 4291, RFC 5952. */
import { isIPv4, isIPv6 } from 'node:net';

import { ERRNO, KernelError, quoted } from './kernel-error.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;

export interface AddressBytes {
  readonly family: typeof AF_INET | typeof AF_INET6;
  readonly bytes: Buffer;
}

/** @throws {KernelError} EINVAL for what is not an address; a zone ("%eth0") is refused too. */
export function parseAddress(address: string): AddressBytes {
  if (isIPv4(address)) return { family: AF_INET, bytes: Buffer.from(address.split('.').map(Number)) };
  if (isIPv6(address) && !address.includes('%')) return { family: AF_INET6, bytes: parseIpv6(address) };
  throw new KernelError('address', ERRNO.EINVAL, quoted(address), 'not an IP address');
}

export function parsePrefix(address: string, prefixLength: number): AddressBytes & { readonly prefixLength: number } {
  const parsed = parseAddress(address);
  if (!Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > parsed.bytes.length * 8) {
    throw new KernelError('address', ERRNO.EINVAL, `${address}/${prefixLength}`, 'prefix length out of range');
  }
  return { ...parsed, prefixLength };
}

/** 4 or 16 bytes to text; IPv6 with the longest run of zeros cut, as RFC 5952. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) throw new RangeError(`an address of ${bytes.length} bytes`);
  const words = Array.from({ length: 8 }, (_, index) => ((bytes[2 * index] ?? 0) << 8) | (bytes[2 * index + 1] ?? 0));
  const run = longestZeroRun(words);
  const hex = (part: number[]): string => part.map((word) => word.toString(16)).join(':');
  if (run.length < 2) return hex(words);
  return `${hex(words.slice(0, run.start))}::${hex(words.slice(run.start + run.length))}`;
}

/** The last address of an IPv4 network; null where there is none (/31, /32). */
export function broadcastOf(bytes: Buffer, prefixLength: number): Buffer | null {
  if (bytes.length !== 4 || prefixLength >= 31) return null;
  const hostMask = prefixLength === 0 ? 0xffffffff : 2 ** (32 - prefixLength) - 1;
  const broadcast = Buffer.alloc(4);
  broadcast.writeUInt32BE((bytes.readUInt32BE(0) | hostMask) >>> 0);
  return broadcast;
}

/** "02:42:ac:11:00:02"; "" is none given. @throws {KernelError} EINVAL */
export function parseMac(mac: string): Buffer | null {
  if (mac === '') return null;
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(mac))
    throw new KernelError('address', ERRNO.EINVAL, quoted(mac), 'not a MAC address');
  return Buffer.from(mac.replace(/[:-]/g, ''), 'hex');
}

function parseIpv6(address: string): Buffer {
  // An IPv4 tail ("::ffff:1.2.3.4") is two words.
  const withoutTail = address.replace(
    /(\d+)\.(\d+)\.(\d+)\.(\d+)$/,
    (_, a: string, b: string, c: string, d: string) => {
      return `${(Number(a) * 256 + Number(b)).toString(16)}:${(Number(c) * 256 + Number(d)).toString(16)}`;
    },
  );
  const [head = '', tail] = withoutTail.split('::');
  const words = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16));
  const before = words(head);
  const after = tail === undefined ? [] : words(tail);
  const all = [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after];
  const bytes = Buffer.alloc(16);
  all.forEach((word, index) => bytes.writeUInt16BE(word, index * 2));
  return bytes;
}

function longestZeroRun(words: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < words.length; start++) {
    let length = 0;
    while (words[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
