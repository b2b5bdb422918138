import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { decodeNetwork, decodeSandbox } from './records.ts';

const network = {
  network: {
    id: 'n',
    name: 'blue',
    driver: 'bridge',
    options: {},
    ipam: { configs: [{ subnet: '10.0.0.0/24', ipRange: '', gateway: '10.0.0.1', auxAddresses: null }] },
  },
  ownsBridge: true,
};
const sandbox = {
  containerId: 'c',
  containerName: 'web',
  kind: 'own',
  filesDir: '/f',
  endpoints: [{ state: { networkId: 'n' } }],
  mappings: [{ hostAddress: '0.0.0.0', containerAddress: '10.0.0.2' }],
  upstreams: [],
  links: [],
};

test('decodeNetwork, decodeSandbox: take what was written and refuse what was damaged', () => {
  assert.equal(decodeNetwork(network), network);
  assert.equal(decodeSandbox(sandbox), sandbox);
  assert.throws(() =>
    decodeNetwork({ ...network, network: { ...network.network, ipam: { configs: [{ subnet: '10.0.0.0' }] } } }),
  );
  assert.throws(() => decodeSandbox({ ...sandbox, mappings: [{ hostAddress: 'x', containerAddress: '10.0.0.2' }] }));
  for (const key of Object.keys(sandbox)) assert.throws(() => decodeSandbox({ ...sandbox, [key]: null }), key);
});

test('decodeNetwork, decodeSandbox: any JSON is refused with an Error', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      assert.throws(() => decodeNetwork(value), Error);
      assert.throws(() => decodeSandbox(value), Error);
    }),
  );
});
