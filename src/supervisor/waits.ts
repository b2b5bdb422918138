/**
 * `docker wait`, and the signal that log followers end on. Source: moby container/state.go Wait() (v28): an end wakes
 * all that wait for one, also where the policy restarts the container right away.
 */
export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

export interface WaitResult {
  readonly exitCode: number;
  readonly error: string;
}

interface Waiter {
  readonly condition: WaitCondition;
  resolve(result: WaitResult): void;
}

export class Waits {
  readonly #waiters = new Set<Waiter>();
  #run: AbortController | null = null;

  get size(): number {
    return this.#waiters.size;
  }

  /** Rejects with the signal's reason when aborted. */
  add(condition: WaitCondition, signal: AbortSignal): Promise<WaitResult> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      const onAbort = (): void => {
        this.#waiters.delete(waiter);
        reject(signal.reason as Error);
      };
      const waiter: Waiter = {
        condition,
        resolve: (result) => {
          signal.removeEventListener('abort', onAbort);
          resolve(result);
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  /** Aborted at the end of the present run, or of the next if there is none. */
  runEnded(): AbortSignal {
    this.#run ??= new AbortController();
    return this.#run.signal;
  }

  /** A run ended. */
  end(result: WaitResult): void {
    this.#wake(['not-running', 'next-exit'], result);
    this.#run?.abort();
    this.#run = null;
  }

  /** It is down, for whatever reason. */
  down(result: WaitResult): void {
    this.#wake(['not-running'], result);
  }

  /** It is gone (or will never be, which `result` says). */
  removed(result: WaitResult): void {
    this.#wake(['not-running', 'next-exit', 'removed'], result);
    this.#run?.abort();
    this.#run = null;
  }

  #wake(conditions: readonly WaitCondition[], result: WaitResult): void {
    for (const waiter of this.#waiters) {
      if (!conditions.includes(waiter.condition)) continue;
      this.#waiters.delete(waiter);
      waiter.resolve(result);
    }
  }
}
