/**
 * Limits, updates, the OOM killer and stats, as the kernel has them: on the control groups of this machine, v1 or v2.
 * `npm test` runs it here and in the virtual machine (v2). Speaks HTTP itself: there, each run of a program counts.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { eventually, TestDaemon } from '../support/daemon.ts';

const isV2 = existsSync('/sys/fs/cgroup/cgroup.controllers');
const MIB = 1 << 20;
/** Any disk: its number is all that counts. */
const disk = /^\s*(\d+)\s+(\d+)\s+\d+\s+(vda|sda|nvme0n1|xvda)$/m.exec(readFileSync('/proc/partitions', 'utf8'));

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

async function created(
  name: string,
  hostConfig: object,
  cmd: readonly string[] = ['sleep', '1000'],
): Promise<string[]> {
  const answer = await d.api('POST', `/containers/create?name=${name}`, {
    Image: 'bb:1',
    Cmd: cmd,
    HostConfig: { NetworkMode: 'none', ...hostConfig },
  });
  assert.equal(answer.status, 201, answer.text);
  return answer.json.Warnings;
}

async function running(name: string, hostConfig: object, cmd?: readonly string[]): Promise<string[]> {
  const warnings = await created(name, hostConfig, cmd);
  const { status, text } = await d.api('POST', `/containers/${name}/start`);
  assert.equal(status, 204, text);
  return warnings;
}

async function removed(...names: readonly string[]): Promise<void> {
  for (const name of names) assert.equal((await d.api('DELETE', `/containers/${name}?force=1`)).status, 204);
}

// oxlint-disable-next-line typescript/no-explicit-any -- answers are what is under test
async function inspected(name: string): Promise<any> {
  return (await d.api('GET', `/containers/${name}/json`)).json;
}

/** Reads files of a container's cgroup, by what v1 calls them ("memory/memory.limit_in_bytes") and v2. */
async function cgroupOf(name: string): Promise<(v1: string, v2: string) => string> {
  const { State } = await inspected(name);
  const lines = readFileSync(`/proc/${State.Pid}/cgroup`, 'utf8');
  return (v1, v2) => {
    const [controller = '', file = ''] = v1.split('/');
    const path = new RegExp(isV2 ? '^0::(.*)$' : `^\\d+:(?:.*,)?${controller}(?:,.*)?:(.*)$`, 'm').exec(lines)![1]!;
    return readFileSync(
      isV2 ? `/sys/fs/cgroup${path}/${v2}` : `/sys/fs/cgroup/${controller}${path}/${file}`,
      'utf8',
    ).trim();
  };
}

/** What the kernel has, in the order of this list. */
const FILES: readonly (readonly [v1: string, v2: string])[] = [
  ['memory/memory.limit_in_bytes', 'memory.max'],
  ['memory/memory.memsw.limit_in_bytes', 'memory.swap.max'],
  ['memory/memory.soft_limit_in_bytes', 'memory.low'],
  ['cpu/cpu.shares', 'cpu.weight'],
  ['cpu/cpu.cfs_period_us', 'cpu.max'],
  ['cpu/cpu.cfs_quota_us', 'cpu.max'],
  ['cpuset/cpuset.cpus', 'cpuset.cpus'],
  ['cpuset/cpuset.mems', 'cpuset.mems'],
  ['pids/pids.max', 'pids.max'],
];

async function limitsOf(name: string): Promise<string[]> {
  const read = await cgroupOf(name);
  return FILES.map(([v1, v2]) => read(v1, v2));
}

const LIMITS = {
  Memory: 64 * MIB,
  MemorySwap: 96 * MIB,
  MemoryReservation: 32 * MIB,
  CpuShares: 512,
  CpuPeriod: 50_000,
  CpuQuota: 80_000,
  CpusetCpus: '0',
  CpusetMems: '0',
  PidsLimit: 77,
};
const LIMITED = isV2
  ? [`${64 * MIB}`, `${32 * MIB}`, `${32 * MIB}`, '20', '80000 50000', '80000 50000', '0', '0', '77']
  : [`${64 * MIB}`, `${96 * MIB}`, `${32 * MIB}`, '512', '50000', '80000', '0', '0', '77'];

