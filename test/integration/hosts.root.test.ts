/**
 * Three hosts: a daemon on A, and what B and C reach of its containers over the network: what was published, with
 * their own address as the source, and nothing else, whatever routes they set.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, test } from 'node:test';

import { eventually, TestDaemon } from '../support/daemon.ts';
import { Hosts } from '../support/hosts.ts';

let hosts: Hosts;
let d: TestDaemon;
before(async () => {
  hosts = await Hosts.make();
  // The daemon shall make a router of A, and shall not leave it open.
  await hosts.in('a', 'sysctl', '-qw', 'net.ipv4.ip_forward=0', 'net.ipv6.conf.all.forwarding=0');
  d = await TestDaemon.startIn(hosts.path('a'));
  await d.image();
});
after(async () => {
  await d[Symbol.asyncDispose]();
  await hosts[Symbol.asyncDispose]();
});

/** A container with a server on these ports. */
async function serve(name: string, ports: readonly number[], ...argv: readonly string[]): Promise<string> {
  await d.ok('run', '-d', '--name', name, ...argv, 'bb:1', 'sleep', '600');
  const namespace = await d.namespace(name);
  for (const port of ports) await hosts.serve(namespace, name, port);
  return namespace;
}
const addressOn = (name: string, network: string, key = 'IPAddress'): Promise<string> =>
  d.inspect(name, `{{(index .NetworkSettings.Networks "${network}").${key}}}`);
/** B and C send what is for a subnet of A's containers to A. */
const routeTo = async (subnet: string, family: 4 | 6 = 4): Promise<void> => {
  for (const peer of ['b', 'c'] as const)
    await hosts.in(peer, 'ip', `-${family}`, 'route', 'replace', subnet, 'via', hosts.addressOfA(peer, family));
};
const refused = async (
  ...tries: readonly (readonly [from: string, address: string, port: number])[]
): Promise<void> => {
  const answers = await Promise.all(tries.map((one) => hosts.ask(...one)));
  assert.deepEqual(
    tries.filter((_, index) => answers[index] !== 'refused'),
    [],
  );
};
const subnetOf = (network: string, index = 0): Promise<string> =>
  d.ok('network', 'inspect', '-f', `{{(index .IPAM.Config ${index}).Subnet}}`, network);

test('published ports: from other hosts with their address, from A by every address of it, from containers', async () => {
  await d.ok('network', 'create', 'pub');
  await d.ok('network', 'create', 'far');
  const web = await serve(
    'web',
    [80, 81],
    '--network',
    'pub',
    ...['8080:80', '8080:80/udp', '192.0.2.1:8081:81', '127.0.0.1:8082:81'].flatMap((port) => ['-p', port]),
  );
  const near = await serve('near', [], '--network', 'pub');
  const far = await serve('far', [], '--network', 'far');
  assert.equal(await hosts.ask('b', '192.0.2.1', 8080), 'web 192.0.2.2');
  assert.equal(await hosts.ask('c', '198.51.100.1', 8080), 'web 198.51.100.2');
  assert.equal(await hosts.ask('c', '192.0.2.1', 8080), 'web 198.51.100.2'); // an address of A's other link
  assert.equal(await hosts.askUdp('b', '192.0.2.1', 8080), 'web 192.0.2.2');
  assert.equal(await hosts.ask('b', '192.0.2.1', 8081), 'web 192.0.2.2');
  await refused(
    ['c', '198.51.100.1', 8081], // bound to the other address
    ...['b', web, near, far].map((from) => [from, '192.0.2.1', 8082] as const),
  );
  // IPv6 to a container without it is carried by the daemon, from the bridge's address, as Docker's proxy does.
  const gateway = await d.ok('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Gateway}}', 'pub');
  assert.equal(await hosts.ask('b', 'fd00:b::1', 8080), `web ${gateway}`);
  assert.equal(await hosts.askUdp('b', 'fd00:b::1', 8080), `web ${gateway}`);
  for (const [address, port] of [
    ...(['127.0.0.1', '192.0.2.1', '198.51.100.1', '::1', 'fd00:b::1', gateway] as const).map(
      (a) => [a, 8080] as const,
    ),
    ...([['192.0.2.1', 8081] as const, ['127.0.0.1', 8082] as const] as const),
  ]) {
    assert.match(await hosts.ask('a', address, port), /^web /, `A by ${address}:${port}`);
  }
  for (const [who, namespace] of Object.entries({ web, near, far })) {
    assert.match(await hosts.ask(namespace, '192.0.2.1', 8080), /^web /, `${who} by A's address`);
    assert.match(await hosts.ask(namespace, gateway, 8080), /^web /, `${who} by the gateway`);
    assert.match(await hosts.askUdp(namespace, '192.0.2.1', 8080), /^web /, `${who} by UDP`);
  }
  await d.ok('rm', '-f', 'web', 'near', 'far');
  await d.ok('network', 'rm', 'pub', 'far');
});

