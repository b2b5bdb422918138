/**
 * Docker's json-file lines, parsed out of a chunk of bytes: {"log":"…\n","stream":"stdout","attrs":{…},"time":"…"}.
 * A scanner for that shape, several times as fast as JSON.parse; whatever has another shape goes to JSON.parse.
 * Strings are unescaped in place (they only become shorter), so entries share the chunk's memory: the chunk is theirs
 * afterwards and must not be used again.
 */
import type { LogEntry } from './port.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const NEWLINE = 0x0a;

const HEAD = Buffer.from('{"log":"');
const STREAM = Buffer.from(',"stream":"std');
const TIME = Buffer.from('"time":"');
const ATTRIBUTES = Buffer.from(',"attrs":');
/** The longest `"time":"…"}`. */
const TIME_BYTES_MAX = 60;

/** What `\x` stands for, by the code of x. */
const ESCAPES = new Uint8Array(128);
for (const [letter, code] of [
  ['"', 0x22], ['\\', 0x5c], ['/', 0x2f], ['b', 0x08], ['f', 0x0c], ['n', 0x0a], ['r', 0x0d], ['t', 0x09],
] as const) ESCAPES[letter.charCodeAt(0)] = code; // prettier-ignore

const NO_ATTRIBUTES: Readonly<Record<string, string>> = Object.freeze({});

class Entry implements LogEntry {
  readonly stream: 'stdout' | 'stderr';
  readonly line: Buffer;
  readonly time: string;
  readonly attributes: Readonly<Record<string, string>>;
  #timeNs: bigint | null = null;

  constructor(stream: 'stdout' | 'stderr', line: Buffer, time: string, attributes: Readonly<Record<string, string>>) {
    this.stream = stream;
    this.line = line;
    this.time = time;
    this.attributes = attributes;
  }

  /** Most readers never ask: a BigInt costs more than all the rest. */
  get timeNs(): bigint {
    this.#timeNs ??= parseTimeNs(this.time) ?? 0n;
    return this.#timeNs;
  }
}

/** Keeps the attributes of the last line: all lines of a run have the same. */
export class JsonLineParser {
  #attributesText = '';
  #attributes = NO_ATTRIBUTES;

  /**
   * Appends the entries of the whole lines of `chunk`; returns how many bytes they took. Corrupt lines are skipped.
   * `ends`: gets for each entry where its line ends in the chunk.
   */
  parse(chunk: Buffer, entries: LogEntry[], ends?: number[]): number {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      const entry = this.#scan(chunk, from, end) ?? this.#salvage(chunk, from, end);
      from = end + 1;
      if (entry === null) continue;
      entries.push(entry);
      ends?.push(from);
    }
    return from;
  }

  /** null: not of the usual shape. Nothing was changed in the chunk then. */
  #scan(chunk: Buffer, from: number, end: number): LogEntry | null {
    if (!startsWith(chunk, HEAD, from, end)) return null;
    const start = from + HEAD.length;
    let close = start;
    let firstEscape = -1;
    for (; close < end; close++) {
      const byte = chunk[close];
      if (byte === QUOTE) break;
      if (byte === BACKSLASH) {
        if (firstEscape < 0) firstEscape = close;
        close++;
      }
    }
    const afterStream = close + 1 + STREAM.length + 3; // "out" or "err"
    if (!startsWith(chunk, STREAM, close + 1, end) || chunk[afterStream] !== QUOTE) return null;
    const letter = chunk[afterStream - 3];
    const stream = letter === 0x6f ? 'stdout' : letter === 0x65 ? 'stderr' : null;
    const timeAt = findTime(chunk, Math.max(afterStream, end - TIME_BYTES_MAX), end);
    if (stream === null || timeAt < 0) return null;
    const attributes = this.#attributesOf(chunk, afterStream + 1, timeAt - TIME.length);
    if (attributes === null) return null;
    const time = chunk.toString('latin1', timeAt, end - 2);
    const lineEnd = firstEscape < 0 ? close : unescape(chunk, firstEscape, close);
    if (lineEnd < 0) return null;
    return new Entry(stream, chunk.subarray(start, lineEnd), time, attributes);
  }

  /** What stands between the stream and the time: "," or ,"attrs":{…}, */
  #attributesOf(chunk: Buffer, from: number, to: number): Readonly<Record<string, string>> | null {
    if (to === from + 1) return chunk[from] === 0x2c ? NO_ATTRIBUTES : null;
    if (!startsWith(chunk, ATTRIBUTES, from, to)) return null;
    const text = chunk.toString('utf8', from + ATTRIBUTES.length, to - 1);
    if (text !== this.#attributesText) {
      const parsed = parseAttributes(text);
      if (parsed === null) return null;
      this.#attributes = parsed;
      this.#attributesText = text;
    }
    return this.#attributes;
  }

  /** Another shape, or half a line that a crashed writer left in front of a whole one. */
  #salvage(chunk: Buffer, from: number, end: number): LogEntry | null {
    const parsed = parseWhole(chunk.toString('utf8', from, end));
    if (parsed !== null) return parsed;
    const at = chunk.subarray(from, end).lastIndexOf(HEAD);
    return at <= 0 ? null : (this.#scan(chunk, from + at, end) ?? parseWhole(chunk.toString('utf8', from + at, end)));
  }
}

