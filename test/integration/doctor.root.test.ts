/** `longshore doctor` on the real kernel: finds what is planted, removes it when told to, and touches nothing else. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, globSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';

import { doctor, eventually, TestDaemon } from '../support/daemon.ts';

const edit = (d: TestDaemon, sql: string, ...values: string[]): void => {
  const database = new DatabaseSync(join(d.directory, 'data/longshore.db'));
  database.prepare(sql).run(...values);
  database.close();
};
const alive = (pid: string): boolean => existsSync(`/proc/${pid}`);

test('doctor: an engine at work and one that was killed are well; whose neighbours things are is none of its business', async () => {
  await using d = await TestDaemon.start();
  await d.image();
  await d.ok('network', 'create', 'net');
  await d.ok(
    'run',
    '-d',
    '--name',
    'up',
    '-p',
    '127.0.0.1::80',
    '--network',
    'net',
    '-v',
    'vol:/v',
    'bb:1',
    'sleep',
    '600',
  );
  await d.ok('run', '--name', 'down', 'bb:1', 'true');
  await d.ok('create', '--name', 'new', 'bb:1', 'true');
  const strangers = globSync('/sys/fs/cgroup/{,memory,pids}/longshore').map(
    (parent) => `${parent}/${randomBytes(32).toString('hex')}`,
  );
  for (const path of strangers) mkdirSync(path);
  try {
    assert.deepEqual((await doctor(d)).problems, []);
    await d.down('SIGKILL');
    assert.deepEqual((await doctor(d)).problems, []);
    assert.deepEqual(await doctor(d, '--repair'), { code: 0, daemonPid: null, problems: [] });
    assert(
      strangers.every((path) => existsSync(path)),
      'cgroups of another engine stay',
    );
  } finally {
    for (const path of strangers) rmdirSync(path);
  }
  await d.up();
  assert.equal(await d.inspect('up', '{{.State.Running}} {{.RestartCount}}'), 'true 0');
});

test('doctor --repair: removes all that a lost container left, and nothing of one that lives; not while the daemon runs', async () => {
  await using d = await TestDaemon.start();
  await d.image();
  await d.ok('run', '-d', '--name', 'lives', '-p', '127.0.0.1::80', 'bb:1', 'sleep', '600');
  const lost = await d.ok(
    'run',
    '-d',
    '--name',
    'lost',
    '--init',
    '-p',
    '8080',
    '-p',
    '127.0.0.1::81',
    'bb:1',
    'sleep',
    '600',
  );
  const [livesPid, lostPid] = [await d.inspect('lives', '{{.State.Pid}}'), await d.inspect('lost', '{{.State.Pid}}')];
  const refused = await doctor(d, '--repair');
  assert.equal(refused.code, 1);
  assert.match(refused.error ?? '', /^longshore: the daemon runs \(process \d+\)/);
  await d.down('SIGKILL');
  for (const collection of ['containers', 'network-sandboxes', 'snapshots'])
    edit(d, 'DELETE FROM record WHERE collection = ? AND key = ?', collection, lost);

  const found = await doctor(d);
  assert.equal(found.code, 1);
  const checks = new Set(found.problems.map(({ check }) => check));
  assert.deepEqual([...checks].toSorted(), [
    'cgroup',
    'directory',
    'firewall',
    'interface',
    'mount',
    'namespace',
    'shim',
  ]);
  assert(
    found.problems.every(({ repair, repaired }) => repair !== null && !repaired),
    JSON.stringify(found.problems, null, 1),
  );
  assert(alive(lostPid), 'a look changes nothing');

  const repaired = await doctor(d, '--repair');
  assert.deepEqual(
    repaired.problems.filter((problem) => !problem.repaired),
    [],
  );
  assert.equal(repaired.code, 0);
  assert(!alive(lostPid) && alive(livesPid));
  assert.deepEqual((await doctor(d)).problems, []);
  for (const directory of ['data/snapshot', 'data/containers', 'exec/shim', 'exec/netns'])
    assert(!readdirSync(join(d.directory, directory)).includes(lost), directory);
  await d.up();
  assert.deepEqual(
    [await d.inspect('lives', '{{.State.Pid}}'), await d.ok('exec', 'lives', 'echo', 'hi')],
    [livesPid, 'hi'],
  );
  assert.equal(await d.ok('ps', '-aq', '--no-trunc').then((ids) => ids.includes(lost)), false);
});

test('doctor: a record that cannot be read is set aside and named; its container’s files stay until that is given up', async () => {
  await using d = await TestDaemon.start();
  await d.image();
  const id = await d.ok('run', '-d', '--name', 'torn', 'bb:1', 'sh', '-c', 'echo precious >/kept; sleep 600');
  const pid = await d.inspect('torn', '{{.State.Pid}}');
  await eventually('it has written', async () => (await d.docker('exec', 'torn', 'test', '-s', '/kept')).code === 0);
  await d.down('SIGKILL');
  edit(d, `UPDATE record SET json = substr(json, 1, 100) WHERE collection = 'containers' AND key = ?`, id);
  assert.match(
    (await doctor(d)).problems[0]!.text,
    new RegExp(`^record ${id} of containers cannot be read \\(the daemon sets it aside`),
  );
  await d.up();
  const kept = join(d.directory, 'data/snapshot', id, 'diff/kept');
  assert(existsSync(kept), 'what it wrote is still there');
  const named = (await doctor(d)).problems;
  assert.match(named[0]!.text, new RegExp(`^record ${id} of containers cannot be read, and was set aside at `));
  await d.down();
  const kindly = await doctor(d, '--repair');
  assert.equal(kindly.code, 1);
  assert(existsSync(kept) && alive(pid), 'nothing of it is removed unasked');
  const firmly = await doctor(d, '--repair', '--forget-set-aside');
  assert.deepEqual(
    firmly.problems.filter(({ repaired }) => !repaired),
    [],
  );
  assert(!existsSync(kept) && !alive(pid));
  assert.deepEqual((await doctor(d)).problems, []);
  await d.up();
});

test('doctor: an image whose bytes changed, a stray directory, a volume that nobody knows', async () => {
  await using d = await TestDaemon.start();
  await d.image();
  const data = join(d.directory, 'data');
  const stray = randomBytes(32).toString('hex');
  mkdirSync(join(data, 'containers', stray), { recursive: true });
  mkdirSync(join(data, 'volumes', 'mystery'), { recursive: true });
  const [blob] = readdirSync(join(data, 'image/blobs/sha256'));
  writeFileSync(join(data, 'image/blobs/sha256', blob!), '{}');
  const { problems } = await doctor(d);
  assert.deepEqual(problems.map(({ check, repair }) => `${check} ${repair !== null}`).toSorted(), [
    'directory false',
    'directory true',
    'image false',
  ]);
  await d.down();
  const { code, problems: left } = await doctor(d, '--repair');
  assert.equal(code, 1);
  assert.deepEqual(
    left
      .filter(({ repaired }) => !repaired)
      .map(({ check }) => check)
      .toSorted(),
    ['directory', 'image'],
  );
  assert(!existsSync(join(data, 'containers', stray)) && existsSync(join(data, 'volumes/mystery')));
  assert.equal((await doctor(d, '--skip-images')).problems.length, 1);
  await d.up();
  await d.docker('rmi', '-f', 'bb:1');
});
