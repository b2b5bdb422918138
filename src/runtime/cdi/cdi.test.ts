import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { buildOciSpec } from '../spec/build-oci-spec.ts';
import { plainInput } from '../spec/spec-fixture.ts';
import { readCdiRegistry, resolveCdiRequests } from './cdi-registry.ts';
import { parseCdiSpec } from './cdi-spec.ts';

const good = {
  cdiVersion: '0.6.0',
  kind: 'vendor.com/device',
  devices: [{ name: 'foo', containerEdits: { env: ['FOO=1'] } }],
};
const request = (...deviceIds: string[]) => [{ driver: 'cdi', count: 0, deviceIds, capabilities: null, options: null }];

async function withDirectories(files: Readonly<Record<string, string>>, run: (directories: string[]) => Promise<void>) {
  const base = await mkdtemp(join(tmpdir(), 'cdi-'));
  try {
    const directories = ['low', 'high', 'missing'].map((name) => join(base, name));
    for (const directory of directories.slice(0, 2)) await mkdir(directory);
    for (const [name, text] of Object.entries(files)) await writeFile(join(base, name), text);
    await run(directories);
  } finally {
    await rm(base, { recursive: true });
  }
}

test('parseCdiSpec: says what is wrong, and takes nothing that it would not do', () => {
  const device = (containerEdits: object) => ({ ...good, devices: [{ name: 'foo', containerEdits }] });
  const cases: [unknown, RegExp][] = [
    [[], /spec is not an object/],
    [{ ...good, cdiVersion: undefined }, /cdiVersion is not a text|missing CDI version/],
    [{ ...good, cdiVersion: '9.9.9' }, /unsupported CDI version "9.9.9"/],
    [{ ...good, kind: 'vendor.com' }, /invalid kind "vendor.com"/],
    [{ ...good, kind: 'a/b/c' }, /invalid kind/],
    [{ ...good, devices: [] }, /no devices/],
    [{ ...good, devices: [good.devices[0], good.devices[0]] }, /multiple device "foo"/],
    [{ ...good, devices: [{ name: '../x', containerEdits: { env: ['A=b'] } }] }, /invalid device name "..\/x"/],
    [device({}), /empty device edits/],
    [device({ env: ['=x'] }), /invalid environment variable "=x"/],
    [device({ deviceNodes: [{ path: '' }] }), /invalid \(empty\) device path/],
    [device({ deviceNodes: [{ path: '/dev/x', permissions: 'rwx' }] }), /invalid permissions rwx/],
    [device({ deviceNodes: [{ path: '/dev/x', major: -1 }] }), /major is not a number/],
    [device({ mounts: [{ hostPath: '/x' }] }), /invalid mount, empty containerPath/],
    [device({ hooks: [{ hookName: 'whenever', path: '/x' }] }), /invalid "whenever"/],
    [device({ intelRdt: { closID: 'x' } }), /intelRdt is not supported/],
    [device({ env: ['A=b'], surprise: 1 }), /unknown field "surprise"/],
  ];
  for (const [spec, message] of cases) assert.throws(() => parseCdiSpec(spec), { message }, JSON.stringify(spec));
  assert.equal(parseCdiSpec(good).kind, 'vendor.com/device');
});