test('limits: each is what the kernel has, from outside and from inside', async () => {
  const device = disk === null ? null : `/dev/${disk[3]}`;
  const throttles =
    device === null
      ? {}
      : { BlkioDeviceReadBps: [{ Path: device, Rate: MIB }], BlkioDeviceWriteIOps: [{ Path: device, Rate: 100 }] };
  const inside = isV2
    ? 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max'
    : 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max';
  const warnings = await running(
    'limits',
    {
      ...LIMITS,
      ...throttles,
      OomScoreAdj: 77,
      ShmSize: 2 * MIB,
      Ulimits: [{ Name: 'nofile', Soft: 100, Hard: 200 }],
    },
    [
      'sh',
      '-c',
      `(${inside}; cat /proc/self/oom_score_adj; df -k /dev/shm | tail -n 1; ulimit -n; ulimit -Hn) >/said; sleep 1000`,
    ],
  );
  assert.deepEqual(warnings, []);
  assert.deepEqual(await limitsOf('limits'), LIMITED);
  const read = await cgroupOf('limits');
  if (disk !== null) {
    const number = `${disk[1]}:${disk[2]}`;
    if (isV2) assert.equal(read('', 'io.max'), `${number} rbps=${MIB} wbps=max riops=max wiops=100`);
    else {
      assert.equal(read('blkio/blkio.throttle.read_bps_device', ''), `${number} ${MIB}`);
      assert.equal(read('blkio/blkio.throttle.write_iops_device', ''), `${number} 100`);
    }
  }
  const { GraphDriver } = await inspected('limits');
  const said = (): string => readFileSync(`${GraphDriver.Data.UpperDir}/said`, 'utf8');
  await eventually(
    'it said all',
    () => existsSync(`${GraphDriver.Data.UpperDir}/said`) && said().endsWith('\n200\n'),
    60_000,
  );
  assert.match(said(), new RegExp(`^${64 * MIB}\\n77\\n77\\n\\w+ +2048 .*\\n100\\n200\\n$`));
  await removed('limits');
});

describe('update', () => {
  const change = (name: string, body: object) => d.api('POST', `/containers/${name}/update`, body);
  const MORE = {
    Memory: 128 * MIB,
    MemorySwap: -1,
    MemoryReservation: 16 * MIB,
    CpuShares: 2048,
    CpuPeriod: 100_000,
    CpuQuota: 150_000,
    PidsLimit: 0,
  };
  const unlimited = isV2 ? 'max' : '9223372036854771712';
  const CHANGED = isV2
    ? [`${128 * MIB}`, 'max', `${16 * MIB}`, '79', '150000 100000', '150000 100000', '0', '0', 'max']
    : [`${128 * MIB}`, unlimited, `${16 * MIB}`, '2048', '100000', '150000', '0', '0', 'max'];

  test('update: a running one at once, all or nothing, and by the record at its next start', async () => {
    await running('up', LIMITS);
    // More than the kernel can count: it comes after memory has been changed.
    const refused = await change('up', { ...MORE, CpuQuota: 2 ** 46 });
    assert.equal(refused.status, 500, refused.text);
    assert.match(refused.json.message, /^Cannot update container [0-9a-f]{64}: failed to update the limits: EINVAL/);
    assert.deepEqual(await limitsOf('up'), LIMITED);
    assert.equal((await inspected('up')).HostConfig.Memory, LIMITS.Memory);
    const done = await change('up', { ...MORE, RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 } });
    assert.deepEqual([done.status, done.json], [200, { Warnings: null }]);
    assert.deepEqual(await limitsOf('up'), CHANGED);
    await d.api('POST', '/containers/up/restart?t=0');
    assert.deepEqual(await limitsOf('up'), CHANGED);
    const { HostConfig } = await inspected('up');
    assert.deepEqual(HostConfig.RestartPolicy, { Name: 'on-failure', MaximumRetryCount: 2 });
    assert.deepEqual([HostConfig.PidsLimit, HostConfig.MemorySwap], [0, -1]);
    await removed('up');
  });

  test('update: a paused one at once, a stopped one at its next start', async () => {
    await running('paused', LIMITS);
    await d.api('POST', '/containers/paused/pause');
    assert.equal((await change('paused', MORE)).status, 200);
    assert.deepEqual(await limitsOf('paused'), CHANGED);
    assert.equal((await inspected('paused')).State.Status, 'paused');
    await removed('paused');
    await created('stopped', LIMITS);
    assert.equal((await change('stopped', { NanoCpus: 0, PidsLimit: 5 })).status, 200);
    await d.api('POST', '/containers/stopped/start');
    assert.deepEqual(await limitsOf('stopped'), [...LIMITED.slice(0, 8), '5']);
    await removed('stopped');
  });

  test("update: Docker's words for what cannot be", async () => {
    await running('words', { Memory: 64 * MIB, NanoCpus: 5e8, AutoRemove: true });
    await created('quota', { CpuQuota: 20_000 });
    const conflict = /^Cannot update container [0-9a-f]{64}: (.*)$/;
    for (const [name, body, status, words] of [
      [
        'words',
        { Memory: 256 * MIB },
        409,
        'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time',
      ],
      [
        'words',
        { CpuPeriod: 50_000 },
        409,
        'Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set',
      ],
      [
        'words',
        { CpuQuota: 50_000 },
        409,
        'Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set',
      ],
      [
        'quota',
        { NanoCpus: 1e9 },
        409,
        'Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set',
      ],
      [
        'words',
        { RestartPolicy: { Name: 'always' } },
        409,
        'Restart policy cannot be updated because AutoRemove is enabled for the container',
      ],
      ['words', { Memory: 1 * MIB }, 400, 'Minimum memory limit allowed is 6MB'],
      [
        'words',
        { Memory: 64 * MIB, MemorySwap: 32 * MIB },
        400,
        'Minimum memoryswap limit should be larger than memory limit, see usage',
      ],
      ['words', { CpusetCpus: '4000' }, 400, /^Requested CPUs are not available - requested 4000, available: 0/],
      [
        'words',
        { CpuPeriod: 5 },
        400,
        'CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)',
      ],
      [
        'words',
        { RestartPolicy: { Name: 'never' } },
        400,
        "invalid restart policy: unknown policy 'never'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
      ],
      ['nobody', {}, 404, 'No such container: nobody'],
    ] as const) {
      const answer = await change(name, body);
      const said = conflict.exec(answer.json.message)?.[1] ?? answer.json.message;
      assert.equal(answer.status, status, answer.text);
      if (words instanceof RegExp) assert.match(said, words);
      else assert.equal(said, words);
    }
    // The pids limit came with API 1.40, kernel memory went with 1.42; what it lacks is said in Docker's words.
    assert.equal((await d.api('POST', '/v1.39/containers/quota/update', { PidsLimit: 9 })).status, 200);
    assert.equal((await inspected('quota')).HostConfig.PidsLimit, null);
    assert.deepEqual(
      (await d.api('POST', '/v1.41/containers/quota/update', { KernelMemory: 20 * MIB })).json.Warnings,
      [
        'Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.',
      ],
    );
    assert.deepEqual((await change('quota', { KernelMemory: 20 * MIB })).json.Warnings, null);
    await removed('words', 'quota');
  });
});

