/**
 * A layer is kept unpacked only. Its recipe is every byte of its tar that is not the content of a file, with the
 * names of the files in between: the tar comes out of both again, byte for byte (the idea of tar-split, which
 * dockerd uses). File: records, compressed with zstd.
 *
 *     "R" u32 length, bytes             to be copied
 *     "F" u32 length, name, u64 size    the content of the unpacked file `name`
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress, createZstdDecompress, type ZstdCompress } from 'node:zlib';

import { EngineError } from '../core/engine-error.ts';
import { decodeFileName, encodeFileName, fsPath } from '../core/file-name.ts';

import { ByteSource } from './byte-source.ts';
import { readAhead } from './read-ahead.ts';

const RAW = 0x52;
const FILE = 0x46;
const PENDING_BYTES_MAX = 64 * 1024;
const READ_BYTES = 256 * 1024;
const SMALL_BYTES_MAX = 256 * 1024;
const READ_AHEAD_COUNT = 8;

export class RecipeWriter {
  readonly #output: ZstdCompress;
  readonly #done: Promise<void>;
  #raw: Buffer[] = [];
  #rawBytes = 0;
  #records: Buffer[] = [];
  #recordBytes = 0;

  constructor(path: string) {
    this.#output = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 1 } });
    this.#done = pipeline(this.#output, createWriteStream(path, { flags: 'wx', mode: 0o600 }));
    this.#done.catch(() => {}); // told by finish() and by failing writes
  }

  /** The bytes must not change afterwards. A promise asks the caller to wait. */
  raw(bytes: Buffer): Promise<void> | void {
    this.#raw.push(bytes);
    this.#rawBytes += bytes.length;
    if (this.#rawBytes >= PENDING_BYTES_MAX) return this.#flush();
  }

  file(name: string, sizeBytes: number): Promise<void> | void {
    this.#endRaw();
    const nameBytes = encodeFileName(name);
    const record = Buffer.alloc(5 + nameBytes.length + 8);
    record[0] = FILE;
    record.writeUInt32LE(nameBytes.length, 1);
    nameBytes.copy(record, 5);
    record.writeBigUInt64LE(BigInt(sizeBytes), 5 + nameBytes.length);
    this.#push(record);
    if (this.#recordBytes >= PENDING_BYTES_MAX) return this.#flush();
  }

  async finish(): Promise<void> {
    await this.#flush();
    this.#output.end();
    await this.#done;
  }

  async abandon(): Promise<void> {
    this.#output.destroy();
    await this.#done.catch(() => {});
  }

  #endRaw(): void {
    if (this.#rawBytes === 0) return;
    const head = Buffer.alloc(5);
    head[0] = RAW;
    head.writeUInt32LE(this.#rawBytes, 1);
    this.#push(head);
    for (const bytes of this.#raw) this.#push(bytes);
    this.#raw = [];
    this.#rawBytes = 0;
  }

  #push(bytes: Buffer): void {
    this.#records.push(bytes);
    this.#recordBytes += bytes.length;
  }

  /** Each write to the compressor costs a trip to a pool thread, so they are few. */
  #flush(): Promise<void> | void {
    this.#endRaw();
    if (this.#recordBytes === 0) return;
    const bytes = Buffer.concat(this.#records);
    this.#records = [];
    this.#recordBytes = 0;
    if (this.#output.write(bytes)) return;
    return this.#drained();
  }

  async #drained(): Promise<void> {
    if (this.#output.destroyed) return await this.#done;
    const drained = new Promise<void>((resolve) => this.#output.once('drain', resolve));
    await Promise.race([drained, this.#done]);
  }
}

/** The tar again. @throws IMAGE_CORRUPT when recipe and files do not fit; compare the digest to be sure of the content */
export async function* replay(recipePath: string, root: string): AsyncGenerator<Buffer> {
  const load = async (record: RecipeRecord): Promise<RecipeRecord> =>
    record.kind === 'raw' || record.sizeBytes > SMALL_BYTES_MAX
      ? record
      : { kind: 'raw', bytes: await smallFile(join(root, record.name), record.sizeBytes) };
  for await (const record of readAhead(readRecipe(recipePath), load, READ_AHEAD_COUNT)) {
    if (record.kind === 'raw') yield record.bytes;
    else yield* fileContent(join(root, record.name), record.sizeBytes);
  }
}

type RecipeRecord =
  | { readonly kind: 'raw'; readonly bytes: Buffer }
  | { readonly kind: 'file'; readonly name: string; readonly sizeBytes: number };

async function* readRecipe(path: string): AsyncGenerator<RecipeRecord> {
  const input = createReadStream(path);
  const records = createZstdDecompress();
  const piped = pipeline(input, records, { end: true });
  piped.catch(() => {}); // reading `records` fails with the same error
  const source = new ByteSource(records as AsyncIterable<Uint8Array>);
  try {
    for (;;) {
      const head = await source.take(5);
      if (head.length === 0) return;
      if (head.length < 5) throw damaged(path);
      const length = head.readUInt32LE(1);
      if (head[0] === RAW) {
        for (let left = length; left > 0;) {
          const bytes = await source.some(left);
          if (bytes === null) throw damaged(path);
          left -= bytes.length;
          yield { kind: 'raw', bytes };
        }
      } else if (head[0] === FILE) {
        const name = decodeFileName(await source.take(length));
        const size = await source.take(8);
        if (size.length < 8) throw damaged(path);
        yield { kind: 'file', name, sizeBytes: Number(size.readBigUInt64LE()) };
      } else throw damaged(path);
    }
  } finally {
    input.destroy();
    records.destroy();
    await piped.catch(() => {});
  }
}

async function smallFile(path: string, sizeBytes: number): Promise<Buffer> {
  const bytes = await readFile(fsPath(path));
  if (bytes.length < sizeBytes) throw damaged(path);
  return bytes.subarray(0, sizeBytes);
}

async function* fileContent(path: string, sizeBytes: number): AsyncGenerator<Buffer> {
  const file = await open(fsPath(path), 'r');
  try {
    for (let left = sizeBytes; left > 0;) {
      const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, left));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) throw damaged(path);
      left -= bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

function damaged(path: string): EngineError {
  return new EngineError('IMAGE_CORRUPT', `${path} is damaged`);
}
