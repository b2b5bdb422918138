import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';

import type { Clock } from '../core/clock.ts';
import { EventBus } from './event-bus.ts';
import type { EngineEvent, EventJournal } from './port.ts';

class MemoryJournal implements EventJournal {
  readonly events: EngineEvent[] = [];
  append(event: EngineEvent): void {
    this.events.push(event);
  }
  *read(sinceNs: bigint | null, untilNs: bigint | null, after = 0): Generator<EngineEvent> {
    for (let n = 0; n < this.events.length; n++) {
      const event = this.events[n]!;
      if (event.sequence > after && event.timeNs >= (sinceNs ?? 0n) && (untilNs === null || event.timeNs <= untilNs))
        yield event;
    }
  }
  lastSequence(): number {
    return this.events.at(-1)?.sequence ?? 0;
  }
}

function bus() {
  const timers: (() => void)[] = [];
  const clock: Clock = {
    nowMs: () => 0,
    wallNs: () => 1_000n, // stands still: times must increase all the same
    setTimer: (_delay, run) => (timers.push(run), { [Symbol.dispose]: () => {} }),
  };
  const journal = new MemoryJournal();
  const events = new EventBus({ clock, journal });
  const publish = (id: string) => events.publish({ type: 'container', action: 'start', actor: { id, attributes: {} } });
  return { events, journal, publish, timers };
}
const all = { sinceNs: null, untilNs: null, matches: () => true };

test('EventBus: times increase strictly although the clock stands still', () => {
  const { journal, publish } = bus();
  for (const id of ['a', 'b', 'c']) publish(id);
  assert.deepEqual(
    journal.events.map((event) => event.timeNs),
    [1_000n, 1_001n, 1_002n],
  );
});

test('EventBus.subscribe: the past and the present meet without a gap or a repeat', async () => {
  const { events, publish } = bus();
  publish('0');
  const abort = new AbortController();
  const seen: string[] = [];
  const reading = (async () => {
    for await (const event of events.subscribe({ ...all, sinceNs: 0n, signal: abort.signal })) {
      seen.push(event.actor.id);
      if (seen.length === 1) publish('1'); // while the journal is being read
      if (seen.length === 3) abort.abort();
    }
  })();
  await turn();
  publish('2');
  await reading;
  assert.deepEqual(seen, ['0', '1', '2']);
});

test('EventBus.subscribe: a reader that sleeps loses nothing and queues no more than the bound', async () => {
  const { events, publish } = bus();
  const abort = new AbortController();
  const iterator = events.subscribe({ ...all, signal: abort.signal })[Symbol.asyncIterator]();
  const first = iterator.next();
  await turn();
  for (let n = 0; n < 2_000; n++) publish(`${n}`);
  const ids = [(await first).value!.actor.id];
  while (ids.length < 2_000) ids.push((await iterator.next()).value!.actor.id);
  assert.deepEqual(
    ids,
    Array.from({ length: 2_000 }, (_, n) => `${n}`),
  );
  abort.abort();
  assert.equal((await iterator.next()).done, true);
});

test('EventBus.subscribe: ends at `until`, and a filter that matches nothing still ends', async () => {
  const { events, publish, timers } = bus();
  publish('before');
  const reading = (async () => {
    const seen: string[] = [];
    for await (const event of events.subscribe({
      sinceNs: 0n,
      untilNs: 5_000n,
      matches: (event) => event.actor.id === 'x',
      signal: new AbortController().signal,
    }))
      seen.push(event.actor.id);
    return seen;
  })();
  await turn();
  for (const run of timers) run();
  assert.deepEqual(await reading, []);
});
