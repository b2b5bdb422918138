import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { EngineError } from '../core/engine-error.ts';
import type { MountPoint } from '../core/mount-point.ts';
import type { Container } from '../lifecycle/container.ts';
import type { OciSpec } from '../runtime/spec/build-oci-spec.ts';
import { DAEMON_DEFAULTS } from '../runtime/spec/input.ts';
import { acquireAll, releaseAll } from './acquire-all.ts';
import { containerOf, HOST_FACTS, partsWith, specOf } from './fakes.ts';
import type { Parts } from './parts.ts';
import { StartResources } from './start-resources.ts';

const LIVE = { at: 'running', pid: 7, startedAt: '2026-01-01T00:00:01Z', oomKilled: false } as const;

const MOUNT: MountPoint = {
  type: 'volume', name: 'v', source: '/volumes/v/_data', destination: '/data', driver: 'local', mode: '', readWrite: true,
  propagation: '', anonymous: true, copyUp: true, subpath: '', options: [], createSource: false,
}; // prettier-ignore
const IMAGE_MOUNT: MountPoint = {
  ...MOUNT,
  type: 'image',
  name: '',
  source: 'sha256:2',
  destination: '/im',
  anonymous: false,
};

function world(dataRoot: string, ...containers: Container[]) {
  const open = new Set<string>();
  const state = { open, failAt: '', order: [] as string[] };
  const take = async (what: string): Promise<void> => {
    await new Promise(setImmediate);
    if (state.failAt !== '' && what.startsWith(state.failAt))
      throw new EngineError('RUNTIME_START_FAILED', `no ${what}`);
    state.order.push(`+${what}`);
    open.add(what);
  };
  const give = async (what: string): Promise<boolean> => {
    if (open.delete(what)) state.order.push(`-${what}`);
    return true;
  };
  const fakes = {
    supervisor: { get: (id: string) => containers.find((one) => one.id === id), list: () => containers },
    images: {
      snapshots: {
        describe: () => ({ workDir: join(dataRoot, 'work') }),
        remove: async (id: string) => give(`snapshot ${id.slice(64)}`),
        mount: async (id: string) => (await take(`mount ${id.slice(64)}`), `/rootfs${id.slice(64)}`),
        unmount: async (id: string) => give(`mount ${id.slice(64)}`),
        path: () => '/rootfs',
      },
    },
    networks: {
      attach: async ({ mode }: { mode: string }) => {
        await take('network');
        return {
          namespacePath: mode === 'host' ? null : '/netns/x',
          endpoints: new Map(),
          resolvConfPath: '/f/resolv.conf',
          hostsPath: '/f/hosts',
          hostnamePath: null,
        };
      },
      tellConnected: () => {},
      tellDisconnected: () => {},
      detach: async () => give('network'),
      adopt: async () => take('network'),
      endpoints: () => new Map([['bridge', { ipv4Address: '172.17.0.9' }]]),
    },
    volumes: {
      acquire: async (name: string) => (await take(`volume ${name}`), `/volumes/${name}/_data`),
      release: async (name: string) => give(`volume ${name}`),
      adopt: async (name: string) => take(`volume ${name}`),
      unrefer: () => {},
      remove: async (name: string) => {
        if (name === 'v') throw new EngineError('VOLUME_IN_USE', 'in use');
      },
    },
    mounts: { mount: async () => take('shm'), unmount: async () => give('shm') },
    rootFiles: {
      readText: async (_: string, path: string) =>
        path === '/etc/passwd' ? 'root:x:0:0::/root:/bin/sh\napp:x:7:8::/home/app:/bin/sh\n' : '',
      ensureBehindLinks: async () => {},
      ensureDirectory: async () => {
        if (state.failAt === 'directory') throw new EngineError('CONTAINER_PATH_INVALID', 'no directory');
      },
      locate: async () => null,
    },
    files: { removeTree: async () => give('directory') },
    host: HOST_FACTS,
    daemon: DAEMON_DEFAULTS,
    settings: { dataRoot, dns: { servers: [], options: [], search: [] }, defaultLog: { driver: '', options: {} } },
  };
  const parts = partsWith(containers, fakes as unknown as Partial<Parts>);
  return { state, parts, resources: new StartResources(parts) };
}

