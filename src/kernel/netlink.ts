/**
 * Netlink messages between values and bytes; no I/O. Source: netlink(7), rtnetlink(7), linux/netlink.h.
 * All integers are in the host's byte order, which is little-endian on every platform that Node supports
 * with this engine.
 */

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLM_F_REQUEST = 1;
export const NLM_F_ACK = 4;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
const NLMSGERR_ATTR_MSG = 1;
const HEADER_BYTES = 16;
const ATTRIBUTE_BYTES_MAX = 0xffff - 4;

/** A number is a u32, a string ends in NUL, a list is nested. */
export type AttributeValue = number | string | Uint8Array | readonly Attribute[];
export type Attribute = readonly [type: number, value: AttributeValue];

export interface Request {
  /** Named in errors: "RTM_NEWLINK". */
  readonly call: string;
  readonly detail: string;
  readonly type: number;
  readonly flags: number;
  /** The family's fixed header (ifinfomsg, ifaddrmsg, rtmsg). */
  readonly header: Buffer;
  readonly attributes: readonly Attribute[];
}

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Buffer;
}

export function encodeAttributes(attributes: readonly Attribute[]): Buffer {
  return Buffer.concat(attributes.map(encodeAttribute));
}

export function encodeRequest(request: Request, sequence: number): Buffer {
  const body = Buffer.concat([padded(request.header), encodeAttributes(request.attributes)]);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(HEADER_BYTES + body.length, 0);
  header.writeUInt16LE(request.type, 4);
  header.writeUInt16LE(request.flags | NLM_F_REQUEST, 6);
  header.writeUInt32LE(sequence, 8);
  return Buffer.concat([header, body]);
}

/** Every message of one datagram. @throws {RangeError} when a length lies. */
export function parseMessages(datagram: Buffer): Message[] {
  const messages: Message[] = [];
  let at = 0;
  while (at + HEADER_BYTES <= datagram.length) {
    const length = datagram.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > datagram.length)
      throw new RangeError(`netlink: a message of ${length} bytes at ${at} of ${datagram.length}`);
    messages.push({
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      payload: datagram.subarray(at + HEADER_BYTES, at + length),
    });
    at += aligned(length);
  }
  return messages;
}

/** Attributes by type; of two with one type the last stands. @throws {RangeError} when a length lies. */
export function parseAttributes(bytes: Buffer): Map<number, Buffer> {
  const attributes = new Map<number, Buffer>();
  let at = 0;
  while (at + 4 <= bytes.length) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length)
      throw new RangeError(`netlink: an attribute of ${length} bytes at ${at} of ${bytes.length}`);
    attributes.set(bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK, bytes.subarray(at + 4, at + length));
    at += aligned(length);
  }
  return attributes;
}

/** What an NLMSG_ERROR says: errno 0 is an acknowledgement; the text is the kernel's EXT_ACK, often "". */
export function parseAcknowledgement(message: Message): { readonly errno: number; readonly text: string } {
  const { payload } = message;
  const errno = -payload.readInt32LE(0);
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno, text: '' };
  // The request follows the errno: only its header when capped, all of it otherwise.
  const echoed = (message.flags & NLM_F_CAPPED) === 0 ? aligned(payload.readUInt32LE(4)) : HEADER_BYTES;
  const attributes = parseAttributes(payload.subarray(4 + echoed));
  return { errno, text: parseString(attributes.get(NLMSGERR_ATTR_MSG)) };
}

/** Up to the first NUL; "" for none. */
export function parseString(value: Buffer | undefined): string {
  if (value === undefined) return '';
  const end = value.indexOf(0);
  return value.toString('utf8', 0, end === -1 ? value.length : end);
}

function encodeAttribute([type, value]: Attribute): Buffer {
  const nested = Array.isArray(value);
  const bytes = nested
    ? encodeAttributes(value as readonly Attribute[])
    : encodeValue(value as Exclude<AttributeValue, readonly Attribute[]>);
  if (bytes.length > ATTRIBUTE_BYTES_MAX) throw new RangeError(`netlink: an attribute of ${bytes.length} bytes`);
  const encoded = Buffer.alloc(4 + aligned(bytes.length));
  encoded.writeUInt16LE(4 + bytes.length, 0);
  encoded.writeUInt16LE(nested ? type | NLA_F_NESTED : type, 2);
  encoded.set(bytes, 4);
  return encoded;
}

function encodeValue(value: number | string | Uint8Array): Uint8Array {
  if (typeof value === 'string') return Buffer.from(`${value}\0`);
  if (typeof value === 'number') {
    const word = Buffer.alloc(4);
    word.writeUInt32LE(value >>> 0);
    return word;
  }
  return value;
}

function padded(bytes: Buffer): Buffer {
  return bytes.length === aligned(bytes.length) ? bytes : Buffer.concat([bytes], aligned(bytes.length));
}

function aligned(length: number): number {
  return (length + 3) & ~3;
}
