/**
 * Writes the content of one file, piece by piece: pieces gather while those before them are on their way to the kernel, so
 * that system calls are few and nothing is copied. The descriptor stays the caller's.
 */
import { ftruncate, writev } from 'node:fs';
import { promisify } from 'node:util';

import type { TarEntry, TarReader } from './tar-reader.ts';

/** Gathered for one call; twice as much is held at a time. */
const GATHERED_BYTES_MAX = 1024 * 1024;
/** writev(2) takes no more (IOV_MAX). */
const PIECES_MAX = 1024;
const writeAll = promisify(writev) as (
  fd: number,
  buffers: readonly Uint8Array[],
  position: number,
) => Promise<{ bytesWritten: number }>;
const truncate = promisify(ftruncate);

/** The current entry's content, holes left as holes. `onStored` sees each piece of a sparse file before it is written. */
export async function writeContent(
  fd: number,
  entry: TarEntry,
  reader: TarReader,
  onStored: (piece: Buffer) => Promise<void> | void = () => {},
): Promise<void> {
  const writer = new FileWriter(fd);
  try {
    if (entry.sparse === null) {
      let at = 0;
      for (let piece; (piece = await reader.chunk()) !== null; at += piece.length) await writer.write(piece, at);
    } else {
      const segments = entry.sparse.filter(({ length }) => length > 0);
      await truncate(fd, entry.sizeBytes); // a hole at the end
      let index = 0;
      let done = 0;
      for (let piece; (piece = await reader.chunk()) !== null;) {
        await onStored(piece);
        for (let from = 0; from < piece.length;) {
          const segment = segments[index]!;
          const part = piece.subarray(from, from + segment.length - done);
          await writer.write(part, segment.offset + done);
          from += part.length;
          done += part.length;
          if (done < segment.length) continue;
          index++;
          done = 0;
        }
      }
    }
    await writer.finish();
  } finally {
    await writer.settle(); // whoever closes the descriptor must not take it from under a write
  }
}

class FileWriter {
  readonly #fd: number;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  /** Where the gathered pieces begin in the file. */
  #position = 0;
  #inFlight: Promise<void> = Promise.resolve();

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The bytes must not change afterwards. */
  async write(piece: Uint8Array, position: number): Promise<void> {
    if (position !== this.#position + this.#bytes) await this.#send();
    if (this.#pieces.length === 0) this.#position = position;
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    if (this.#bytes >= GATHERED_BYTES_MAX || this.#pieces.length >= PIECES_MAX) await this.#send();
  }

  async finish(): Promise<void> {
    await this.#send();
    await this.#inFlight;
  }

  async settle(): Promise<void> {
    await this.#inFlight.catch(() => {});
  }

  async #send(): Promise<void> {
    await this.#inFlight;
    if (this.#pieces.length === 0) return;
    this.#inFlight = this.#put(this.#pieces, this.#position);
    this.#inFlight.catch(() => {}); // awaited by the next send, finish or settle
    this.#pieces = [];
    this.#bytes = 0;
  }

  async #put(pieces: Uint8Array[], position: number): Promise<void> {
    for (let left = pieces, at = position; left.length > 0;) {
      const { bytesWritten } = await writeAll(this.#fd, left, at);
      at += bytesWritten;
      left = after(left, bytesWritten);
    }
  }
}

/** What a short write left. */
function after(pieces: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skip = bytes;
  const left: Uint8Array[] = [];
  for (const piece of pieces) {
    if (skip < piece.length) left.push(skip === 0 ? piece : piece.subarray(skip));
    skip = Math.max(0, skip - piece.length);
  }
  return left;
}