async function withData(run: (dataRoot: string) => Promise<void>): Promise<void> {
  const dataRoot = await mkdtemp(join(tmpdir(), 'start-resources-'));
  try {
    await run(dataRoot);
  } finally {
    await rm(dataRoot, { recursive: true });
  }
}

const FULL = containerOf({
  run: 1,
  mounts: [MOUNT, IMAGE_MOUNT],
  spec: specOf({
    process: { workingDir: '/w', user: 'app', openStdin: true, stdinOnce: true },
    host: {
      ipcMode: 'shareable',
      autoRemove: true,
      runtime: 'crun',
      cgroupnsMode: 'private',
      log: { driver: 'json-file', options: {} },
    },
  }),
});

test('StartResources.acquire: everything for a launch, and release gives all of it back, in order', () =>
  withData(async (dataRoot) => {
    const { state, resources, parts } = world(dataRoot, FULL);
    await using stack = new AsyncDisposableStack();
    const launch = await resources.acquire(FULL, stack);
    const oci = launch.oci as OciSpec;
    assert.deepEqual(
      [launch.id, launch.run, launch.runtime, launch.tty, launch.stdin],
      [FULL.id, 1, 'crun', false, 'once'],
    );
    assert.equal(launch.log?.path, join(dataRoot, `containers/${FULL.id}/${FULL.id}-json.log`));
    assert.deepEqual(oci.process.user, { uid: 7, gid: 8, additionalGids: [8] });
    assert.equal(oci.process.cwd, '/w');
    assert.deepEqual(
      oci.linux.namespaces.find(({ type }) => type === 'network'),
      { type: 'network', path: '/netns/x' },
    );
    const sources = new Map(oci.mounts.map((mount) => [mount.destination, mount.source]));
    assert.equal(sources.get('/etc/hosts'), '/f/hosts');
    assert.equal(sources.has('/etc/hostname'), false);
    assert.equal(sources.get('/data'), '/volumes/v/_data');
    assert.equal(sources.get('/im'), '/rootfs.image.1');
    assert.match(sources.get('/dev/shm') ?? '', /mounts\/shm$/);
    assert.equal(parts.namespacePaths.get(FULL.id), '/netns/x');
    stack.move(); // it started
    await resources.release(FULL);
    assert.deepEqual([...state.open], []);
    const given = state.order.filter((step) => step.startsWith('-'));
    assert.deepEqual(given, ['-network', '-shm', '-volume v', '-mount .image.1', '-mount ']);
    await resources.release(FULL); // idempotent
    assert.equal(state.order.filter((step) => step.startsWith('-')).length, given.length);
    assert.equal(parts.namespacePaths.size, 0);
  }));

for (const failAt of ['mount ', 'network', 'volume', 'mount .image', 'shm', 'directory']) {
  test(`StartResources.acquire: leaves nothing when "${failAt}" fails, and can be tried again`, () =>
    withData(async (dataRoot) => {
      const { state, resources } = world(dataRoot, FULL);
      state.failAt = failAt;
      await assert.rejects(async () => {
        await using stack = new AsyncDisposableStack();
        await resources.acquire(FULL, stack);
      }, /^EngineError: no /);
      assert.deepEqual([...state.open], []);
      state.failAt = '';
      await using stack = new AsyncDisposableStack();
      await resources.acquire(FULL, stack);
      assert.equal(state.open.size, 5);
    }));
}

test("StartResources.acquire: an unknown user is an error of the start, in Docker's words", () =>
  withData(async (dataRoot) => {
    const nobody = containerOf({ spec: specOf({ process: { user: 'nosuch' } }) });
    const { state, resources } = world(dataRoot, nobody);
    await assert.rejects(
      async () => {
        await using stack = new AsyncDisposableStack();
        await resources.acquire(nobody, stack);
      },
      { message: 'unable to find user nosuch: no matching entries in passwd file' },
    );
    assert.deepEqual([...state.open], []);
  }));

