/** Volumes with real mounts. Mounts are made below a directory of the test's own and are gone at its end. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { test } from 'node:test';

import { systemClock } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';
import { silent } from '../core/log.ts';
import type { NewEvent } from '../event/port.ts';
import { openKernel } from '../kernel/kernel.ts';
import { openStore } from '../store/store.ts';
import type { Volumes } from './port.ts';
import { openVolumes } from './volumes.ts';

async function setUp() {
  const dataRoot = mkdtempSync('/tmp/longshore-volume-');
  const kernel = await openKernel();
  const store = openStore({ path: `${dataRoot}/store.sqlite`, clock: systemClock, logger: silent });
  const events: NewEvent[] = [];
  const open = (): Promise<Volumes> =>
    openVolumes({
      dataRoot,
      kernel,
      store,
      events: { publish: (event) => events.push(event) },
      clock: systemClock,
      logger: silent,
    });
  return {
    dataRoot,
    events,
    open,
    mounted: () =>
      readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .filter((line) => line.includes(` ${dataRoot}/`)).length,
    async [Symbol.asyncDispose]() {
      for (const path of await kernel.mounts.below(dataRoot)) await kernel.mounts.unmount(path);
      await store[Symbol.asyncDispose]();
      await kernel[Symbol.asyncDispose]();
      rmSync(dataRoot, { recursive: true });
    },
  };
}

const use = (containerId: string, destination = '/d') => ({
  containerId,
  destination,
  readWrite: true,
  propagation: '',
});
const spec = (name: string, options: Record<string, string> = {}) => ({ name, driver: '', options, labels: {} });
const refused = (code: string, message: RegExp | string) => (error: unknown) => {
  assert(error instanceof EngineError, String(error));
  assert.equal(error.code, code);
  if (typeof message === 'string') assert.equal(error.message, message);
  else assert.match(error.message, message);
  return true;
};

test("create: is idempotent, keeps its record over a restart, and refuses with Docker's words", async () => {
  await using host = await setUp();
  const volumes = await host.open();
  const volume = await volumes.create({ ...spec('data'), labels: { a: 'b' } });
  assert.deepEqual(await volumes.create(spec('data')), volume);
  assert.equal(volume.mountpoint, `${host.dataRoot}/volumes/data/_data`);
  const anonymous = await volumes.create({ ...spec(''), labels: { a: 'b' }, referrer: 'c1' });
  assert.match(anonymous.name, /^[0-9a-f]{64}$/);
  assert.deepEqual(anonymous.labels, { a: 'b', 'com.docker.volume.anonymous': '' });
  assert.deepEqual(volumes.references(anonymous.name), ['c1']);
  await assert.rejects(
    volumes.create(spec('../x')),
    refused(
      'VOLUME_NAME_INVALID',
      'create ../x: "../x" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
    ),
  );
  await assert.rejects(
    volumes.create({ ...spec('x1'), driver: 'nosuch' }),
    refused('VOLUME_DRIVER_UNKNOWN', 'create x1: error looking up volume plugin nosuch: plugin "nosuch" not found'),
  );
  await assert.rejects(
    volumes.create(spec('x1', { foo: 'bar' })),
    refused('VOLUME_SPEC_INVALID', 'create x1: invalid option: "foo"'),
  );
  await assert.rejects(
    volumes.create(spec('x1', { o: 'bind', type: 'none' })),
    refused('VOLUME_SPEC_INVALID', 'create x1: missing required option: "device"'),
  );
  for (const [size, message] of [
    ['lots', "create x1: invalid size: 'lots'"],
    ['', "create x1: invalid size: ''"],
    ['10GB', 'create x1: quota size requested but no quota support'],
  ] as const)
    await assert.rejects(volumes.create(spec('x1', { size })), refused('VOLUME_SPEC_INVALID', message));
  const again = await host.open();
  await again.recover(new Set());
  assert.deepEqual(again.get('data'), volume);
  assert.throws(() => again.get('x1'), refused('VOLUME_NOT_FOUND', 'get x1: no such volume'));
  assert.deepEqual(
    host.events.map(({ action, actor }) => [
      action,
      actor.id.length > 20 ? 'anonymous' : actor.id,
      actor.attributes['driver'],
    ]),
    [
      ['create', 'data', 'local'],
      ['create', 'data', 'local'], // asked for again, as moby tells it
      ['create', 'anonymous', 'local'],
    ],
  );
});

test('remove: refuses what is referred to, and takes the data else', async () => {
  await using host = await setUp();
  const volumes = await host.open();
  const { mountpoint } = await volumes.create(spec('data'));
  writeFileSync(`${mountpoint}/f`, 'x');
  volumes.refer('data', 'c1');
  volumes.refer('data', 'c2');
  await assert.rejects(
    volumes.remove('data', { force: true }),
    refused('VOLUME_IN_USE', 'remove data: volume is in use - [c1, c2]'),
  );
  volumes.unrefer('data', 'c1');
  volumes.unrefer('data', 'c2');
  await volumes.remove('data', { force: false });
  assert.deepEqual(readdirSync(`${host.dataRoot}/volumes`), ['.removing']);
  assert.deepEqual(readdirSync(`${host.dataRoot}/volumes/.removing`), []);
  await assert.rejects(
    volumes.remove('data', { force: false }),
    refused('VOLUME_NOT_FOUND', 'get data: no such volume'),
  );
  await volumes.remove('data', { force: true });
});

test('recover: what a crash cut short is finished, removals and creations alike; data without a record is taken up', async () => {
  await using host = await setUp();
  const root = `${host.dataRoot}/volumes`;
  let volumes = await host.open();
  for (const name of ['gone', 'begun', 'again']) await volumes.create({ ...spec(name), labels: { a: 'b' } });
  mkdirSync(`${root}/.removing/again/_data`, { recursive: true }); // of a removal before: there is a new one
  renameSync(`${root}/gone`, `${root}/.removing/gone`); // and then it died: the record is still there
  rmSync(`${root}/begun`, { recursive: true }); // it died before the directory was made
  mkdirSync(`${root}/found/_data`, { recursive: true });
  volumes = await host.open();
  await volumes.recover(new Set());
  assert.deepEqual(readdirSync(root).toSorted(), ['.removing', 'again', 'begun', 'found']);
  assert.deepEqual(readdirSync(`${root}/.removing`), []);
  assert.deepEqual(volumes.list().map(({ name }) => name).toSorted(), ['again', 'begun', 'found']); // prettier-ignore
  assert.equal(statSync(volumes.get('begun').mountpoint).mode & 0o777, 0o755);
  assert.deepEqual([volumes.get('begun').labels, volumes.get('found').labels], [{ a: 'b' }, null]);
  volumes = await host.open();
  assert.throws(() => volumes.get('gone'), refused('VOLUME_NOT_FOUND', 'get gone: no such volume'));
});

test('acquire: mounts what the options say while somebody uses it', async () => {
  await using host = await setUp();
  let volumes = await host.open();
  mkdirSync(`${host.dataRoot}/source`);
  writeFileSync(`${host.dataRoot}/source/f`, 'bound');
  await volumes.create(spec('bound', { type: 'none', o: 'bind', device: `${host.dataRoot}/source` }));
  await volumes.create(spec('memory', { type: 'tmpfs', o: 'size=1m,uid=5', device: 'tmpfs' }));
  await volumes.create(spec('broken', { type: 'none', o: 'bind', device: '/no/such' }));
  const path = await volumes.acquire('bound', use('c1'));
  await volumes.acquire('bound', use('c2'));
  await volumes.acquire('bound', use('c1', '/twice'));
  assert.equal(readFileSync(`${path}/f`, 'utf8'), 'bound');
  const memory = await volumes.acquire('memory', use('c1'));
  assert.match(execFileSync('stat', ['-f', '-c', '%T', memory]).toString(), /tmpfs/);
  await assert.rejects(
    volumes.acquire('broken', use('c1')),
    refused(
      'HOST_UNSUPPORTED',
      `error while mounting volume '${host.dataRoot}/volumes/broken/_data': failed to mount local volume: mount /no/such:${host.dataRoot}/volumes/broken/_data, flags: 0x1000: no such file or directory`,
    ),
  );
  for (const [options, failure] of [
    [{ type: 'tmpfs', device: '' }, 'missing device in volume options'],
    [{ type: 'nosuchfs', device: 'x' }, /^failed to mount local volume: mount x:\/.*_data: no such device$/],
    [
      { type: 'cifs', device: '//127.0.0.1/x', o: 'password=secret' },
      // Some kernels know cifs, and miss an address of the server.
      /: mount \/\/127.0.0.1\/x:.*_data, data: password=\*{8}: (?:no such device \(this host cannot mount cifs\)|invalid argument)$/,
    ],
    [{ type: 'nfs', device: ':/x', o: 'addr=no-such-host.invalid' }, /^error resolving .*no-such-host.invalid/],
  ] as const) {
    await volumes.create(spec('bad', options));
    const words = (message: string) => message.replace(/^error while mounting volume '.*_data': /, '');
    await assert.rejects(volumes.acquire('bad', use('c1')), (error: Error) => {
      if (typeof failure === 'string') assert.equal(words(error.message), failure);
      else assert.match(words(error.message), failure);
      return true;
    });
    await volumes.remove('bad', { force: false });
  }
  await volumes.create(spec('fixed', { type: 'none', o: 'bind,ro', device: `${host.dataRoot}/source` }));
  const fixed = await volumes.acquire('fixed', use('c1'));
  assert.throws(() => writeFileSync(`${fixed}/g`, ''), { code: 'EROFS' });
  await volumes.release('fixed', use('c1'));
  await volumes.release('bound', use('c1'));
  await volumes.release('bound', use('c2'));
  assert.equal(host.mounted(), 2);
  volumes.tellReleased('bound', use('c1', '/twice'));
  assert.equal(host.events.at(-1)!.action, 'unmount');
  const told = host.events.length;

  await volumes.release('bound', use('c1', '/twice'));
  assert.deepEqual([host.mounted(), host.events.length], [1, told]);

  // A daemon that died: what live containers use stays, the rest goes.
  volumes = await host.open();
  volumes.refer('memory', 'c1');
  await volumes.recover(new Set(['c1']));
  assert.equal(host.mounted(), 1);
  await volumes.adopt('memory', use('c1'));
  await volumes.release('memory', use('c1'));
  await volumes.release('memory', use('c1'));
  assert.equal(host.mounted(), 0);
  assert.equal(await volumes.sizeBytes('memory'), -1);
  volumes.unrefer('memory', 'c1');
  await volumes.remove('bound', { force: false });
  assert.equal(readFileSync(`${host.dataRoot}/source/f`, 'utf8'), 'bound'); // only the volume went
});

test('copyUp: an empty volume takes owners, modes, times, links and attributes; a used one nothing', async () => {
  await using host = await setUp();
  const volumes = await host.open();
  const source = `${host.dataRoot}/image`;
  mkdirSync(source);
  const script = `cd ${source}; umask 022; mkdir -p d/e; echo hello >d/f; ln d/f hard; ln -s ../gone d/link; mkfifo pipe; mknod null c 1 3; echo s >setuid; chown 7:8 setuid d; chmod 4755 setuid; chmod 1777 d; chown -h 9:9 d/link; touch -d '2001-02-03 04:05:06.789' d/f d/e d; echo big >$'od\\td'; setcap cap_net_raw+ep setuid 2>/dev/null || true; chmod 750 .; chown 3:4 .`;
  execFileSync('bash', ['-c', script]);
  const { mountpoint } = await volumes.create(spec('data'));
  await volumes.copyUp('data', source, '');
  const listing = (path: string): string =>
    execFileSync('sh', [
      '-c',
      `cd '${path}' && find . -printf '%p %y %m %U:%G %n %l %T@ %s\\n' | sed 's/^\\(. d [^ ]* [^ ]* [^ ]* *[^ ]*\\) [0-9]*$/\\1/' | sort`,
    ]).toString();
  assert.equal(
    listing(mountpoint).replaceAll(/( d \d+ \S+ \d+ .*) \d+$/gm, '$1'),
    listing(source).replaceAll(/( d \d+ \S+ \d+ .*) \d+$/gm, '$1'),
  );
  assert.equal(execFileSync('cat', [`${mountpoint}/d/f`]).toString(), 'hello\n');
  assert.equal(await volumes.sizeBytes('data'), 6 + 7 + 2 + 4); // hello, the link's text, s, big
  rmSync(`${mountpoint}/setuid`);
  await volumes.copyUp('data', source, '');
  assert.equal(existsSync(`${mountpoint}/setuid`), false);
});
