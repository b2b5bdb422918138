import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseAddress } from './address.ts';
import { HostPorts, type HostAddress } from './host-ports.ts';
import { parseExposedPort, portWishes } from './port-spec.ts';
import { linkElements, mappingElements, networkElements, tableName, type PortMapping } from './ruleset.ts';

const at = (text: string): HostAddress => ({ address: parseAddress(text)!, relayTo: null });

/** A host on which some ports are taken by others; counts what is open. */
function fakeHost(taken: readonly number[] = []) {
  const open: string[] = [];
  const ports = new HostPorts(
    async (protocol, { address }, port) => {
      if (taken.includes(port)) throw Object.assign(new Error('bind'), { code: 'EADDRINUSE' });
      const name = `${protocol} ${address.value} ${port}`;
      open.push(name);
      return { close: async () => void open.splice(open.indexOf(name), 1) };
    },
    { first: 40_000, last: 40_003 },
  );
  const reserve = (host: string | string[], first: number | null, last = first) =>
    ports.reserve({
      protocol: 'tcp',
      addresses: [host].flat().map(at),
      range: first === null ? null : { first, last: last! },
      preferred: null,
      target: '172.17.0.2:80',
    });
  return { open, ports, reserve };
}

test("HostPorts: conflicts are told in Docker's words, and leave nothing open", async () => {
  const { open, reserve } = fakeHost([9000]);
  const lease = await reserve('0.0.0.0', 80);
  await assert.rejects(reserve('127.0.0.1', 80), {
    code: 'PORT_IN_USE',
    message: 'Bind for 127.0.0.1:80 failed: port is already allocated',
  });
  await assert.rejects(reserve(['::', '0.0.0.0'], 80), {
    message: 'Bind for 0.0.0.0:80 failed: port is already allocated',
  });
  await assert.rejects(reserve('0.0.0.0', 9000), {
    message: 'failed to bind host port for 0.0.0.0:9000:172.17.0.2:80/tcp: address already in use',
  });
  await reserve('::', 80).then((other) => other.release());
  assert.deepEqual(open, ['tcp 0 80']);
  await lease.release();
  await lease.release();
  assert.deepEqual(open, []);
  await reserve('127.0.0.1', 80);
  await reserve('127.0.0.2', 80);
});

test('HostPorts: a range and the ephemeral ports go round what is taken', async () => {
  const { reserve } = fakeHost([8001, 40_001]);
  assert.equal((await reserve('0.0.0.0', 8000, 8002)).port, 8000);
  assert.equal((await reserve('0.0.0.0', 8000, 8002)).port, 8002);
  await assert.rejects(reserve('0.0.0.0', 8000, 8002), { code: 'PORT_IN_USE', message: 'all ports are allocated' });
  const first = await reserve('0.0.0.0', null);
  assert.equal(first.port, 40_000);
  await first.release();
  assert.equal((await reserve('0.0.0.0', null)).port, 40_002); // what was just given back rests
});

test('HostPorts: two requests at a time never get one port', async () => {
  const { reserve } = fakeHost();
  const outcomes = await Promise.allSettled([reserve('0.0.0.0', 80), reserve('0.0.0.0', 80), reserve('127.0.0.1', 80)]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'rejected', 'rejected'],
  );
});

test('parseExposedPort: ranges, protocols and nonsense', () => {
  assert.deepEqual(parseExposedPort('80'), [{ protocol: 'tcp', port: 80 }]);
  assert.deepEqual(parseExposedPort('8000-8001/UDP'), [
    { protocol: 'udp', port: 8000 },
    { protocol: 'udp', port: 8001 },
  ]);
  for (const text of ['', 'x', '80/', '80/icmp', '70000', '90-80', '-1', '80/tcp/x'])
    assert.throws(() => parseExposedPort(text), { code: 'PARAMETER_INVALID' }, text);
});

test('portWishes: exact ports first, one wish for what differs in the address only', () => {
  const wishes = portWishes(
    {
      '80/tcp': [{ hostIp: '', hostPort: '' }],
      '81/tcp': [
        { hostIp: '127.0.0.1', hostPort: '8080' },
        { hostIp: '127.0.0.2', hostPort: '8080' },
      ],
      '82/udp': [{ hostIp: '', hostPort: '1-3' }],
    },
    ['80/tcp', '90/tcp'],
    true,
  );
  assert.deepEqual(
    wishes.map(({ key, range, addresses }) => [key, range, addresses.length]),
    [
      ['81/tcp', { first: 8080, last: 8080 }, 2],
      ['82/udp', { first: 1, last: 3 }, 1],
      ['80/tcp', null, 1],
      ['90/tcp', null, 1],
    ],
  );
  assert.throws(() => portWishes({ '80/tcp': [{ hostIp: '1.2.3', hostPort: '' }] }, [], false), {
    message: 'invalid IP address: 1.2.3',
  });
});

