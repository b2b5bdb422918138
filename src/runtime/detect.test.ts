import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { detectRuntimes, isHybrid } from './detect.ts';
import { heldCapabilities } from './host-facts.ts';

test('isHybrid: only v1 with an empty v2 beside it', () => {
  const v1 = '33 31 0:30 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n';
  const unified = '41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n';
  const v2 = '30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n';
  assert.deepEqual([v1 + unified, v1, v2, ''].map(isHybrid), [true, false, false, false]);
});

test('detectRuntimes: what is there, and runc under containerd’s name too', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'runtime-detect-'));
  writeFileSync(join(directory, 'runc'), '', { mode: 0o755 });
  writeFileSync(join(directory, 'crun'), '', { mode: 0o644 });
  const entry = { path: join(directory, 'runc'), options: [] };
  assert.deepEqual(await detectRuntimes([directory]), {
    runtimes: { runc: entry, 'io.containerd.runc.v2': entry },
    defaultName: 'runc',
    note: '',
  });
  rmSync(directory, { recursive: true });
  assert.deepEqual(await detectRuntimes([directory]), { runtimes: {}, defaultName: null, note: '' });
});

test('heldCapabilities: both sets, in the kernel’s order', () => {
  assert.deepEqual(heldCapabilities('CapPrm:\t0000000000000003\nCapBnd:\t000001fffefffffe\n'), ['CAP_DAC_OVERRIDE']);
  assert.deepEqual(heldCapabilities(''), []);
});
