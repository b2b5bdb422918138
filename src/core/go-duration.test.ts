import assert from 'node:assert/strict';
import { test } from 'node:test';

import { goDuration } from './go-duration.ts';

test('goDuration: prints what Go prints', () => {
  const cases: readonly [number, string][] = [
    [0, '0s'],
    [30_000, '30s'],
    [1_500, '1.5s'],
    [60_000, '1m0s'],
    [500, '500ms'],
    [90_500, '1m30.5s'],
    [3_600_000, '1h0m0s'],
  ];
  for (const [ms, text] of cases) assert.equal(goDuration(ms), text);
});