test('a UDP flow that goes on follows the port to the container that has it now', async () => {
  // One socket, one flow: connection tracking takes it for the same as long as it is used.
  const program = `const s = require('dgram').createSocket('udp4'); s.on('message', (m) => console.log(String(m)));
    s.bind(4000, () => setInterval(() => s.send('?', 8500, '192.0.2.1'), 100));`;
  const argv = [`--net=${hosts.path('b')}`, process.execPath, '-e', program];
  const client = spawn('nsenter', argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  client.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  try {
    await serve('first', [53], '-p', '8500:53/udp');
    await eventually('the first one answers', () => said.includes('first 192.0.2.2'));
    await d.ok('rm', '-f', 'first');
    await d.ok('run', '-d', '--name', 'filler', 'bb:1', 'sleep', '600'); // has the address of the first one now
    await serve('second', [53], '-p', '8500:53/udp');
    await eventually('the second one answers', () => said.includes('second 192.0.2.2'));
  } finally {
    client.kill('SIGKILL');
  }
  await d.ok('rm', '-f', 'filler', 'second');
});

test('a scan from another host finds what was published and nothing else, also by routes to the containers', async () => {
  await d.ok('network', 'create', 'scanned');
  await d.ok('network', 'create', '--internal', 'inner');
  await serve('open', [80, 90], '-p', '9000:80', '-p', '127.0.0.1:9001:90');
  await serve('user', [80, 90], '--network', 'scanned', '-p', '9002:80');
  await serve('inside', [80, 90], '--network', 'inner', '-p', '9003:80');
  const containers = [
    await addressOn('open', 'bridge'),
    await addressOn('user', 'scanned'),
    await addressOn('inside', 'inner'),
  ];
  for (const network of ['bridge', 'scanned', 'inner']) await routeTo(await subnetOf(network));
  // What a neighbour may try: A's loopback as a destination, over the wire.
  for (const [key, value] of [
    ['all', '1'],
    ['eth0', '1'],
  ] as const)
    await hosts.in('b', 'sysctl', '-qw', `net.ipv4.conf.${key}.route_localnet=${value}`);
  await hosts.in('b', 'ip', 'rule', 'add', 'pref', '100', 'from', 'all', 'lookup', 'local');
  await hosts.in('b', 'ip', 'rule', 'del', 'pref', '0');
  await hosts.in('b', 'ip', 'route', 'add', '127.0.0.2/32', 'via', '192.0.2.1', 'table', '99');
  await hosts.in('b', 'ip', 'route', 'add', '127.0.0.1/32', 'via', '192.0.2.1', 'src', '192.0.2.2', 'table', '99');
  await hosts.in('b', 'ip', 'rule', 'add', 'pref', '50', 'to', '127.0.0.0/8', 'lookup', '99');
  assert.match(await hosts.in('b', 'ip', 'route', 'get', '127.0.0.1'), /via 192\.0\.2\.1/);
  // And A's administrator (or kube-proxy) has opened that way.
  await hosts.in('a', 'sysctl', '-qw', 'net.ipv4.conf.all.route_localnet=1');
  const found = await hosts.scan('b', ['192.0.2.1', '198.51.100.1', '127.0.0.1', 'fd00:b::1'], 8990, 9010);
  assert.deepEqual(found, [
    '127.0.0.1:9000',
    '127.0.0.1:9002',
    '192.0.2.1:9000',
    '192.0.2.1:9002',
    '198.51.100.1:9000',
    '198.51.100.1:9002',
    'fd00:b::1:9000',
    'fd00:b::1:9002',
  ]);
  assert.deepEqual(await hosts.scan('b', containers, 79, 91), []);
  assert.deepEqual(await hosts.scan('c', containers, 79, 91), []);
  // A itself reaches all of them, internal ones too.
  assert.deepEqual(
    await hosts.scan('a', containers, 79, 91),
    containers.flatMap((address) => [`${address}:80`, `${address}:90`]).toSorted(),
  );
  await d.ok('rm', '-f', 'open', 'user', 'inside');
  await d.ok('network', 'rm', 'scanned', 'inner');
});

test('a host that the daemon made a router of forwards for containers alone', async () => {
  await hosts.serve(hosts.path('c'), 'c', 8300);
  await d.ok('network', 'create', '--ipv6', '--subnet', 'fd00:f0::/64', 'six');
  const ns = await serve('inner', [80], '--network', 'six', '-p', '9300:80');
  assert.equal(await hosts.in('a', 'sysctl', '-n', 'net.ipv4.ip_forward'), '1');
  assert.equal(await hosts.in('a', 'sysctl', '-n', 'net.ipv6.conf.all.forwarding'), '1');
  await refused(['b', '198.51.100.2', 8300], ['b', 'fd00:c::2', 8300]);
  assert.equal(await hosts.ask(ns, '198.51.100.2', 8300), 'c 198.51.100.1');
  assert.equal(await hosts.ask(ns, 'fd00:c::2', 8300), 'c fd00:c::1');
  assert.equal(await hosts.ask('b', 'fd00:b::1', 9300), 'inner fd00:b::2');
  // iptables shows what stands there; a rule of the administrator before it is obeyed.
  assert.match(await hosts.in('a', 'iptables', '-S'), /^-P FORWARD DROP$[^]*^-A FORWARD -j (LONGSHORE-lst\w+)$/m);
  await hosts.in('a', 'iptables', '-I', 'FORWARD', '-s', '192.0.2.2', '-j', 'DROP');
  await refused(['b', '192.0.2.1', 9300]);
  await hosts.in('a', 'iptables', '-D', 'FORWARD', '-s', '192.0.2.2', '-j', 'DROP');
  assert.equal(await hosts.ask('b', '192.0.2.1', 9300), 'inner 192.0.2.2');
  await d.ok('rm', '-f', 'inner');
  await d.ok('network', 'rm', 'six');
});

test('isolation: user networks, internal networks, and icc=false', async () => {
  await d.ok('network', 'create', 'one');
  await d.ok('network', 'create', 'two');
  await d.ok('network', 'create', '--internal', 'shut');
  await d.ok('network', 'create', '-o', 'com.docker.network.bridge.enable_icc=false', 'cold');
  await hosts.serve(hosts.path('b'), 'b', 80);
  const one = await serve('one', [80], '--network', 'one');
  const two = await serve('two', [80], '--network', 'two');
  const shut = await serve('shut', [80], '--network', 'shut');
  const shut2 = await serve('shut2', [80], '--network', 'shut');
  const cold = await serve('cold', [80], '--network', 'cold', '-p', '9100:80');
  const cold2 = await serve('cold2', [80], '--network', 'cold');
  const at = {
    one: await addressOn('one', 'one'),
    two: await addressOn('two', 'two'),
    shut: await addressOn('shut', 'shut'),
    cold: await addressOn('cold', 'cold'),
  };
  await refused(
    [one, at.two, 80],
    [two, at.one, 80],
    [one, at.shut, 80],
    [shut, at.one, 80],
    [cold, at.one, 80],
    [cold2, at.cold, 80],
    [shut, '192.0.2.2', 80],
    [shut, '192.0.2.1', 9100], // nor by what another network published
  );
  assert.match(await hosts.ask(shut2, at.shut, 80), /^shut /);
  assert.equal(await hosts.ask(one, '192.0.2.2', 80), 'b 192.0.2.1'); // masqueraded
  assert.equal(await hosts.ask(cold2, '192.0.2.2', 80), 'b 192.0.2.1');
  assert.match(await hosts.ask(cold2, '192.0.2.1', 9100), /^cold /);
  assert.match(await hosts.ask(one, '192.0.2.1', 9100), /^cold /);
  // Both networks: both ways, and still no way between the networks.
  await d.ok('network', 'connect', 'two', 'one');
  assert.match(await hosts.ask(one, at.two, 80), /^two /);
  await d.ok('network', 'disconnect', 'two', 'one');
  await refused([one, at.two, 80]);
  await d.ok('rm', '-f', 'one', 'two', 'shut', 'shut2', 'cold', 'cold2');
  await d.ok('network', 'rm', 'one', 'two', 'shut', 'cold');
});

test('gateway modes, IPv4 and IPv6: nat, nat-unprotected, routed, isolated', async () => {
  const modes = ['nat', 'nat-unprotected', 'routed'] as const;
  await hosts.serve(hosts.path('b'), 'peer', 8000);
  for (const [index, mode] of modes.entries()) {
    const options = [4, 6].flatMap((family) => ['-o', `com.docker.network.bridge.gateway_mode_ipv${family}=${mode}`]);
    await d.ok('network', 'create', '--ipv6', '--subnet', `fd00:c0:${index}::/64`, ...options, mode);
    const ns = await serve(mode, [80, 90], '--network', mode, '-p', `${9200 + index}:80`);
    const subnets = [await subnetOf(mode, 0), await subnetOf(mode, 1)].toSorted((x) => (x.includes(':') ? 1 : -1));
    await routeTo(subnets[0]!);
    await routeTo(subnets[1]!, 6);
    const v4 = await addressOn(mode, mode);
    const v6 = await addressOn(mode, mode, 'GlobalIPv6Address');
    const both = (from: string, port: number, ...addresses: readonly string[]): Promise<string[]> =>
      Promise.all(addresses.map((address) => hosts.ask(from, address, port)));
    const [published, fromA, direct, unpublished, outwards] = await Promise.all([
      both('b', 9200 + index, '192.0.2.1', 'fd00:b::1'),
      both('a', 9200 + index, '127.0.0.1', '::1'),
      both('b', 80, v4, v6),
      both('b', 90, v4, v6),
      both(ns, 8000, '192.0.2.2', 'fd00:b::2'),
    ]);
    const seen = { published, fromA: fromA.map((text) => text.split(' ')[0]), direct, unpublished, outwards };
    const ofB = [`${mode} 192.0.2.2`, `${mode} fd00:b::2`];
    const no = ['refused', 'refused'];
    assert.deepEqual(
      seen,
      {
        published: mode === 'routed' ? no : ofB,
        fromA: mode === 'routed' ? no : [mode, mode],
        direct: mode === 'nat' ? no : ofB,
        unpublished: mode === 'nat-unprotected' ? ofB : no,
        outwards: mode === 'routed' ? [`peer ${v4}`, `peer ${v6}`] : ['peer 192.0.2.1', 'peer fd00:b::1'],
      },
      mode,
    );
  }
  const isolated = [4, 6].flatMap((family) => ['-o', `com.docker.network.bridge.gateway_mode_ipv${family}=isolated`]);
  const outside = await d.docker('network', 'create', ...isolated, 'alone');
  assert.match(outside.stderr, /gateway mode 'isolated' can only be used for an internal network/);
  await d.ok('network', 'create', '--internal', '--ipv6', '--subnet', 'fd00:c9::/64', ...isolated, 'alone');
  const lone = await serve('lone', [80], '--network', 'alone');
  const other = await serve('other', [80], '--network', 'alone');
  assert.match(await hosts.ask(other, await addressOn('lone', 'alone'), 80), /^lone /);
  await refused(['a', await addressOn('lone', 'alone'), 80], [lone, '192.0.2.1', 9200]); // A has no address there
  await d.ok('rm', '-f', ...modes, 'lone', 'other');
  await d.ok('network', 'rm', ...modes, 'alone');
});

test('host_ipv4, host_ipv6: what leaves a network has the source that was asked for', async () => {
  const own = ['192.0.2.9', 'fd00:b::9'] as const;
  const device = (await hosts.in('a', 'ip', '-o', 'addr', 'show', 'to', '192.0.2.1')).split(/\s+/)[1]!;
  await hosts.in('a', 'ip', 'addr', 'add', `${own[0]}/32`, 'dev', device);
  await hosts.in('a', 'ip', '-6', 'addr', 'add', `${own[1]}/128`, 'dev', device, 'nodad');
  const options = own.flatMap((address, index) => ['-o', `com.docker.network.host_ipv${4 + 2 * index}=${address}`]);
  await d.ok('network', 'create', '--ipv6', '--subnet', 'fd00:ca::/64', ...options, 'sourced');
  const ns = await serve('sourced', [80], '--network', 'sourced', '-p', '9300:80');
  await hosts.serve(hosts.path('b'), 'mirror', 8001);
  assert.equal(await hosts.ask(ns, '192.0.2.2', 8001), `mirror ${own[0]}`);
  assert.equal(await hosts.ask(ns, 'fd00:b::2', 8001), `mirror ${own[1]}`);
  assert.match(await hosts.ask(ns, '192.0.2.1', 9300), /^sourced /); // hairpin
  await d.ok('rm', '-f', 'sourced');
  await d.ok('network', 'rm', 'sourced');
});

test('an internal /31 without a gateway has room for two, who reach each other', async () => {
  for (const [index, option] of ['inhibit_ipv4=true', 'gateway_mode_ipv4=isolated'].entries()) {
    const flags = ['--internal', '-o', `com.docker.network.bridge.${option}`, '--subnet', `10.201.${index}.0/31`];
    await d.ok('network', 'create', ...flags, 'pair');
    assert.equal(await d.ok('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Gateway}}', 'pair'), '');
    await serve('p1', [80], '--network', 'pair');
    const p2 = await serve('p2', [], '--network', 'pair');
    assert.match(await hosts.ask(p2, await addressOn('p1', 'pair'), 80), /^p1 /);
    await d.ok('rm', '-f', 'p1', 'p2');
    await d.ok('network', 'rm', 'pair');
  }
});

test('macvlan without addresses, and without a parent: no way out, and other networks keep theirs', async () => {
  await d.ok('network', 'create', '-d', 'macvlan', '--ipv4=false', 'bare');
  await d.ok('network', 'create', '-d', 'macvlan', '--ipam-driver', 'null', 'dhcp');
  await d.ok('network', 'create', '-d', 'macvlan', 'aside');
  assert.equal(await d.ok('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Subnet}}', 'dhcp'), '0.0.0.0/0');
  for (const name of ['bare', 'dhcp']) {
    const out = await d.ok('run', '--rm', '--network', name, 'bb:1', 'sh', '-c', 'ip -4 -o addr show eth0; ip route; ip -o link show eth0'); // prettier-ignore
    assert.match(out, /^\d+: eth0@\S+ <.*UP/, name);
  }
  await d.ok('network', 'create', 'beside');
  const both = ['--network', 'aside', '--network', 'beside'];
  const routes = await d.ok('run', '--rm', ...both, 'bb:1', 'ip', 'route');
  assert.match(routes, /^default via \S+ dev eth\d/m);
  assert.equal((await d.ok('run', '--rm', '--network', 'aside', 'bb:1', 'ip', 'route')).includes('default'), false);
  await d.ok('network', 'rm', 'bare', 'dhcp', 'aside', 'beside');
  const lo = await d.docker('network', 'create', '-d', 'macvlan', '-o', 'parent=lo', 'lo');
  assert.match(lo.stderr, /loopback interface is not a valid macvlan parent link/);
});

test('network inspect: a configuration network has no driver; what a field says is no option too', async () => {
  const inspect = async (name: string): Promise<unknown[]> => {
    const { Driver, EnableIPv6, Options } = (await d.api('GET', `/v1.51/networks/${name}`)).json;
    return [Driver, EnableIPv6, Options];
  };
  const Options = { 'com.docker.network.enable_ipv6': 'true' };
  await d.api('POST', '/v1.51/networks/create', { Name: 'conf', ConfigOnly: true, Driver: 'bridge' });
  await d.api('POST', '/v1.51/networks/create', { Name: 'said', EnableIPv6: false, Options });
  assert.deepEqual(await inspect('conf'), ['null', false, {}]);
  assert.deepEqual(await inspect('said'), ['bridge', false, {}]);
  await d.ok('network', 'rm', 'conf', 'said');
});

test('endpoint options: sysctls in either spelling, what cannot be set, and an empty name of the interface', async () => {
  const tried = async (option: string, value: string): Promise<string> => {
    const network = `name=bridge,driver-opt=com.docker.network.endpoint.${option}=${value}`;
    const file = '/proc/sys/net/ipv4/conf/eth0/log_martians';
    const { stdout, stderr } = await d.docker('run', '--rm', '--network', network, 'bb:1', 'cat', file);
    return stdout || stderr;
  };
  const path = 'net.ipv4.conf.IFNAME';
  assert.equal(await tried('sysctls', `${path.toLowerCase()}.log_martians=1`), '1\n');
  assert.equal(await tried('ifname', ''), '0\n');
  assert.match(
    await tried('sysctls', `${path}.nope=1`),
    /\/proc\/sys\/net\/ipv4\/conf\/eth0\/nope is not a sysctl file/,
  );
  assert.match(
    await tried('sysctls', `${path}.log_martians=x`),
    /unable to write to '\S+': write \S+: invalid argument/,
  );
  assert.match(await tried('sysctls', `${path}.log_martians`), /expected sysctl '\S+' to have format name=value/);
  assert.match(await tried('sysctls', 'net.core.somaxconn=1'), /unrecognised network interface sysctl/);
});
