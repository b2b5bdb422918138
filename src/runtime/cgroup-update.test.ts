import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import type { Cgroups } from '../kernel/port.ts';
import { planUpdate, updateCgroup, weightOfShares, type CgroupNow } from './cgroup-update.ts';
import type { OciResources } from './spec/resources.ts';

const NOW: CgroupNow = {
  memoryLimitBytes: 100,
  memorySwapBytes: 200,
  cpuPeriodUs: 100_000,
  cpuQuotaUs: 50_000,
  hasBfq: true,
};
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

/** A directory in the place of a cgroup; what is not in `files` refuses. Writes replace, as a limit's do. */
function plantedCgroup(version: 'v1' | 'v2', files: Record<string, string>) {
  const root = mkdtempSync(join(tmpdir(), 'runtime-cgroup-'));
  mkdirSync(join(root, 'c1'));
  for (const [name, value] of Object.entries(files)) writeFileSync(join(root, 'c1', name), value);
  const cgroups = { version, directory: (_: string, path: string) => join(root, path) } as unknown as Cgroups;
  return {
    update: (resources: OciResources) => updateCgroup(cgroups, '/c1', resources),
    files: () =>
      Object.fromEntries(Object.keys(files).map((name) => [name, readFileSync(join(root, 'c1', name), 'utf8')])),
    [Symbol.dispose]: () => rmSync(root, { recursive: true }),
  };
}

const EVERYTHING: OciResources = {
  memory: { limit: 300, swap: 600, reservation: 50 },
  cpu: { shares: 1024, quota: 20_000, period: 50_000, cpus: '0', mems: '0' },
  pids: { limit: 5 },
  blockIO: {
    throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 7 }],
    throttleWriteBpsDevice: [{ major: 9, minor: 9, rate: 7 }],
  },
};

test('updateCgroup: v1, what was written before a refusal is written back', async () => {
  const before = {
    'memory.limit_in_bytes': '100\n',
    'memory.memsw.limit_in_bytes': '200\n',
    'memory.soft_limit_in_bytes': '10\n',
    'cpu.shares': '2\n',
    'cpu.cfs_period_us': '100000\n',
    'cpu.cfs_quota_us': '-1\n',
    'cpuset.cpus': '0-1\n',
    'cpuset.mems': '\n',
    'pids.max': 'max\n',
    'blkio.throttle.read_bps_device': '8:0 3\n',
  };
  using cgroup = plantedCgroup('v1', before); // without blkio.throttle.write_bps_device
  await assert.rejects(cgroup.update(EVERYTHING), /failed to update the limits: .*write_bps_device[^(]*$/);
  assert.deepEqual(cgroup.files(), before);
  await cgroup.update({ memory: { limit: 300, swap: 600 }, cpu: { shares: 5 } });
  assert.deepEqual(cgroup.files(), {
    ...before,
    'memory.limit_in_bytes': '300\n',
    'memory.memsw.limit_in_bytes': '600\n',
    'cpu.shares': '5\n',
  });
});

test('updateCgroup: v2, what was written before a refusal is written back; nothing is an empty line', async () => {
  const before = {
    'memory.max': 'max\n',
    'memory.low': '0\n',
    'cpu.weight': '100\n',
    'cpu.max': 'max 100000\n',
    'cpuset.cpus': '\n',
    'cpuset.mems': '\n',
    'pids.max': 'max\n',
    'memory.swap.max': 'max\n',
  };
  using cgroup = plantedCgroup('v2', before); // without io.max
  await assert.rejects(cgroup.update(EVERYTHING), /failed to update the limits: .*io\.max/);
  assert.deepEqual(cgroup.files(), before);
});

test('planUpdate: a throttle goes back to the value it had', () => {
  const [read, write, other] = planUpdate(
    'v2',
    {
      blockIO: {
        throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 7 }],
        throttleWriteIOPSDevice: [
          { major: 8, minor: 0, rate: 7 },
          { major: 8, minor: 1, rate: 7 },
        ],
      },
    },
    NOW,
  );
  const now = '254:0 rbps=1 wbps=max riops=max wiops=max\n8:0 rbps=5 wbps=max riops=max wiops=6';
  assert.deepEqual(
    [read, write, other].map((each) => each!.undo(now)),
    ['8:0 rbps=5', '8:0 wiops=6', '8:1 wiops=max'],
  );
  const [v1] = planUpdate('v1', { blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 7 }] } }, NOW);
  assert.deepEqual([v1!.undo('18:0 4\n8:0 5'), v1!.undo('')], ['8:0 5', '8:0 0']);
});
