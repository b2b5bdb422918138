import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Lane } from './lane.ts';

test('Lane: never more than its width at a time, in order, and a failure frees the place', async () => {
  const lane = new Lane({ name: 'x', width: 2, waitMsMax: 1000 });
  let running = 0;
  let runningMax = 0;
  const order: number[] = [];
  const results = await Promise.allSettled(
    [0, 1, 2, 3, 4, 5].map((index) =>
      lane.run(async () => {
        order.push(index);
        runningMax = Math.max(runningMax, ++running);
        await new Promise((resolve) => setTimeout(resolve, 2));
        running--;
        if (index === 1) throw new Error('one');
        return index;
      }),
    ),
  );
  assert.deepEqual([runningMax, order], [2, [0, 1, 2, 3, 4, 5]]);
  assert.deepEqual(
    results.map((result) => result.status),
    ['fulfilled', 'rejected', 'fulfilled', 'fulfilled', 'fulfilled', 'fulfilled'],
  );
});

test('Lane: who waits too long behind a call that hangs gets an error, and the lane goes on', async () => {
  const lane = new Lane({ name: 'openat2', width: 1, waitMsMax: 10 });
  let release = (): void => undefined;
  const hanging = lane.run(() => new Promise<void>((resolve) => (release = resolve)));
  await assert.rejects(
    lane.run(async () => 1),
    { name: 'KernelError', code: 'ETIMEDOUT', syscall: 'openat2' },
  );
  release();
  await hanging;
  assert.equal(await lane.run(async () => 2), 2);
});