test('limits: a weight of I/O is what the kernel has, or discarded where it has none', async () => {
  const warnings = await running('weight', { BlkioWeight: 300 });
  const read = await cgroupOf('weight');
  const found = ['io.bfq.weight', 'io.weight'].flatMap((file) => {
    try {
      return [`${file}: ${read('blkio/blkio.weight', file)}`];
    } catch {
      return [];
    }
  });
  if (found.length === 0) {
    const lost = 'or the cgroup is not mounted. Weight discarded.';
    assert.deepEqual(warnings, [`Your kernel does not support Block I/O weight ${lost}`]);
  } else {
    assert.deepEqual(warnings, []);
    assert.equal(/\d+$/.exec(found[0]!)![0], found[0]!.startsWith('io.weight') ? '2930' : '300', found.join());
  }
  await removed('weight');
});

test('create: what this kernel cannot limit is discarded with a warning, or refused by name', async () => {
  const discarded = await created('lacks', {
    Memory: 64 * MIB,
    MemorySwappiness: 5,
    OomKillDisable: true,
    BlkioWeight: 300,
    BlkioWeightDevice: [{ Path: '/dev/null', Weight: 300 }],
  });
  const words = (what: string): string => `Your kernel does not support ${what}`;
  const lost = ' or the cgroup is not mounted.';
  assert.deepEqual(
    discarded.filter((text) => !text.includes('Block I/O')),
    isV2
      ? [
          words(`memory swappiness capabilities${lost} Memory swappiness discarded.`),
          words('OomKillDisable. OomKillDisable discarded.'),
        ]
      : [],
  );
  const { HostConfig } = await inspected('lacks');
  assert.deepEqual([HostConfig.MemorySwappiness, HostConfig.OomKillDisable], isV2 ? [null, null] : [5, true]);
  await removed('lacks');
  if (isV2) {
    const realtime = await d.api('POST', '/containers/create', {
      Image: 'bb:1',
      HostConfig: { CpuRealtimeRuntime: 5000 },
    });
    assert.deepEqual([realtime.status, realtime.json.message], [400, words('CPU real-time scheduler')]);
  }
});

