import assert from 'node:assert/strict';
import { test } from 'node:test';

import { freeRange, remapOf, type AccountFiles } from './remap.ts';

const files: AccountFiles = {
  passwd:
    'root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/:/bin/sh\nlone:x:1001:7::/:/bin/sh\ndockremap:x:99:98::/:/bin/false\n',
  group: 'root:x:0:\nbob:x:1000:\nstaff:x:50:\ndockremap:x:98:\n',
  subuid: 'bob:100000:1000\n# a comment\n1001:7:7\nbob:300000:64536\ndockremap:1:2\nroot:5:5\n',
  subgid: 'bob:100000:65536\nlone:9:9\ndockremap:3:4\nroot:5:5\n',
};

test('remapOf: takes users and groups by name and number, and joins ranges', () => {
  const bob = {
    uids: [
      { containerId: 0, hostId: 100_000, count: 1000 },
      { containerId: 1000, hostId: 300_000, count: 64_536 },
    ],
    gids: [{ containerId: 0, hostId: 100_000, count: 65_536 }],
  };
  for (const text of ['bob', '1000', 'bob:bob', 'bob:staff', '1000:50', 'bob:1000'])
    assert.deepEqual(remapOf(text, files), bob, text);
  assert.deepEqual(remapOf('default', files)?.uids, [{ containerId: 0, hostId: 1, count: 2 }]);
  assert.deepEqual(
    remapOf('lone:staff', files)?.uids,
    [{ containerId: 0, hostId: 7, count: 7 }],
    'a range may name a number',
  );
  assert.equal(remapOf('root', files), null);
  assert.equal(remapOf('0:0', files), null);
});

test('remapOf: refuses in Docker’s words', () => {
  const cases: [string, string | RegExp][] = [
    ['a:b:c', 'Invalid user/group specification in --userns-remap: "a:b:c"'],
    ['nobody-here', 'Error during uid lookup for "nobody-here": no matching entries in passwd file'],
    ['4242', 'Uid 4242 has no entry in /etc/passwd: no matching entries in passwd file'],
    ['bob:nobody-here', 'Error during gid lookup for "nobody-here": no matching entries in group file'],
    ['bob:4242', 'Gid 4242 has no entry in /etc/group: no matching entries in group file'],
    ['lone', 'Error during gid lookup for "lone": no matching entries in group file'],
  ];
  for (const [text, message] of cases) assert.throws(() => remapOf(text, files), { message }, text);
  const without = { ...files, subgid: '' };
  assert.throws(() => remapOf('bob', without), {
    message: `Can't create ID mappings: no subgid ranges found for user "bob"`,
  });
  for (const line of ['bob:-1:5', 'bob:1:0', 'bob:4294967290:100', 'bob:x:y', 'bob:1'])
    assert.throws(() => remapOf('bob', { ...files, subuid: line }), { message: /invalid range/ }, line);
});

test('freeRange: above what is given away', () => {
  assert.equal(freeRange(''), '100000-165535');
  assert.equal(freeRange('a:100000:65536\nb:500000:10\n'), '500010-565545');
});
