/** Runs after everything else (scripts/test.sh): the host is as it was before the first test. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { readLeftovers, type Leftovers } from '../support/leftovers.ts';

const path = process.env['LEFTOVERS_BEFORE'];
assert(path !== undefined, 'LEFTOVERS_BEFORE names the file that test/support/leftovers.ts wrote before the tests');
const before = JSON.parse(readFileSync(path, 'utf8')) as Leftovers;

for (const kind of Object.keys(before) as (keyof Leftovers)[]) {
  test(`after all tests: no ${kind} are left`, async () => {
    const added = (): string[] => readLeftovers()[kind].filter((item) => !before[kind].includes(item));
    // The kernel takes interfaces of a namespace that is gone away in its own time.
    for (let tries = 0; tries < 50 && added().length > 0; tries++) await sleep(100);
    assert.deepEqual(added(), []);
  });
}
