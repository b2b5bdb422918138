/** Links of the default bridge, and what a container knows of itself and of others: hosts, resolv.conf, names. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { eventually, TestDaemon } from '../support/daemon.ts';

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(async () => d[Symbol.asyncDispose]());

const names = async (filter: string): Promise<string[]> => {
  const filters = encodeURIComponent(JSON.stringify({ name: [filter] }));
  return (await d.api('GET', `/containers/json?all=1&filters=${filters}`)).json.flatMap(
    (one: { Names: string[] }) => one.Names,
  );
};

test('--link: variables, hosts and names; it follows the other one through renames and restarts, and ends with it', async () => {
  const run = ['run', '-d', '--expose', '5432', '-e', 'PGUSER=me', '--hostname', 'dbhost', '--name', 'db', 'bb:1'];
  const db = await d.ok(...run, 'sleep', '600');
  await d.ok('run', '-d', '--name', 'web', '--link', 'db:pg', '--link', db.slice(0, 12), 'bb:1', 'sleep', '600');
  const address = () => d.inspect('db', '{{.NetworkSettings.IPAddress}}');
  const hosts = () => d.ok('exec', 'web', 'cat', '/etc/hosts');
  const env = await d.ok('exec', 'web', 'env');
  assert(env.includes(`\nPG_PORT_5432_TCP_ADDR=${await address()}\n`), env);
  assert.match(env, /^PG_NAME=\/web\/pg$/m);
  assert.match(env, /^PG_ENV_PGUSER=me$/m);
  assert(/^(\S+)\tpg dbhost db$/m.exec(await hosts())?.[1] === (await address()), await hosts());
  assert.equal(await d.ok('exec', 'web', 'ping', '-c1', '-W3', '-q', 'pg').then(() => 'reached'), 'reached');
  assert.equal(await d.inspect('web', '{{json .HostConfig.Links}}'), `["/db:/web/pg","/db:/web/${db.slice(0, 12)}"]`);
  assert.deepEqual(await names('^/db$'), ['/db', '/web/pg', `/web/${db.slice(0, 12)}`]);
  assert.equal(await d.inspect('web/pg', '{{.Id}}'), db);

  await d.ok('rename', 'db', 'database');
  await d.ok('rename', 'web', 'site');
  assert.equal(await d.inspect('/site/pg', '{{.Id}}'), db);
  assert.match(await d.inspect('site', '{{json .HostConfig.Links}}'), /^\["\/database:\/site\/pg"/);
  await d.ok('rename', 'database', 'db');
  await d.ok('rename', 'site', 'web');

  // Another takes its address: the hosts file of who is linked follows.
  const before = await address();
  await d.ok('stop', '-t', '0', 'db');
  await d.ok('run', '-d', '--name', 'squatter', 'bb:1', 'sleep', '600');
  await d.ok('start', 'db');
  if ((await address()) === before) assert.match(await hosts(), new RegExp(`^${before}\\tpg`, 'm'));
  else await eventually('the hosts file follows', async () => (await hosts()).includes(`${await address()}\tpg`));

  await d.ok('rm', '--link', 'web/pg');
  assert.doesNotMatch(await hosts(), /\tpg /);
  assert.match(await hosts(), new RegExp(`^${await address()}\t${db.slice(0, 12)} dbhost db$`, 'm'));
  assert.equal((await d.docker('inspect', 'web/pg')).code, 1);
  assert.equal(
    (await d.docker('rm', '--link', 'web/pg')).stderr,
    'Error response from daemon: No such container: web/pg\n',
  );
  assert.equal(await d.inspect('web', '{{json .HostConfig.Links}}'), `["/db:/web/${db.slice(0, 12)}"]`);
  await d.ok('stop', '-t', '0', 'db', 'web');
  const refused = await d.docker('start', 'web');
  assert.match(refused.stderr, /Cannot link to a non running container: \/db AS \/web\//);
  await d.down('SIGKILL');
  await d.up();
  assert.equal(await d.inspect(`web/${db.slice(0, 12)}`, '{{.Id}}'), db);
  await d.ok('rm', 'db');
  assert.equal(await d.inspect('web', '{{json .HostConfig.Links}}'), 'null');
  await d.ok('start', 'web');
  await d.ok('rm', '-f', 'web', 'squatter');
});

test('/etc/hosts, hostname and resolv.conf: as asked, kept as their container edits them, made again at a restart', async () => {
  const asked = ['--hostname', 'h1', '--domainname', 'ex.org', '--add-host', 'one:1.2.3.4', '--add-host', 'six:[::5]'];
  const dns = [
    '--dns',
    '192.0.2.9',
    '--dns-search',
    'corp.example',
    '--dns-option',
    'ndots:3',
    '--dns-option',
    'attempts:1',
  ];
  await d.ok('run', '-d', '--name', 'cc', ...asked, '--add-host', 'gw:host-gateway', ...dns, 'bb:1', 'sleep', '600');
  const cat = (file: string) => d.ok('exec', 'cc', 'cat', `/etc/${file}`);
  const address = () => d.inspect('cc', '{{.NetworkSettings.IPAddress}}');
  const gateway = await d.inspect('cc', '{{.NetworkSettings.Gateway}}');
  const fixed =
    '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters';
  const added = `1.2.3.4\tone\n::5\tsix\n${gateway}\tgw\n${await address()}\th1.ex.org h1`;
  assert.equal(await cat('hosts'), `${fixed}\n${added}`);
  assert.equal(await cat('hostname'), 'h1');
  assert.equal(await d.ok('exec', 'cc', 'hostname'), 'h1');
  assert.match(
    await cat('resolv.conf'),
    /^nameserver 192\.0\.2\.9\nsearch corp\.example\noptions ndots:3 attempts:1$/m,
  );
  for (const [key, file] of [
    ['HostsPath', 'hosts'],
    ['HostnamePath', 'hostname'],
    ['ResolvConfPath', 'resolv.conf'],
  ] as const)
    assert.equal(readFileSync(await d.inspect('cc', `{{.${key}}}`), 'utf8').trim(), await cat(file));

  // What the container writes is its own: a network that comes or goes does not overwrite it.
  await d.ok('exec', 'cc', 'sh', '-c', 'echo "9.9.9.9 mine" >>/etc/hosts; echo "# mine" >>/etc/resolv.conf');
  await d.ok('network', 'create', 'further');
  await d.ok('network', 'connect', 'further', 'cc');
  assert.match(await cat('hosts'), /^9\.9\.9\.9 mine$/m);
  assert.match(await cat('resolv.conf'), /^# mine$/m);
  await d.ok('network', 'disconnect', 'further', 'cc');
  assert.match(await cat('hosts'), /^9\.9\.9\.9 mine$/m);
  await d.ok('network', 'rm', 'further');
  await d.ok('rm', '-f', 'cc');
});

test('--mac-address, --ip, --expose and -P: on the kernel and in inspect', async () => {
  await d.ok('network', 'create', '--subnet', '10.218.77.0/24', '--ipv6', '--subnet', 'fd00:da:77::/64', 'fixed');
  const flags = [
    '--mac-address',
    '02:42:0a:da:4d:09',
    '--network',
    'fixed',
    '--ip',
    '10.218.77.9',
    '--ip6',
    'fd00:da:77::9',
  ];
  await d.ok(
    'run',
    '-d',
    '--name',
    'xx',
    ...flags,
    '--expose',
    '81',
    '--expose',
    '90-91/udp',
    '-P',
    'bb:1',
    'sleep',
    '60',
  );
  const shown = await d.ok('exec', 'xx', 'ip', 'addr', 'show', 'eth0');
  for (const word of ['02:42:0a:da:4d:09', '10.218.77.9/24', 'fd00:da:77::9/64']) assert(shown.includes(word), shown);
  assert.equal(
    await d.inspect(
      'xx',
      '{{with .NetworkSettings.Networks.fixed}}{{.IPAddress}} {{.GlobalIPv6Address}} {{.MacAddress}}{{end}}',
    ),
    '10.218.77.9 fd00:da:77::9 02:42:0a:da:4d:09',
  );
  const ports = JSON.parse(await d.inspect('xx', '{{json .NetworkSettings.Ports}}'));
  assert.deepEqual(Object.keys(ports).toSorted(), ['81/tcp', '90/udp', '91/udp']);
  for (const bindings of Object.values(ports) as { HostPort: string }[][])
    assert(Number(bindings[0]!.HostPort) >= 32768);
  await d.ok('rm', '-f', 'xx');
  await d.ok('network', 'rm', 'fixed');
});
