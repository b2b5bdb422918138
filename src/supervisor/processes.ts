/**
 * Slow work on one container's process. Start, release and destroy run one after the other (a start waits for the
 * release of the run before it); freezing and thawing likewise; signals at once. Everything comes back as an event.
 */
import { EngineError, messageOf, type ErrorCode } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import type { Answer, Effect, Event, Finding, Ticket } from '../lifecycle/event.ts';
import { RuntimeStartError, type Recovered } from '../runtime/port.ts';
import type { Attachments } from './attachments.ts';
import type { Context } from './context.ts';
import { withDeadline } from './deadline.ts';

/** How long a call into the runtime may hold up a request. */
export const RUNTIME_CALL_MS = 30_000;

/** A release that failed is tried again after 1 s, doubled, this many times; then at the next start or removal. */
const RELEASE_RETRIES_MAX = 6;
const RELEASE_RETRY_MS = 1_000;

export interface ProcessesOwner {
  readonly container: Container;
  readonly attachments: Attachments;
  send(event: Event): void;
  answer(ticket: Ticket, answer: Answer): void;
  refuse(ticket: Ticket, error: Error): void;
}

export class Processes {
  readonly #context: Context;
  readonly #owner: ProcessesOwner;
  #work: Promise<void> = Promise.resolve();
  #freezing: Promise<void> = Promise.resolve();
  #busy = 0;
  /** A release that is to be done, or failed: the next start and the removal do it first. */
  #owed = false;

  constructor(context: Context, owner: ProcessesOwner) {
    this.#context = context;
    this.#owner = owner;
  }

  get idle(): boolean {
    return this.#busy === 0;
  }

