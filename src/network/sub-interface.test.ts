import assert from 'node:assert/strict';
import { test } from 'node:test';

import { subInterface } from './network-spec.ts';

test('subInterface: names that a VLAN of another interface has', () => {
  assert.deepEqual(subInterface('eth0.10'), { parent: 'eth0', vlanId: 10 });
  assert.deepEqual(subInterface('bond0.2.4094'), { parent: 'bond0.2', vlanId: 4094 });
  for (const name of ['eth0', 'eth0.', '.10', 'eth0.0', 'eth0.4095', 'eth0.99999', 'eth0.1a'])
    assert.equal(subInterface(name), null, name);
});