/** RFC 3339 with up to nine digits of a second, in UTC or with an offset. null: not a time. */
export function parseTimeNs(time: string): bigint | null {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/.exec(time);
  if (!match) return null;
  const [, whole = '', fraction = '', zone = 'Z'] = match;
  const ms = Date.parse(`${whole}${zone}`);
  return Number.isNaN(ms) ? null : BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
}

function startsWith(chunk: Buffer, prefix: Buffer, at: number, end: number): boolean {
  if (at + prefix.length > end) return false;
  for (let i = 0; i < prefix.length; i++) if (chunk[at + i] !== prefix[i]) return false;
  return true;
}

/** Where the text of `"time":"…"}` begins when the line ends with it; -1 otherwise. */
function findTime(chunk: Buffer, from: number, end: number): number {
  if (chunk[end - 1] !== 0x7d || chunk[end - 2] !== QUOTE) return -1;
  for (let at = end - 3; at > from; at--) {
    if (chunk[at] === QUOTE) {
      const begin = at - TIME.length + 1;
      return begin > from && startsWith(chunk, TIME, begin, end) ? at + 1 : -1;
    }
  }
  return -1;
}

/** Of a string that ends at `to`, the first backslash at `from`. Returns where it ends now; -1: not valid, untouched. */
function unescape(chunk: Buffer, from: number, to: number): number {
  // By far the commonest: the newline at the end and nothing else.
  if (from === to - 2 && chunk[from + 1] === 0x6e) {
    chunk[from] = NEWLINE;
    return from + 1;
  }
  if (!isValidEscaped(chunk, from, to)) return -1;
  let out = from;
  for (let at = from; at < to; at++) {
    const byte = chunk[at] as number;
    if (byte !== BACKSLASH) {
      chunk[out++] = byte;
      continue;
    }
    const letter = chunk[++at] as number;
    if (letter !== 0x75) {
      chunk[out++] = ESCAPES[letter] as number;
      continue;
    }
    let code = hex4(chunk, at + 1);
    at += 4;
    if (isHighSurrogate(code) && chunk[at + 1] === BACKSLASH && chunk[at + 2] === 0x75) {
      const low = hex4(chunk, at + 3);
      if (low >= 0xdc00 && low <= 0xdfff) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        at += 6;
      }
    }
    out = writeUtf8(chunk, out, code >= 0xd800 && code <= 0xdfff ? 0xfffd : code);
  }
  return out;
}

function isValidEscaped(chunk: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at++) {
    if (chunk[at] !== BACKSLASH) continue;
    const letter = chunk[++at] as number;
    if (letter === 0x75) {
      if (at + 4 >= to || hex4(chunk, at + 1) < 0) return false;
      at += 4;
    } else if (letter >= 128 || ESCAPES[letter] === 0) {
      return false;
    }
  }
  return true;
}

function isHighSurrogate(code: number): boolean {
  return code >= 0xd800 && code <= 0xdbff;
}

/** -1 when a digit is none. */
function hex4(chunk: Buffer, at: number): number {
  let value = 0;
  for (let i = at; i < at + 4; i++) {
    const byte = chunk[i] ?? 0;
    const digit =
      byte >= 0x30 && byte <= 0x39
        ? byte - 0x30
        : (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66
          ? (byte | 0x20) - 0x57
          : -1;
    if (digit < 0) return -1;
    value = (value << 4) | digit;
  }
  return value;
}

function writeUtf8(chunk: Buffer, out: number, code: number): number {
  if (code < 0x80) {
    chunk[out++] = code;
  } else if (code < 0x800) {
    chunk[out++] = 0xc0 | (code >> 6);
    chunk[out++] = 0x80 | (code & 63);
  } else if (code < 0x10000) {
    chunk[out++] = 0xe0 | (code >> 12);
    chunk[out++] = 0x80 | ((code >> 6) & 63);
    chunk[out++] = 0x80 | (code & 63);
  } else {
    chunk[out++] = 0xf0 | (code >> 18);
    chunk[out++] = 0x80 | ((code >> 12) & 63);
    chunk[out++] = 0x80 | ((code >> 6) & 63);
    chunk[out++] = 0x80 | (code & 63);
  }
  return out;
}

function parseWhole(text: string): LogEntry | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { log, stream, time, attrs } = value as Record<string, unknown>;
  if (typeof log !== 'string' || typeof time !== 'string') return null;
  if (stream !== 'stdout' && stream !== 'stderr') return null;
  if (parseTimeNs(time) === null) return null;
  return new Entry(stream, Buffer.from(log), time, (attrs === undefined ? null : stringsOf(attrs)) ?? NO_ATTRIBUTES);
}

function parseAttributes(text: string): Readonly<Record<string, string>> | null {
  try {
    return stringsOf(JSON.parse(text));
  } catch {
    return null;
  }
}

function stringsOf(value: unknown): Readonly<Record<string, string>> | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  return Object.values(value).every((member) => typeof member === 'string') ? (value as Record<string, string>) : null;
}
