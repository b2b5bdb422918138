/**
 * Namespaces, users, capabilities, security options and sysctls as Docker has them: what holds on the kernel, and the words
 * and statuses of what is refused. After moby's integration/container ipcmode, pidmode, run and integration-cli run tests.
 */
import assert from 'node:assert/strict';
import { readFileSync, readlinkSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { TestDaemon } from '../support/daemon.ts';

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

const sh = (script: string, ...options: string[]) => d.ok('run', '--rm', ...options, 'bb:1', 'sh', '-c', script);

/** Status and message of whichever fails first, creation or start; [204, ""] when it runs. */
async function outcome(HostConfig: object, config: object = {}): Promise<[number, string]> {
  const made = await d.api('POST', '/containers/create', {
    Image: 'bb:1',
    Cmd: ['sleep', '6000'],
    HostConfig,
    ...config,
  });
  if (made.status !== 201) return [made.status, made.json.message];
  const started = await d.api('POST', `/containers/${made.json.Id}/start`);
  await d.api('DELETE', `/containers/${made.json.Id}?force=1`);
  return [started.status, started.json?.message ?? ''];
}

test('pid namespaces: own, the host’s, another container’s', async () => {
  const host = readlinkSync('/proc/self/ns/pid');
  assert.equal(await sh('readlink /proc/self/ns/pid', '--pid', 'host'), host);
  assert.notEqual(await sh('readlink /proc/self/ns/pid'), host);
  await d.ok('run', '-d', '--name', 'pid-donor', 'bb:1', 'sleep', '777');
  assert.match(await sh('ps', '--pid', 'container:pid-donor'), /sleep 777/);
  const id = await d.inspect('pid-donor', '{{.Id}}');
  await d.ok('stop', '-t', '0', 'pid-donor');
  assert.deepEqual(await outcome({ PidMode: 'container:pid-donor' }), [
    500,
    `failed to join PID namespace: container ${id} is not running`,
  ]);
  await d.ok('rm', 'pid-donor');
  assert.deepEqual(await outcome({ PidMode: 'container:nobody' }), [400, 'No such container: nobody']);
  assert.deepEqual(await outcome({ PidMode: 'other' }), [400, 'invalid PID mode: other']);
});

test('IPC namespaces: private, shareable, none, the host’s, another container’s', async () => {
  const device = 'awk \'$5 == "/dev/shm" {printf $3}\' /proc/self/mountinfo';
  const onHost = (id: string) =>
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .some((line) => line.split(' ')[2] === id);
  await d.ok('run', '-d', '--name', 'shares', '--ipc', 'shareable', 'bb:1', 'sleep', '6000');
  assert(onHost(await d.ok('exec', 'shares', 'sh', '-c', device)));
  await d.ok('run', '-d', '--name', 'keeps', 'bb:1', 'sleep', '6000');
  const kept = await d.ok('exec', 'keeps', 'sh', '-c', device);
  assert(/^\d+:\d+$/.test(kept) && !onHost(kept), kept);
  assert.equal(await sh(device, '--ipc', 'none'), '');
  assert.equal(await sh('readlink /proc/self/ns/ipc', '--ipc', 'host'), readlinkSync('/proc/self/ns/ipc'));
  await d.ok('exec', 'shares', 'touch', '/dev/shm/mine');
  assert.equal(await sh('ls /dev/shm', '--ipc', 'container:shares'), 'mine');
  const id = await d.inspect('keeps', '{{.Id}}');
  assert.deepEqual(await outcome({ IpcMode: 'container:keeps' }), [
    400,
    `failed to join IPC namespace: container ${id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`,
  ]);
  await d.ok('rm', '-f', 'keeps');
  assert.deepEqual(await outcome({ IpcMode: 'container:keeps' }), [400, 'No such container: keeps']);
  await d.ok('rm', '-f', 'shares');
  // Clients that do not know of private ones get what they had before.
  const old = await d.api('POST', '/v1.39/containers/create', { Image: 'bb:1' });
  assert.equal(await d.inspect(old.json.Id, '{{.HostConfig.IpcMode}}'), 'shareable');
  await d.ok('rm', old.json.Id);
});

test('UTS and cgroup namespaces: own and the host’s; what conflicts', async () => {
  assert.equal(await sh('readlink /proc/self/ns/uts', '--uts', 'host'), readlinkSync('/proc/self/ns/uts'));
  assert.equal(
    await sh(
      'cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname',
      '--hostname',
      'h',
      '--domainname',
      'd.example',
    ),
    'h\nd.example',
  );
  const host = readlinkSync('/proc/self/ns/cgroup');
  assert.equal(await sh('readlink /proc/self/ns/cgroup', '--cgroupns', 'host'), host);
  assert.notEqual(await sh('readlink /proc/self/ns/cgroup', '--cgroupns', 'private'), host);
  assert.deepEqual(await outcome({ UTSMode: 'host' }, { Hostname: 'x' }), [
    400,
    'conflicting options: hostname and the UTS mode',
  ]);
  for (const [field, word] of [
    ['UTSMode', 'UTS'],
    ['CgroupnsMode', 'cgroup namespace'],
    ['IpcMode', 'IPC'],
  ])
    assert.deepEqual(await outcome({ [field!]: 'other' }), [400, `invalid ${word} mode: other`]);
});

test('users and groups: of the image, by number, and who is not there', async () => {
  const ids = 'id -u; id -g; id -G';
  assert.equal(await sh(ids, '-u', 'app'), '1000\n1000\n1000 50', 'with the groups of /etc/group');
  assert.equal(await sh(ids, '-u', 'app:staff'), '1000\n50\n50');
  assert.equal(await sh(ids, '-u', '77', '--group-add', 'staff', '--group-add', '4242'), '77\n0\n0 50 4242');
  const [missing, range] = ['no matching entries in', 'uids and gids must be in range 0-2147483647'];
  assert.deepEqual(await outcome({}, { User: 'nobody-here' }), [
    500,
    `unable to find user nobody-here: ${missing} passwd file`,
  ]);
  assert.deepEqual(await outcome({}, { User: 'app:nobody-here' }), [
    500,
    `unable to find group nobody-here: ${missing} group file`,
  ]);
  assert.deepEqual(await outcome({ GroupAdd: ['nobody-here'] }), [
    500,
    `unable to find group nobody-here: ${missing} group file`,
  ]);
  for (const User of ['-1', '2147483648', '0:-1', '0:2147483648'])
    assert.deepEqual(await outcome({}, { User }), [500, range], User);
});

test('capabilities: added, dropped, all; with and without CAP_, in any case', async () => {
  const effective = async (...options: string[]) =>
    (await sh('grep CapEff /proc/self/status', ...options)).split('\t')[1];
  const [all, none] = [await effective('--privileged'), '0'.repeat(16)];
  assert.equal(await effective('--cap-drop', 'ALL'), none);
  assert.equal(await effective('--cap-drop', 'all', '--cap-add', 'net_bind_service'), '0000000000000400');
  assert.equal(await effective('--cap-add', 'ALL'), all);
  assert.equal(await effective('--cap-add', 'CAP_SYS_TIME'), '00000000aa0425fb');
  assert.equal(await effective('--cap-drop', 'mknod', '--cap-drop', 'CAP_CHOWN'), '00000000a00425fa');
  assert.deepEqual(await outcome({ CapAdd: ['nope'] }), [400, 'invalid CapAdd: unknown capability: "CAP_NOPE"']);
  assert.deepEqual(await outcome({ CapDrop: ['CAP_NOPE'] }), [400, 'invalid CapDrop: unknown capability: "CAP_NOPE"']);
  assert.deepEqual(await outcome({ Privileged: true, CapAdd: ['nope'] }), [
    400,
    'invalid CapAdd: unknown capability: "CAP_NOPE"',
  ]);
});

test('--security-opt: every form, by = and by :, and what is none', async () => {
  const status = async (...options: string[]) =>
    (await sh('grep -E "^(NoNewPrivs|Seccomp):" /proc/self/status', ...options)).replaceAll(/[^\d]+/g, ' ').trim();
  assert.equal(await status(), '0 2');
  assert.equal(await status('--security-opt', 'no-new-privileges'), '1 2');
  assert.equal(await status('--security-opt', 'no-new-privileges:true'), '1 2');
  assert.equal(await status('--security-opt', 'no-new-privileges=false'), '0 2');
  assert.equal(await status('--security-opt', 'seccomp=unconfined'), '0 0');
  assert.equal(await status('--security-opt', 'seccomp:unconfined'), '0 0');
  assert.equal(await status('--privileged'), '0 0');
  for (const option of ['label=disable', 'label:', 'apparmor=unconfined', 'disable', 'writable-cgroups'])
    assert.deepEqual(await outcome({ SecurityOpt: [option] }), [204, ''], option);
  const refused = 'invalid --security-opt: "label=user:x": SELinux support is not enabled';
  assert.deepEqual(await outcome({ SecurityOpt: ['label:user:x'] }), [400, refused]);
  assert.deepEqual(await outcome({ SecurityOpt: ['bare'] }), [400, 'invalid --security-opt 1: "bare"']);
  for (const option of ['other=1', 'no-new-privileges=perhaps', 'writable-cgroups=2'])
    assert.deepEqual(await outcome({ SecurityOpt: [option] }), [400, `invalid --security-opt 2: "${option}"`]);
  const cgroups =
    'mkdir $(ls -d /sys/fs/cgroup/memory /sys/fs/cgroup 2>/dev/null | tail -1)/made 2>&1 | grep -o Read-only; true';
  assert.equal(await sh(cgroups), 'Read-only');
  assert.equal(await sh(cgroups, '--security-opt', 'writable-cgroups=true', '--cgroupns', 'private'), '');
});

test('/proc and /sys: masked, read-only, and open where that is asked for', async () => {
  const look =
    'head -c 1 /proc/timer_list | wc -c; touch /proc/sys/kernel/hostname 2>/dev/null; sh -c ": >/proc/sys/net/ipv4/ip_forward" 2>/dev/null && echo open; mount | grep -c "on /proc/"; true';
  assert.match(await sh(look), /^0\n[1-9]\d*$/);
  assert.equal(await sh(look, '--security-opt', 'systempaths=unconfined'), '1\nopen\n0');
  const { json } = await d.api('POST', '/containers/create', {
    Image: 'bb:1',
    HostConfig: { MaskedPaths: ['/proc/version'], ReadonlyPaths: ['/proc/sys/net'] },
  });
  const { HostConfig } = (await d.api('GET', `/containers/${json.Id}/json`)).json;
  assert.deepEqual([HostConfig.MaskedPaths, HostConfig.ReadonlyPaths], [['/proc/version'], ['/proc/sys/net']]);
  await d.ok('rm', json.Id);
  assert.equal(
    await sh(
      'touch /x 2>&1 | grep -o Read-only; touch /dev/shm/x /t/x && echo written',
      '--read-only',
      '--tmpfs',
      '/t',
    ),
    'Read-only\nwritten',
  );
  assert.deepEqual(await outcome({ Tmpfs: { '/t': 'nope' } }), [400, 'invalid tmpfs option ["nope"]']);
});

test('sysctls: of namespaces that are the container’s own', async () => {
  const sysctls = ['net.ipv4.ip_forward=0', 'kernel.msgmax=10000', 'fs.mqueue.msg_max=20'].flatMap((s) => [
    '--sysctl',
    s,
  ]);
  assert.equal(
    await sh('cd /proc/sys; cat net/ipv4/ip_forward kernel/msgmax fs/mqueue/msg_max', ...sysctls),
    '0\n10000\n20',
  );
  assert.equal(
    await sh('cd /proc/sys/net/ipv4; cat ping_group_range ip_unprivileged_port_start', '-u', '1000'),
    '0\t2147483647\n0',
  );
  const sysctl = (name: string, value: string, host = {}) => outcome({ Sysctls: { [name]: value }, ...host });
  assert.deepEqual(await sysctl('kernel.panic', '1'), [
    500,
    'sysctl "kernel.panic" is not in a separate kernel namespace',
  ]);
  assert.deepEqual(await sysctl('net.ipv4.ip_forward', '1', { NetworkMode: 'host' }), [
    500,
    'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
  ]);
  assert.deepEqual(await sysctl('kernel.shmmax', '1', { IpcMode: 'host' }), [
    500,
    'sysctl "kernel.shmmax" is not allowed in the hosts ipc namespace',
  ]);
  const [status, message] = await sysctl('net.ipv4.nope', '1');
  assert.equal(status, 500);
  assert.match(message, /open \/proc\/sys\/net\/ipv4\/nope: no such file or directory/);
});

test('--init: process 1 reaps and forwards; not where process 1 is somebody else', async () => {
  assert.match(await sh('ps -o pid,args | head -3', '--init'), /1 \/sbin\/docker-init -- sh/);
  await d.ok('run', '-d', '--init', '--name', 'reaps', 'bb:1', 'sleep', '6000');
  await d.ok('exec', 'reaps', 'sh', '-c', '(sleep 0.1 &) ; exit 0');
  await d.ok('stop', '-t', '5', 'reaps');
  assert.equal(await d.inspect('reaps', '{{.State.ExitCode}}'), '143');
  await d.ok('rm', 'reaps');
  assert.doesNotMatch(await sh('cat /proc/self/mountinfo', '--init', '--pid', 'host'), /docker-init/);
});
