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
import { isFinal } from './registry-error.ts';
import { Semaphore } from './semaphore.ts';
import { Turns } from './turns.ts';

export interface DownloadEvents {
  waiting(): void;
  progress(currentBytes: number): void;
  /** Tried again in so many seconds. */
  retrying(seconds: number): void;
  verifying(): void;
  complete(): void;
}

/** Longer with each attempt. */
const RETRY_S = 1;
const LEFTOVER_MS_MAX = 24 * 3600 * 1000;
const NEVER = new AbortController().signal;
const SWEEP_MS_MIN = 3600 * 1000;

export class Downloads {
  readonly #directory: string;
  readonly #slots: Semaphore;
  readonly #attemptsMax: number;
  readonly #logger: Logger;
  readonly #turns = new Turns();
  readonly #users = new Map<Digest, number>();
  #sweptMs = -Infinity;

  private constructor(directory: string, options: { concurrentMax: number; attemptsMax: number }, logger: Logger) {
    this.#directory = directory;
    this.#slots = new Semaphore(options.concurrentMax);
    this.#attemptsMax = options.attemptsMax;
    this.#logger = logger;
  }

  static async open(
    directory: string,
    options: { readonly concurrentMax: number; readonly attemptsMax: number },
    logger: Logger,
  ): Promise<Downloads> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const downloads = new Downloads(directory, options, logger);
    await downloads.#sweep();
    return downloads;
  }

  /** The verified file; release() it afterwards. @throws IMAGE_CORRUPT, REGISTRY_UNREACHABLE */
  async fetch(client: RegistryClient, blob: Descriptor, events: DownloadEvents, signal: AbortSignal): Promise<string> {
    const path = join(this.#directory, hexOf(blob.digest));
    this.#users.set(blob.digest, (this.#users.get(blob.digest) ?? 0) + 1);
    try {
      await this.#sweep();
      if (this.#slots.isFull || this.#turns.isTaken(blob.digest)) events.waiting();
      using _alone = await this.#turns.enter(blob.digest, signal);
      if ((await sizeOf(path)) !== blob.size) {
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

  /** The file goes when nobody else needs it, unless it is worth keeping for the next try. */
  async release(digest: Digest, options: { readonly keep: boolean }): Promise<void> {
    if (options.keep || this.#users.get(digest) !== 1) {
      this.#forget(digest);
      return;
    }
    // In turn: whoever fetches it meanwhile keeps it, or finds it gone, but never sees a file that is about to go.
    using _alone = await this.#turns.enter(digest, NEVER);
    if (this.#forget(digest)) await rm(join(this.#directory, hexOf(digest)), { force: true });
  }

  #forget(digest: Digest): boolean {
    const left = (this.#users.get(digest) ?? 1) - 1;
    if (left > 0) {
      this.#users.set(digest, left);
      return false;
    }
    this.#users.delete(digest);
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
        if (isFinal(error) || attempt >= this.#attemptsMax) throw error;
        this.#logger.info({ digest: blob.digest, attempt, error: messageOf(error) }, 'a download is tried again');
        for (let left = RETRY_S * attempt; left > 0; left--) {
          events.retrying(left);
          await sleep(1000, undefined, { signal });
        }
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
    const whole = { offset: at, sizeBytes: at, body: [] };
    const { offset, sizeBytes, body } = at === blob.size ? whole : await client.openBlob(blob.digest, at);
    if (offset !== at || at === 0) {
      at = 0;
      hash = createHash('sha256');
      await file.truncate(0);
    }
    const isResumed = at > 0;
    const refuse = async (why: string): Promise<EngineError> => {
      await file.truncate(0);
      // What was there before may be what is wrong: then it is worth another try, from the beginning.
      return new EngineError(isResumed ? 'REGISTRY_UNREACHABLE' : 'IMAGE_CORRUPT', why);
    };
    if (sizeBytes !== null && sizeBytes !== blob.size)
      throw await refuse(`layer ${blob.digest} has ${sizeBytes} bytes where its manifest says ${blob.size}`);
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      signal.throwIfAborted();
      if (at + chunk.length > blob.size) throw await refuse(`layer ${blob.digest} is longer than its manifest says`);
      await writeAll(file, chunk);
      hash.update(chunk);
      at += chunk.length;
      events.progress(at);
    }
    signal.throwIfAborted();
    if (at < blob.size) throw new EngineError('REGISTRY_UNREACHABLE', 'unexpected EOF');
    events.verifying();
    if (`sha256:${hash.digest('hex')}` !== blob.digest)
      throw await refuse(`filesystem layer verification failed for digest ${blob.digest}`);
  }

  /** At times: a daemon may run for months. */
  async #sweep(): Promise<void> {
    if (performance.now() - this.#sweptMs < SWEEP_MS_MIN) return;
    this.#sweptMs = performance.now();
    for (const name of await readdir(this.#directory)) {
      const digest = `sha256:${name.replace(/\.part$/, '')}`;
      if (this.#turns.isTaken(digest) || this.#users.has(digest)) continue;
      const path = join(this.#directory, name);
      const modifiedMs = (await stat(path).catch(() => null))?.mtimeMs ?? Infinity;
      if (Date.now() - modifiedMs > LEFTOVER_MS_MAX) await rm(path, { force: true });
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