test('readCdiRegistry: later directories win, equals cancel each other, a bad file harms no other', async () => {
  const other = (name: string, env: string) =>
    JSON.stringify({ ...good, devices: [{ name, containerEdits: { env: [env] } }] });
  const files = {
    'low/a.json': other('foo', 'FROM=low'),
    'low/b.json': other('same', 'X=1'),
    'low/c.json': other('same', 'X=2'),
    'high/a.yaml':
      'cdiVersion: "0.5.0"\nkind: vendor.com/device\ndevices:\n- name: foo\n  containerEdits:\n    env: ["FROM=high"]\n',
    'high/bad.json': '{',
    'high/ignored.txt': 'x',
  };
  await withDirectories(files, async (directories) => {
    const { devices, errors } = await readCdiRegistry(directories);
    assert.deepEqual([...devices.keys()], ['vendor.com/device=foo']);
    assert.deepEqual(devices.get('vendor.com/device=foo')!.device.containerEdits.env, ['FROM=high']);
    assert.deepEqual(
      [...errors.keys()].map((path) => path.split('/').slice(-2).join('/')),
      ['low/c.json', 'high/bad.json'],
    );
    assert.match(
      errors.get(join(directories[0]!, 'c.json'))!,
      /^conflicting device "vendor.com\/device=same" \(specs /,
    );
  });
});

test('resolveCdiRequests: refuses in Docker’s words', async () => {
  await withDirectories({ 'low/a.json': JSON.stringify(good) }, async (directories) => {
    const message = 'CDI device injection failed: unresolvable CDI devices a.com/b=c, x';
    await assert.rejects(resolveCdiRequests(directories, request('a.com/b=c', 'vendor.com/device=foo', 'x')), {
      message,
    });
    const [one] = request('vendor.com/device=foo');
    await assert.rejects(resolveCdiRequests(directories, [{ ...one!, count: 1 }]), {
      message: 'unexpected count in CDI device request',
    });
    await assert.rejects(resolveCdiRequests(directories, [{ ...one!, options: { a: 'b' } }]), {
      message: 'unexpected options in CDI device request',
    });
    assert.deepEqual(await resolveCdiRequests([], request('x')), [], 'no directory, no driver');
  });
});

test('buildOciSpec: CDI edits reach process, devices, mounts and hooks', async () => {
  const spec = {
    ...good,
    containerEdits: { env: ['SHARED=1', 'PATH=/cdi'] },
    devices: ['one', 'two'].map((name) => ({
      name,
      containerEdits: {
        env: [`${name.toUpperCase()}=1`],
        deviceNodes: [{ path: `/dev/${name}`, hostPath: '/dev/null', permissions: 'rw' }],
        mounts: [{ hostPath: '/lib', containerPath: `/opt/${name}`, options: ['ro', 'bind'] }],
        hooks: [{ hookName: 'createContainer', path: '/bin/true', args: ['true', name] }],
        additionalGids: [44, 0],
      },
    })),
  };
  await withDirectories({ 'low/a.json': JSON.stringify(spec) }, async (directories) => {
    const asked = request('vendor.com/device=one', 'vendor.com/device=two');
    const plain = plainInput();
    const { resources } = plain.spec.host;
    const input = {
      ...plain,
      spec: { ...plain.spec, host: { ...plain.spec.host, resources: { ...resources, deviceRequests: asked } } },
      cdiEdits: await resolveCdiRequests(directories, asked),
      daemon: { ...plain.daemon, cdiSpecDirs: directories },
    };
    const oci = buildOciSpec(input);
    const { env, user } = oci.process;
    assert.deepEqual(env.filter((entry) => /^(SHARED|ONE|TWO|PATH)=/.test(entry)).toSorted(), [
      'ONE=1',
      'PATH=/cdi',
      'SHARED=1',
      'TWO=1',
    ]);
    assert(user.additionalGids.includes(44));
    assert.deepEqual(
      oci.linux.devices.map(({ path, major, minor }) => [path, major, minor]),
      [
        ['/dev/one', 1, 3],
        ['/dev/two', 1, 3],
      ],
    );
    assert.deepEqual(
      oci.linux.resources.devices.slice(-2),
      Array.from({ length: 2 }, () => ({ allow: true, type: 'c', major: 1, minor: 3, access: 'rw' })),
    );
    assert.deepEqual(
      oci.mounts
        .filter(({ destination }) => destination.startsWith('/opt/'))
        .map(({ source, options }) => [source, options]),
      [
        ['/lib', ['ro', 'bind']],
        ['/lib', ['ro', 'bind']],
      ],
    );
    assert.deepEqual(oci.hooks, {
      createContainer: ['one', 'two'].map((name) => ({ path: '/bin/true', args: ['true', name] })),
    });
    const without = { ...input, daemon: { ...input.daemon, cdiSpecDirs: [] } };
    assert.throws(() => buildOciSpec(without), {
      message: 'could not select device driver "cdi" with capabilities: []',
    });
  });
});
