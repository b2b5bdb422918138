/**
 * Blobs by digest under DIRECTORY/sha256/HEX: image configs and manifests. A blob is written beside, verified,
 * and renamed into place, so that what has its name is whole.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { checkSame, digestOf, hexOf } from './digest.ts';
import type { Digest } from './port.ts';
import { isDigest } from './reference.ts';

export class BlobStore {
  readonly #directory: string;
  /** Writing and removing take turns, so that a removal never hits what was just written. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async open(directory: string): Promise<BlobStore> {
    await mkdir(join(directory, 'sha256'), { recursive: true, mode: 0o700 });
    return new BlobStore(directory);
  }

  path(digest: Digest): string {
    return join(this.#directory, 'sha256', hexOf(digest));
  }

  /** Durable when it resolves. @throws IMAGE_CORRUPT when the bytes are not those of `expected` */
  async put(bytes: Uint8Array, expected?: Digest): Promise<Digest> {
    const digest = digestOf(bytes);
    if (expected !== undefined) checkSame('blob', expected, digest);
    await this.#inTurn(() => this.#write(digest, bytes));
    return digest;
  }

  async #write(digest: Digest, bytes: Uint8Array): Promise<void> {
    const temporary = `${this.path(digest)}.tmp-${randomBytes(4).toString('hex')}`;
    try {
      const file = await open(temporary, 'wx', 0o600);
      try {
        await file.writeFile(bytes);
        await file.datasync();
      } finally {
        await file.close();
      }
      await rename(temporary, this.path(digest));
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  /** @throws IMAGE_CORRUPT when the file is not what its name says */
  async get(digest: Digest): Promise<Buffer> {
    const bytes = await readFile(this.path(digest));
    checkSame(`blob ${this.path(digest)}`, digest, digestOf(bytes));
    return bytes;
  }

  /** What is there. Left-overs of a crash are removed. */
  async list(): Promise<Digest[]> {
    const digests: Digest[] = [];
    for (const name of await readdir(join(this.#directory, 'sha256'))) {
      if (isDigest(`sha256:${name}`)) digests.push(`sha256:${name}`);
      else await rm(join(this.#directory, 'sha256', name), { force: true });
    }
    return digests;
  }

  /** If `wanted` still says so when its turn comes. */
  async remove(digest: Digest, wanted: () => boolean): Promise<void> {
    await this.#inTurn(async () => {
      if (wanted()) await rm(this.path(digest), { force: true });
    });
  }

  async #inTurn(run: () => Promise<void>): Promise<void> {
    const result = this.#turn.then(run);
    this.#turn = result.catch(() => {});
    await result;
  }
}
