import assert from 'node:assert/strict';
import { test } from 'node:test';

import { checkParent, placeParent, subInterface, type ParentUser } from './vlan-parent.ts';

test('subInterface: names that a VLAN of another interface has', () => {
  assert.deepEqual(subInterface('eth0.10'), { parent: 'eth0', vlanId: 10 });
  assert.deepEqual(subInterface('bond0.2.4094'), { parent: 'bond0.2', vlanId: 4094 });
  for (const name of ['eth0', 'eth0.', '.10', 'eth0.0', 'eth0.4095', 'eth0.99999', 'eth0.1a'])
    assert.equal(subInterface(name), null, name);
});

test('checkParent: macvlan networks share a parent but for passthru, ipvlan networks do not', () => {
  const user = (driver: string, parent: string, mode: string): ParentUser => ({
    network: { id: '0123456789abcdef', driver },
    vlan: { parent, mode },
  });
  checkParent('macvlan', 'eth0', 'bridge', [user('macvlan', 'eth0', 'vepa'), user('macvlan', 'eth1', 'passthru')]);
  checkParent('macvlan', 'eth0', 'passthru', [user('ipvlan', 'eth0', 'l2'), user('macvlan', '', 'bridge')]);
  checkParent('ipvlan', 'eth0', 'l2', [user('macvlan', 'eth0', 'bridge'), { ...user('null', '', ''), vlan: null }]);
  assert.throws(() => checkParent('ipvlan', 'eth0', 'l2', [user('ipvlan', 'eth0', 'l2')]), {
    code: 'NETWORK_IN_USE',
    message: 'network di-0123456789ab is already using parent interface eth0',
  });
  assert.throws(() => checkParent('macvlan', 'eth0', 'passthru', [user('macvlan', 'eth0', 'bridge')]), {
    message: 'cannot use mode passthru, macvlan network 0123456789abcdef is already using parent interface eth0',
  });
  assert.throws(() => checkParent('macvlan', 'eth0', 'bridge', [user('macvlan', 'eth0', 'passthru')]), {
    message: 'macvlan network 0123456789abcdef is already using parent interface eth0 in mode passthru',
  });
});

test('placeParent: a VLAN that is missing is ours, also for the next network; an interface that was there is not', () => {
  const exists = (name: string): boolean => ['eth0', 'eth0.20', 'eth0.30'].includes(name);
  assert.equal(placeParent('eth0', exists, []), '');
  assert.equal(placeParent('eth0.20', exists, [{ bridgeName: 'eth0.30' }]), '');
  assert.equal(placeParent('eth0.30', exists, [{ bridgeName: 'eth0.30' }]), 'eth0.30');
  assert.equal(placeParent('eth0.40', exists, []), 'eth0.40');
  for (const name of ['eth1', 'eth1.40', 'eth0.x'])
    assert.throws(() => placeParent(name, exists, []), {
      message: `parent interface ${name} was not found on the host`,
    });
});
