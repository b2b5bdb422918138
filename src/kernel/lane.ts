/**
 * Runs at most `width` pieces of work at a time on libuv's four threads, which the whole daemon shares. Others wait
 * in order, and not for ever: when a file system hangs, those behind it get an error instead.
 */
import { ERRNO, KernelError } from './kernel-error.ts';

interface Waiting {
  readonly start: () => void;
  readonly timer: NodeJS.Timeout;
}

export class Lane {
  readonly #name: string;
  readonly #width: number;
  readonly #waitMsMax: number;
  readonly #waiting: Waiting[] = [];
  #running = 0;

  constructor(options: { readonly name: string; readonly width: number; readonly waitMsMax: number }) {
    this.#name = options.name;
    this.#width = options.width;
    this.#waitMsMax = options.waitMsMax;
  }

  /** @throws {KernelError} ETIMEDOUT when its turn does not come. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running >= this.#width) await this.#turn();
    else this.#running++;
    try {
      return await work();
    } finally {
      // The place goes to the next in line, so the count stays.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else {
        clearTimeout(next.timer);
        next.start();
      }
    }
  }

  #turn(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        reject(
          new KernelError(
            this.#name,
            ERRNO.ETIMEDOUT,
            '',
            `${this.#width} calls before it did not end within ${this.#waitMsMax} ms`,
          ),
        );
      }, this.#waitMsMax);
      const waiting = { start: resolve, timer };
      this.#waiting.push(waiting);
    });
  }
}
