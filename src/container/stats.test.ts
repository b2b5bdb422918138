import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Clock } from '../core/clock.ts';
import type { Container } from '../lifecycle/container.ts';
import {
  openCounters,
  parseBlkioV1,
  parseBlkioV2,
  parseChosen,
  parseHostCpu,
  parseNetDev,
  readHostCpu,
  type Counters,
} from './cgroup-counters.ts';
import { containerOf } from './fakes.ts';
import { StatsHub } from './stats.ts';

const LIVE = { at: 'running', pid: 7, startedAt: '2026-01-01T00:00:01Z', oomKilled: false } as const;

class HandClock implements Clock {
  #now = 0;
  readonly timers = new Map<object, { dueMs: number; run: () => void }>();
  nowMs(): number {
    return this.#now;
  }
  wallNs(): bigint {
    return 1_700_000_000_000_000_000n + BigInt(this.#now) * 1_000_000n;
  }
  setTimer(delayMs: number, run: () => void): Disposable {
    const key = {};
    this.timers.set(key, { dueMs: this.#now + delayMs, run });
    return { [Symbol.dispose]: () => void this.timers.delete(key) };
  }
  async pass(ms: number): Promise<void> {
    this.#now += ms;
    const due = [...this.timers].filter(([, { dueMs }]) => dueMs <= this.#now); // those that they set come later
    for (const [key, { run }] of due) {
      this.timers.delete(key);
      run();
    }
    await settled();
  }
}

async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

function hub(container: { now: Container | undefined }) {
  const clock = new HandClock();
  const open = new Set<object>();
  let opened = 0;
  let total = 0;
  const stats = new StatsHub({
    clock,
    find: () => container.now,
    open: async () => {
      opened++;
      const reader = {
        read: (): Counters => ({
          cgroupVersion: 'v1',
          cpu: { totalNs: ++total } as never,
          memory: null,
          pids: null,
          blkio: null,
          networks: null,
        }),
        [Symbol.dispose]: () => void open.delete(reader),
      };
      open.add(reader);
      return reader;
    },
    readHost: () => ({ systemNs: 5, onlineCpus: 2 }),
    onError: (_, error) => assert.fail(String(error)),
  });
  return { clock, stats, open, opened: () => opened };
}

test('StatsHub.watch: one reader for all clients, opened by the first and closed with the last', async () => {
  const container = { now: containerOf({ state: LIVE }) as Container | undefined };
  const { clock, stats, open, opened } = hub(container);
  const stops = [new AbortController(), new AbortController()];
  const readers = stops.map((stop) => stats.watch(container.now!.id, stop.signal));
  const firsts = readers.map((reader) => reader.next());
  await settled();
  await clock.pass(1000);
  const [first] = await Promise.all(firsts);
  assert.equal(first!.value!.name, 'web');
  const second = await readers[0]!.next();
  assert.ok(second.value!.preRead < second.value!.read);
  assert.equal(second.value!.preCpu!.totalNs + 1, second.value!.cpu!.totalNs);
  assert.equal(opened(), 1);
  assert.equal(stats.watchedCount, 1);
  stops[0]!.abort();
  assert.equal((await readers[0]!.next()).done, true);
  assert.equal(open.size, 1);
  stops[1]!.abort();
  await readers[1]!.next();
  assert.equal((await readers[1]!.next()).done, true);
  assert.deepEqual([open.size, stats.watchedCount, clock.timers.size], [0, 0, 0]);
});

test('StatsHub.watch: a container that does not run yields its name alone, a removed one ends the stream', async () => {
  const container = { now: containerOf() as Container | undefined };
  const { clock, stats } = hub(container);
  const reader = stats.watch(container.now!.id, new AbortController().signal);
  const { value } = await reader.next();
  assert.deepEqual([value!.name, value!.cpu, value!.read], ['web', null, '0001-01-01T00:00:00Z']);
  container.now = undefined;
  const next = reader.next();
  await settled();
  await clock.pass(1000);
  assert.equal((await next).done, true);
  assert.equal(clock.timers.size, 0);
});

test('openCounters: reads the cgroup that this process is in', () => {
  // Every host has /proc; a cgroup that is not there reads as zeros and nulls.
  using reader = openCounters({ version: 'v1', directory: () => '/nonexistent' }, '/x', process.pid);
  const first = reader.read();
  const host = readHostCpu();
  assert.ok(host.systemNs > 0 && host.onlineCpus > 0);
  assert.deepEqual([first.memory, first.pids, first.cpu.totalNs], [null, null, 0]);
  // Who is in the daemon's own network namespace has no interface of its own.
  assert.equal(first.networks, null);
});

test('parseChosen: what a kernel does not have is 0, what was not asked for is left out', () => {
  assert.deepEqual(parseChosen('anon 5\nzswap 6\nfile 7\n', ['file', 'anon', 'slab']), { file: 7, anon: 5, slab: 0 });
  assert.deepEqual(parseChosen('', ['file']), { file: 0 });
});

test('parseHostCpu: adds up seven fields and counts the CPUs', () => {
  const text = 'cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n';
  assert.deepEqual(parseHostCpu(text), { systemNs: 280_000_000, onlineCpus: 2 });
});

test('parseNetDev: leaves lo out', () => {
  const text =
    'Inter-| x\n face | y\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n';
  const eth0 = {
    rxBytes: 1,
    rxPackets: 2,
    rxErrors: 3,
    rxDropped: 4,
    txBytes: 5,
    txPackets: 6,
    txErrors: 7,
    txDropped: 8,
  };
  assert.deepEqual(parseNetDev(text), { eth0 });
});

test('parseBlkioV1, parseBlkioV2: each with the words that dockerd has for it', () => {
  assert.deepEqual(parseBlkioV1('8:0 Read 5\n8:0 Total 5\nTotal 5\n'), [
    { major: 8, minor: 0, op: 'Read', value: 5 },
    { major: 8, minor: 0, op: 'Total', value: 5 },
  ]);
  assert.deepEqual(parseBlkioV2('254:0 rbytes=5 wbytes=6 rios=1 wios=1\n'), [
    { major: 254, minor: 0, op: 'read', value: 5 },
    { major: 254, minor: 0, op: 'write', value: 6 },
  ]);
});
