/** The daemon's options about networks, each by what a container, the host or a neighbour sees of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { run, TestDaemon } from '../support/daemon.ts';
import { Hosts } from '../support/hosts.ts';

/** A daemon with these options on a host of its own; a container "web" on the default bridge with a server on port 80. */
async function withDaemon(
  options: readonly string[],
  more: readonly string[],
  check: (d: TestDaemon, hosts: Hosts, web: string) => Promise<void>,
): Promise<void> {
  await using hosts = await Hosts.make();
  await using d = await TestDaemon.startIn(hosts.path('a'), ...options);
  await d.image();
  await d.ok('run', '-d', '--name', 'web', '-p', '8080:80', ...more, 'bb:1', 'sleep', '600');
  const web = await d.namespace('web');
  await hosts.serve(web, 'web', 80);
  await check(d, hosts, web);
}

test('--ipv6 and all that says where the default bridge lives', async () => {
  await withDaemon(
    [
      '--ipv6',
      '--bip=10.66.0.1/24',
      '--fixed-cidr=10.66.0.128/25',
      '--default-gateway=10.66.0.254',
      '--bip6=fd66::1/64',
      '--fixed-cidr-v6=fd66::8000/113',
      '--default-gateway-v6=fd66::fe',
      '--host-gateway-ip=10.9.9.9',
      '--host-gateway-ip=fd99::9',
      '--mtu=1400',
      '--ip=192.0.2.1',
      '--default-network-opt',
      'bridge=com.docker.network.driver.mtu=1380',
    ],
    ['--add-host', 'up:host-gateway'],
    async (d, hosts) => {
      const [bridge] = JSON.parse(await d.ok('network', 'inspect', 'bridge'));
      assert.equal(bridge.EnableIPv6, true);
      assert.deepEqual(bridge.IPAM.Config, [
        {
          Subnet: '10.66.0.0/24',
          IPRange: '10.66.0.128/25',
          Gateway: '10.66.0.1',
          AuxiliaryAddresses: { DefaultGatewayIPv4: '10.66.0.254' },
        },
        {
          Subnet: 'fd66::/64',
          IPRange: 'fd66::8000/113',
          Gateway: 'fd66::1',
          AuxiliaryAddresses: { DefaultGatewayIPv6: 'fd66::fe' },
        },
      ]);
      const format = '{{.IPAddress}} {{.Gateway}} {{.GlobalIPv6Address}} {{.IPv6Gateway}}';
      assert.equal(
        await d.inspect('web', `{{with .NetworkSettings.Networks.bridge}}${format}{{end}}`),
        '10.66.0.128 10.66.0.254 fd66::8000 fd66::fe',
      );
      const routes = await d.ok('exec', 'web', 'sh', '-c', 'ip route; ip -6 route; cat /etc/hosts; ip link show eth0');
      for (const part of [
        /default via 10\.66\.0\.254 /,
        /default via fd66::fe /,
        /^10\.9\.9\.9\tup$/m,
        /^fd99::9\tup$/m,
      ])
        assert.match(routes, part);
      assert.match(routes, / mtu 1400 /);
      assert.equal(await d.ok('port', 'web'), '80/tcp -> 192.0.2.1:8080');
      await d.ok('network', 'create', 'small');
      await d.ok('network', 'create', '-o', 'com.docker.network.driver.mtu=1390', 'own');
      const mtus = await d.ok(
        'network',
        'inspect',
        '-f',
        '{{index .Options "com.docker.network.driver.mtu"}}',
        'small',
        'own',
      );
      assert.equal(mtus, '1380\n1390');
      await d.ok('network', 'rm', 'small', 'own');
      // A published address that is given holds for IPv4 alone; through another gateway no answer comes back.
      assert.equal(await hosts.ask('c', '198.51.100.1', 8080), 'refused');
    },
  );
});

