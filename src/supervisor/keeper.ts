/**
 * One container in the supervisor's care: its latest snapshot, its mailbox, and what belongs to its present life
 * (timers, open requests, waits, slow work). Decisions are transition()'s; this performs them, in order: first the
 * record is saved, then the effects. Slow effects run outside of the mailbox and come back as events, so that a stop
 * is heard while a start is under way.
 */
import { EngineError, messageOf } from '../core/engine-error.ts';
import { Mailbox } from '../core/mailbox.ts';
import { unreachable } from '../core/unreachable.ts';
import type { Container } from '../lifecycle/container.ts';
import type { Answer, Effect, Event, Request, Ticket, TimerName, Until } from '../lifecycle/event.ts';
import { countsAsRunning, lastExit } from '../lifecycle/state.ts';
import { storyOf, type StoryEntry } from '../lifecycle/story.ts';
import * as words from '../lifecycle/words.ts';
import { Attachments } from './attachments.ts';
import { publishOf, recordOf, type Context } from './context.ts';
import type { Execs } from './execs.ts';
import { Probe } from './probe.ts';
import { Processes } from './processes.ts';
import { ReleaseGate } from './release-gate.ts';
import { Requests } from './requests.ts';
import { Waits, type WaitResult } from './waits.ts';

/** What a keeper tells the supervisor. */
export interface KeeperHost {
  readonly context: Context;
  readonly execs: Execs;
  /** The record is gone; nobody can ask for it any more. */
  forget(keeper: Keeper): void;
  /** A write that a power cut would undo was made. */
  savedSoftly(keeper: Keeper): void;
}

interface Message {
  readonly event: Event | null;
  readonly done?: () => void;
}

export class Keeper {
  container: Container;
  readonly waits = new Waits();
  readonly attachments = new Attachments();
  readonly #host: KeeperHost;
  readonly #mailbox: Mailbox<Message>;
  readonly #requests = new Requests();
  readonly #timers = new Map<TimerName, Disposable>();
  readonly #processes: Processes;
  readonly #probe: Probe;
  readonly #gate: ReleaseGate;
  /** Events of the present step that are not in the journal yet. */
  #unrecorded: Extract<Effect, { kind: 'publish' }>[] = [];
  /** In the journal; their subscribers are told when that is committed. */
  #recorded: (() => void)[] = [];
  #forgotten = false;
  #closed = false;