test("StartResources.acquire: who is joined must run, in Docker's words", () =>
  withData(async (dataRoot) => {
    const other = containerOf({ id: 'b'.repeat(64), name: 'other' });
    const cases: [Parameters<typeof specOf>[0], string][] = [
      [
        { host: { networkMode: `container:${other.id}` } },
        'cannot join network namespace of a non running container: container other is created',
      ],
      [{ host: { networkMode: 'container:gone' } }, 'joining network namespace of container: No such container: gone'],
      [
        { host: { pidMode: `container:${other.id}` } },
        `failed to join PID namespace: container ${other.id} is not running`,
      ],
      [{ host: { ipcMode: 'container:gone' } }, 'failed to join IPC namespace: No such container: gone'],
      [
        { host: { links: [`${other.id}:db`] }, endpoints: { bridge: null as never } },
        'Cannot link to a non running container: /other AS /web/db',
      ],
    ];
    for (const [spec, message] of cases) {
      const container = containerOf({ spec: specOf(spec) });
      const { state, resources } = world(dataRoot, container, other);
      await assert.rejects(
        async () => {
          await using stack = new AsyncDisposableStack();
          await resources.acquire(container, stack);
        },
        { message },
      );
      assert.deepEqual([...state.open], []);
    }
    const own = containerOf({ spec: specOf({ host: { ipcMode: `container:${other.id}` } }) });
    const { resources } = world(dataRoot, own, {
      ...other,
      state: LIVE,
      spec: specOf({ host: { ipcMode: 'private' } }),
    });
    await assert.rejects(async () => {
      await using stack = new AsyncDisposableStack();
      await resources.acquire(own, stack);
    }, /non-shareable IPC \(hint: use IpcMode:shareable for the donor container\)/);
  }));

test('StartResources.acquire: a link is told of in the environment', () =>
  withData(async (dataRoot) => {
    const db = containerOf({
      id: 'b'.repeat(64), name: 'db', state: LIVE,
      spec: specOf({ process: { exposedPorts: ['53/udp', '5432/tcp'], env: ['HOME=/x', 'PGUSER=me'] } }),
    }); // prettier-ignore
    const web = containerOf({
      spec: specOf({ host: { links: [`${db.id}:my-db`] }, endpoints: { bridge: null as never } }),
    });
    const { resources } = world(dataRoot, web, db);
    await using stack = new AsyncDisposableStack();
    const { env } = ((await resources.acquire(web, stack)).oci as OciSpec).process;
    assert.deepEqual(env.filter((entry) => entry.startsWith('MY_DB')), [
      'MY_DB_PORT=tcp://172.17.0.9:5432',
      'MY_DB_PORT_5432_TCP=tcp://172.17.0.9:5432', 'MY_DB_PORT_5432_TCP_ADDR=172.17.0.9', 'MY_DB_PORT_5432_TCP_PORT=5432', 'MY_DB_PORT_5432_TCP_PROTO=tcp',
      'MY_DB_PORT_53_UDP=udp://172.17.0.9:53', 'MY_DB_PORT_53_UDP_ADDR=172.17.0.9', 'MY_DB_PORT_53_UDP_PORT=53', 'MY_DB_PORT_53_UDP_PROTO=udp',
      'MY_DB_NAME=/web/my-db',
      'MY_DB_ENV_PGUSER=me',
    ]); // prettier-ignore
  }));

test('StartResources.release: right after a restart of the daemon, what the earlier one held is given back', () =>
  withData(async (dataRoot) => {
    const { state, resources } = world(dataRoot, FULL);
    for (const held of ['network', 'shm', 'volume v', 'mount ']) state.open.add(held);
    await resources.release(FULL);
    assert.deepEqual([...state.open], []);
  }));

test('StartResources.destroy: a volume that another container has does not keep this one from going', () =>
  withData(async (dataRoot) => {
    const { state, resources } = world(dataRoot, FULL);
    for (const made of ['snapshot ', 'snapshot .image.1', 'directory']) state.open.add(made);
    await resources.destroy(FULL, { volumes: true });
    assert.deepEqual([...state.open], []);
  }));

test('acquireAll: waits for all, then undoes what worked, last first, and throws the first error', async () => {
  const undone: string[] = [];
  let late = false;
  await assert.rejects(async () => {
    await using stack = new AsyncDisposableStack();
    await acquireAll(stack, [
      async () => async () => void undone.push('one'),
      async () => {
        throw new Error('two');
      },
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        late = true;
        return async () => void undone.push('three');
      },
    ]);
  }, /two/);
  assert.deepEqual([late, undone], [true, ['three', 'one']]);
});

test('releaseAll: tries all and throws the first error', async () => {
  const tried: number[] = [];
  const failing = (n: number) => async () => {
    tried.push(n);
    throw new Error(String(n));
  };
  await assert.rejects(releaseAll([failing(1), failing(2)]), /^Error: 1$/);
  assert.deepEqual(tried, [1, 2]);
});
