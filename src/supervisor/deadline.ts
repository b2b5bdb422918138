/** Waiting no longer than some time: every request ends, whatever hangs below. */
import type { Clock } from '../core/clock.ts';

/** Settles as `work` does, or rejects with `onLate()` after `ms`. What `work` does later is dropped. */
export function withDeadline<T>(clock: Clock, ms: number, work: Promise<T>, onLate: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(ms, () => reject(onLate()));
    const disarm = (): void => timer[Symbol.dispose]();
    work.then(
      (value) => {
        disarm();
        resolve(value);
      },
      (error: unknown) => {
        disarm();
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}
