import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  extraHost,
  hostsFile,
  internalResolvConf,
  legacyResolvConf,
  parseResolvConf,
  type DnsWishes,
} from './container-files.ts';

const NONE: DnsWishes = { servers: null, search: null, options: null };
const directives = (text: string): string[] => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
const HOST = parseResolvConf(
  '# c\n; c\nnameserver 127.0.0.53\nnameserver 10.1.1.1\nnameserver fe80::1%eth0\nnameserver bogus\ndomain a\nsearch ex.org corp\noptions edns0 ndots:x\nsortlist 1.2.3.4\n',
);

test('legacyResolvConf: drops what works on the host only', () => {
  assert.deepEqual(directives(legacyResolvConf(HOST, NONE, false)), [
    'nameserver 10.1.1.1',
    'search ex.org corp',
    'options edns0 ndots:x',
    'sortlist 1.2.3.4',
  ]);
});

test('legacyResolvConf: falls back to public servers when none is left', () => {
  const text = legacyResolvConf(parseResolvConf('nameserver 127.0.0.1\n'), NONE, false);
  assert.deepEqual(directives(text), ['nameserver 8.8.8.8', 'nameserver 8.8.4.4']);
  assert.match(text, /# Used default nameservers\./);
});

test('legacyResolvConf: what was asked for is taken as it is', () => {
  const text = legacyResolvConf(
    HOST,
    { servers: ['192.0.2.53', '127.0.0.1'], search: ['.'], options: ['ndots:3'] },
    false,
  );
  assert.deepEqual(directives(text), [
    'nameserver 192.0.2.53',
    'nameserver 127.0.0.1',
    'options ndots:3',
    'sortlist 1.2.3.4',
  ]);
});

test("internalResolvConf: keeps the servers for our resolver, the host's own marked", () => {
  const { text, upstreams } = internalResolvConf(HOST, NONE, false);
  assert.deepEqual(directives(text), [
    'nameserver 127.0.0.11',
    'search ex.org corp',
    'options edns0 ndots:0',
    'sortlist 1.2.3.4',
  ]);
  assert.deepEqual(upstreams.slice(0, 2), [
    { address: '127.0.0.53', fromHost: true },
    { address: '10.1.1.1', fromHost: false },
  ]);
});

test("hostsFile: extra hosts before the container's own address", () => {
  const lines = hostsFile(
    [
      ...extraHost('db:10.0.0.9', []),
      ...extraHost('h=host-gateway', ['172.17.0.1', 'fd00::9']),
      ...extraHost('six:[fd00::1]', []),
    ],
    [{ address: '172.17.0.2', names: 'web.ex.org web' }],
  ).split('\n');
  assert.deepEqual(lines.slice(6), [
    '10.0.0.9\tdb',
    '172.17.0.1\th',
    'fd00::9\th',
    'fd00::1\tsix',
    '172.17.0.2\tweb.ex.org web',
    '',
  ]);
  assert.throws(() => extraHost('h:host-gateway', []), /unable to derive the IP value for host-gateway/);
});
