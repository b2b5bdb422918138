import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { CgroupFiles, readCgroupLayout } from '../kernel/cgroup.ts';
import { updateCgroup } from './cgroup-update.ts';
import type { OciResources } from './spec/resources.ts';

const path = `/longshore-update-${process.pid}`;
const cgroups = new CgroupFiles(readCgroupLayout());
const isV2 = cgroups.version === 'v2';
const FILES: readonly (readonly [controller: string, v1: string, v2: string])[] = [
  ['memory', 'memory.limit_in_bytes', 'memory.max'],
  ['memory', 'memory.memsw.limit_in_bytes', 'memory.swap.max'],
  ['memory', 'memory.soft_limit_in_bytes', 'memory.low'],
  ['cpu', 'cpu.shares', 'cpu.weight'],
  ['cpu', 'cpu.cfs_period_us', 'cpu.max'],
  ['cpu', 'cpu.cfs_quota_us', 'cpu.max'],
  ['cpuset', 'cpuset.cpus', 'cpuset.cpus'],
  ['pids', 'pids.max', 'pids.max'],
];
const values = (): string[] =>
  FILES.map(([controller, v1, v2]) =>
    readFileSync(`${cgroups.directory(controller, path)}/${isV2 ? v2 : v1}`, 'utf8').trim(),
  );

before(() => {
  for (const controller of isV2 ? [''] : ['memory', 'cpu', 'cpuset', 'pids', 'blkio'])
    mkdirSync(cgroups.directory(controller, path), { recursive: true });
  if (isV2) return;
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    const root = readFileSync(`${cgroups.directory('cpuset', '/x').slice(0, -2)}/${file}`, 'utf8');
    writeFileSync(`${cgroups.directory('cpuset', path)}/${file}`, root);
  }
});
after(() => cgroups.remove(path));

const limits: OciResources = {
  memory: { limit: 64 << 20, swap: 96 << 20, reservation: 32 << 20 },
  cpu: { shares: 512, quota: 20_000, period: 50_000, cpus: '0' },
  pids: { limit: 77 },
};

test('updateCgroup: the real kernel takes all limits, and has the old ones again when it refuses the last', async () => {
  const unlimited = values();
  // No device has this number.
  const refused = { throttleWriteIOPSDevice: [{ major: 1000, minor: 77, rate: 5 }] };
  await assert.rejects(updateCgroup(cgroups, path, { ...limits, blockIO: refused }), /failed to update the limits/);
  assert.deepEqual(values(), unlimited);
  await updateCgroup(cgroups, path, limits);
  const limited = isV2
    ? [`${64 << 20}`, `${32 << 20}`, `${32 << 20}`, '20', '20000 50000', '20000 50000', '0', '77']
    : [`${64 << 20}`, `${96 << 20}`, `${32 << 20}`, '512', '50000', '20000', '0', '77'];
  assert.deepEqual(values(), limited);
  const more: OciResources = {
    memory: { limit: 128 << 20, swap: -1, reservation: 16 << 20 },
    cpu: { shares: 2048, quota: -1, period: 100_000 },
    pids: { limit: -1 },
  };
  await assert.rejects(updateCgroup(cgroups, path, { ...more, blockIO: refused }), /failed to update the limits/);
  assert.deepEqual(values(), limited);
  await updateCgroup(cgroups, path, more);
  assert.deepEqual(values().slice(3, 6), isV2 ? ['79', 'max 100000', 'max 100000'] : ['2048', '100000', '-1']);
});
