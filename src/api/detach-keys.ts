/**
 * The key sequence that leaves an attach without ending what runs. Bytes that might begin it are held back until it is
 * sure that they do not. Source: moby pkg/term proxy.go (EscapeProxy), moby/term ascii.go (v28).
 */
import { EngineError } from '../core/engine-error.ts';

export const DEFAULT_DETACH_KEYS: Buffer = Buffer.from([16, 17]); // ctrl-p, ctrl-q

/** "ctrl-a,b" → bytes. @throws PARAMETER_INVALID "Unknown character: 'x'" */
export function parseDetachKeys(text: string): Buffer {
  return Buffer.from(
    text.split(',').map((key) => {
      if (key.length === 1) return key.charCodeAt(0);
      const control = /^ctrl-([a-z@[\\\]^_])$/.exec(key.toLowerCase())?.[1];
      if (control === undefined) throw new EngineError('PARAMETER_INVALID', `Unknown character: '${key}'`);
      return control.toUpperCase().charCodeAt(0) & 0x1f;
    }),
  );
}

export class DetachScanner {
  readonly #keys: Buffer;
  #matched = 0;

  constructor(keys: Buffer) {
    this.#keys = keys;
  }

  /** What may be passed on, and whether the sequence is now complete (what follows it is dropped). */
  push(chunk: Buffer): { readonly pass: Buffer; readonly detached: boolean } {
    const pass: number[] = [];
    for (const byte of chunk) {
      if (byte === this.#keys[this.#matched]) {
        this.#matched++;
        if (this.#matched === this.#keys.length) return { pass: Buffer.from(pass), detached: true };
        continue;
      }
      if (this.#matched > 0) {
        pass.push(...this.#keys.subarray(0, this.#matched));
        this.#matched = byte === this.#keys[0] ? 1 : 0;
        if (this.#matched === 1) continue;
      }
      pass.push(byte);
    }
    return { pass: Buffer.from(pass), detached: false };
  }
}
