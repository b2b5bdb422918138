/** Devices: mapped ones, device requests and CDI. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { TestDaemon } from '../support/daemon.ts';

const specs = mkdtempSync(join(tmpdir(), 'longshore-cdi-'));
let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start('--cdi-spec-dir', specs);
  await d.image();
});
after(async () => {
  await d[Symbol.asyncDispose]();
  rmSync(specs, { recursive: true });
});

const run = (...argv: string[]) => d.ok('run', '--rm', ...argv);
const create = async (HostConfig: object) => d.api('POST', '/containers/create', { Image: 'bb:1', HostConfig });
/** Status and message of a start. */
async function startOf(HostConfig: object): Promise<[number, string]> {
  const { json } = await create(HostConfig);
  const { status, json: answer } = await d.api('POST', `/containers/${json.Id}/start`);
  await d.api('DELETE', `/containers/${json.Id}?force=1`);
  return [status, answer?.message ?? ''];
}

test('--device: under another name, through a link, a directory of them; what is none is named', async () => {
  const link = join(d.directory, 'link');
  symlinkSync('/dev/zero', link);
  assert.match(
    await run('--device', '/dev/zero:/dev/z:r', 'bb:1', 'sh', '-c', 'head -c 2 /dev/z | wc -c; ls -l /dev/z'),
    /^2\ncrw.* 1, +5 .*\/dev\/z$/,
  );
  assert.equal(await run('--device', `${link}:/dev/linked`, 'bb:1', 'sh', '-c', 'head -c 2 /dev/linked | wc -c'), '2');
  const devices = join(d.directory, 'devices');
  mkdirSync(join(devices, 'deep'), { recursive: true });
  await run('--privileged', '-v', `${devices}:/d`, 'bb:1', 'sh', '-c', 'mknod /d/one c 1 3; mknod /d/deep/two c 1 5');
  assert.equal(
    await run(
      '--device',
      `${devices}:/dev/many`,
      'bb:1',
      'sh',
      '-c',
      'cd /dev/many; echo *; ls deep; head -c 1 deep/two | wc -c',
    ),
    'deep one\ntwo\n1',
  );
  const mapped = (PathOnHost: string) =>
    startOf({ Devices: [{ PathOnHost, PathInContainer: '/dev/x', CgroupPermissions: 'rwm' }] });
  assert.deepEqual(await mapped('/dev/no-such'), [
    500,
    'error gathering device information while adding custom device "/dev/no-such": no such file or directory',
  ]);
  assert.deepEqual(await mapped('/etc/passwd'), [
    500,
    'error gathering device information while adding custom device "/etc/passwd": not a device node',
  ]);
});

test('device cgroup rules: hold on the kernel, and are checked at creation', async () => {
  const node = 'mknod /tmp/f c 10 229; dd if=/tmp/f of=/dev/null count=0 2>&1 | tail -1';
  assert.match(await run('bb:1', 'sh', '-c', node), /Operation not permitted/);
  assert.doesNotMatch(await run('--device-cgroup-rule', 'c 10:229 rwm', 'bb:1', 'sh', '-c', node), /not permitted/);
  for (const rule of ['x 1:1 rwm', 'c 1:1 rwx', 'c 1 rwm', 'c 1:1', '']) {
    const { status, json } = await create({ DeviceCgroupRules: [rule] });
    assert.deepEqual([status, json.message], [400, `invalid device cgroup rule format: '${rule}'`]);
  }
});

test('device requests: without a driver for them they are refused', async () => {
  const gpu = [{ Count: -1, Capabilities: [['gpu']] }];
  assert.deepEqual(await startOf({ DeviceRequests: gpu }), [
    500,
    'could not select device driver "" with capabilities: [[gpu]]',
  ]);
  assert.deepEqual(await startOf({ DeviceRequests: [{ Driver: 'nope', Capabilities: [['a', 'b'], ['c']] }] }), [
    500,
    'could not select device driver "nope" with capabilities: [[a b] [c]]',
  ]);
});

test('CDI: what a vendor’s file says is in the container', async () => {
  const marker = join(d.directory, 'hooked');
  writeFileSync(
    join(specs, 'vendor.yaml'),
    `cdiVersion: "0.6.0"
kind: vendor.com/device
containerEdits:
  env: ["SHARED=1"]
devices:
- name: foo
  containerEdits:
    env: ["FOO=injected"]
    deviceNodes:
    - {path: /dev/vendor, hostPath: /dev/zero, permissions: r}
    mounts:
    - {hostPath: ${specs}, containerPath: /vendor, options: [ro, bind]}
    additionalGids: [4242]
    hooks:
    - {hookName: createContainer, path: /bin/sh, args: [sh, -c, "echo hooked >${marker}"]}
`,
  );
  writeFileSync(join(specs, 'broken.json'), '{"cdiVersion": "0.6.0", "kind": "a.b/c", "devices": []}');
  const script = `echo $SHARED $FOO; id -G; head -c 3 /dev/vendor | wc -c; ls /vendor; touch /vendor/x 2>&1 | grep -o Read-only`;
  // Not by --device: older clients do not know of CDI.
  const { json: made } = await d.api('POST', '/containers/create?name=cdi', {
    Image: 'bb:1',
    Cmd: ['sh', '-c', script],
    HostConfig: { DeviceRequests: [{ Driver: 'cdi', DeviceIDs: ['vendor.com/device=foo'] }] },
  });
  const seen = await d.ok('start', '-a', made.Id);
  await d.ok('rm', made.Id);
  assert.deepEqual(seen.split('\n'), ['1 injected', '0 4242', '3', 'broken.json', 'vendor.yaml', 'Read-only']);
  assert.equal(await run('-v', `${marker}:/m`, 'bb:1', 'cat', '/m'), 'hooked');
  const unknown = [{ Driver: 'cdi', DeviceIDs: ['vendor.com/device=bar', 'x=y'] }];
  assert.deepEqual(await startOf({ DeviceRequests: unknown }), [
    500,
    'CDI device injection failed: unresolvable CDI devices vendor.com/device=bar, x=y',
  ]);
  const { json } = await d.api('GET', '/v1.51/info');
  assert.deepEqual(json.CDISpecDirs, [specs]);
  assert.deepEqual(json.DiscoveredDevices, [{ Source: 'cdi', ID: 'vendor.com/device=foo' }]);
  assert(
    json.Warnings.some(
      (warning: string) => warning === `CDI: Error associated with spec file ${join(specs, 'broken.json')}: no devices`,
    ),
  );
  assert.equal((await d.api('GET', '/v1.49/info')).json.DiscoveredDevices, undefined);
});
