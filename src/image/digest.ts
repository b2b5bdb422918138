/** SHA-256 digests, and chain IDs made of them. Source: OCI image spec ("Layer ChainID"). */
import { createHash } from 'node:crypto';

import { EngineError } from '../core/engine-error.ts';

import type { Digest } from './port.ts';

export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** "" has no parent: the chain ID of the lowest layer is its diff ID. */
export function chainIdOf(parent: Digest, diffId: Digest): Digest {
  return parent === '' ? diffId : digestOf(`${parent} ${diffId}`);
}

/** Of every layer, bottom first. */
export function chainIdsOf(diffIds: readonly Digest[]): Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) chain.push(chainIdOf(chain.at(-1) ?? '', diffId));
  return chain;
}

export function hexOf(digest: Digest): string {
  return digest.slice('sha256:'.length);
}

/** A stream's bytes, digested and counted on their way. */
export class DigestCounter {
  readonly #hash = createHash('sha256');
  #sizeBytes = 0;

  update(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    this.#sizeBytes += chunk.length;
  }

  async *through(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      this.update(chunk);
      yield chunk;
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Once. */
  digest(): Digest {
    return `sha256:${this.#hash.digest('hex')}`;
  }
}

/** @throws IMAGE_CORRUPT */
export function checkSame(what: string, expected: Digest, actual: Digest): void {
  if (expected !== actual) throw new EngineError('IMAGE_CORRUPT', `${what}: expected ${expected}, got ${actual}`);
}
