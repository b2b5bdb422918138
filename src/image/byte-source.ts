/** Reads exact numbers of bytes from a stream of chunks, copying only what straddles two of them. */
export class ByteSource {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** The next bytes, at least one and at most `max`; null at the end. Valid until the caller lets go of them. */
  async some(max: number): Promise<Buffer | null> {
    while (this.#chunk.length === 0) {
      if (!(await this.#fill())) return null;
    }
    const part = this.#chunk.subarray(0, max);
    this.#chunk = this.#chunk.subarray(part.length);
    return part;
  }

  /** `length` bytes, fewer only where the stream ends. */
  async take(length: number): Promise<Buffer> {
    if (this.#chunk.length >= length) {
      const part = this.#chunk.subarray(0, length);
      this.#chunk = this.#chunk.subarray(length);
      return part;
    }
    const parts: Buffer[] = [];
    for (let left = length; left > 0;) {
      const part = await this.some(left);
      if (part === null) break;
      parts.push(part);
      left -= part.length;
    }
    return Buffer.concat(parts);
  }

  /** Looks at the first bytes and leaves them. */
  async peek(length: number): Promise<Buffer> {
    while (this.#chunk.length < length) {
      const before = this.#chunk;
      const more = await this.#fill();
      this.#chunk = Buffer.concat([before, this.#chunk]);
      if (!more) break;
    }
    return this.#chunk.subarray(0, length);
  }

  /** What is left, as a stream. */
  async *rest(): AsyncGenerator<Buffer> {
    try {
      for (let part; (part = await this.some(Number.MAX_SAFE_INTEGER)) !== null;) yield part;
    } finally {
      await this.close();
    }
  }

  /** Tells the producer that no more is wanted. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#chunks.return?.();
  }

  async #fill(): Promise<boolean> {
    if (this.#ended) {
      this.#chunk = Buffer.alloc(0);
      return false;
    }
    const { value, done } = await this.#chunks.next();
    if (done === true) {
      this.#ended = true;
      this.#chunk = Buffer.alloc(0); // peek() puts back what it held
      return false;
    }
    this.#chunk = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    return true;
  }
}