test('--iptables=false and --ip6tables=false: no table is made, and this process carries what is published', async () => {
  const options = ['--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ipv6', '--bip6=fd67::1/64'];
  await withDaemon(options, [], async (d, hosts, web) => {
    assert.equal(await hosts.in('a', 'nft', 'list', 'tables'), '');
    const gateway = await d.inspect('web', '{{.NetworkSettings.Networks.bridge.Gateway}}');
    assert.equal(await hosts.ask('b', '192.0.2.1', 8080), `web ${gateway}`);
    assert.equal(await hosts.ask('a', '127.0.0.1', 8080), `web ${gateway}`);
    assert.equal(await hosts.ask('b', 'fd00:b::1', 8080), 'web fd67::1');
    assert.equal(await hosts.ask(web, '192.0.2.2', 8080), 'refused');
  });
});

test('--allow-direct-routing, and trusted_host_interfaces of one network', async () => {
  await withDaemon(['--allow-direct-routing'], ['-p', '8081:81'], async (d, hosts, web) => {
    await hosts.serve(web, 'web', 82);
    const { stdout } = await d.docker('inspect', '-f', '{{.NetworkSettings.Networks.bridge.IPAddress}}', 'web');
    const address = stdout.trim();
    await hosts.in('b', 'ip', 'route', 'add', address, 'via', '192.0.2.1');
    assert.equal(await hosts.ask('b', address, 80), 'web 192.0.2.2');
    assert.equal(await hosts.ask('b', address, 82), 'refused'); // not published
  });
  await withDaemon([], [], async (d, hosts) => {
    const trusted = 'com.docker.network.bridge.trusted_host_interfaces=tob:nosuch0';
    await d.ok('network', 'create', '--subnet', '10.68.0.0/24', '-o', trusted, 'trusting');
    await d.ok('run', '-d', '--name', 'some', '--network', 'trusting', '-p', '8090:80', 'bb:1', 'sleep', '600');
    const some = await d.namespace('some');
    await hosts.serve(some, 'some', 80);
    await hosts.serve(some, 'some', 81);
    for (const peer of ['b', 'c'] as const)
      await hosts.in(peer, 'ip', 'route', 'add', '10.68.0.0/24', 'via', hosts.addressOfA(peer));
    assert.equal(await hosts.ask('b', '10.68.0.2', 80), 'some 192.0.2.2');
    const answers = await Promise.all([hosts.ask('b', '10.68.0.2', 81), hosts.ask('c', '10.68.0.2', 80)]);
    assert.deepEqual(answers, ['refused', 'refused']);
    await d.ok('rm', '-f', 'some');
    await d.ok('network', 'rm', 'trusting');
  });
});

test('--bridge: one that was there keeps its address and stays; --icc=false and --ip-masq=false hold for it', async () => {
  await using hosts = await Hosts.make();
  await hosts.in('a', 'ip', 'link', 'add', 'lan0', 'type', 'bridge');
  await hosts.in('a', 'ip', 'addr', 'add', '10.69.0.9/24', 'dev', 'lan0');
  {
    await using d = await TestDaemon.startIn(
      hosts.path('a'),
      '--icc=false',
      '--ip-masq=false',
      '--bridge=lan0',
      '--bip=',
    );
    await d.image();
    await d.ok('run', '-d', '--name', 'one', 'bb:1', 'sleep', '600');
    await d.ok('run', '-d', '--name', 'two', 'bb:1', 'sleep', '600');
    const [one, two] = [await d.namespace('one'), await d.namespace('two')];
    await hosts.serve(one, 'one', 80);
    await hosts.serve(hosts.path('b'), 'peer', 80);
    const [address, gateway] = (
      await d.inspect('one', '{{with .NetworkSettings.Networks.bridge}}{{.IPAddress}} {{.Gateway}}{{end}}')
    ).split(' ');
    assert.equal(gateway, '10.69.0.9');
    assert.match(address!, /^10\.69\.0\./);
    assert.equal(await hosts.ask(two, address!, 80), 'refused');
    await hosts.in('b', 'ip', 'route', 'add', '10.69.0.0/24', 'via', '192.0.2.1');
    assert.equal(await hosts.ask(one, '192.0.2.2', 80), `peer ${address}`);
  }
  assert.match(await hosts.in('a', 'ip', 'addr', 'show', 'lan0'), /inet 10\.69\.0\.9\/24/);
});

