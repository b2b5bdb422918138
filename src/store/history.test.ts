import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import type { Clock } from '../core/clock.ts';
import { silent } from '../core/log.ts';
import { openStore } from './store.ts';

const HOUR_NS = 3_600n * 1_000_000_000n;
let nowNs = 0n;
const clock: Clock = { nowMs: () => 0, wallNs: () => nowNs, setTimer: () => ({ [Symbol.dispose]: () => {} }) };
const open = (path: string, limits = { entriesMax: 10_000, keyEntriesMax: 10, closedMax: 100 }) =>
  openStore({ path, clock, logger: silent, historyLimits: limits });
const directory = mkdtempSync(join(tmpdir(), 'longshore-history-'));
after(() => rmSync(directory, { recursive: true }));
const scratch = () => join(mkdtempSync(join(directory, 'd-')), 'longshore.db');
const numbers = (entries: readonly { entry: unknown }[]) => entries.map(({ entry }) => (entry as { n: number }).n);

test('History: in order, with sequence numbers that go on over a restart and are never used twice', async () => {
  const path = scratch();
  {
    await using store = open(path);
    store.history.append('a', { n: 1 }, 5n);
    store.history.append('b', { n: 2 }, 6n);
  }
  await using store = open(path);
  store.history.append('a', { n: 3 }, 7n);
  assert.deepEqual(store.history.read('a'), [
    { sequence: 1, timeNs: 5n, entry: { n: 1 } },
    { sequence: 3, timeNs: 7n, entry: { n: 3 } },
  ]);
});

test('History: one key is bounded, also over restarts, and its first entry stays', async () => {
  const path = scratch();
  for (let round = 0; round < 40; round++) {
    await using store = open(path);
    for (let n = 0; n < 30; n++) store.history.append('a', { n: round * 30 + n }, 0n);
    assert(store.history.read('a').length <= 10 + 51, `${store.history.read('a').length} entries`);
  }
  await using store = open(path);
  const kept = numbers(store.history.read('a'));
  assert.equal(kept[0], 0);
  assert.equal(kept.at(-1), 1199);
});

test('History: what is gone is found by its label for a day, then forgotten; all is bounded, the gone first', async () => {
  const path = scratch();
  await using store = open(path, { entriesMax: 600, keyEntriesMax: 100, closedMax: 100 });
  const { history } = store;
  history.append('old', { n: 1 }, 0n);
  history.close('old', 'web', 0n);
  assert.deepEqual(history.closed(), [{ key: 'old', label: 'web', timeNs: 0n }]);
  nowNs = 25n * HOUR_NS;
  history.append('live', { n: 2 }, nowNs);
  for (let n = 0; n < 5_000; n++) {
    history.append(`k${n}`, { n }, nowNs);
    if (n < 4_000) history.close(`k${n}`, `n${n}`, nowNs + BigInt(n));
  }
  assert.deepEqual(history.read('old'), []);
  assert(history.closed().length <= 1_100, `${history.closed().length} closed`);
  assert.deepEqual(numbers(history.read('live')), [2], 'what lives stays while there is something gone to forget');
  assert.deepEqual(numbers(history.read('k4999')), [4999]);
  assert.deepEqual(history.read('k1'), []);
});

test('Collection: what is written along with a record is there if and only if the record is', async () => {
  const path = scratch();
  await using store = open(path);
  const records = store.collection<{ n: number }>('c', (value) => value as { n: number });
  records.put('a', { n: 1 }, { durable: true, also: () => store.history.append('a', { n: 1 }, 0n) });
  const circular: { self?: object } = {};
  circular.self = circular;
  records.put('b', { n: 2 }, { also: () => store.history.append('b', circular, 0n) }); // history never stands in the way
  assert.deepEqual([...records.load().keys()], ['a', 'b']);
  assert.throws(() =>
    records.put('c', circular as { n: number }, { also: () => store.history.append('c', { n: 3 }, 0n) }),
  );
  assert.deepEqual(
    [store.history.read('a').length, store.history.read('b').length, store.history.read('c').length],
    [1, 0, 0],
  );
  records.delete('a', { durable: true, also: () => store.history.close('a', 'web', 9n) });
  assert.deepEqual(store.history.closed(), [{ key: 'a', label: 'web', timeNs: 9n }]);
});
