/**
 * File names are bytes, which need not be UTF-8. Here they are strings: a byte that belongs to no UTF-8 becomes a lone
 * surrogate, U+DC80 to U+DCFF. UTF-8 never decodes to one, so each name has one string and the string gives its bytes back.
 * Source: PEP 383 ("surrogateescape").
 */
const ESCAPE = 0xdc00;
const BYTE_MIN = 0x80;
const BYTE_MAX = 0xff;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function decodeFileName(bytes: Uint8Array): string {
  return decodeUtf8(bytes) ?? decodeBytewise(bytes);
}

export function encodeFileName(name: string): Buffer {
  if (name.isWellFormed()) return Buffer.from(name);
  const parts: Buffer[] = [];
  for (const character of name) {
    const byte = character.charCodeAt(0) - ESCAPE;
    const isEscaped = character.length === 1 && byte >= BYTE_MIN && byte <= BYTE_MAX;
    parts.push(isEscaped ? Buffer.from([byte]) : Buffer.from(character));
  }
  return Buffer.concat(parts);
}

/** A path for node:fs, which would take a lone surrogate for U+FFFD. */
export function fsPath(path: string): string | Buffer {
  return path.isWellFormed() ? path : encodeFileName(path);
}

function decodeBytewise(bytes: Uint8Array): string {
  let name = '';
  for (let at = 0; at < bytes.length;) {
    const length = sequenceLength(bytes[at]!);
    const character = length === 0 ? null : decodeUtf8(bytes.subarray(at, at + length));
    name += character ?? String.fromCharCode(ESCAPE + bytes[at]!);
    at += character === null ? 1 : length;
  }
  return name;
}

/** Bytes of the character that begins so; 0 where none does. */
function sequenceLength(lead: number): number {
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

function decodeUtf8(bytes: Uint8Array): string | null {
  try {
    return utf8.decode(bytes);
  } catch {
    return null;
  }
}
