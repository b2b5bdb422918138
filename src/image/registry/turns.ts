/** One at a time for each key: who comes later finds it done, or does it. */
import { Semaphore } from './semaphore.ts';

export class Turns {
  readonly #turns = new Map<string, { readonly door: Semaphore; users: number }>();

  /** Whether enter() would have to wait. */
  isTaken(key: string): boolean {
    return this.#turns.get(key)?.door.isFull === true;
  }

  async enter(key: string, signal: AbortSignal): Promise<Disposable> {
    let turn = this.#turns.get(key);
    if (turn === undefined) this.#turns.set(key, (turn = { door: new Semaphore(1), users: 0 }));
    turn.users++;
    const leave = (): void => {
      if (--turn.users === 0) this.#turns.delete(key);
    };
    try {
      const inside = await turn.door.enter(signal);
      return {
        [Symbol.dispose]: () => {
          inside[Symbol.dispose]();
          leave();
        },
      };
    } catch (error) {
      leave();
      throw error;
    }
  }
}
