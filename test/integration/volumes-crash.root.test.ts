/**
 * Volumes while the daemon is killed with SIGKILL again and again: no byte that an application synced is lost, whatever
 * happens to its container, and what is on disk is what the records say. A power cut is test/vm/power-cut.test.ts.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, TestDaemon, type Answer } from '../support/daemon.ts';
import { Random } from '../support/random.ts';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const KILLS = Number(process.env['KILLS'] ?? 6);

/** Appends the next number to a file, syncs it, and only then says so: in a place of its own, synced likewise. */
const WRITER = `
n=$(tail -n 1 $1/log 2>/dev/null); n=\${n:-0}
while :; do
  n=$((n + 1))
  echo $n >>$1/log && sync $1/log && echo $n >>/said/$2 && sync /said/$2
done`;

test('volumes: what an application synced is there, through kills of the daemon and all that befalls its container', async () => {
  const random = new Random(SEED);
  const bound = mkdtempSync(join(tmpdir(), 'longshore-said-'));
  using stack = new DisposableStack();
  stack.defer(() => rmSync(bound, { recursive: true }));
  await using d = await TestDaemon.start();
  await d.image();
  const writers: Record<string, readonly string[]> = {
    named: ['-v', 'w-named:/data'],
    part: ['--mount', 'type=volume,source=w-part,target=/data,volume-subpath=sub'],
    device: ['-v', 'w-device:/data'],
    bind: ['-v', `${bound}:/data`],
  };
  const names = Object.keys(writers);
  await d.ok('run', '--rm', '-v', 'w-part:/v', 'bb:1', 'mkdir', '/v/sub');
  const device = await d.ok('volume', 'create', 'w-target');
  const target = join(d.directory, 'data/volumes', device, '_data');
  await d.ok('volume', 'create', '-o', 'type=none', '-o', 'o=bind', '-o', `device=${target}`, 'w-device');
  const begin = (name: string) => {
    const policy = random.pick(['no', 'always', 'on-failure']);
    const flags = ['-d', '--name', name, '--restart', policy, ...writers[name]!, '-v', 'w-said:/said'];
    return d.docker('run', ...flags, 'bb:1', 'sh', '-c', WRITER, 'sh', '/data', name);
  };
  for (const name of names) assert.equal((await begin(name)).code, 0, d.log.slice(-2000));

  /** What may happen to a container; the daemon may die in the middle of it. */
  const happenings: readonly ((name: string) => Promise<unknown>)[] = [
    (name) => d.docker('restart', '-t', '0', name),
    (name) => d.docker('kill', name).then(() => d.docker('start', name)),
    (name) => d.docker('rm', '-fv', name).then(() => begin(name)),
    (name) => d.docker('pause', name).then(() => d.docker('unpause', name)),
    (name) => d.docker('stop', '-t', '0', name).then(() => d.docker('volume', 'prune', '-f')),
    (name) => d.docker('cp', `${name}:/data/log`, '-'),
  ];
  for (let kill = 0; kill < KILLS; kill++) {
    const under = Promise.allSettled(
      Array.from({ length: 3 }, () =>
        random
          .pick(happenings)(random.pick(names))
          .catch(() => {}),
      ),
    );
    await sleep(random.below(600));
    await d.down('SIGKILL');
    await under;
    await d.up();
    for (const name of names) {
      if ((await d.docker('start', name)).code !== 0) {
        await d.docker('rm', '-f', name);
        await begin(name);
      }
    }
  }
  const said = (name: string): number[] => numbers(join(d.directory, 'data/volumes/w-said/_data', name));
  const before = names.map((name) => said(name).length);
  await eventually('all of them go on writing', () => names.every((name, i) => said(name).length > before[i]!));
  for (const name of names) await d.ok('rm', '-fv', name);

  const files = {
    named: join(d.directory, 'data/volumes/w-named/_data/log'),
    part: join(d.directory, 'data/volumes/w-part/_data/sub/log'),
    device: join(target, 'log'),
    bind: join(bound, 'log'),
  };
  for (const [name, file] of Object.entries(files)) {
    const written = numbers(file);
    const last = Math.max(...said(name));
    assert(last > 50, `${name}: ${last}`);
    // Each line once and in order, but for those that were cut when the writer was killed between the write and the word.
    assert.deepEqual(written, Array.from({ length: written.length }, (_, i) => i + 1), `${name}, seed ${SEED}`); // prettier-ignore
    assert(written.length >= last, `${name} said ${last} and has ${written.length}, seed ${SEED}`);
  }
});

function numbers(file: string): number[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8').trim().split('\n').map(Number);
}

test('volumes: made, removed and pruned under kills of the daemon, records and directories are equal and as answered', async () => {
  const random = new Random(SEED);
  await using d = await TestDaemon.start();
  const root = join(d.directory, 'data/volumes');
  /** What must be true of a name: what was answered last. Absent: a request is under way, or was cut. */
  const known = new Map<string, 'there' | 'gone'>();
  const options = { type: 'tmpfs', device: 'tmpfs', o: 'size=1m' };
  const request = async (path: string, method: string, body?: object): Promise<Answer | null> =>
    d.api(method, path, body).catch(() => null); // it died meanwhile
  const churn = async (name: string, signal: { stop: boolean }): Promise<void> => {
    while (!signal.stop) {
      known.delete(name);
      const Labels = { of: name };
      const made = await request('/volumes/create', 'POST', { Name: name, Labels, DriverOpts: options });
      if (made?.status !== 201) return;
      known.set(name, 'there');
      if (random.below(4) === 0) continue;
      known.delete(name);
      const removed = await request(`/volumes/${name}`, 'DELETE');
      if (removed?.status !== 204) return;
      known.set(name, 'gone');
    }
  };
  const anonymous = async (signal: { stop: boolean }): Promise<void> => {
    while (!signal.stop) {
      if ((await request('/volumes/create', 'POST', {})) === null) return;
      if (random.below(3) === 0 && (await request('/volumes/prune', 'POST')) === null) return;
    }
  };
  let churned = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const signal = { stop: false };
    const under = [...Array.from({ length: 8 }, (_, i) => churn(`v${i}-name`, signal)), anonymous(signal)];
    await sleep(50 + random.below(300));
    await d.down('SIGKILL');
    signal.stop = true;
    await Promise.all(under);
    await d.up();
    const listed = (await d.api('GET', '/volumes')).json.Volumes as {
      readonly Name: string;
      readonly Labels: Record<string, string>;
      readonly Options: Record<string, string> | null;
    }[];
    const names = listed.map(({ Name }) => Name).toSorted();
    assert.deepEqual(readdirSync(root).filter((name) => name !== '.removing').toSorted(), names, `seed ${SEED}`); // prettier-ignore
    assert.deepEqual(readdirSync(join(root, '.removing')), [], `seed ${SEED}`);
    for (const { Name, Labels, Options } of listed) {
      assert(existsSync(join(root, Name, '_data')), Name);
      // Also what was cut short is whole: never one without its labels, its options, or the mark of the anonymous.
      if (Name.startsWith('v')) assert.deepEqual([Labels, Options], [{ of: Name }, options], `seed ${SEED}`);
      else assert.deepEqual(Labels, { 'com.docker.volume.anonymous': '' }, `seed ${SEED}`);
    }
    for (const [name, state] of known) assert.equal(names.includes(name), state === 'there', `${name}, seed ${SEED}`);
    churned += names.length + known.size;
  }
  assert(churned > 0);
  await d.ok('volume', 'rm', ...(await d.ok('volume', 'ls', '-q')).split('\n'));
  assert.deepEqual(readdirSync(root), ['.removing']);
});
