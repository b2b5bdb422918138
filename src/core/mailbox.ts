/** Hands over messages one at a time, in order; the next waits until `process` has settled. */
export class Mailbox<Message> {
  readonly #waiting: Message[] = [];
  readonly #process: (message: Message) => Promise<void>;
  readonly #onBug: (error: unknown) => void;
  #busy = false;

  /** `onBug` is told when `process` throws, which it never should; the mailbox goes on with the next message. */
  constructor(process: (message: Message) => Promise<void>, onBug: (error: unknown) => void) {
    this.#process = process;
    this.#onBug = onBug;
  }

  get length(): number {
    return this.#waiting.length + (this.#busy ? 1 : 0);
  }

  send(message: Message): void {
    this.#waiting.push(message);
    if (!this.#busy) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    for (let message; (message = this.#waiting.shift()) !== undefined;) {
      try {
        await this.#process(message);
      } catch (error) {
        this.#onBug(error);
      }
    }
    this.#busy = false;
  }
}
