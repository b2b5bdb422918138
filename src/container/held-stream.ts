/**
 * A stream that needs something for as long as it is read: given back after the last byte, on an error, and when the
 * reader leaves, also before the first byte (a generator's `finally` would not run then).
 */
export function heldStream(source: AsyncIterable<Uint8Array>, held: AsyncDisposable): AsyncIterable<Uint8Array> {
  let released: Promise<void> | null = null;
  const release = (): Promise<void> => (released ??= Promise.resolve(held[Symbol.asyncDispose]()));
  return {
    [Symbol.asyncIterator]: () => {
      const iterator = source[Symbol.asyncIterator]();
      return {
        next: async () => {
          try {
            const result = await iterator.next();
            if (result.done) await release();
            return result;
          } catch (error) {
            await release();
            throw error;
          }
        },
        return: async () => {
          try {
            await iterator.return?.();
          } finally {
            await release();
          }
          return { done: true, value: undefined };
        },
      };
    },
  };
}
