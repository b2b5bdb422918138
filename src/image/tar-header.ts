/**
 * The 512-byte header block of tar, and PAX records, both ways. Source: POSIX.1-2024 pax, GNU tar's manual
 * ("Basic Tar Format"), Go's archive/tar (what it takes and refuses, since Docker reads with it).
 */
import { EngineError } from '../core/engine-error.ts';
import { decodeFileName, encodeFileName } from '../core/file-name.ts';

export const BLOCK_BYTES = 512;

export type EntryType = 'file' | 'link' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo' | 'other';

/** What an entry of an archive is, extensions (PAX, GNU) merged in. */
export interface TarHeader {
  /** As written; not cleaned, not trusted. */
  readonly name: string;
  readonly type: EntryType;
  /** Permission, setuid, setgid and sticky bits; what is written may have those of the file's type too. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of content, as the file will have them. */
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly linkName: string;
  readonly major: number;
  readonly minor: number;
  /** By full name: "user.x", "security.capability". */
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

/** One header block, before extensions. */
export interface RawHeader {
  readonly flag: string;
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly mtimeS: number;
  readonly linkName: string;
  readonly major: number;
  readonly minor: number;
}

const TYPE_BY_FLAG: Readonly<Record<string, EntryType>> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'link',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};
const FLAG_BY_TYPE: Readonly<Record<EntryType, string>> = {
  file: '0',
  link: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
  other: '0',
};
const NAME_BYTES_MAX = 100;
const ID_MAX = 0o7777777;
const OCTAL_11_MAX = 0o77777777777;
const CHECKSUM_AT = 148;
export const SPARSE_MAP = 'GNU.sparse.map';
const SPARSE_OFFSET = 'GNU.sparse.offset';
const SPARSE_BYTES = 'GNU.sparse.numbytes';

export function typeOf(flag: string, name: string): EntryType {
  // Before POSIX, a directory was a file whose name ends with a slash.
  if ((flag === '0' || flag === '\0') && name.endsWith('/')) return 'directory';
  return TYPE_BY_FLAG[flag] ?? 'other';
}

/** null: a block of zeros. */
export function decodeHeader(block: Buffer): RawHeader | null {
  let sum = 8 * 32;
  for (let i = 0; i < CHECKSUM_AT; i++) sum += block[i]!;
  for (let i = CHECKSUM_AT + 8; i < BLOCK_BYTES; i++) sum += block[i]!;
  if (sum === 8 * 32 && block.every((byte) => byte === 0)) return null;
  if (sum !== number(block, CHECKSUM_AT, 8)) throw malformed();
  const magic = block.toString('latin1', 257, 265);
  const isUstar = magic.startsWith('ustar\0');
  const isGnu = magic === 'ustar  \0';
  const prefix = isUstar ? text(block, 345, 155) : '';
  const name = text(block, 0, NAME_BYTES_MAX);
  return {
    flag: String.fromCharCode(block[156]!),
    name: prefix === '' ? name : `${prefix}/${name}`,
    mode: number(block, 100, 8) & 0o7777,
    uid: number(block, 108, 8),
    gid: number(block, 116, 8),
    sizeBytes: number(block, 124, 12),
    mtimeS: number(block, 136, 12),
    linkName: text(block, 157, NAME_BYTES_MAX),
    major: isUstar || isGnu ? number(block, 329, 8) : 0,
    minor: isUstar || isGnu ? number(block, 337, 8) : 0,
  };
}

/**
 * Records of a PAX extended header; values are bytes, since those of xattrs are no text. GNU's sparse format 0.0 repeats
 * records, pairs of which are one segment: they become the map that 0.1 has instead.
 */
export function decodePax(content: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  const sparseMap: Buffer[] = [];
  for (let at = 0; at < content.length;) {
    const space = content.indexOf(0x20, at);
    const digits = space === -1 ? '' : content.toString('latin1', at, space);
    if (!/^[1-9]\d{0,9}$/.test(digits)) throw malformed();
    const end = at + Number(digits);
    if (end > content.length || end <= space + 1 || content[end - 1] !== 0x0a) throw malformed();
    const equals = content.indexOf(0x3d, space);
    if (equals === -1 || equals >= end - 1 || equals === space + 1) throw malformed();
    const key = content.toString('utf8', space + 1, equals);
    const value = Buffer.from(content.subarray(equals + 1, end - 1));
    if (key === SPARSE_OFFSET || key === SPARSE_BYTES) {
      if (key !== (sparseMap.length % 2 === 0 ? SPARSE_OFFSET : SPARSE_BYTES) || value.includes(0x2c))
        throw malformed();
      sparseMap.push(value);
    } else records.set(key, value);
    at = end;
  }
  if (sparseMap.length > 0) records.set(SPARSE_MAP, Buffer.from(sparseMap.map(String).join(',')));
  return records;
}

