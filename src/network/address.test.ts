import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import {
  contains,
  formatAddress,
  formatSubnet,
  lastValue,
  overlaps,
  parseAddress,
  parseCidr,
  subnetOf,
  type Address,
  type Subnet,
} from './address.ts';

const anyAddress: fc.Arbitrary<Address> = fc.oneof(
  fc.bigInt({ min: 0n, max: 0xffffffffn }).map((value): Address => ({ family: 4, value })),
  // ::ffff:0:0/96 is read as IPv4
  fc
    .bigInt({ min: 0n, max: (1n << 128n) - 1n })
    .filter((value) => value >> 32n !== 0xffffn)
    .map((value): Address => ({ family: 6, value })),
);
const anySubnet: fc.Arbitrary<Subnet> = fc
  .tuple(anyAddress, fc.nat(128))
  .map(([address, length]) => subnetOf(address, address.family === 4 ? length % 33 : length));

test('parseAddress: reads back what formatAddress wrote', () => {
  fc.assert(fc.property(anyAddress, (address) => assert.deepEqual(parseAddress(formatAddress(address)), address)));
});

const written: [text: string, canonical: string | null][] = [
  ['172.17.0.2', '172.17.0.2'],
  ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['::', '::'],
  ['::1', '::1'],
  ['1:0:2::', '1:0:2::'],
  ['::ffff:10.0.0.1', '10.0.0.1'],
  ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ['fe80::1%eth0', null],
  ['10.0.0', null],
  ['10.0.0.256', null],
  ['010.0.0.1', null],
  ['', null],
];
for (const [text, canonical] of written) {
  test(`parseAddress: ${text === '' ? 'nothing' : text}`, () => {
    const address = parseAddress(text);
    assert.equal(address === null ? null : formatAddress(address), canonical);
  });
}

test('parseCidr: refuses what is not in CIDR notation', () => {
  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/08', '::/129', '/8', '10.0.0.0/', 'x/8'])
    assert.equal(parseCidr(text), null, text);
  assert.equal(formatSubnet(parseCidr('10.1.2.3/8')!.subnet), '10.0.0.0/8');
});

test('overlaps: two subnets share an address exactly if one contains an end of the other', () => {
  fc.assert(
    fc.property(anySubnet, anySubnet, (a, b) => {
      const ends = (subnet: Subnet): Address[] =>
        [subnet.base, lastValue(subnet)].map((value) => ({ family: subnet.family, value }));
      const expected = ends(a).some((end) => contains(b, end)) || ends(b).some((end) => contains(a, end));
      assert.equal(overlaps(a, b), expected);
      assert.equal(overlaps(b, a), expected);
      assert(overlaps(a, a));
    }),
  );
});
