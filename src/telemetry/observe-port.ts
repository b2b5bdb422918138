/**
 * Watches the calls of a port without its room knowing: daemon/ puts this between the room that calls and the one that
 * answers. A port that nobody watches is not wrapped, and costs nothing.
 */
import type { Watch, Work } from './port.ts';

/** What a method's call is called; by the names of those methods that are to be watched. */
export type WorkOf<T> = {
  readonly [K in keyof T]?: T[K] extends (...args: infer A) => unknown ? (...args: A) => Work : never;
};

type Method = (...args: unknown[]) => unknown;

/** What stands in for a value that is set on a port, such as a listener. */
export type Instead<T> = { readonly [K in keyof T]?: (value: T[K]) => T[K] };

/** `port` as it is, but that `watch` runs the named methods. Accessors and private fields work as before. */
export function observePort<T extends object>(port: T, watch: Watch, methods: WorkOf<T>, instead: Instead<T> = {}): T {
  const wrapped = new Map<string | symbol, unknown>();
  return new Proxy(port, {
    get(target, name) {
      const found = wrapped.get(name);
      if (found !== undefined) return found;
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      const method = (value as Method).bind(target);
      const workOf = methods[name as keyof T] as ((...args: unknown[]) => Work) | undefined;
      const watched =
        workOf === undefined ? method : (...args: unknown[]) => watch(workOf(...args), () => method(...args));
      wrapped.set(name, watched);
      return watched;
    },
    set: (target, name, value) => {
      wrapped.delete(name);
      const replace = instead[name as keyof T] as ((value: unknown) => unknown) | undefined;
      return Reflect.set(target, name, replace === undefined ? value : replace(value), target);
    },
  });
}

/** Several that watch as one; null when there is none. The first is outermost. */
export function watchAll(watches: readonly Watch[]): Watch | null {
  if (watches.length <= 1) return watches[0] ?? null;
  return (work, run) => watches.reduceRight<typeof run>((inner, watch) => () => watch(work, inner), run)();
}

/** Calls `ended` when what `run` returns is there: at once, when its promise is settled, or when it was iterated to its end. */
export function whenEnded<R>(run: () => R, ended: (error: unknown) => void): R {
  let result: R;
  try {
    result = run();
  } catch (error) {
    ended(error);
    throw error;
  }
  if (result instanceof Promise) {
    result.then(
      () => ended(null),
      (error: unknown) => ended(error ?? new Error('rejected with nothing')),
    );
    return result;
  }
  if (isAsyncIterable(result)) return untilIterated(result, ended) as R;
  ended(null);
  return result;
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

async function* untilIterated(source: AsyncIterable<unknown>, ended: (error: unknown) => void): AsyncGenerator {
  let failed: unknown = null;
  try {
    yield* source;
  } catch (error) {
    failed = error ?? new Error('thrown without a value');
    throw error;
  } finally {
    ended(failed); // Also when the reader went away.
  }
}
