import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { NO_REMAP, rootOf, toContainer, toHost, type IdMap } from './id-map.ts';

const map: IdMap = {
  uids: [
    { containerId: 0, hostId: 100_000, count: 10 },
    { containerId: 10, hostId: 300_000, count: 100 },
  ],
  gids: [{ containerId: 0, hostId: 200_000, count: 110 }],
};

test('toHost, toContainer: are each other’s inverse', () => {
  const id = fc.integer({ min: 0, max: 109 });
  fc.assert(
    fc.property(id, id, (uid, gid) => assert.deepEqual(toContainer(map, toHost(map, { uid, gid })), { uid, gid })),
  );
  assert.deepEqual(rootOf(map), { uid: 100_000, gid: 200_000 });
  assert.deepEqual(toHost(map, { uid: 10, gid: 109 }), { uid: 300_000, gid: 200_109 });
});

test('toHost: an ID beyond the ranges is refused', () => {
  assert.throws(() => toHost(map, { uid: 110, gid: 0 }), { message: 'Container ID 110 cannot be mapped to a host ID' });
});

test('toContainer: a stranger’s file keeps its IDs', () => {
  assert.deepEqual(toContainer(map, { uid: 5, gid: 200_001 }), { uid: 5, gid: 1 });
});

test('NO_REMAP: changes nothing', () => {
  const owner = { uid: 70_000, gid: 4_000_000 };
  assert.deepEqual(toHost(NO_REMAP, owner), owner);
  assert.deepEqual(toContainer(NO_REMAP, owner), owner);
});
