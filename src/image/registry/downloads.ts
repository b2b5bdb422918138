/**
 * Compressed layers on their way in: DIRECTORY/HEX once whole and verified, HEX.part before. What a lost connection
 * or a crash has left is gone on with by range. Left-overs go after a day.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { EngineError, messageOf } from '../../core/engine-error.ts';
import type { Logger } from '../../core/log.ts';

import { hexOf } from '../digest.ts';
import type { Descriptor } from '../oci.ts';
import type { Digest } from '../port.ts';

import type { RegistryClient } from './registry-client.ts';
import { RegistryError } from './registry-error.ts';
import { Semaphore } from './semaphore.ts';

export interface DownloadEvents {
  waiting(): void;
  progress(currentBytes: number): void;
  verifying(): void;
  complete(): void;
}

const ATTEMPTS_MAX = 5;
const RETRY_MS = 1000;
const LEFTOVER_MS_MAX = 24 * 3600 * 1000;

export class Downloads {
  readonly #directory: string;
  readonly #slots: Semaphore;
  readonly #logger: Logger;
  /** One at a time for each digest; who comes later finds it done. */
  readonly #locks = new Map<Digest, Semaphore>();
  readonly #users = new Map<Digest, number>();

  private constructor(directory: string, concurrentMax: number, logger: Logger) {
    this.#directory = directory;
    this.#slots = new Semaphore(concurrentMax);
    this.#logger = logger;
  }

  static async open(directory: string, concurrentMax: number, logger: Logger): Promise<Downloads> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const downloads = new Downloads(directory, concurrentMax, logger);
    await downloads.#sweep();
    return downloads;
  }

  /** The verified file; release() it afterwards. @throws IMAGE_CORRUPT, REGISTRY_UNREACHABLE */
  async fetch(client: RegistryClient, blob: Descriptor, events: DownloadEvents, signal: AbortSignal): Promise<string> {
    const path = join(this.#directory, hexOf(blob.digest));
    this.#users.set(blob.digest, (this.#users.get(blob.digest) ?? 0) + 1);
    try {
      let lock = this.#locks.get(blob.digest);
      if (lock === undefined) this.#locks.set(blob.digest, (lock = new Semaphore(1)));
      if (this.#slots.isFull || lock.isFull) events.waiting();
      using _alone = await lock.enter(signal);
      if ((await sizeOf(path)) === null) {
        using _slot = await this.#slots.enter(signal);
        await this.#download(client, blob, path, events, signal);
      }
      events.complete();
      return path;
    } catch (error) {
      this.#forget(blob.digest);
      throw error;
    }
  }

  /** The file goes when nobody else needs it; after a failure it stays for the next try. */
  async release(digest: Digest, options: { readonly keep: boolean }): Promise<void> {
    if (this.#forget(digest) && !options.keep) await rm(join(this.#directory, hexOf(digest)), { force: true });
  }

  #forget(digest: Digest): boolean {
    const left = (this.#users.get(digest) ?? 1) - 1;
    if (left > 0) {
      this.#users.set(digest, left);
      return false;
    }
    this.#users.delete(digest);
    this.#locks.delete(digest);
    return true;
  }

  async #download(
    client: RegistryClient,
    blob: Descriptor,
    path: string,
    events: DownloadEvents,
    signal: AbortSignal,
  ): Promise<void> {
    const part = `${path}.part`;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#attempt(client, blob, part, events, signal);
        await rename(part, path);
        return;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        const isFinal =
          (error instanceof RegistryError && error.status < 500) ||
          (error instanceof EngineError && error.code === 'IMAGE_CORRUPT');
        if (isFinal || attempt === ATTEMPTS_MAX) throw error;
        this.#logger.info({ digest: blob.digest, attempt, error: messageOf(error) }, 'a download is tried again');
        await sleep(RETRY_MS * attempt, undefined, { signal });
      }
    }
  }

  async #attempt(
    client: RegistryClient,
    blob: Descriptor,
    part: string,
    events: DownloadEvents,
    signal: AbortSignal,
  ): Promise<void> {
    await using file = await open(part, 'a', 0o600);
    let hash = createHash('sha256');
    let at = await hashFile(part, hash);
    if (at > blob.size) at = 0;
    const { offset, body } = at === blob.size ? { offset: at, body: [] } : await client.openBlob(blob.digest, at);
    if (offset !== at || at === 0) {
      at = 0;
      hash = createHash('sha256');
      await file.truncate(0);
    }
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      signal.throwIfAborted();
      if (at + chunk.length > blob.size) throw await this.#refuse(file, blob);
      await writeAll(file, chunk);
      hash.update(chunk);
      at += chunk.length;
      events.progress(at);
    }
    if (at < blob.size) throw new EngineError('REGISTRY_UNREACHABLE', 'unexpected EOF');
    events.verifying();
    if (`sha256:${hash.digest('hex')}` !== blob.digest) throw await this.#refuse(file, blob);
  }

  async #refuse(file: FileHandle, blob: Descriptor): Promise<EngineError> {
    await file.truncate(0);
    return new EngineError('IMAGE_CORRUPT', `filesystem layer verification failed for digest ${blob.digest}`);
  }

  async #sweep(): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      const path = join(this.#directory, name);
      const { mtimeMs } = await stat(path);
      if (Date.now() - mtimeMs > LEFTOVER_MS_MAX) await rm(path, { force: true });
    }
  }
}

async function hashFile(path: string, hash: Hash): Promise<number> {
  let bytes = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return bytes;
}

async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch {
    return null;
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let left = bytes; left.length > 0;) left = left.subarray((await file.write(left)).bytesWritten);
}
