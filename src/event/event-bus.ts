/**
 * Publishes what happened, keeps it in the journal, and hands it to subscribers in order. A subscriber holds at
 * most QUEUE_MAX events; one that falls behind further reads on from the journal, so it loses nothing and costs
 * no memory while it sleeps.
 */
import type { Clock } from '../core/clock.ts';
import type { EngineEvent, EventJournal, EventPublisher, EventSource, NewEvent } from './port.ts';

/** Events a subscriber may have waiting before it is sent back to the journal. */
const QUEUE_MAX = 256;

type Listener = (event: EngineEvent) => void;

/** Counts since the daemon started, but for the present `subscribers` and `waiting`. */
export interface BusLoad {
  readonly published: number;
  readonly subscribers: number;
  readonly waiting: number;
  readonly fallenBehind: number;
}

export class EventBus implements EventPublisher, EventSource {
  readonly #clock: Clock;
  readonly #journal: EventJournal;
  readonly #listeners = new Set<Listener>();
  /** Of each subscriber, what it has not taken yet. */
  readonly #queues = new Set<readonly EngineEvent[]>();
  #fallenBehind = 0;
  #published = 0;
  #lastTimeNs = 0n;
  #sequence: number;

  constructor({ clock, journal }: { clock: Clock; journal: EventJournal }) {
    this.#clock = clock;
    this.#journal = journal;
    this.#sequence = journal.lastSequence();
  }

  publish(event: NewEvent): void {
    this.record(event)();
  }

  record({ type, action, actor, timeNs }: NewEvent): () => void {
    const event: EngineEvent = {
      type,
      action,
      actor,
      scope: 'local',
      timeNs: this.#nextTimeNs(timeNs),
      sequence: ++this.#sequence,
    };
    this.#journal.append(event);
    this.#published += 1;
    return () => {
      for (const listener of this.#listeners) listener(event);
    };
  }

  /** `waiting`: what the slowest subscriber has not taken yet; `fallenBehind`: how often one was sent back to the journal. */
  load(): BusLoad {
    const waiting = Math.max(0, ...Array.from(this.#queues, ({ length }) => length));
    return {
      published: this.#published,
      subscribers: this.#queues.size,
      waiting,
      fallenBehind: this.#fallenBehind,
    };
  }

  async *subscribe({
    sinceNs,
    untilNs,
    matches,
    signal,
  }: Parameters<EventSource['subscribe']>[0]): AsyncGenerator<EngineEvent> {
    const queue: EngineEvent[] = [];
    let overflowed = false;
    let wake = (): void => {};
    const listener: Listener = (event) => {
      if (overflowed || !matches(event)) return;
      if (queue.length === QUEUE_MAX) {
        overflowed = true;
        this.#fallenBehind += 1;
      } else queue.push(event);
      wake();
    };
    const until = deadline(this.#clock, untilNs, () => wake());
    const onAbort = (): void => wake();
    signal.addEventListener('abort', onAbort, { once: true });
    // Listening begins before the journal is read: an event in between is in both, and `last` takes it out.
    this.#listeners.add(listener);
    this.#queues.add(queue);
    try {
      let last = sinceNs === null ? this.#sequence : 0;
      if (sinceNs !== null) {
        for (const event of this.#journal.read(sinceNs, untilNs)) {
          if (signal.aborted) return;
          last = event.sequence;
          if (matches(event)) yield event;
        }
      }
      for (;;) {
        for (let event; (event = queue.shift()) !== undefined;) {
          if (event.sequence <= last) continue;
          if (untilNs !== null && event.timeNs > untilNs) return;
          last = event.sequence;
          yield event;
          if (signal.aborted) return;
        }
        if (signal.aborted) return;
        if (overflowed) {
          overflowed = false;
          for (const event of this.#journal.read(null, untilNs, last)) {
            if (signal.aborted) return;
            last = event.sequence;
            if (matches(event)) yield event;
          }
          continue;
        }
        if (until.reached) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (queue.length > 0 || overflowed || signal.aborted || until.reached) resolve();
        });
      }
    } finally {
      this.#listeners.delete(listener);
      this.#queues.delete(queue);
      signal.removeEventListener('abort', onAbort);
      until[Symbol.dispose]();
    }
  }

  /** Strictly increasing, so that `since` names one place in the journal even when the wall clock stands or jumps back. */
  #nextTimeNs(askedNs: bigint | undefined): bigint {
    const nowNs = askedNs ?? this.#clock.wallNs();
    this.#lastTimeNs = nowNs > this.#lastTimeNs ? nowNs : this.#lastTimeNs + 1n;
    return this.#lastTimeNs;
  }
}

function deadline(clock: Clock, untilNs: bigint | null, wake: () => void): Disposable & { readonly reached: boolean } {
  if (untilNs === null) return { reached: false, [Symbol.dispose]: () => {} };
  let reached = false;
  const timer = clock.setTimer(Number((untilNs - clock.wallNs()) / 1_000_000n) + 1, () => {
    reached = true;
    wake();
  });
  return {
    get reached() {
      return reached;
    },
    [Symbol.dispose]: () => timer[Symbol.dispose](),
  };
}
