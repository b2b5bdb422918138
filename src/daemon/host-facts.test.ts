import assert from 'node:assert/strict';
import { test } from 'node:test';

import { onlineCpus, readHostFacts } from './host-facts.ts';

test('onlineCpus: counts ranges and single ones, and is never 0', () => {
  assert.deepEqual(['0', '0-3', '0-3,6', '0,2,4-5\n', ''].map(onlineCpus), [1, 4, 5, 4, 1]);
});

test('readHostFacts: knows this host', async () => {
  const facts = await readHostFacts('/');
  assert(facts.memoryBytes > 64 * 2 ** 20);
  assert(facts.openDescriptors > 2);
  assert.match(facts.kernelVersion, /^\d+\.\d+/);
  assert.notEqual(facts.operatingSystem, '');
});
