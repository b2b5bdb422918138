import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { broadcastOf, formatAddress, parseAddress, parseMac, parsePrefix } from './address.ts';

test('formatAddress: parseAddress gives back the bytes', () => {
  const address = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc
      .array(fc.oneof(fc.constant(0), fc.nat(255)), { minLength: 16, maxLength: 16 })
      .map((list) => Uint8Array.from(list)),
  );
  fc.assert(
    fc.property(address, (bytes) => assert.deepEqual(Uint8Array.from(parseAddress(formatAddress(bytes)).bytes), bytes)),
  );
});

test('parseAddress, formatAddress: the short forms', () => {
  const rows = [
    ['::', '::'],
    ['::1', '::1'],
    ['fe80::', 'fe80::'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['::ffff:1.2.3.4', '::ffff:102:304'],
    ['10.0.0.1', '10.0.0.1'],
  ];
  assert.deepEqual(
    rows.map(([text = '']) => formatAddress(parseAddress(text).bytes)),
    rows.map(([, text]) => text),
  );
});

test('parseAddress, parsePrefix, parseMac: what is no address is refused', () => {
  for (const text of ['', '1.2.3', '1.2.3.256', '01.2.3.4', 'fe80::1%eth0', ':::', '1.2.3.4\n', '1.2.3.4/8']) {
    assert.throws(() => parseAddress(text), { name: 'KernelError', code: 'EINVAL' }, text);
  }
  for (const length of [-1, 33, 1.5, Number.NaN])
    assert.throws(() => parsePrefix('1.2.3.4', length), { code: 'EINVAL' });
  for (const mac of ['02:42', '02:42:00:00:00:0g', '02:42:00:00:00:00:00', ' 02:42:00:00:00:00'])
    assert.throws(() => parseMac(mac), { code: 'EINVAL' });
  assert.equal(parseMac(''), null);
  assert.deepEqual(parseMac('02-42-AC-11-00-02'), Buffer.from('0242ac110002', 'hex'));
});

test('broadcastOf: IPv4 networks of more than two addresses have one', () => {
  const of = (address: string, prefixLength: number): string | null => {
    const broadcast = broadcastOf(parseAddress(address).bytes, prefixLength);
    return broadcast === null ? null : formatAddress(broadcast);
  };
  assert.deepEqual(
    [
      of('172.17.0.2', 16),
      of('10.0.0.1', 30),
      of('10.0.0.1', 31),
      of('10.0.0.1', 32),
      of('1.2.3.4', 0),
      of('fd00::1', 64),
    ],
    ['172.17.255.255', '10.0.0.3', null, null, '255.255.255.255', null],
  );
});
