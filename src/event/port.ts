/** What happened: one event of Docker's event stream. */
export type EventType = 'container' | 'image' | 'network' | 'volume' | 'daemon' | 'builder' | 'plugin';

export interface EngineEvent {
  readonly type: EventType;
  /** "create", "die", "exec_create: sh -c x", "health_status: healthy" … */
  readonly action: string;
  readonly actor: { readonly id: string; readonly attributes: Readonly<Record<string, string>> };
  readonly scope: 'local';
  /** Wall clock, nanoseconds since 1970, strictly increasing. */
  readonly timeNs: bigint;
  /** Position in the journal, from 1. */
  readonly sequence: number;
}

export type NewEvent = Pick<EngineEvent, 'type' | 'action' | 'actor'> & { readonly timeNs?: bigint };

export interface EventPublisher {
  publish(event: NewEvent): void;
  /**
   * In two steps: writes it into the journal now (together with whatever else the caller has in its transaction), and
   * returns what tells the subscribers, to be called at once when that was committed, or never.
   */
  record?(event: NewEvent): () => void;
}

/** Where events are kept; store/ implements it, with a bounded number of rows. */
export interface EventJournal {
  append(event: EngineEvent): void;
  /**
   * In order, from `sinceNs` to `untilNs` (both included; null: no bound), after sequence `afterSequence`. Read in
   * pages, so that a slow consumer holds neither memory nor a lock.
   */
  read(sinceNs: bigint | null, untilNs: bigint | null, afterSequence?: number): Iterable<EngineEvent>;
  lastSequence(): number;
}

export interface EventSource {
  /**
   * First what the journal holds from `sinceNs` on (null: nothing of the past), then what happens, without a gap
   * or a repeat; ends at `untilNs` or with `signal`. A reader that is too slow catches up from the journal.
   */
  subscribe(options: {
    readonly sinceNs: bigint | null;
    readonly untilNs: bigint | null;
    readonly matches: (event: EngineEvent) => boolean;
    readonly signal: AbortSignal;
  }): AsyncIterable<EngineEvent>;
}
