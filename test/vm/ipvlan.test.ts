/**
 * ipvlan and VLAN parents, for kernels that have them: Debian's in the virtual machine (sh test/vm/run.sh
 * test/vm/ipvlan.test.ts). Containers of one parent reach each other, in mode l3 across subnets, too.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { run, TestDaemon } from '../support/daemon.ts';

const PARENT = 'lsparent0';
let d: TestDaemon;

before(async () => {
  for (const module of ['dummy', 'ipvlan', 'macvlan', '8021q']) await run('modprobe', [module]);
  const made = await run('ip', ['link', 'add', PARENT, 'type', 'dummy']);
  assert.equal(made.code, 0, made.stderr);
  await run('ip', ['link', 'set', PARENT, 'up']);
  d = await TestDaemon.start();
  await d.image();
});
after(async () => {
  await d[Symbol.asyncDispose]();
  await run('ip', ['link', 'del', PARENT]);
});

const network = (name: string, driver: string, subnet: string, ...options: readonly string[]): Promise<string> =>
  d.ok('network', 'create', '-d', driver, '--subnet', subnet, ...options.flatMap((option) => ['-o', option]), name);

/** Whether a container of one network gets a word from a listener on another (or the same). */
async function reaches(from: string, to: string, address: string): Promise<boolean> {
  const listener = `l-${from}-${to}`;
  await d.ok(
    'run',
    '-d',
    '--name',
    listener,
    '--net',
    to,
    '--ip',
    address,
    'bb:1',
    'nc',
    '-l',
    '-p',
    '7',
    '-e',
    'echo',
    'here',
  );
  const asked = await d.docker('run', '--rm', '--net', from, 'bb:1', 'nc', '-w', '3', address, '7');
  await d.ok('rm', '-f', listener);
  return asked.stdout === 'here\n';
}

test('ipvlan l2: containers of one network reach each other', async () => {
  await network('il2', 'ipvlan', '192.168.91.0/24', `parent=${PARENT}`, 'ipvlan_mode=l2');
  assert.equal(
    await d.ok('network', 'inspect', '--format', '{{.Driver}} {{.Options.ipvlan_mode}}', 'il2'),
    'ipvlan l2',
  );
  assert(await reaches('il2', 'il2', '192.168.91.40'));
  await d.ok('network', 'rm', 'il2');
});

test('ipvlan l3: the parent routes between the subnets of its networks', async () => {
  const subnets = '--subnet 192.168.92.0/24 --subnet 192.168.93.0/24';
  await d.ok(...`network create -d ipvlan ${subnets} -o parent=${PARENT} -o ipvlan_mode=l3 il3`.split(' '));
  assert(await reaches('il3', 'il3', '192.168.93.40'));
  await d.ok('network', 'rm', 'il3');
});

test('macvlan and ipvlan: a VLAN parent that is missing is made, and goes with its network', async () => {
  const vlan = `${PARENT}.10`;
  for (const driver of ['macvlan', 'ipvlan']) {
    await network('vlan', driver, '192.168.94.0/24', `parent=${vlan}`);
    assert.equal((await run('ip', ['link', 'show', vlan])).code, 0, `${vlan} is made`);
    assert(await reaches('vlan', 'vlan', '192.168.94.40'), driver);
    await d.ok('network', 'rm', 'vlan');
    assert.notEqual((await run('ip', ['link', 'show', vlan])).code, 0, `${vlan} goes`);
  }
});

test('macvlan: a VLAN that was made for two networks goes with the last, also over a restart; ipvlan networks do not share', async () => {
  const vlan = `${PARENT}.11`;
  const isThere = async (): Promise<boolean> => (await run('ip', ['link', 'show', vlan])).code === 0;
  for (const first of ['one', 'two']) {
    await network('one', 'macvlan', '192.168.95.0/24', `parent=${vlan}`);
    await network('two', 'macvlan', '192.168.96.0/24', `parent=${vlan}`);
    await d.ok('network', 'rm', first);
    assert(await isThere(), `${vlan} stays after ${first}`);
    await d.down();
    await d.up();
    const second = first === 'one' ? 'two' : 'one';
    assert(await reaches(second, second, first === 'one' ? '192.168.96.40' : '192.168.95.40'));
    await d.ok('network', 'rm', second);
    assert(!(await isThere()), `${vlan} goes after ${second}`);
  }
  await run('ip', ['link', 'add', 'link', PARENT, 'name', vlan, 'type', 'vlan', 'id', '11']);
  await network('one', 'macvlan', '192.168.95.0/24', `parent=${vlan}`);
  await d.ok('network', 'rm', 'one');
  assert(await isThere(), 'what was there before stays');
  await run('ip', ['link', 'del', vlan]);

  await network('one', 'ipvlan', '192.168.95.0/24', `parent=${PARENT}`);
  const second = await d.docker('network', 'create', '-d', 'ipvlan', '-o', `parent=${PARENT}`, 'two');
  assert.match(second.stderr, /network di-[0-9a-f]{12} is already using parent interface lsparent0/);
  await d.ok('network', 'rm', 'one');
});