  start(run: number): void {
    this.#queue(async () => {
      let failed: unknown;
      const stack = new AsyncDisposableStack();
      try {
        if (this.#owed) await this.#releaseNow();
        const { container, attachments } = this.#owner;
        if (container.intent.wanted === 'remove') throw overtaken(container);
        const launch = await this.#context.resources.acquire(container, stack);
        if (this.#owner.container.intent.wanted === 'remove') throw overtaken(container);
        const given = attachments.waiting();
        const { pid, startedAt } = await this.#context.runtime.start({ ...launch, run }, given);
        stack.move(); // From now on release() gives it back, also after a crash.
        this.#owner.send({ kind: 'process-started', run, pid, startedAt });
        void attachments.connectLate(container.id, this.#context.runtime, given);
        return;
      } catch (error) {
        failed = error;
      }
      // In reverse; what goes wrong here never hides why the start failed.
      await stack.disposeAsync().catch((error: unknown) => this.#log(error, 'undoing a start that failed'));
      this.#log(failed, 'a start failed');
      this.#owner.send({ kind: 'start-failed', run, ...startFailure(failed) });
    });
  }

  signal({ run, pid, signal, request }: Extract<Effect, { kind: 'signal-process' }>): void {
    const { id } = this.#owner.container;
    const sent = this.#context.runtime.signal(id, signal).then((found) => {
      if (!found) this.#owner.send({ kind: 'signal-missed', run, pid });
    });
    if (request === null) {
      this.#track(sent.catch((error: unknown) => this.#log(error, `signal ${signal} could not be sent`)));
      return;
    }
    const late = (): Error => new EngineError('RUNTIME_FAILED', `signal ${signal} was not delivered in time`);
    this.#track(
      withDeadline(this.#context.clock, RUNTIME_CALL_MS, sent, late).then(
        () => this.#owner.answer(request, 'done'),
        (error: unknown) => this.#owner.refuse(request, asEngineError(error, `Cannot kill container ${id}`)),
      ),
    );
  }

  pause(run: number): void {
    this.#freeze(
      (id) => this.#context.runtime.pause(id),
      () => ({ kind: 'paused', run }),
      (message) => ({ kind: 'pause-failed', run, message }),
    );
  }

  resume(run: number): void {
    this.#freeze(
      (id) => this.#context.runtime.resume(id),
      () => ({ kind: 'resumed', run }),
      (message) => ({ kind: 'resume-failed', run, message }),
    );
  }

  update({ request, change, cause, resources }: Extract<Effect, { kind: 'update-process' }>): void {
    const { id } = this.#owner.container;
    const { runtime, clock } = this.#context;
    const late = (): Error => new EngineError('RUNTIME_FAILED', 'the limits were not changed in time');
    const applied = Promise.try(() => runtime.update(id, this.#context.resources.limits(resources)));
    this.#track(
      withDeadline(clock, RUNTIME_CALL_MS, applied, late).then(
        () => this.#owner.send({ kind: 'limits-applied', request, change, cause }),
        (error: unknown) => this.#owner.refuse(request, asEngineError(error, `Cannot update container ${id}`)),
      ),
    );
  }

  release(run: number, attempt = 0): void {
    this.#owed = true;
    this.#queue(async () => {
      if (!this.#owed) return; // Done by a start or a removal meanwhile.
      try {
        await this.#releaseNow();
        this.#owner.send({ kind: 'released', run });
      } catch (error) {
        this.#log(error, 'what a run left could not be given back');
        if (attempt >= RELEASE_RETRIES_MAX) return;
        this.#context.clock.setTimer(RELEASE_RETRY_MS * 2 ** attempt, () => {
          if (this.#owed) this.release(run, attempt + 1);
        });
      }
    });
  }

  destroy(volumes: boolean): void {
    this.#queue(async () => {
      const { container } = this.#owner;
      try {
        if (this.#owed) await this.#releaseNow();
        await this.#context.resources.destroy(container, { volumes });
        this.#owner.send({ kind: 'destroyed' });
      } catch (error) {
        this.#log(error, 'a removal failed');
        this.#owner.send({ kind: 'destroy-failed', message: messageOf(error) });
      }
    });
  }

  look(run: number): void {
    const { id } = this.#owner.container;
    this.#track(
      this.#context.runtime.recover(id, run).then(
        (recovered) => this.#owner.send({ kind: 'found', run, boot: false, finding: findingOf(recovered) }),
        (error: unknown) => this.#log(error, 'the runtime could not say what became of a process'),
      ),
    );
  }

  async #releaseNow(): Promise<void> {
    const { container } = this.#owner;
    await this.#context.runtime.release(container.id);
    await this.#context.resources.release(container);
    this.#owed = false;
  }

  #freeze(act: (id: string) => Promise<void>, frozen: () => Event, failed: (message: string) => Event): void {
    const { clock } = this.#context;
    const late = (): Error => new Error('the runtime did not answer in time');
    this.#freezing = this.#freezing.then(() =>
      withDeadline(clock, RUNTIME_CALL_MS, act(this.#owner.container.id), late).then(
        () => this.#owner.send(frozen()),
        (error: unknown) => this.#owner.send(failed(messageOf(error))),
      ),
    );
    this.#track(this.#freezing);
  }

  #queue(job: () => Promise<void>): void {
    this.#work = this.#work.then(job);
    this.#track(this.#work);
  }

  #track(work: Promise<unknown>): void {
    this.#busy += 1;
    void work
      .catch((error: unknown) =>
        this.#context.logger.error({ container: this.#owner.container.id, error }, 'bug: work failed'),
      )
      .finally(() => {
        this.#busy -= 1;
      });
  }

  #log(error: unknown, what: string): void {
    this.#context.logger.warn({ container: this.#owner.container.id, error: messageOf(error) }, what);
  }
}

/** The code that users see and the error that they are told. */
export function startFailure(error: unknown): {
  readonly exitCode: number;
  readonly code: ErrorCode;
  readonly message: string;
} {
  const message = messageOf(error);
  if (error instanceof RuntimeStartError) {
    const code = error.exitCode === 128 ? 'RUNTIME_START_FAILED' : 'RUNTIME_INVALID_COMMAND';
    return { exitCode: error.exitCode, code, message };
  }
  if (error instanceof EngineError) return { exitCode: 128, code: error.code, message };
  return { exitCode: 128, code: 'RUNTIME_START_FAILED', message };
}

export function findingOf(recovered: Recovered): Finding {
  switch (recovered.at) {
    case 'running':
      return recovered;
    case 'exited':
      return recovered;
    case 'never-started':
      return { at: 'never-started' };
    case 'lost':
      return { at: 'lost', because: recovered.because };
  }
}

function overtaken({ id }: Container): EngineError {
  return new EngineError('CONTAINER_REMOVING', `container ${id} is marked for removal and cannot be started`);
}

function asEngineError(error: unknown, prefix: string): EngineError {
  const code = error instanceof EngineError ? error.code : 'RUNTIME_FAILED';
  return new EngineError(code, `${prefix}: ${messageOf(error)}`, { cause: error });
}
