/**
 * Takes the compression off a stream, whatever it is. gzip and zstd by node:zlib; bzip2 and xz, which only
 * `docker import` meets, by the host's programs.
 * Source: moby pkg/archive DetectCompression (the magic numbers).
 */
import { spawn } from 'node:child_process';
import { PassThrough, Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';

import { EngineError, messageOf } from '../core/engine-error.ts';

import { ByteSource } from './byte-source.ts';

export type Compression = 'none' | 'gzip' | 'zstd' | 'bzip2' | 'xz';

const CHUNK_BYTES = 256 * 1024;
const MAGIC_BYTES = 6;

export function detectCompression(start: Uint8Array): Compression {
  const begins = (...bytes: number[]): boolean => bytes.every((byte, i) => start[i] === byte);
  if (begins(0x1f, 0x8b, 0x08)) return 'gzip';
  if (begins(0x28, 0xb5, 0x2f, 0xfd)) return 'zstd';
  if ((start[0]! & 0xf0) === 0x50 && start[1] === 0x2a && start[2] === 0x4d && start[3] === 0x18) return 'zstd'; // a skippable frame first
  if (begins(0x42, 0x5a, 0x68)) return 'bzip2';
  if (begins(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) return 'xz';
  return 'none';
}

/** Ends with an IMAGE_ARCHIVE_INVALID error where the compressed data is damaged. `allowPrograms`: bzip2 and xz too. */
export async function decompress(
  chunks: AsyncIterable<Uint8Array>,
  options: { readonly allowPrograms: boolean },
): Promise<AsyncIterable<Uint8Array>> {
  const source = new ByteSource(chunks);
  const compression = detectCompression(await source.peek(MAGIC_BYTES));
  switch (compression) {
    case 'none':
      return source.rest();
    case 'gzip':
      return through(source, createGunzip({ chunkSize: CHUNK_BYTES }));
    case 'zstd':
      return through(source, createZstdDecompress({ chunkSize: CHUNK_BYTES }));
    case 'bzip2':
    case 'xz':
      if (!options.allowPrograms)
        throw new EngineError('IMAGE_ARCHIVE_INVALID', `unsupported compression: ${compression}`);
      return program(source, compression);
  }
}

async function* through(source: ByteSource, transform: Transform): AsyncGenerator<Uint8Array> {
  const ended = pipeline(Readable.from(source.rest(), { objectMode: false, highWaterMark: CHUNK_BYTES }), transform, {
    end: true,
  });
  ended.catch(() => {}); // reading `transform` fails with the same error
  try {
    yield* transform as AsyncIterable<Uint8Array>;
  } catch (error) {
    if (error instanceof EngineError) throw error;
    throw new EngineError('IMAGE_ARCHIVE_INVALID', `damaged compressed data: ${messageOf(error)}`, { cause: error });
  } finally {
    transform.destroy();
  }
}

async function* program(source: ByteSource, name: 'bzip2' | 'xz'): AsyncGenerator<Uint8Array> {
  const child = spawn(name, ['-d', '-c', '-q'], { stdio: ['pipe', 'pipe', 'pipe'] });
  const output = new PassThrough();
  let complaint = '';
  child.stderr.on('data', (text: Buffer) => (complaint = (complaint + text.toString()).slice(0, 1024)));
  const exited = new Promise<void>((resolve, reject) => {
    child.on('error', (error) =>
      reject(new EngineError('IMAGE_ARCHIVE_INVALID', `${name} is needed to read this archive: ${error.message}`)),
    );
    child.on('close', (code) =>
      code === 0
        ? resolve()
        : reject(
            new EngineError(
              'IMAGE_ARCHIVE_INVALID',
              `damaged compressed data: ${complaint.trim() || `${name} cannot read it to its end`}`,
            ),
          ),
    );
  });
  const fed = pipeline(Readable.from(source.rest(), { objectMode: false }), child.stdin);
  fed.catch(() => {}); // EPIPE when the program gave up: its exit says why
  exited.then(
    () => output.end(),
    (error: Error) => output.destroy(error),
  );
  child.stdout.pipe(output, { end: false });
  try {
    yield* output as AsyncIterable<Uint8Array>;
  } finally {
    child.kill('SIGKILL');
    output.destroy();
  }
}