test('--icc=false: a legacy link opens what the other exposes, to who has it, until it goes', async (t) => {
  await using hosts = await Hosts.make();
  const filtered = await hosts.in('a', 'sh', '-c', 'cat /proc/sys/net/bridge/bridge-nf-call-iptables || true');
  if (filtered.trim() !== '1')
    return t.skip('packets on bridges are not filtered here: ports of bridges are kept apart');
  await using d = await TestDaemon.startIn(hosts.path('a'), '--icc=false');
  await d.image();
  await d.ok('run', '-d', '--name', 'db', '--expose', '80', 'bb:1', 'sleep', '600');
  await d.ok('run', '-d', '--name', 'web', '--link', 'db:pg', 'bb:1', 'sleep', '600');
  await d.ok('run', '-d', '--name', 'other', 'bb:1', 'sleep', '600');
  const [web, other] = [await d.namespace('web'), await d.namespace('other')];
  const addressOf = (name: string): Promise<string> =>
    d.inspect(name, '{{.NetworkSettings.Networks.bridge.IPAddress}}');
  const serve = async (name: string, ...ports: readonly number[]): Promise<string> => {
    for (const port of ports) await hosts.serve(await d.namespace(name), name, port);
    return addressOf(name);
  };
  const [db, ownAddress] = [await serve('db', 80, 81), await addressOf('web')];
  const look = async (): Promise<string[]> =>
    Promise.all([hosts.ask(web, db, 80), hosts.ask(web, db, 81), hosts.ask(other, db, 80)]);
  assert.deepEqual(await look(), [`db ${ownAddress}`, 'refused', 'refused']);
  await d.down('SIGKILL');
  await d.up();
  assert.deepEqual(await look(), [`db ${ownAddress}`, 'refused', 'refused']);

  // Another has its address now, and it another one.
  await d.ok('stop', '-t', '0', 'db');
  await d.ok('run', '-d', '--name', 'squatter', '--expose', '80', 'bb:1', 'sleep', '600');
  assert.equal(await serve('squatter', 80), db);
  assert.equal(await hosts.ask(web, db, 80), 'refused');
  await d.ok('start', 'db');
  const moved = await serve('db', 80);
  assert.notEqual(moved, db);
  assert.equal(await hosts.ask(web, moved, 80), `db ${ownAddress}`);
  await d.ok('network', 'disconnect', 'bridge', 'db');
  await d.ok('network', 'connect', 'bridge', 'db');
  assert.equal(await hosts.ask(web, await addressOf('db'), 80), `db ${ownAddress}`);
  await d.ok('rm', '--link', 'web/pg');
  assert.equal(await hosts.ask(web, await addressOf('db'), 80), 'refused');
});

test('options that cannot be are refused before anything is made', async () => {
  for (const [argv, message] of [
    [['--bip=10.0.0.0/24'], /invalid --bip: 10\.0\.0\.0\/24/],
    [['--bip=10.0.0.1/24', '--fixed-cidr=10.1.0.0/24'], /invalid --fixed-cidr: 10\.1\.0\.0\/24/],
    [['--bip=10.0.0.1/24', '--default-gateway=10.1.0.1'], /must be part of the network 10\.0\.0\.0\/24/],
    [['--userland-proxy-path=/bin/false'], /unknown flag: --userland-proxy-path/],
  ] as const) {
    const failed = await TestDaemon.start(...argv).then(
      () => null,
      (error: Error) => error,
    );
    assert.match(failed?.message ?? 'it started', message);
  }
  assert.doesNotMatch((await run('ip', ['-br', 'link'])).stdout, new RegExp(`lst${process.pid.toString(36)}`));
});
