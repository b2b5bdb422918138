import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import type { MountSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { MountPoint } from '../core/mount-point.ts';
import { planMounts, type MountPlanInput } from './mount-plan.ts';
import { EMPTY_MOUNT, parseBind, parseMount } from './mount-spec.ts';

const mountSpec = (more: Partial<MountSpec>): MountSpec => ({
  type: 'bind',
  source: '',
  target: '/t',
  readOnly: false,
  consistency: '',
  bind: null,
  volume: null,
  tmpfs: null,
  image: null,
  ...more,
});
const bindOptions = {
  propagation: '',
  nonRecursive: false,
  createMountpoint: false,
  readOnlyNonRecursive: false,
  readOnlyForceRecursive: false,
};
const plan = (
  more: Partial<MountPlanInput['host']>,
  rest: Partial<MountPlanInput> = {},
): ReturnType<typeof planMounts> =>
  planMounts({
    host: { binds: null, mounts: null, tmpfs: null, volumesFrom: null, volumeDriver: '', ...more },
    volumes: null,
    mountsOf: () => assert.fail('not asked for'),
    sourceExists: async () => true,
    isReadOnlyShallow: false,
    engineRoot: '/var/lib/longshore',
    ...rest,
  });
const refused = (message: string) => (error: unknown) => {
  assert(error instanceof EngineError, String(error));
  assert.equal(error.kind, 'invalid');
  assert.equal(error.message, message);
  return true;
};

const binds: [raw: string, want: Partial<MountPoint>][] = [
  ['/a:/b', { type: 'bind', source: '/a', destination: '/b', propagation: 'rprivate', createSource: true }],
  [
    '/a/../c/:/b/./d/:ro,Z,rslave',
    {
      type: 'bind',
      source: '/c',
      destination: '/b/d',
      mode: 'ro,Z,rslave',
      readWrite: false,
      propagation: 'rslave',
      createSource: true,
    },
  ],
  ['data:/b', { type: 'volume', name: 'data', destination: '/b', driver: 'local', mode: 'z', copyUp: true }],
  [
    'data:/b:nocopy,ro',
    { type: 'volume', name: 'data', destination: '/b', driver: 'local', mode: 'nocopy,ro', readWrite: false },
  ],
  ['/anon', { type: 'volume', destination: '/anon', driver: 'local', mode: 'z', anonymous: true, copyUp: true }],
];
for (const [raw, want] of binds) {
  test(`parseBind: ${raw}`, () => assert.deepEqual(parseBind(raw, '').mount, { ...EMPTY_MOUNT, ...want }));
}

const badBinds: [raw: string, message: string][] = [
  ['', "invalid volume specification: ''"],
  [':/b', "invalid volume specification: ':/b'"],
  ['/b:rw', "invalid volume specification: '/b:rw'"],
  ['/a:/b:ro:x', "invalid volume specification: '/a:/b:ro:x'"],
  ['/a:/b:', ''],
  ['/a:/b:wrong', 'invalid mode: wrong'],
  ['/a:/b:ro,rw', 'invalid mode: ro,rw'],
  [
    '/a:b',
    `invalid volume specification: '/a:b': invalid mount config for type "bind": invalid mount path: 'b' mount path must be absolute`,
  ],
  [
    '/a:/',
    `invalid volume specification: '/a:/': invalid mount config for type "bind": invalid specification: destination can't be '/'`,
  ],
  ['/a:', `invalid volume specification: '/a:'`],
  [
    'v:/b:shared',
    `invalid volume specification: 'v:/b:shared': invalid mount config for type "volume": field BindOptions must not be specified`,
  ],
];
for (const [raw, message] of badBinds) {
  test(`parseBind: ${raw === '' ? 'nothing' : raw} ${message === '' ? 'is taken' : 'is refused'}`, () => {
    if (message === '') parseBind(raw, '');
    else assert.throws(() => parseBind(raw, ''), refused(message));
  });
}

const badMounts: [title: string, spec: Partial<MountSpec>, detail: string][] = [
  ['no target', { target: '', source: '/a' }, 'invalid mount config for type "bind": field Target must not be empty'],
  ['bind without source', {}, 'invalid mount config for type "bind": field Source must not be empty'],
  [
    'relative source',
    { source: 'a' },
    `invalid mount config for type "bind": invalid mount path: 'a' mount path must be absolute`,
  ],
  [
    'propagation',
    { source: '/a', bind: { ...bindOptions, propagation: 'x' } },
    'invalid mount config for type "bind": invalid propagation mode: x',
  ],
  [
    'tmpfs with source',
    { type: 'tmpfs', source: '/a' },
    'invalid mount config for type "tmpfs": field Source must not be specified',
  ],
  [
    'escaping subpath',
    { type: 'volume', source: 'v', volume: { noCopy: false, labels: null, driver: null, subpath: 'a/../../b' } },
    'invalid mount config for type "volume": subpath must be a relative path within the volume',
  ],
  [
    'read-only anonymous',
    { type: 'volume', readOnly: true },
    'invalid mount config for type "volume": must not set ReadOnly mode when using anonymous volumes',
  ],
  ['npipe', { type: 'npipe', source: 'x' }, 'invalid mount config for type "npipe": mount type unknown'],
];
for (const [title, spec, detail] of badMounts) {
  test(`parseMount: ${title} is refused`, () => assert.throws(() => parseMount(mountSpec(spec)), refused(detail)));
}

test('parseMount: tmpfs options become what the kernel takes', () => {
  const { mount } = parseMount(
    mountSpec({ type: 'tmpfs', readOnly: true, tmpfs: { sizeBytes: 64 << 20, mode: 0o1777, options: [['noexec']] } }),
  );
  assert.deepEqual(mount.options, ['ro', 'mode=1777', 'size=64m', 'noexec']);
});

test('parseMount: the labels and driver options of a volume are kept for its creation', () => {
  const volume = { noCopy: true, labels: { a: 'b' }, driver: { name: '', options: { type: 'tmpfs' } }, subpath: 'x' };
  assert.deepEqual(parseMount(mountSpec({ type: 'volume', source: 'v', volume })), {
    mount: { ...EMPTY_MOUNT, type: 'volume', name: 'v', destination: '/t', driver: 'local', mode: 'z', subpath: 'x' },
    volume: { labels: { a: 'b' }, options: { type: 'tmpfs' } },
  });
});

test('planMounts: what is named later wins over what is inherited, and image volumes come last', async () => {
  const inherited: MountPoint[] = [
    { ...EMPTY_MOUNT, type: 'volume', name: 'old', destination: '/data', driver: 'local', mode: 'z', copyUp: true },
    { ...EMPTY_MOUNT, type: 'bind', source: '/host', destination: '/host', propagation: 'rprivate' },
  ];
  const planned = await plan(
    { volumesFrom: ['other:ro'], binds: ['new:/data'] },
    { mountsOf: (name) => (name === 'other' ? inherited : []), volumes: ['/data', '/image/'] },
  );
  assert.deepEqual(
    planned.map(({ mount }) => [mount.destination, mount.name, mount.readWrite, mount.copyUp, mount.mode]),
    [
      ['/data', 'new', true, true, 'z'],
      ['/host', '', false, false, ''],
      ['/image', '', true, true, ''],
    ],
  );
});

test('planMounts: a destination named twice is refused', async () => {
  await assert.rejects(plan({ binds: ['/a:/x', 'v:/x/'] }), refused('Duplicate mount point: /x'));
  await assert.rejects(
    plan({ binds: ['/a:/x'], mounts: [mountSpec({ source: '/b', target: '/x' })] }),
    refused('Duplicate mount point: /x'),
  );
  await assert.rejects(plan({ binds: ['/a:/x'], tmpfs: { '/x': '' } }), refused('Duplicate mount point: /x'));
});

test('planMounts: --mount wants its source, -v makes it', async () => {
  const rest = { sourceExists: async () => false };
  await assert.rejects(
    plan({ mounts: [mountSpec({ source: '/no' })] }, rest),
    refused('invalid mount config for type "bind": bind source path does not exist: /no'),
  );
  assert.equal((await plan({ binds: ['/no:/t'] }, rest))[0]?.mount.createSource, true);
  assert.equal(
    (await plan({ mounts: [mountSpec({ source: '/no', bind: { ...bindOptions, createMountpoint: true } })] }, rest))[0]
      ?.mount.createSource,
    true,
  );
});

test("planMounts: the engine's own directory is bound so that its mounts can go", async () => {
  assert.equal((await plan({ binds: ['/:/host'] }))[0]?.mount.propagation, 'rslave');
  assert.equal((await plan({ binds: ['/var/lib:/x:rshared'] }))[0]?.mount.propagation, 'rshared');
  assert.equal((await plan({ binds: ['/var/lib2:/x'] }))[0]?.mount.propagation, 'rprivate');
  await assert.rejects(
    plan({ binds: ['/var/lib/longshore/volumes:/x:private'] }),
    /must use either propagation mode "rslave" or "rshared"/,
  );
});

test('parseBind: any text is a mount with an absolute clean destination, or refused with a reason', () => {
  const word = fc.oneof(
    fc.constantFrom('/', '..', 'ro', 'rw', 'z', 'shared', '/a', '/a/../b', 'vol', '', 'nocopy'),
    fc.string({ maxLength: 6 }),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 5 }), (words) => {
      try {
        const { mount } = parseBind(words.join(':'), '');
        assert.match(mount.destination, /^\/.*[^/]$/s);
        assert(!mount.destination.split('/').includes('..'));
        assert.equal(mount.type === 'bind', mount.source.startsWith('/'));
      } catch (error) {
        assert(error instanceof EngineError && error.code === 'MOUNT_INVALID', String(error));
      }
    }),
    { numRuns: 500 },
  );
});
