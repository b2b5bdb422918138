import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { AddressPool } from './address-pool.ts';
import { formatAddress, formatSubnet, parseAddress, parseCidr } from './address.ts';
import { defaultPool, DEFAULT_POOLS, Subnets } from './subnets.ts';

const subnet = (text: string) => parseCidr(text)!.subnet;
const address = (text: string) => parseAddress(text)!;

test('AddressPool: gives the lowest free address, and never the first and the last of the subnet', () => {
  const pool = new AddressPool(subnet('10.0.0.0/29'), null);
  const given = Array.from({ length: 6 }, () => formatAddress(pool.allocate()));
  assert.deepEqual(given, ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6']);
  assert.throws(() => pool.allocate(), { code: 'ADDRESS_UNAVAILABLE' });
  pool.release(address('10.0.0.3'));
  assert.equal(formatAddress(pool.allocate()), '10.0.0.3');
});

test('AddressPool: takes from the range alone, but lets any address of the subnet be claimed', () => {
  const pool = new AddressPool(subnet('10.0.0.0/24'), subnet('10.0.0.128/30'));
  pool.claim(address('10.0.0.9'));
  assert.throws(() => pool.claim(address('10.0.0.9')), { message: 'Address already in use' });
  assert.throws(() => pool.claim(address('10.0.1.9')), { code: 'NETWORK_SPEC_INVALID' });
  assert.deepEqual(
    Array.from({ length: 4 }, () => formatAddress(pool.allocate())),
    ['10.0.0.128', '10.0.0.129', '10.0.0.130', '10.0.0.131'],
  );
  assert.throws(() => pool.allocate());
});

test('AddressPool: whatever is asked in whatever order, no address is out twice and none is lost', () => {
  const step = fc.oneof(
    fc.constant({ kind: 'allocate' as const }),
    fc.nat(20).map((offset) => ({ kind: 'claim' as const, offset })),
    fc.nat(20).map((offset) => ({ kind: 'release' as const, offset })),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const net = subnet('192.168.7.0/28');
      const pool = new AddressPool(net, null);
      const out = new Set<bigint>();
      for (const one of steps) {
        if (one.kind === 'release') {
          const value = net.base + BigInt(one.offset);
          if (out.delete(value)) pool.release({ family: 4, value });
          continue;
        }
        try {
          let value = one.kind === 'claim' ? net.base + BigInt(one.offset) : 0n;
          if (one.kind === 'claim') pool.claim({ family: 4, value });
          else value = pool.allocate().value;
          assert(!out.has(value) && value > net.base && value < net.base + 15n);
          if (one.kind === 'allocate')
            for (let lower = net.base + 1n; lower < value; lower++) assert(out.has(lower), 'not the lowest');
          out.add(value);
        } catch (error) {
          if ((error as { code?: string }).code === undefined) throw error;
          if (one.kind === 'allocate') assert.equal(out.size, 14);
          else assert(out.has(net.base + BigInt(one.offset)) || one.offset === 0 || one.offset > 14);
        }
        assert.equal(pool.size, out.size);
      }
    }),
  );
});

test("Subnets: walks Docker's default pools around what the host uses", () => {
  const subnets = new Subnets(DEFAULT_POOLS);
  const avoid = [subnet('172.17.5.0/24'), subnet('172.18.0.0/15')];
  assert.equal(formatSubnet(subnets.allocate(4, avoid)), '172.20.0.0/16');
  assert.equal(formatSubnet(subnets.allocate(4, [...avoid, subnet('172.16.0.0/12')])), '192.168.0.0/20');
  assert.equal(formatSubnet(subnets.allocate(4, [...avoid, subnet('172.16.0.0/12')])), '192.168.16.0/20');
  assert.throws(() => subnets.claim(subnet('172.20.3.0/24')), {
    code: 'ADDRESS_UNAVAILABLE',
    message: 'invalid pool request: Pool overlaps with other one on this address space',
  });
  subnets.release(subnet('172.20.0.0/16'));
  subnets.claim(subnet('172.20.3.0/24'));
  assert.throws(() => subnets.allocate(4, [subnet('0.0.0.0/0')]), {
    message: 'all predefined address pools have been fully subnetted',
  });
});

test('Subnets: one large obstacle in a pool of many small subnets is stepped over at once', () => {
  const subnets = new Subnets([defaultPool('10.0.0.0/8', 30)]);
  assert.equal(formatSubnet(subnets.allocate(4, [subnet('10.0.0.0/9')])), '10.128.0.0/30');
});
