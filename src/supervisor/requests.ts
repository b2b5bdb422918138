/** Requests of one container that are not answered yet, by ticket. */
import { EngineError, type ErrorCode } from '../core/engine-error.ts';
import type { Answer, Ticket, Until } from '../lifecycle/event.ts';

interface Open {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
  until: Until | null;
}

const ANSWER: Record<Until, Answer> = {
  started: 'started',
  stopped: 'stopped',
  restarted: 'done',
  removed: 'done',
  paused: 'done',
  resumed: 'done',
};

export class Requests {
  readonly #open = new Map<Ticket, Open>();

  get size(): number {
    return this.#open.size;
  }

  add(ticket: Ticket): Promise<Answer> {
    return new Promise((resolve, reject) => this.#open.set(ticket, { resolve, reject, until: null }));
  }

  await(ticket: Ticket, until: Until): void {
    const open = this.#open.get(ticket);
    if (open !== undefined) open.until = until;
  }

  answer(ticket: Ticket, answer: Answer): void {
    this.#open.get(ticket)?.resolve(answer);
    this.#open.delete(ticket);
  }

  refuse(ticket: Ticket, error: Error): void {
    this.#open.get(ticket)?.reject(error);
    this.#open.delete(ticket);
  }

  settle(until: Until, error: { readonly code: ErrorCode; readonly message: string } | undefined): void {
    for (const ticket of this.waitingFor([until])) {
      if (error === undefined) this.answer(ticket, ANSWER[until]);
      else this.refuse(ticket, new EngineError(error.code, error.message));
    }
  }

  waitingFor(untils: readonly Until[]): readonly Ticket[] {
    const tickets: Ticket[] = [];
    for (const [ticket, { until }] of this.#open) if (until !== null && untils.includes(until)) tickets.push(ticket);
    return tickets;
  }

  refuseAll(error: () => Error): void {
    for (const ticket of this.#open.keys()) this.refuse(ticket, error());
  }
}
