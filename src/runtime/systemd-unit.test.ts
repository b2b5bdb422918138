import assert from 'node:assert/strict';
import { test } from 'node:test';

import { unitAnnotations, unitAssignments } from './systemd-unit.ts';

const LIMITS = {
  memory: { limit: 64, swap: 96, reservation: 32 },
  cpu: { shares: 512, quota: 150_000, period: 100_000 },
  pids: { limit: 7 },
};
const NONE = { memory: { swap: -1 }, cpu: { quota: -1 }, pids: { limit: -1 } };

test('unitAnnotations: properties in the types that the runtimes hand on', () => {
  assert.deepEqual(unitAnnotations(LIMITS), {
    'org.systemd.property.MemoryMax': 'uint64 64',
    'org.systemd.property.MemorySwapMax': 'uint64 32',
    'org.systemd.property.MemoryLow': 'uint64 32',
    'org.systemd.property.TasksMax': 'uint64 7',
    'org.systemd.property.CPUQuotaPerSecUSec': 'uint64 1500000',
    'org.systemd.property.CPUQuotaPeriodUSec': 'uint64 100000',
  });
  assert.equal(unitAnnotations(NONE)['org.systemd.property.TasksMax'], 'uint64 18446744073709551615');
  assert.deepEqual(unitAnnotations(), {});
});

test('unitAssignments: what systemctl takes, by version of control groups', () => {
  assert.deepEqual(unitAssignments(LIMITS, 'v2'), [
    'CPUWeight=20',
    'MemoryMax=64',
    'MemorySwapMax=32',
    'MemoryLow=32',
    'TasksMax=7',
    'CPUQuota=150.00%',
    'CPUQuotaPeriodSec=100000us',
  ]);
  assert.deepEqual(unitAssignments({ cpu: { shares: 512 } }, 'v1'), ['CPUShares=512']);
  assert.deepEqual(unitAssignments(NONE, 'v2'), ['MemorySwapMax=infinity', 'TasksMax=infinity', 'CPUQuota=']);
});
