import assert from 'node:assert/strict';
import { test } from 'node:test';

import { apiWarnings, daemonOptions } from './daemon-options.ts';
import { OPTIONS } from './options.ts';
import { optionsHelp, parseConfig, parseFlags } from './parse-options.ts';

test('parseFlags: takes the forms that dockerd takes', () => {
  assert.deepEqual(
    parseFlags([
      '-H',
      'unix:///a',
      '--host=tcp://127.0.0.1:1',
      '-D',
      '--live-restore=false',
      '--mtu',
      '1400',
      '--log-opt',
      'a=b=c',
      '--log-opt=d=e',
      '-ldebug',
    ]),
    {
      host: ['unix:///a', 'tcp://127.0.0.1:1'],
      debug: true,
      'live-restore': false,
      mtu: 1400,
      'log-opt': { a: 'b=c', d: 'e' },
      'log-level': 'debug',
    },
  );
});

test('parseFlags: refuses by name what it does not honour', () => {
  for (const [argv, message] of [
    [['--storage-opt', 'dm.fs=x'], /unknown flag: --storage-opt/],
    [['--mtu', 'big'], /invalid argument "big" for "--mtu"/],
    [['--host'], /flag needs an argument: --host/],
    [['--debug=maybe'], /invalid argument "maybe"/],
    [['serve'], /unexpected argument: serve/],
    [['--log-opt', 'x'], /name=value/],
  ] as const)
    assert.throws(() => parseFlags(argv), { code: 'PARAMETER_INVALID', message });
});

