/** What ADD does beyond COPY: archives of the context are unpacked, URLs are fetched. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import { decompress, detectCompression } from '../image/compression.ts';
import { download, type Fetch } from './download.ts';
import { findItems, type CopyPart, type CopySource } from './copy-source.ts';

const TAR_BLOCK_BYTES = 512;

export async function addSources(
  { fetch, removeTree }: { readonly fetch: Fetch; readonly removeTree: (path: string) => Promise<void> },
  source: CopySource,
  words: readonly string[],
  scratchDir: string,
  cleanup: AsyncDisposableStack,
): Promise<CopyPart[]> {
  const parts: CopyPart[] = [];
  for (const word of words) {
    if (/^https?:\/\//.test(word)) {
      const directory = await mkdtemp(join(scratchDir, 'fetched-'));
      cleanup.defer(() => removeTree(directory));
      const name = await fetchFile(fetch, word, directory);
      parts.push({
        source: { archive: source.archive, root: directory, hidden: new Set(), isContext: false },
        items: [{ path: name, name, isDirectory: false }],
        unpack: null,
      });
      continue;
    }
    for (const item of await findItems(source, [word])) {
      const archive = item.isDirectory ? null : await archiveAt(join(source.root, item.path));
      parts.push({ source, items: [item], unpack: archive });
    }
  }
  return parts;
}

async function fetchFile(fetch: Fetch, url: string, directory: string): Promise<string> {
  const name = basename(new URL(url).pathname);
  if (name === '' || name === '/') throw new EngineError('BODY_INVALID', `cannot determine filename from url: ${url}`);
  const { headers, chunks } = await download(fetch, url);
  const path = join(directory, name);
  await writeFile(path, chunks, { mode: 0o600 });
  const modified = Date.parse(headers.get('last-modified') ?? '');
  if (!Number.isNaN(modified)) await utimes(path, modified / 1000, modified / 1000);
  return name;
}

/** A plain or compressed tar, by its first bytes. The context is the build's own directory: nobody changes it meanwhile. */
async function archiveAt(path: string): Promise<CopyPart['unpack']> {
  await using file = await open(path, 0o400000 /* O_NOFOLLOW */).catch(() => null);
  if (file === null || !(await file.stat()).isFile()) return null;
  const { buffer } = await file.read(Buffer.alloc(512), 0, 512, 0);
  const plain = isTarHeader(buffer);
  if (!plain && (detectCompression(buffer) === 'none' || !isTarHeader(await unpackedStart(path)))) return null;
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return { digest: `file:${hash.digest('hex')}`, tar: () => createReadStream(path) };
}

/** The first block of what is compressed; empty when it is damaged. */
async function unpackedStart(path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of await decompress(createReadStream(path), { allowPrograms: true })) {
      chunks.push(Buffer.from(chunk));
      if (chunks.reduce((sum, { length }) => sum + length, 0) >= TAR_BLOCK_BYTES) break;
    }
  } catch {
    return Buffer.alloc(0);
  }
  return Buffer.concat(chunks);
}

/** Magic of POSIX and GNU, or the checksum of older ones. */
function isTarHeader(block: Buffer): boolean {
  if (block.length < TAR_BLOCK_BYTES) return false;
  if (block.toString('latin1', 257, 262) === 'ustar') return true;
  const written = Number.parseInt(block.toString('latin1', 148, 156), 8);
  let sum = 0;
  for (let at = 0; at < TAR_BLOCK_BYTES; at++) sum += at >= 148 && at < 156 ? 0x20 : block[at]!;
  return written === sum && block[0] !== 0;
}