const mapping = (hostPort: number, more: Partial<PortMapping> = {}): PortMapping => ({
  protocol: 'tcp',
  hostAddress: parseAddress('0.0.0.0')!,
  hostPort,
  containerAddress: parseAddress('172.17.0.2')!,
  containerPort: hostPort,
  nat: true,
  ...more,
});

test('mappingElements: a long run of ports is one interval, and is deleted as it was added', () => {
  const run = Array.from({ length: 2000 }, (_, index) => mapping(10_000 + index));
  assert.equal(mappingElements('add', 't', 4, run), 'add element ip t ranges { tcp . 10000-11999 : 172.17.0.2 }\n');
  assert.equal(mappingElements('delete', 't', 4, run), 'delete element ip t ranges { tcp . 10000-11999 }\n');
});

test('mappingElements: each kind of mapping goes to its own map', () => {
  const mappings = [
    mapping(80, { containerPort: 8080 }),
    mapping(53, { protocol: 'udp', hostAddress: parseAddress('127.0.0.1')! }),
    mapping(0, { nat: false, containerPort: 7 }),
    mapping(81, { hostAddress: parseAddress('::')! }),
  ];
  assert.equal(
    mappingElements('add', 't', 4, mappings),
    'add element ip t anywhere { tcp . 80 : 172.17.0.2 . 8080 }\nadd element ip t at { 127.0.0.1 . udp . 53 : 172.17.0.2 . 53 }\nadd element ip t local { 127.0.0.1 . udp . 53 }\nadd element ip t open { 172.17.0.2 . tcp . 7 }\n',
  );
});

test('mappingElements: direct routing lets the inside of each port through, once', () => {
  const two = [
    mapping(80, { containerPort: 8080, direct: 'everybody' }),
    mapping(81, { containerPort: 8080, direct: 'everybody' }),
  ];
  assert.match(mappingElements('add', 't', 4, two), /^add element ip t open { 172\.17\.0\.2 \. tcp \. 8080 }$/m);
  const run = Array.from({ length: 20 }, (_, index) => mapping(10_000 + index, { direct: 'trusted' }));
  assert.match(
    mappingElements('delete', 't', 4, run),
    /^delete element ip t direct { (172\.17\.0\.2 \. tcp \. \d+(, )?){20} }$/m,
  );
});

test('networkElements: an internal network is never masqueraded; a source of its own takes the place of it', () => {
  const subnet = { family: 4 as const, base: 0x0a000000n, prefixLength: 24 };
  const inside = { subnet, masquerade: true, unprotected: false, source: null };
  const network = { bridge: 'br-1', internal: true, icc: false, trusted: ['eth0'], subnets: [inside] };
  assert.equal(
    networkElements('add', 't', 4, network),
    'add element ip t bridges { "br-1" }\nadd element ip t internal { "br-1" }\nadd element ip t trusted { "eth0" . "br-1" }\nadd element ip t own { 10.0.0.0/24 . "br-1" }\n',
  );
  const source = parseAddress('192.0.2.7');
  const out = { ...network, internal: false, trusted: [], subnets: [{ ...inside, source }] };
  assert.match(networkElements('add', 't', 4, out), /^add element ip t sources { 10\.0\.0\.0\/24 : 192\.0\.2\.7 }$/m);
  assert.match(networkElements('delete', 't', 4, out), /^delete element ip t sources { 10\.0\.0\.0\/24 }$/m);
  assert.doesNotMatch(networkElements('add', 't', 4, out), /masqueraded/);
});

test('linkElements: from one container to a port of another, once, and IPv4 alone', () => {
  const link = { bridge: 'b0', from: '10.0.0.3', to: '10.0.0.2', protocol: 'tcp' as const, port: 80 };
  const element = '{ "b0" . 10.0.0.3 . 10.0.0.2 . tcp . 80 }';
  assert.equal(linkElements('add', 't', 4, [link, link]), `add element ip t linked ${element}\n`);
  assert.equal(linkElements('delete', 't', 4, [link]), `delete element ip t linked ${element}\n`);
  assert.equal(linkElements('add', 't', 6, [link]), '');
});

test('tableName: bridges of different names never share a table', () => {
  assert.equal(tableName('longshore0'), 'longshore');
  assert.notEqual(tableName('a-b'), tableName('a.b'));
  assert.match(tableName('x-y.z_0'), /^[A-Za-z][A-Za-z0-9_]*$/);
});
