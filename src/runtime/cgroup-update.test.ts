import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import type { Cgroups } from '../kernel/port.ts';
import { planUpdate, updateCgroup, weightOfShares, type CgroupNow } from './cgroup-update.ts';
import type { OciResources } from './spec/resources.ts';

const NOW: CgroupNow = { memoryLimitBytes: 100, memorySwapBytes: 200, cpuPeriodUs: 100_000, cpuQuotaUs: 50_000 };
const plan = (version: 'v1' | 'v2', resources: OciResources, now: CgroupNow = NOW): string[] =>
  planUpdate(version, resources, now).map((write) => `${write.controller} ${write.file}=${write.value}`);

test('planUpdate: v1 orders memory and swap so that the kernel takes both', () => {
  assert.deepEqual(plan('v1', { memory: { limit: 300, swap: 600 } }), [
    'memory memory.memsw.limit_in_bytes=600',
    'memory memory.limit_in_bytes=300',
  ]);
  assert.deepEqual(plan('v1', { memory: { limit: 50, swap: 80 } }), [
    'memory memory.limit_in_bytes=50',
    'memory memory.memsw.limit_in_bytes=80',
  ]);
  assert.deepEqual(plan('v1', { memory: { limit: 300, swap: -1 } })[0], 'memory memory.memsw.limit_in_bytes=-1');
});

test('planUpdate: v1 and v2 spell the rest', () => {
  const resources: OciResources = {
    cpu: { shares: 1024, quota: 20_000, cpus: '0', mems: '0' },
    pids: { limit: -1 },
    blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 5 }] },
  };
  assert.deepEqual(plan('v1', resources), [
    'cpu cpu.shares=1024',
    'cpu cpu.cfs_quota_us=20000',
    'cpuset cpuset.cpus=0',
    'cpuset cpuset.mems=0',
    'pids pids.max=max',
    'blkio blkio.throttle.read_bps_device=8:0 5',
  ]);
  assert.deepEqual(plan('v2', { ...resources, memory: { limit: 300, swap: 500, reservation: 20 } }), [
    'memory memory.swap.max=200',
    'memory memory.max=300',
    'memory memory.low=20',
    'cpu cpu.weight=39',
    'cpu cpu.max=20000 100000',
    'cpuset cpuset.cpus=0',
    'cpuset cpuset.mems=0',
    'pids pids.max=max',
    'io io.max=8:0 rbps=5',
  ]);
  assert.deepEqual(plan('v2', { memory: { swap: 500 }, cpu: { quota: -1 } }), [
    'memory memory.swap.max=400',
    'cpu cpu.max=max 100000',
  ]);
  assert.deepEqual([weightOfShares(2), weightOfShares(262_144)], [1, 10_000]);
});

test('updateCgroup: all or nothing', async () => {
  const root = mkdtempSync(join(tmpdir(), 'runtime-cgroup-'));
  const files = {
    'memory.limit_in_bytes': '100',
    'memory.memsw.limit_in_bytes': '200',
    'cpu.shares': '1024',
    'cpu.cfs_period_us': '100000',
    'cpu.cfs_quota_us': '-1',
  };
  mkdirSync(join(root, 'c1'));
  for (const [name, value] of Object.entries(files)) writeFileSync(join(root, 'c1', name), `${value}\n`);
  mkdirSync(join(root, 'c1/pids.max')); // a file that refuses
  chmodSync(join(root, 'c1'), 0o755);
  const cgroups = { version: 'v1', directory: (_: string, path: string) => join(root, path) } as unknown as Cgroups;
  const read = (name: string): string => readFileSync(join(root, 'c1', name), 'utf8').trim();
  await assert.rejects(
    updateCgroup(cgroups, '/c1', { memory: { limit: 300, swap: 600 }, cpu: { shares: 5 }, pids: { limit: 5 } }),
    /failed to update the limits/,
  );
  for (const [name, value] of Object.entries(files)) assert.equal(read(name), value);
  await updateCgroup(cgroups, '/c1', { memory: { limit: 300, swap: 600 }, cpu: { shares: 5 } });
  assert.deepEqual(
    [read('memory.limit_in_bytes'), read('memory.memsw.limit_in_bytes'), read('cpu.shares')],
    ['300', '600', '5'],
  );
  rmSync(root, { recursive: true });
});