test('OOM: of the container itself 137, the flag and the event; of a child the flag, its own code and the event', async () => {
  const sinceMs = Date.now();
  const eat = 'dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null';
  const limits = { Memory: 24 * MIB, MemorySwap: 24 * MIB };
  await running('oom', limits, ['sh', '-c', `exec ${eat}`]);
  await running('child-oom', limits, ['sh', '-c', `${eat}; exit 3`]);
  for (const [name, code] of [
    ['oom', 137],
    ['child-oom', 3],
  ] as const) {
    assert.equal((await d.api('POST', `/containers/${name}/wait`)).json.StatusCode, code);
    assert.equal((await inspected(name)).State.OOMKilled, true);
    const events = await d.events(sinceMs, { container: [name] });
    const order = events.map(({ Action }) => Action).filter((action) => ['oom', 'die'].includes(action));
    assert.deepEqual(order, ['oom', 'die'], name);
  }
  await removed('oom', 'child-oom');
});

describe('stats', () => {
  const stats = async (name: string, query: string) => (await d.api('GET', `/containers/${name}/stats?${query}`)).json;

  test("stats: Docker's fields, at once when asked to; zeros when it does not run", async () => {
    await running('counted', { Memory: 64 * MIB, NetworkMode: 'bridge' });
    const began = performance.now();
    const once = await stats('counted', 'stream=0&one-shot=1');
    assert.ok(performance.now() - began < 900, 'it did not wait for a second sample');
    assert.deepEqual(Object.keys(once).toSorted(), [
      'blkio_stats', 'cpu_stats', 'id', 'memory_stats', 'name', 'networks', 'num_procs', 'pids_stats',
      'precpu_stats', 'preread', 'read', 'storage_stats',
    ]); // prettier-ignore
    assert.equal(once.preread, '0001-01-01T00:00:00Z');
    assert.deepEqual(Object.keys(once.precpu_stats).toSorted(), ['cpu_usage', 'throttling_data']);
    assert.equal(once.memory_stats.limit, 64 * MIB);
    assert.equal('max_usage' in once.memory_stats, !isV2);
    assert.equal('percpu_usage' in once.cpu_stats.cpu_usage, !isV2);
    assert.equal('anon' in once.memory_stats.stats, isV2);
    assert.equal('total_rss' in once.memory_stats.stats, !isV2);
    assert.equal(Object.keys(once.memory_stats.stats).length, isV2 ? 31 : 32);
    assert.equal(once.blkio_stats.io_queue_recursive === null, isV2);
    // On v2 "max" is the greatest number that Go has.
    assert.equal(once.pids_stats.limit, isV2 ? 2 ** 64 : undefined);
    assert.deepEqual(Object.keys(once.networks), ['eth0']);
    const two = await stats('counted', 'stream=0');
    assert.ok(two.preread < two.read && two.precpu_stats.system_cpu_usage < two.cpu_stats.system_cpu_usage);
    await d.api('POST', '/containers/counted/kill');
    await d.api('POST', '/containers/counted/wait');
    const none = await stats('counted', 'stream=0');
    assert.deepEqual(
      [none.read, none.pids_stats, none.memory_stats, none.networks],
      ['0001-01-01T00:00:00Z', {}, {}, undefined],
    );
    assert.deepEqual(none.cpu_stats, none.precpu_stats);
    await removed('counted');
  });

  test('stats: who shares the interfaces of the host, or has none, has no networks', async () => {
    await running('on-host', { NetworkMode: 'host' });
    await running('on-none', { NetworkMode: 'none' });
    for (const name of ['on-host', 'on-none'])
      assert.equal((await stats(name, 'stream=0&one-shot=1')).networks, undefined);
    await removed('on-host', 'on-none');
  });
});

test('cgroup parent and namespace: where they were asked to be', async () => {
  const parent = `longshore-parent-${process.pid}`;
  await running('child', { CgroupParent: `../../${parent}/x`, CgroupnsMode: 'host' });
  const { State, Id } = await inspected('child');
  assert.match(readFileSync(`/proc/${State.Pid}/cgroup`, 'utf8'), new RegExp(`:/${parent}/x/${Id}$`, 'm'));
  await removed('child');
  // Those above it are not the engine's to remove.
  for (const root of isV2 ? [''] : readdirSync('/sys/fs/cgroup')) {
    for (const path of [`${parent}/x`, parent]) {
      const directory = join('/sys/fs/cgroup', root, path);
      if (existsSync(directory)) rmdirSync(directory);
    }
  }
  await running('own', { CgroupnsMode: 'private' }, ['sh', '-c', 'cat /proc/self/cgroup >/said; sleep 1000']);
  const { GraphDriver, HostConfig } = await inspected('own');
  assert.equal(HostConfig.CgroupnsMode, 'private');
  const said = `${GraphDriver.Data.UpperDir}/said`;
  const own = isV2 ? /^0::\/$/m : /:(.*,)?memory(,.*)?:\/$/m;
  await eventually(
    'it is at the root of its own',
    () => existsSync(said) && own.test(readFileSync(said, 'utf8')),
    30_000,
  );
  await removed('own');
});
