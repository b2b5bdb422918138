import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, test } from 'node:test';

import { systemClock } from '../core/clock.ts';
import { silent } from '../core/log.ts';
import { openStore } from './store.ts';

const open = (path: string, journalRowsMax?: number) =>
  openStore({ path, clock: systemClock, logger: silent, ...(journalRowsMax !== undefined && { journalRowsMax }) });
const directory = mkdtempSync(join(tmpdir(), 'longshore-store-'));
after(() => rmSync(directory, { recursive: true }));
const scratch = () => join(mkdtempSync(join(directory, 'd-')), 'longshore.db');
const decodeNumber = (value: unknown): number => {
  if (typeof value !== 'number') throw new Error('not a number');
  return value;
};

test('Collection: records come back in order of insertion, changed ones in their old place', async () => {
  const path = scratch();
  {
    await using store = open(path);
    const numbers = store.collection('number', decodeNumber);
    numbers.put('b', 1, { durable: true });
    numbers.put('a', 2);
    numbers.put('b', 3);
    numbers.put('gone', 4);
    numbers.delete('gone', { durable: true });
    store.collection('other', decodeNumber).put('x', 9);
  }
  await using store = open(path);
  assert.deepEqual(
    [...store.collection('number', decodeNumber).load()],
    [
      ['b', 3],
      ['a', 2],
    ],
  );
});

test('Collection: a record that cannot be decoded is set aside once, the others load', async () => {
  const path = scratch();
  {
    await using store = open(path);
    store.collection<unknown>('number', (value) => value).put('bad', 'text');
    store.collection('number', decodeNumber).put('good', 1);
  }
  const database = new DatabaseSync(path);
  database.exec(`INSERT INTO record (collection, key, json) VALUES ('number', 'torn', '{"id":')`);
  database.close();
  await using store = open(path);
  assert.deepEqual([...store.collection('number', decodeNumber).load()], [['good', 1]]);
  assert.deepEqual(
    store.setAside().map(({ key, collection }) => ({ key, collection })),
    [
      { key: 'bad', collection: 'number' },
      { key: 'torn', collection: 'number' },
    ],
  );
  assert.deepEqual([...store.collection('number', decodeNumber).load()], [['good', 1]]);
  assert.equal(store.setAside().length, 2);
});

test('openStore: a file that is no database is kept beside a new one', async () => {
  const path = scratch();
  writeFileSync(path, 'this is not a database, by far not, and it is long enough to be looked at as one');
  await using store = open(path);
  store.collection('number', decodeNumber).put('a', 1);
  const names = readdirSync(join(path, '..'));
  assert(
    names.some((name) => name.startsWith('longshore.db.corrupt-')),
    names.join(),
  );
});

test('openStore: records of a newer version are refused and left alone', async () => {
  const path = scratch();
  await open(path)[Symbol.asyncDispose]();
  const database = new DatabaseSync(path);
  database.exec('PRAGMA user_version = 999');
  database.close();
  assert.throws(() => open(path), { code: 'STORE_FAILED', message: /newer version/ });
});

test('SqliteJournal: keeps the newest rows and reads any window, page by page', async () => {
  await using store = open(':memory:', 1_500);
  for (let n = 1; n <= 4_000; n++) {
    store.journal.append({
      type: 'container',
      action: 'start',
      actor: { id: `${n}`, attributes: {} },
      scope: 'local',
      timeNs: BigInt(n),
      sequence: n,
    });
  }
  assert.equal(store.journal.lastSequence(), 4_000);
  const ids = [...store.journal.read(3_000n, 3_700n)].map((event) => event.sequence);
  assert.deepEqual(
    ids,
    Array.from({ length: 701 }, (_, n) => 3_000 + n),
  );
  assert.deepEqual([...store.journal.read(null, null)].length, 1_500);
  assert.deepEqual(
    [...store.journal.read(null, null, 3_998)].map((event) => event.sequence),
    [3_999, 4_000],
  );
});
