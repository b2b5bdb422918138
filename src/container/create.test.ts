import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import type { ContainerSpec } from '../core/container-spec.ts';
import { systemClock } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import { ENDPOINT_DEFAULT } from '../network/endpoint-spec.ts';
import { DAEMON_DEFAULTS } from '../runtime/spec/input.ts';
import { createContainer } from './create.ts';
import { eventAttributes } from './events.ts';
import { containerOf, HOST_FACTS, IMAGE, partsWith, specOf } from './fakes.ts';
import type { Parts } from './parts.ts';

const BY = { description: 'test' };

/** What exists at the moment, of each kind. */
class World {
  readonly open = new Set<string>();
  readonly containers: Container[] = [];
  readonly volumes = new Set(['kept']);
  failAt = '';
  readonly parts: ReturnType<typeof partsWith>;

  constructor(dataRoot: string) {
    const took = async (what: string): Promise<void> => {
      if (what.startsWith(this.failAt) && this.failAt !== '') throw new EngineError('STORE_FAILED', `no ${what}`);
      this.open.add(what);
    };
    const gave = async (what: string): Promise<void> => void this.open.delete(what);
    const volume = (name: string) => ({ name, driver: 'local', mountpoint: `/volumes/${name}/_data` });
    const fakes = {
      supervisor: {
        get: (id: string) => this.containers.find((one) => one.id === id),
        list: () => this.containers,
        add: async (container: Container) => {
          await took('record');
          this.containers.push(container);
        },
      },
      images: {
        resolve: (ref: string) => {
          if (ref !== 'busybox') throw new EngineError('IMAGE_NOT_FOUND', `No such image: ${ref}:latest`);
          return IMAGE;
        },
        snapshots: {
          create: async () => took('snapshot'),
          remove: async () => gave('snapshot'),
          mount: async () => (await took('mount'), '/rootfs'),
          unmount: async () => gave('mount'),
          describe: () => ({ workDir: '/nowhere' }),
        },
      },
      volumes: {
        get: (name: string) => {
          if (!this.volumes.has(name)) throw new EngineError('VOLUME_NOT_FOUND', `get ${name}: no such volume`);
          return volume(name);
        },
        create: async ({ name }: { name: string }) => {
          const made = name === '' ? 'f'.repeat(64) : name;
          if (!this.volumes.has(made)) await took(`volume ${made}`);
          this.volumes.add(made);
          return volume(made);
        },
        remove: async (name: string) => {
          this.volumes.delete(name);
          await gave(`volume ${name}`);
        },
        refer: (name: string) => void this.open.add(`reference ${name}`),
        unrefer: (name: string) => void this.open.delete(`reference ${name}`),
        copyUp: async (name: string, source: string) => {
          assert.equal(source, '/tmp');
          if (this.failAt === 'copy') throw new EngineError('STORE_FAILED', `no copy into ${name}`);
        },
      },
      rootFiles: { locate: async () => '/tmp', ensureDirectory: async () => {} },
      networkOf: (ref: string) =>
        ref === 'netid' || ref === 'mynet' ? { name: 'mynet', id: 'netid', ipam: { configs: [] } } : null,
      clock: systemClock,
      host: HOST_FACTS,
      daemon: DAEMON_DEFAULTS,
      settings: {
        dataRoot,
        hostname: 'thehost',
        defaultLog: { driver: '', options: {} },
        platform: { os: 'linux', architecture: 'amd64', variant: '' },
      },
    };
    this.parts = partsWith(this.containers, fakes as unknown as Partial<Parts>);
  }

  async create(spec: ContainerSpec, name = 'web') {
    return createContainer(this.parts, { name, spec, platform: null, apiVersion: '1.51' }, BY);
  }
}

async function withWorld(run: (world: World, dataRoot: string) => Promise<void>): Promise<void> {
  const dataRoot = await mkdtemp(join(tmpdir(), 'container-create-'));
  try {
    await run(new World(dataRoot), dataRoot);
  } finally {
    await rm(dataRoot, { recursive: true });
  }
}

const FULL = specOf({
  process: { volumes: ['/anon'] },
  host: { binds: ['named:/data', 'kept:/kept', '/tmp:/tmp:ro'] },
});

for (const failAt of ['snapshot', 'volume', 'mount', 'copy', 'record']) {
  test(`createContainer: leaves nothing when "${failAt}" fails, and the name is free again`, () =>
    withWorld(async (world, dataRoot) => {
      world.failAt = failAt;
      await assert.rejects(world.create(FULL), { code: 'STORE_FAILED' });
      assert.deepEqual([...world.open], []);
      assert.deepEqual([...world.volumes], ['kept']);
      assert.deepEqual(world.containers, []);
      assert.deepEqual(world.parts.published, []);
      assert.deepEqual(await readdir(join(dataRoot, 'containers')), []);
      world.failAt = '';
      assert.match((await world.create(FULL)).id, /^[0-9a-f]{64}$/);
    }));
}

