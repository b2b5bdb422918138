import assert from 'node:assert/strict';
import { test } from 'node:test';

import { checkEndpoint, ENDPOINT_DEFAULT } from './endpoint-spec.ts';
import { enabledFamilies } from './network-spec.ts';
import type { IpamConfig, Network } from './port.ts';

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

test('enabledFamilies: what is asked for wins over the options, these over IPv4 alone', () => {
  const asked = (enableIpv4: boolean | null, enableIpv6: boolean | null, options: Record<string, string> = {}) =>
    enabledFamilies({ enableIpv4, enableIpv6 }, options);
  const option = 'com.docker.network.enable_ipv6';
  assert.deepEqual(asked(null, null), { enableIpv4: true, enableIpv6: false });
  assert.deepEqual(asked(null, null, { [option]: '1' }), { enableIpv4: true, enableIpv6: true });
  assert.deepEqual(asked(false, false, { [option]: 'true' }), { enableIpv4: false, enableIpv6: false });
  assert.throws(() => asked(null, null, { [option]: 'x' }), /driver-opt ".*enable_ipv6" is not a valid bool/);
});
