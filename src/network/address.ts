/**
 * IP addresses and subnets as numbers: parsing, printing (RFC 5952) and set relations. No names, no zones.
 * An address is a bigint with its family; a subnet is its first address and the length of its prefix.
 */
import { isIPv4, isIPv6 } from 'node:net';

export type Family = 4 | 6;

export interface Address {
  readonly family: Family;
  readonly value: bigint;
}

export interface Subnet {
  readonly family: Family;
  /** The first address: bits right of the prefix are zero. */
  readonly base: bigint;
  readonly prefixLength: number;
}

export const BITS: Readonly<Record<Family, number>> = { 4: 32, 6: 128 };

/** null for anything that is not a plain address ("::ffff:1.2.3.4" is taken as IPv4, as Go's net.IP does). */
export function parseAddress(text: string): Address | null {
  if (isIPv4(text)) return { family: 4, value: parseIpv4(text) };
  if (!isIPv6(text) || text.includes('%')) return null;
  const value = parseIpv6(text);
  if (value >> 32n === 0xffffn) return { family: 4, value: value & 0xffffffffn };
  return { family: 6, value };
}

export function formatAddress(address: Address): string {
  return address.family === 4 ? formatIpv4(address.value) : formatIpv6(address.value);
}

/** "10.0.0.5/8" keeps its host bits in `address`; null when it is not in CIDR notation. */
export function parseCidr(text: string): { readonly address: Address; readonly subnet: Subnet } | null {
  const slash = text.indexOf('/');
  if (slash < 0) return null;
  const address = parseAddress(text.slice(0, slash));
  const length = text.slice(slash + 1);
  if (address === null || !/^(0|[1-9]\d{0,2})$/.test(length)) return null;
  const prefixLength = Number(length);
  if (prefixLength > BITS[address.family]) return null;
  return { address, subnet: subnetOf(address, prefixLength) };
}

export function subnetOf(address: Address, prefixLength: number): Subnet {
  const hostBits = BigInt(BITS[address.family] - prefixLength);
  return { family: address.family, base: (address.value >> hostBits) << hostBits, prefixLength };
}

export function formatSubnet(subnet: Subnet): string {
  return `${formatAddress({ family: subnet.family, value: subnet.base })}/${subnet.prefixLength}`;
}

/** The highest address of the subnet (IPv4: its broadcast address). */
export function lastValue(subnet: Subnet): bigint {
  return subnet.base + (1n << BigInt(BITS[subnet.family] - subnet.prefixLength)) - 1n;
}

export function contains(subnet: Subnet, address: Address): boolean {
  return subnet.family === address.family && address.value >= subnet.base && address.value <= lastValue(subnet);
}

export function overlaps(a: Subnet, b: Subnet): boolean {
  return a.family === b.family && a.base <= lastValue(b) && b.base <= lastValue(a);
}

export function isLoopback(address: Address): boolean {
  return address.family === 4 ? address.value >> 24n === 127n : address.value === 1n;
}

export function isUnspecified(address: Address): boolean {
  return address.value === 0n;
}

function parseIpv4(text: string): bigint {
  return text.split('.').reduce((value, part) => (value << 8n) | BigInt(part), 0n);
}

function formatIpv4(value: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join('.');
}

function parseIpv6(text: string): bigint {
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  let plain = text;
  if (dotted !== null) {
    const low = parseIpv4(dotted[2]!);
    plain = `${dotted[1]!}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`;
  }
  const [head, tail] = plain.split('::');
  const groups = (part: string | undefined): string[] => (part === undefined || part === '' ? [] : part.split(':'));
  const left = groups(head);
  const right = groups(tail);
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  const all = [...left, ...Array.from({ length: zeros }, () => '0'), ...right];
  return all.reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n);
}

function formatIpv6(value: bigint): string {
  const groups = Array.from({ length: 8 }, (_, index) => (value >> BigInt(112 - 16 * index)) & 0xffffn);
  let best = { start: -1, length: 1 }; // a single zero group is never shortened
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0n) length++;
    if (length > best.length) best = { start, length };
  }
  const text = groups.map((group) => group.toString(16));
  if (best.start < 0) return text.join(':');
  return `${text.slice(0, best.start).join(':')}::${text.slice(best.start + best.length).join(':')}`;
}