  constructor(host: KeeperHost, container: Container) {
    this.#host = host;
    this.container = container;
    this.#mailbox = new Mailbox(
      async (message) => this.#process(message),
      (error) => {
        host.context.logger.error(
          { container: container.id, error },
          'bug: an event of a container could not be handled',
        );
      },
    );
    this.#processes = new Processes(host.context, this);
    this.#probe = new Probe(host.context, host.execs, this);
    this.#gate = new ReleaseGate(host.context.clock);
  }

  /** Nothing is open, pending or under way. */
  get idle(): boolean {
    return this.#mailbox.length === 0 && this.#requests.size === 0 && this.#processes.idle;
  }

  send(event: Event): void {
    this.#mailbox.send({ event });
  }

  /** Resolves once all events so far were handled (their effects may still be under way). */
  settled(): Promise<void> {
    return new Promise((resolve) => this.#mailbox.send({ event: null, done: resolve }));
  }

  /** Resolves when nobody needs to wait for what the last run held any more. */
  released(): Promise<void> {
    return new Promise((resolve) => this.#gate.pass(resolve));
  }

  request(ticket: Ticket, event: Request): Promise<Answer> {
    const answer = this.#requests.add(ticket);
    this.send(event);
    return answer;
  }

  refuse(ticket: Ticket, error: Error): void {
    this.#requests.refuse(ticket, error);
  }

  answer(ticket: Ticket, answer: Answer): void {
    this.#requests.answer(ticket, answer);
  }

  /** The daemon ends: nothing more happens on its own; open requests are told. */
  close(): void {
    this.#closed = true;
    for (const timer of this.#timers.values()) timer[Symbol.dispose]();
    this.#timers.clear();
    this.#probe.cancel();
    this.#gate.open();
    this.#requests.refuseAll(() => new EngineError('DAEMON_SHUTTING_DOWN', 'the daemon is shutting down'));
    this.attachments.drop();
  }

  /** No restart comes any more (the daemon is about to stop all). */
  holdRestarts(): void {
    this.#clearTimer('restart-due');
  }

  #process({ event, done }: Message): void {
    if (event === null) return done?.();
    try {
      if (this.#closed || this.#forgotten) this.#refuseGone(event);
      else this.#handle(event);
    } catch (error) {
      // A bug must not leave the client without an answer.
      if ('request' in event)
        this.#requests.refuse(event.request, error instanceof Error ? error : new Error(messageOf(error)));
      throw error;
    }
  }

  #handle(event: Event): void {
    const { transition, clock } = this.#host.context;
    const before = this.container;
    const nowNs = clock.wallNs();
    const step = transition(before, event, nowNs);
    const { container, effects, volatile } = step;
    const saves = container !== before && volatile !== true;
    const tell = (): void => this.#tell(storyOf(before, event, step, nowNs), nowNs);
    this.#unrecorded = effects.filter((effect) => effect.kind === 'publish');
    const releases = effects.some((effect) => effect.kind === 'release');
    if (releases) this.#host.context.resources.leaving(container);
    if (!saves) tell();
    if (container !== before) {
      const error = saves ? this.#save(before, container, tell) : null;
      if (error !== null && 'request' in event) return this.#requests.refuse(event.request, error);
      this.container = container; // A fact stays one, saved or not.
      this.#deliver();
    }
    // The answers come first in the list, and shall yet be given when what is to be released is.
    if (releases) this.#gate.shut();
    if (event.kind === 'released') this.#gate.open();
    for (const effect of effects) this.#perform(effect);
    if (this.waits.size > 0) this.#gate.pass(() => this.#wakeIfDown());
  }

  /** Synced to disk where a power cut must not undo what was promised: a stop, a removal, a change of the record. */
  #save(before: Container, container: Container, also: () => void): Error | null {
    const { records, logger } = this.#host.context;
    const down = container.intent.wanted !== before.intent.wanted && container.intent.wanted !== 'run';
    const durable = down || container.name !== before.name || container.spec !== before.spec;
    try {
      records.put(container.id, container, {
        durable,
        also: () => {
          also();
          this.#recordEvents(container);
        },
      });
      this.#unrecorded = [];
      if (!durable) this.#host.savedSoftly(this);
      return null;
    } catch (error) {
      logger.error({ container: container.id, error: messageOf(error) }, 'a container could not be saved');
      this.#recorded = [];
      this.#host.savedSoftly(this); // Tried again soon.
      return error instanceof Error ? error : new Error(messageOf(error));
    }
  }

  #tell(story: readonly StoryEntry[], nowNs: bigint): void {
    const { history } = this.#host.context;
    for (const entry of story) history.append(this.container.id, entry, nowNs);
  }

  /** In the transaction of the record that they tell of, so that a daemon killed at any instruction leaves both or none. */
  #recordEvents(container: Container): void {
    const { context } = this.#host;
    this.#recorded = this.#unrecorded.map(({ action, attributes }) => recordOf(context, container, action, attributes));
  }

  #deliver(): void {
    const recorded = this.#recorded;
    this.#recorded = [];
    for (const tell of recorded) tell();
  }

  /** Of a step that changes no record. */
  #publish(effect: Extract<Effect, { kind: 'publish' }>): void {
    if (!this.#unrecorded.includes(effect)) return; // Told with the record.
    const { context } = this.#host;
    try {
      publishOf(context, this.container, effect.action, effect.attributes);
    } catch (error) {
      context.logger.error(
        { container: this.container.id, error: messageOf(error) },
        'an event could not be published',
      );
    }
  }

  // One case for each effect; long because there are many.
  #perform(effect: Effect): void {
    const { container } = this;
    switch (effect.kind) {
      case 'start-process':
        return this.#processes.start(effect.run);
      case 'signal-process':
        return this.#processes.signal(effect);
      case 'pause-process':
        return this.#processes.pause(effect.run);
      case 'resume-process':
        return this.#processes.resume(effect.run);
      case 'update-process':
        return this.#processes.update(effect);
      case 'release':
        return this.#processes.release(effect.run);
      case 'destroy':
        return this.#processes.destroy(effect.volumes);
      case 'look':
        return this.#processes.look(effect.run);
      case 'set-timer':
        return this.#setTimer(effect);
      case 'clear-timer':
        return this.#clearTimer(effect.timer);
      case 'publish':
        return this.#publish(effect);
      case 'answer':
        return this.#requests.answer(effect.request, effect.answer);
      case 'refuse':
        return this.#requests.refuse(effect.request, new EngineError(effect.code, effect.message));
      case 'await':
        return this.#requests.await(effect.request, effect.until);
      case 'settle':
        if (effect.until === 'removed' && effect.error !== undefined) {
          this.waits.removed({ ...this.#waitResult(), error: effect.error.message });
        }
        if (effect.until === 'stopped') return this.#gate.pass(() => this.#requests.settle('stopped', effect.error));
        return this.#requests.settle(effect.until, effect.error);
      case 'ended':
        this.#host.execs.endAll(container);
        return this.#gate.pass(() => this.waits.end({ exitCode: effect.exitCode, error: effect.error }));
      case 'forget':
        return this.#forget();
      case 'report-stuck':
        return this.#reportStuck(effect.pid);
      case 'start-probe':
        return this.#probe.start(effect.run, effect.timeoutMs);
      case 'cancel-probe':
        return this.#probe.cancel();
      default:
        return unreachable(effect);
    }
  }

  #setTimer({ timer, delayMs, run, keep }: Extract<Effect, { kind: 'set-timer' }>): void {
    if (keep === true && this.#timers.has(timer)) return;
    this.#clearTimer(timer);
    const set = this.#host.context.clock.setTimer(delayMs, () => {
      this.#timers.delete(timer);
      this.send({ kind: timer, run });
    });
    this.#timers.set(timer, set);
  }

  #clearTimer(timer: TimerName): void {
    this.#timers.get(timer)?.[Symbol.dispose]();
    this.#timers.delete(timer);
  }

  #forget(): void {
    const { context, execs } = this.#host;
    const { container } = this;
    this.#forgotten = true;
    try {
      const also = (): void => {
        context.history.close(container.id, container.name, context.clock.wallNs());
        this.#recordEvents(container);
      };
      context.records.delete(container.id, { durable: true, also });
      this.#unrecorded = [];
    } catch (error) {
      // Its files are gone; at the next start of the daemon the removal is done again.
      this.#recorded = [];
      context.logger.error(
        { container: container.id, error: messageOf(error) },
        'a removed container is still in the records',
      );
    }
    for (const timer of this.#timers.values()) timer[Symbol.dispose]();
    this.#timers.clear();
    execs.forget(container.id);
    this.#gate.open();
    this.attachments.drop();
    this.#host.forget(this);
    this.#deliver();
    // Gone without an error, also where its start failed (moby SetRemoved() clears it): the start's answer told that.
    this.waits.removed({ ...this.#waitResult(), error: '' });
  }

  #refuseGone(event: Event): void {
    if (!('request' in event)) return;
    const { code, message } = words.gone(this.container.id);
    const error = this.#closed
      ? new EngineError('DAEMON_SHUTTING_DOWN', 'the daemon is shutting down')
      : new EngineError(code, message);
    this.#requests.refuse(event.request, error);
  }

  #wakeIfDown(): void {
    if (!countsAsRunning(this.container) && this.container.state.at !== 'starting') this.waits.down(this.#waitResult());
  }

  #waitResult(): WaitResult {
    const exit = lastExit(this.container);
    return { exitCode: exit?.code ?? 0, error: exit?.error ?? '' };
  }

  /** Whoever waits is told what holds it up; a later request is told on its own deadline. */
  #reportStuck(pid: number | null): void {
    const { state, id } = this.container;
    const untils: readonly Until[] = [
      'stopped',
      'restarted',
      'removed',
      ...(state.at === 'starting' ? (['started'] as const) : []),
    ];
    const tickets = this.#requests.waitingFor(untils);
    if (tickets.length === 0) return;
    const tell = (message: string): void => {
      this.#host.context.logger.warn({ container: id, pid }, message);
      for (const ticket of tickets) this.#requests.refuse(ticket, new EngineError('CONTAINER_STUCK', message));
    };
    if (pid === null) {
      return tell(
        state.at === 'removing'
          ? `removal of container ${id} takes long; it goes on in the background`
          : `container ${id} is still being started; what was asked for follows when that has ended`,
      );
    }
    void this.#host.context.stuck(pid).then((text) => {
      tell(`tried to kill container, but did not receive an exit event: ${text}`);
    });
  }
}