test('daemonOptions: the file and the flags make one whole, but never both the same', () => {
  const options = daemonOptions(
    parseFlags(['--data-root', '/d/']),
    parseConfig(
      { hosts: ['unix:///x'], 'live-restore': false, 'default-address-pools': [{ base: '10.0.0.0/8', size: 24 }] },
      'f',
    ),
  );
  assert.equal(options.dataRoot, '/d');
  assert.equal(options.liveRestore, false);
  assert.deepEqual(options.hosts, ['unix:///x']);
  assert.deepEqual(options.network.networks.defaultAddressPools, [{ base: '10.0.0.0/8', size: 24 }]);
  assert.throws(() => daemonOptions({ mtu: 1 }, { mtu: 2 }), /both as a flag and in the configuration file: mtu/);
  assert.throws(
    () => daemonOptions({ 'http-proxy': 'http://me:secret@a:1' }, { 'http-proxy': 'http://me:secret@b:1' }),
    /http-proxy: \(from flag: http:\/\/xxxxx:xxxxx@a:1, from file: http:\/\/xxxxx:xxxxx@b:1\)$/,
  );
  assert.throws(() => parseConfig({ validate: true }, 'f'), /don't match any configuration option: validate/);
  assert.throws(() => parseConfig({ 'no-such': 1 }, 'f'), /don't match any configuration option: no-such/);
  assert.throws(() => parseConfig({ mtu: 'x' }, 'f'), /"mtu" must be a number/);
});

test('apiWarnings: of TCP that does not ask for certificates', () => {
  const hosts = ['unix:///x', 'tcp://127.0.0.1:2375'];
  const [plain, ...others] = apiWarnings({ hosts, tls: false, tlsVerify: false });
  assert.match(
    plain!,
    /^WARNING: API is accessible on http:\/\/127\.0\.0\.1:2375 without encryption\.\n {9}Access to the remote API is/,
  );
  assert.deepEqual(others, []);
  const [encrypted] = apiWarnings({ hosts, tls: true, tlsVerify: false });
  assert.match(encrypted!, /^WARNING: API is accessible on https:\/\/\S+ without TLS client verification\./);
  assert.deepEqual(apiWarnings({ hosts, tls: true, tlsVerify: true }), []);
});

test('networkSettings: defaults of networks, and what cannot be honoured', () => {
  const settings = (...argv: string[]) => daemonOptions(parseFlags(argv), {}).network;
  const opt = '--default-network-opt';
  assert.deepEqual(
    settings(opt, 'bridge=a.b=1=2', opt, 'bridge=c=', opt, 'macvlan=d=e').networks.defaultNetworkOptions,
    {
      bridge: { 'a.b': '1=2', c: '' },
      macvlan: { d: 'e' },
    },
  );
  assert.deepEqual(
    daemonOptions({}, parseConfig({ 'default-network-opts': { bridge: { m: '1400' } } }, 'f')).network.networks
      .defaultNetworkOptions,
    { bridge: { m: '1400' } },
  );
  assert.deepEqual(settings('--iptables=false').networks.tables, { 4: false, 6: true });
  const gateways = ['--host-gateway-ip=10.0.0.1', '--host-gateway-ip=fd00::1'];
  assert.deepEqual(settings(...gateways).networks.hostGateways, ['10.0.0.1', 'fd00::1']);
  assert.doesNotThrow(() => settings('--storage-driver=overlay2', '--selinux-enabled=false'));
  for (const [argv, message] of [
    [['--storage-driver=zfs'], /--storage-driver: zfs is none of overlay2/],
    [['--selinux-enabled'], /--selinux-enabled is not supported/],
    [['--firewall-backend=iptables'], /--firewall-backend=iptables is not supported/],
    [['--host-gateway-ip=10.0.0.1', '--host-gateway-ip=10.0.0.2'], /only one IPv4 host gateway IP address/],
    [['--default-gateway=fd00::1'], /--default-gateway: an IPv4 address is needed/],
    [['--dns=dns.example'], /dns\.example is not an ip address/],
    [['--ip=x'], /x is not an ip address/],
    [[opt, 'bridge=x'], /name=key=value is needed/],
  ] as const)
    assert.throws(() => settings(...argv), { code: 'PARAMETER_INVALID', message });
});

test('daemonOptions: an open door is refused, unless somebody says that it is to be open', () => {
  for (const host of ['tcp://0.0.0.0:2375', 'tcp://127.example.com:2375', 'tcp://[::]:2375', 'tcp://10.0.0.1'])
    assert.throws(() => daemonOptions({ host: [host] }, {}), /would be root on this host/, host);
  assert.throws(
    () => daemonOptions({ 'scoped-host': ['tcp://0.0.0.0:1,read-only'] }, {}),
    /would be root on this host/,
  );
  for (const host of ['tcp://127.0.0.1:2375', 'tcp://localhost', 'tcp://[::1]:2375', 'tcp://:2375'])
    assert.equal(daemonOptions({ host: [host] }, {}).tls, false, host);
  assert.equal(daemonOptions({ host: ['tcp://0.0.0.0:2375'], tls: false }, {}).openToAll, true);
  assert.equal(daemonOptions({ host: ['tcp://0.0.0.0:2375'] }, { tlsverify: false }).openToAll, true);
  assert.equal(daemonOptions({ host: ['tcp://0.0.0.0:2376'], tlsverify: true }, {}).tlsVerify, true);
});

test('daemonOptions: a scoped host says what limits it', () => {
  assert.deepEqual(daemonOptions({ 'scoped-host': ['/run/x.sock,label=a=b,read-only'] }, {}).scopedHosts, [
    'unix:///run/x.sock,label=a=b,read-only',
  ]);
  for (const text of [
    'unix:///run/x.sock',
    'unix:///x,readonly',
    'unix:///x,label=',
    'unix:///x,label=a,label=b',
    'x,read-only',
  ])
    assert.throws(() => daemonOptions({ 'scoped-host': [text] }, {}), { code: 'PARAMETER_INVALID' }, text);
});

test('optionsHelp: names every option', () => {
  const help = optionsHelp();
  for (const { flag } of OPTIONS) assert(help.includes(`--${flag}`), flag);
});

test('daemonOptions: registries, their mirrors and proxies', () => {
  const options = daemonOptions(
    parseFlags(['--registry-mirror', 'http://m.example:5000', '--http-proxy', 'http://p:1']),
    parseConfig({ proxies: { 'https-proxy': 'http://p:2', 'no-proxy': 'a.example' } }, 'f'),
  );
  assert.deepEqual(options.registryMirrors, ['http://m.example:5000/']);
  assert.deepEqual(options.proxies, { http: 'http://p:1', https: 'http://p:2', no: 'a.example' });
  assert.throws(() => parseConfig({ proxies: { ftp: 'x' } }, 'f'), /configuration option: proxies\.ftp/);
  assert.throws(() => parseConfig({ proxies: { 'no-proxy': 1 } }, 'f'), /"proxies\.no-proxy" must be a text/);
  assert.throws(() => parseConfig({ 'no-proxy': 'x' }, 'f'), /configuration option: no-proxy/);
  for (const [mirror, why] of [
    ['m.example', /"m.example" is not a valid URI/],
    ['ftp://m.example', /unsupported scheme "ftp"/],
    ['http://m.example/?a=b', /query or fragment at end of the URI/],
    ['http://u:p@m.example', /username\/password not allowed/],
  ] as const)
    assert.throws(() => daemonOptions({ 'registry-mirror': [mirror] }, {}), why);
  assert.throws(() => daemonOptions({ 'max-concurrent-downloads': 0 }, {}), /invalid max concurrent downloads: 0/);
});
