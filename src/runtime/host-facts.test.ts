import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import type { Kernel } from '../kernel/port.ts';
import { readHostFacts } from './host-facts.ts';

test('readHostFacts: on v2 the files of children tell of swap and weights; where there are none yet, nothing is missing', async () => {
  const root = mkdtempSync(join(tmpdir(), 'host-facts-'));
  try {
    const limits = async (...files: string[]) => {
      const child = join(root, 'child');
      mkdirSync(child);
      for (const file of files) writeFileSync(join(child, file), '');
      const cgroups = {
        version: 'v2',
        controllers: ['memory', 'io'],
        directory: (_: string, path: string) => join(root, path),
      };
      const { limits: found } = await readHostFacts({ cgroups } as unknown as Kernel);
      rmSync(child, { recursive: true });
      return [found.swap, found.blkioWeight, found.blkioWeightDevice, found.blkioReadBps];
    };
    assert.deepEqual(await limits('memory.max', 'memory.swap.max', 'io.max', 'io.weight'), [true, true, true, true]);
    assert.deepEqual(await limits('memory.max', 'io.max', 'io.bfq.weight'), [false, true, true, true]);
    assert.deepEqual(await limits('memory.max', 'io.max'), [false, false, false, true]);
    assert.deepEqual(await limits(), [true, true, true, true], 'a host whose root gives children no controller');
  } finally {
    rmSync(root, { recursive: true });
  }
});
