/** As much of MessagePack as Fluentd's forward protocol takes. Source: msgpack.org spec. */

export type Packable =
  | null
  | boolean
  | number
  | string
  | Uint8Array
  | EventTime
  | readonly Packable[]
  | { readonly [key: string]: Packable };

/** Fluentd's extension type 0: seconds and nanoseconds, 32 bits each. */
export class EventTime {
  readonly timeNs: bigint;
  constructor(timeNs: bigint) {
    this.timeNs = timeNs;
  }
}

export function pack(value: Packable): Buffer {
  const pieces: Uint8Array[] = [];
  write(pieces, value);
  return Buffer.concat(pieces);
}

function write(out: Uint8Array[], value: Packable): void {
  if (value === null) out.push(Buffer.of(0xc0));
  else if (typeof value === 'boolean') out.push(Buffer.of(value ? 0xc3 : 0xc2));
  else if (typeof value === 'number') out.push(packInteger(value));
  else if (typeof value === 'string') {
    const bytes = Buffer.from(value);
    out.push(head(bytes.length, 0xa0, 32, 0xd9, 0xda, 0xdb), bytes);
  } else if (value instanceof Uint8Array) out.push(head(value.length, 0, 0, 0xc4, 0xc5, 0xc6), value);
  else if (value instanceof EventTime) {
    const bytes = Buffer.alloc(10);
    bytes[0] = 0xd7;
    bytes.writeUInt32BE(Number(value.timeNs / 1_000_000_000n), 2);
    bytes.writeUInt32BE(Number(value.timeNs % 1_000_000_000n), 6);
    out.push(bytes);
  } else if (Array.isArray(value)) {
    const list = value as readonly Packable[];
    out.push(head(list.length, 0x90, 16, null, 0xdc, 0xdd));
    for (const member of list) write(out, member);
  } else {
    const entries = Object.entries(value);
    out.push(head(entries.length, 0x80, 16, null, 0xde, 0xdf));
    for (const [key, member] of entries) {
      write(out, key);
      write(out, member);
    }
  }
}

/** Of a length: in the type byte when it is below `fixMax`, else in 1, 2 or 4 bytes after its own type byte. */
function head(length: number, fix: number, fixMax: number, one: number | null, two: number, four: number): Buffer {
  if (length < fixMax) return Buffer.of(fix | length);
  if (one !== null && length < 0x100) return Buffer.of(one, length);
  if (length < 0x10000) return Buffer.of(two, length >> 8, length & 0xff);
  const bytes = Buffer.alloc(5);
  bytes[0] = four;
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

function packInteger(value: number): Buffer {
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`msgpack: not a natural number: ${value}`);
  if (value < 0x80) return Buffer.of(value);
  const bytes = Buffer.alloc(9);
  if (value < 0x1_0000_0000) {
    bytes[0] = 0xce;
    bytes.writeUInt32BE(value, 1);
    return bytes.subarray(0, 5);
  }
  bytes[0] = 0xcf;
  bytes.writeBigUInt64BE(BigInt(value), 1);
  return bytes;
}