test('createContainer: commits the record', () =>
  withWorld(async (world) => {
    const spec = specOf({ process: { labels: { a: 'b' }, volumes: ['/anon'] }, host: { networkMode: 'default' } });
    const { id, warnings } = await world.create(spec);
    assert.deepEqual(warnings, []);
    const [container] = world.containers;
    assert.equal(container!.id, id);
    assert.deepEqual(container!.state, { at: 'created' });
    assert.deepEqual(container!.spec.endpoints, { bridge: ENDPOINT_DEFAULT });
    assert.equal(container!.spec.host.networkMode, 'bridge');
    assert.deepEqual(container!.spec.host.log, { driver: 'json-file', options: {} });
    assert.equal(container!.spec.process.hostname, id.slice(0, 12));
    assert.deepEqual(container!.spec.process.env, ['PATH=/bin']);
    assert.equal(container!.mounts[0]!.anonymous, true);
    assert.deepEqual(world.parts.published, [], 'the event is in the journal with the record: the supervisor’s');
    assert.deepEqual(eventAttributes(container!), { a: 'b', image: 'busybox', name: 'web' });
    assert.deepEqual([...world.open].toSorted(), [
      'record',
      `reference ${'f'.repeat(64)}`,
      'snapshot',
      `volume ${'f'.repeat(64)}`,
    ]);
  }));

test("createContainer: endpoints go by name, the mode's network first", () =>
  withWorld(async (world) => {
    await world.create(
      specOf({ host: { networkMode: 'netid' }, endpoints: { other: ENDPOINT_DEFAULT, netid: ENDPOINT_DEFAULT } }),
      'one',
    );
    await world.create(specOf({ host: { networkMode: 'container:one' } }), 'two');
    await world.create(specOf({ host: { networkMode: 'host' } }), 'three');
    const [one, two, three] = world.containers;
    assert.deepEqual(Object.keys(one!.spec.endpoints), ['mynet', 'other']);
    assert.deepEqual([two!.spec.host.networkMode, two!.spec.endpoints], [`container:${one!.id}`, {}]);
    assert.deepEqual([three!.spec.process.hostname, Object.keys(three!.spec.endpoints)], ['thehost', ['host']]);
  }));

test('createContainer: refuses in the order and words of Docker', () =>
  withWorld(async (world) => {
    const cases: [ContainerSpec, string, string, string?][] = [
      [
        specOf({ process: { image: 'nope', workingDir: 'x' } }),
        'CONTAINER_SPEC_INVALID',
        "the working directory 'x' is invalid, it needs to be an absolute path",
      ],
      [specOf({ process: { image: 'nope' } }), 'IMAGE_NOT_FOUND', 'No such image: nope:latest', '!'],
      [specOf({ process: { cmd: null, entrypoint: [''] } }), 'CONTAINER_SPEC_INVALID', 'no command specified'],
      [specOf({ host: { runtime: 'x' } }), 'RUNTIME_UNKNOWN', 'unknown or invalid runtime name: x'],
      [
        specOf({ host: { log: { driver: 'x', options: {} } } }),
        'LOG_DRIVER_UNKNOWN',
        "logger: no log driver named 'x' is registered",
      ],
      [
        specOf({ host: { links: ['gone:x'] } }),
        'CONTAINER_SPEC_INVALID',
        'could not get container for gone: No such container: gone',
      ],
      [specOf({ host: { volumesFrom: ['gone'] } }), 'CONTAINER_SPEC_INVALID', 'No such container: gone'],
      [specOf({ host: { ipcMode: 'container:gone' } }), 'CONTAINER_SPEC_INVALID', 'No such container: gone'],
      [specOf({ host: { pidMode: 'container:gone' } }), 'CONTAINER_SPEC_INVALID', 'No such container: gone'],
      [
        specOf({ host: { storageOpt: { size: '1G' } } }),
        'OPTION_UNSUPPORTED',
        "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
      ],
      [
        specOf({ host: { binds: ['/a:relative'] } }),
        'MOUNT_INVALID',
        "invalid volume specification: '/a:relative': invalid mount config for type \"bind\": invalid mount path: 'relative' mount path must be absolute",
      ],
      [
        specOf(),
        'CONTAINER_NAME_INVALID',
        'Invalid container name (!), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed',
        '!',
      ],
    ];
    for (const [spec, code, message, name] of cases) {
      await assert.rejects(world.create(spec, name), (error: EngineError) => {
        assert.deepEqual([error.code, error.message], [code, message]);
        return true;
      });
    }
    assert.deepEqual([[...world.open], world.containers], [[], []]);
  }));

test('createContainer: warns of an image for another machine', () =>
  withWorld(async (world) => {
    world.parts.images.resolve = () => ({ ...IMAGE, architecture: 'arm64', variant: 'v8' });
    const { warnings } = await world.create(specOf());
    assert.deepEqual(warnings, [
      "The requested image's platform (linux/arm64/v8) does not match the detected host platform (linux/amd64) and no specific platform was requested",
    ]);
  }));

test('createContainer: two at once of one name make one container', () =>
  withWorld(async (world) => {
    const results = await Promise.allSettled([world.create(specOf()), world.create(specOf())]);
    assert.deepEqual(results.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
    assert.equal(world.containers.length, 1);
    assert.notEqual(world.containers[0], containerOf());
  }));
