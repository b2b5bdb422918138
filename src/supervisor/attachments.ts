/** Attaches of one container that wait for its start: `docker run` attaches before it starts. */
import type { Duplex } from 'node:stream';

import type { PendingAttachment, Runtime, StreamSelection } from '../runtime/port.ts';

interface Pending extends PendingAttachment {
  readonly drop: () => void;
}

export class Attachments {
  readonly #pending = new Set<Pending>();

  get size(): number {
    return this.#pending.size;
  }

  /** Resolves with the stream of the next start; null when aborted or dropped. */
  add(streams: StreamSelection, signal: AbortSignal): Promise<Duplex | null> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve(null);
      const settle = (stream: Duplex | null): void => {
        if (!this.#pending.delete(pending)) {
          stream?.destroy(); // Nobody waits for it any more.
          return;
        }
        signal.removeEventListener('abort', pending.drop);
        resolve(stream);
      };
      const pending: Pending = { streams, connect: settle, drop: () => settle(null) };
      signal.addEventListener('abort', pending.drop, { once: true });
      this.#pending.add(pending);
    });
  }

  /** For a start. Those that it does not connect (it failed) go on waiting. */
  waiting(): readonly PendingAttachment[] {
    return [...this.#pending];
  }

  /** Those that came while the start was under way; the start itself sees to those it was `given`. */
  async connectLate(id: string, runtime: Runtime, given: readonly PendingAttachment[]): Promise<void> {
    for (const pending of this.#pending) {
      if (given.includes(pending)) continue;
      try {
        pending.connect(await runtime.attach(id, pending.streams));
      } catch {
        pending.drop(); // It has ended already: there is nothing to attach to.
      }
    }
  }

  drop(): void {
    for (const pending of this.#pending) pending.drop();
  }
}
