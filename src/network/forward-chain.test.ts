import assert from 'node:assert/strict';
import { test } from 'node:test';

import { chainName, chainScript, parseForward } from './forward-chain.ts';

const listing = (policy: string, ...rules: readonly string[]): string =>
  [
    '# Warning: table ip filter is managed by iptables-nft, do not touch!',
    'table ip filter {',
    '\tchain FORWARD { # handle 1',
    `\t\ttype filter hook forward priority filter; policy ${policy};`,
    ...rules.map((rule, index) => `\t\t${rule} # handle ${index + 3}`),
    '\t}',
    '}',
  ].join('\n');

test('parseForward: who filters, where our jump stands and where it belongs', () => {
  const nobody = { drops: false, filters: false, jump: null, behind: null };
  assert.deepEqual(parseForward(listing('accept'), 'LONGSHORE-FORWARD'), nobody);
  assert.deepEqual(parseForward(listing('accept', 'counter jump LONGSHORE-other0'), 'LONGSHORE-FORWARD'), nobody);
  assert.deepEqual(parseForward(listing('drop'), 'LONGSHORE-FORWARD'), { ...nobody, drops: true });
  assert.deepEqual(
    parseForward(
      listing(
        'drop',
        'counter packets 0 bytes 0 jump DOCKER-USER',
        'counter packets 0 bytes 0 jump LONGSHORE-FORWARD',
        'iifname "eth9" ct state related,established counter packets 0 bytes 0 accept',
      ),
      'LONGSHORE-FORWARD',
    ),
    { drops: true, filters: true, jump: '4', behind: '3' },
  );
});

test('chainScript: one jump, behind DOCKER-USER, else first; other engines decide about their bridges', () => {
  const none = { drops: true, filters: true, jump: null, behind: null };
  const script = chainScript('ip', 'LONGSHORE-FORWARD', ['longshore0'], none);
  const order = [
    'oifname "longshore0" counter accept',
    'oifname "br-*" counter return',
    'iifname "longshore0" counter accept',
  ];
  assert.deepEqual(
    order.map((rule) => script.indexOf(rule)).toSorted((a, b) => a - b),
    order.map((rule) => script.indexOf(rule)),
  );
  assert.match(script, /\ninsert rule ip filter FORWARD counter jump LONGSHORE-FORWARD\n$/);
  assert.match(
    chainScript('ip6', 'X', [], { ...none, behind: '7' }),
    /\nadd rule ip6 filter FORWARD handle 7 counter jump X\n$/,
  );
  assert.doesNotMatch(chainScript('ip', 'X', [], { ...none, jump: '9' }), / jump /);
});

test('chainName: a chain for each daemon, that iptables takes', () => {
  assert.equal(chainName('longshore'), 'LONGSHORE-FORWARD');
  assert.equal(chainName('longshore_br1'), 'LONGSHORE-br1');
  assert.ok(chainName(`longshore_${'_2d'.repeat(15)}`).length <= 28);
});