/** "1700000000.123456789" in nanoseconds; what is finer is cut off. */
export function parsePaxTime(value: string): bigint {
  const match = /^(-?)(\d{1,18})(?:\.(\d*))?$/.exec(value);
  if (match === null) throw malformed();
  const ns = BigInt(match[2]!) * 1_000_000_000n + BigInt((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  return match[1] === '-' ? -ns : ns;
}

/** A name that becomes a path. @throws IMAGE_ARCHIVE_INVALID for a NUL, at which the kernel would cut it */
export function decodeName(bytes: Buffer): string {
  const name = decodeFileName(bytes);
  if (name.includes('\0')) throw malformed();
  return name;
}

/** The blocks of one entry's header: plain ustar where it fits, with a PAX header in front where it does not. */
export function encodeHeader(header: TarHeader): Buffer {
  const pax = paxRecords(header);
  const plain = encodeBlock(FLAG_BY_TYPE[header.type], pax.size === 0 ? header : shortened(header));
  if (pax.size === 0) return plain;
  const records = encodePax(pax);
  const block = encodeBlock('x', {
    ...shortened(header),
    name: `PaxHeaders.0/${shortened(header).name}`.slice(0, NAME_BYTES_MAX),
    linkName: '',
    sizeBytes: records.length,
    mode: 0o644,
    major: 0,
    minor: 0,
  });
  return Buffer.concat([block, records, padding(records.length), plain]);
}

/** Zeros up to the next block. */
export function padding(sizeBytes: number): Buffer {
  return Buffer.alloc((BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES);
}

function paxRecords(header: TarHeader): Map<string, Buffer> {
  const pax = new Map<string, Buffer>();
  const put = (key: string, value: string): Map<string, Buffer> => pax.set(key, encodeFileName(value));
  const { name, linkName, mtimeNs } = header;
  if (!isPlain(name)) put('path', name);
  if (!isPlain(linkName)) put('linkpath', linkName);
  if (header.sizeBytes > OCTAL_11_MAX) put('size', String(header.sizeBytes));
  if (header.uid > ID_MAX) put('uid', String(header.uid));
  if (header.gid > ID_MAX) put('gid', String(header.gid));
  if (mtimeNs % 1_000_000_000n !== 0n || mtimeNs < 0n || mtimeNs / 1_000_000_000n > BigInt(OCTAL_11_MAX))
    put('mtime', formatPaxTime(mtimeNs));
  for (const [key, value] of header.xattrs) pax.set(`SCHILY.xattr.${key}`, value);
  return pax;
}

function formatPaxTime(ns: bigint): string {
  const positive = ns < 0n ? -ns : ns;
  const fraction = (positive % 1_000_000_000n).toString().padStart(9, '0').replace(/0+$/, '');
  return `${ns < 0n ? '-' : ''}${positive / 1_000_000_000n}${fraction === '' ? '' : `.${fraction}`}`;
}

function encodePax(records: ReadonlyMap<string, Buffer>): Buffer {
  const parts: Buffer[] = [];
  for (const [key, value] of records) {
    const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
    let length = rest.length;
    while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
    parts.push(Buffer.from(String(length)), rest);
  }
  return Buffer.concat(parts);
}

/** Readers without PAX see a cut name; those with it take the record. */
function shortened(header: TarHeader): TarHeader {
  const cut = (value: string): string => {
    const ascii = value.replace(/[^ -~]/g, '_');
    return ascii.length > NAME_BYTES_MAX ? ascii.slice(0, NAME_BYTES_MAX) : ascii;
  };
  const seconds = header.mtimeNs / 1_000_000_000n;
  return {
    ...header,
    name: cut(header.name),
    linkName: cut(header.linkName),
    sizeBytes: header.sizeBytes > OCTAL_11_MAX ? 0 : header.sizeBytes,
    uid: header.uid > ID_MAX ? 0 : header.uid,
    gid: header.gid > ID_MAX ? 0 : header.gid,
    mtimeNs: seconds < 0n || seconds > BigInt(OCTAL_11_MAX) ? 0n : seconds * 1_000_000_000n,
  };
}

function isPlain(name: string): boolean {
  return name.length <= NAME_BYTES_MAX && /^[ -~]*$/.test(name);
}

function encodeBlock(flag: string, header: TarHeader): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, digits: number): number =>
    block.write(value.toString(8).padStart(digits, '0'), at, 'latin1');
  block.write(header.name, 0, 'latin1');
  octal(header.mode, 100, 7);
  octal(header.uid, 108, 7);
  octal(header.gid, 116, 7);
  octal(header.sizeBytes, 124, 11);
  octal(Number(header.mtimeNs / 1_000_000_000n), 136, 11);
  block.write(flag, 156, 'latin1');
  block.write(header.linkName, 157, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(header.major, 329, 7);
  octal(header.minor, 337, 7);
  block.fill(0x20, CHECKSUM_AT, CHECKSUM_AT + 8);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, CHECKSUM_AT, 'latin1');
  return block;
}

/** Octal with spaces and NULs around it, or GNU's base 256 when the first bit is set. */
function number(block: Buffer, at: number, length: number): number {
  const first = block[at]!;
  if ((first & 0x80) !== 0) {
    let value = (first & 0x40) !== 0 ? BigInt(first & 0x7f) - 128n : BigInt(first & 0x7f);
    for (let i = 1; i < length; i++) value = value * 256n + BigInt(block[at + i]!);
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER)) throw malformed();
    return Number(value);
  }
  let value = 0;
  let digits = 0;
  for (let i = at; i < at + length; i++) {
    const byte = block[i]!;
    if (byte >= 0x30 && byte <= 0x37) {
      value = value * 8 + byte - 0x30;
      digits++;
    } else if (byte !== 0x20 && byte !== 0) throw malformed();
    else if (digits > 0) break; // a NUL or blank ends the field; what follows is junk of old writers
  }
  return value;
}

function text(block: Buffer, at: number, length: number): string {
  const field = block.subarray(at, at + length);
  const end = field.indexOf(0);
  return decodeName(end === -1 ? field : field.subarray(0, end));
}

/** Go's words, which users of Docker know. */
export function malformed(): EngineError {
  return new EngineError('IMAGE_ARCHIVE_INVALID', 'archive/tar: invalid tar header');
}
