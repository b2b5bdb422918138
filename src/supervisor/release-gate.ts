/**
 * Answers that tell of a container's end ("stopped", docker wait) wait until what its run held is given back: who stops
 * a container may publish its port by another one, or remove its network, right away (moby cleans up before it says
 * that a container is down). But not for ever: a clean-up that hangs goes on behind the answer.
 */
import type { Clock } from '../core/clock.ts';

const WAIT_MS_MAX = 5_000;

export class ReleaseGate {
  readonly #clock: Clock;
  /** null: open. */
  #waiting: (() => void)[] | null = null;
  #timer: Disposable | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A clean-up begins. */
  shut(): void {
    this.#waiting ??= [];
    this.#timer?.[Symbol.dispose]();
    this.#timer = this.#clock.setTimer(WAIT_MS_MAX, () => this.open());
  }

  /** Now, or when the clean-up is over; in the order of the calls. */
  pass(act: () => void): void {
    if (this.#waiting === null) act();
    else this.#waiting.push(act);
  }

  /** It is over, or nobody waits for it any more. */
  open(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = null;
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const act of waiting) act();
  }
}
