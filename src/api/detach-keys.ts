/**
 * The key sequence that leaves an attach without ending what runs. Bytes that might begin it are held back until it is
 * sure that they do not. Source: moby pkg/term proxy.go (EscapeProxy), moby/term ascii.go (v28).
 */
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
