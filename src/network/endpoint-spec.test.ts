import assert from 'node:assert/strict';
import { test } from 'node:test';

import { PLAIN_NETWORK } from './attach-fixture.ts';
import { checkEndpoint, ENDPOINT_DEFAULT } from './endpoint-spec.ts';
import { checkSpec, enabledFamilies, takesGateway } from './network-spec.ts';
import type { IpamConfig, Network, NetworkSpec } from './port.ts';

function network(name: string, ...configs: readonly Partial<IpamConfig>[]): Network {
  return {
    name,
    ipam: {
      driver: 'default',
      options: null,
      configs: configs.map((config) => ({ subnet: '', ipRange: '', gateway: '', auxAddresses: null, ...config })),
    },
  } as unknown as Network;
}
const refusal = (of: Network, asked: Partial<typeof ENDPOINT_DEFAULT>): string => {
  try {
    checkEndpoint(of, { ...ENDPOINT_DEFAULT, ...asked });
    return '';
  } catch (error) {
    return (error as Error).message;
  }
};

test("checkEndpoint: an address needs a subnet that a user gave, and is refused in Docker's words", () => {
  const given = network('n', { subnet: '10.0.0.0/24' }, { subnet: 'fd00::/64', chosen: true });
  const prefix = 'invalid config for network n: invalid endpoint settings:\n';
  const unsupported =
    'user specified IP address is supported only when connecting to networks with user configured subnets';
  assert.equal(refusal(given, { ipv4Address: '10.0.0.9' }), '');
  assert.equal(
    refusal(given, { ipv4Address: '10.0.1.9' }),
    `${prefix}no configured subnet or ip-range contain the IP address 10.0.1.9`,
  );
  assert.equal(refusal(given, { ipv6Address: 'fd00::9' }), prefix + unsupported);
  assert.equal(
    refusal(given, { ipv4Address: '0.0.0.0', linkLocalIps: ['x', ''] }),
    `${prefix}* invalid IPv4 address: 0.0.0.0\n* invalid link-local IP address: x\n* no configured subnet or ip-range contain the IP address 0.0.0.0`,
  );
  assert.equal(refusal(given, { macAddress: '1:2' }), 'invalid config for network n: invalid MAC address 1:2');
  assert.match(
    refusal(network('bridge', { subnet: '10.0.0.0/24' }), { ipv4Address: '10.0.0.9', aliases: ['a'] }),
    /settings:\n\* user specified IP address is supported on user defined networks only\n\* network-scoped alias/,
  );
});

test('checkEndpoint: sysctls are of the interface, whatever its name is', () => {
  const said = (...sysctls: readonly string[]): string =>
    refusal(network('n'), { driverOpts: { 'com.docker.network.endpoint.sysctls': sysctls.join(',') } });
  assert.equal(said('net.ipv4.conf.IFNAME.log_martians=1', 'net.ipv6.conf.ifname.accept_ra=2'), '');
  for (const wrong of ['net.ipv4.conf.eth0.log_martians=1', 'net.core.somaxconn=3', 'net.ipv4.IFNAME.x=1', ''])
    assert.match(said(wrong), new RegExp(`settings:\nunrecognised network interface sysctl '${wrong}'; represent `));
});

test('enabledFamilies: what is asked for wins over the options, these over IPv4 alone', () => {
  const asked = (enableIpv4: boolean | null, enableIpv6: boolean | null, options: Record<string, string> = {}) =>
    enabledFamilies({ enableIpv4, enableIpv6 }, options);
  const option = 'com.docker.network.enable_ipv6';
  assert.deepEqual(asked(null, null), { enableIpv4: true, enableIpv6: false });
  assert.deepEqual(asked(null, null, { [option]: '1' }), { enableIpv4: true, enableIpv6: true });
  assert.deepEqual(asked(false, false, { [option]: 'true' }), { enableIpv4: false, enableIpv6: false });
  assert.throws(() => asked(null, null, { [option]: 'x' }), /driver-opt ".*enable_ipv6" is not a valid bool/);
});

const BRIDGE = 'com.docker.network.bridge.';
const wish = (more: Partial<NetworkSpec>): NetworkSpec => ({ ...PLAIN_NETWORK, ...more });
const ipam = (driver: string, ...configs: readonly IpamConfig[]) => ({ driver, options: null, configs });

test("checkSpec: options that cannot be read, parents and pools that there are not, in Docker's words", () => {
  const given: IpamConfig = { subnet: '10.0.0.0/24', ipRange: '', gateway: '', auxAddresses: null };
  const macvlan = { driver: 'macvlan', enableIpv4: false } as const;
  const option = (key: string, value: string) => ({ options: { [key]: value } });
  const failed = (key: string, value: string, why: string): [Partial<NetworkSpec>, string] => [
    option(key, value),
    `failed to parse ${key} value: ${value} (${why})`,
  ];
  const mtu = 'com.docker.network.driver.mtu';
  for (const [more, message] of [
    failed(mtu, 'x', 'strconv.Atoi: parsing "x": invalid syntax'),
    [option(mtu, '-1'), 'invalid MTU number: -1'],
    failed(`${BRIDGE}enable_icc`, 'x', 'strconv.ParseBool: parsing "x": invalid syntax'),
    failed(`${BRIDGE}host_binding_ipv4`, 'x', 'nil ip'),
    failed('com.docker.network.host_ipv4', 'x', 'nil ip'),
    failed('com.docker.network.host_ipv6', '1.2.3.4', 'nil ip'),
    failed(`${BRIDGE}gateway_mode_ipv6`, 'x', 'unknown gateway mode x'),
    [{ enableIpv4: false }, 'IPv4 or IPv6 must be enabled'],
    [{ ipam: ipam('null') }, 'ipv4 pool is empty'],
    [{ ipam: ipam('null', given) }, 'null ipam driver does not handle specific address pool requests'],
  ] as const)
    assert.throws(() => checkSpec(wish(more)), { message });
  for (const more of [macvlan, { ...macvlan, enableIpv4: true, ipam: ipam('null') }, { configOnly: true, driver: 'x' }])
    checkSpec(wish(more));
});

test('takesGateway: not where nothing could be sent there', () => {
  const takes = (more: Partial<NetworkSpec>): boolean[] => ([4, 6] as const).map((f) => takesGateway(wish(more), f));
  const inhibited = { options: { [`${BRIDGE}inhibit_ipv4`]: 'true' } };
  assert.deepEqual(takes({}), [true, true]);
  assert.deepEqual(takes({ internal: true }), [true, true]);
  assert.deepEqual(takes(inhibited), [true, true]);
  assert.deepEqual(takes({ ...inhibited, internal: true }), [false, true]);
  const isolated = { internal: true, options: { [`${BRIDGE}gateway_mode_ipv6`]: 'isolated' } };
  assert.deepEqual(takes(isolated), [true, false]);
  assert.deepEqual(takes({ driver: 'macvlan' }), [false, false]);
  assert.deepEqual(takes({ driver: 'macvlan', options: { parent: 'eth0' } }), [true, true]);
  assert.deepEqual(takes({ driver: 'ipvlan', options: { parent: 'eth0', ipvlan_mode: 'l3' } }), [false, false]);
});
