import assert from 'node:assert/strict';
import { test } from 'node:test';

import { layoutOf } from './cgroup.ts';
import { mountPointsBelow, parseMountinfo } from './mountinfo.ts';

const line = (mountPoint: string, type = 'ext4', options = 'rw'): string =>
  `36 35 98:0 / ${mountPoint} rw,noatime master:1 shared:2 - ${type} /dev/root ${options}`;

test('parseMountinfo: escapes, optional fields, and lines that are no mounts', () => {
  assert.deepEqual(
    parseMountinfo(`${line('/a\\040b\\012c\\134d')}\nnoise\n\n36 35 98:0 / /x rw - tmpfs none rw,size=1k\n`),
    [
      { root: '/', mountPoint: '/a b\nc\\d', type: 'ext4', superOptions: ['rw'] },
      { root: '/', mountPoint: '/x', type: 'tmpfs', superOptions: ['rw', 'size=1k'] },
    ],
  );
});

test('mountPointsBelow: deepest first, the last mounted first, and no neighbour with a common beginning', () => {
  const entries = parseMountinfo(
    [
      line('/'),
      line('/run/a'),
      line('/run/ab'),
      line('/run/a/b'),
      line('/run/a/b/c'),
      line('/run/a'),
      line('/run/a/z'),
    ].join('\n'),
  );
  assert.deepEqual(mountPointsBelow(entries, '/run/a'), ['/run/a/b/c', '/run/a/z', '/run/a/b', '/run/a', '/run/a']);
  assert.deepEqual(mountPointsBelow(entries, '/run/a/'), mountPointsBelow(entries, '/run/a'));
  assert.equal(mountPointsBelow(entries, '/').length, 7);
  assert.deepEqual(mountPointsBelow(entries, '/nothing'), []);
});

test('layoutOf: v2 alone, hybrid and v1', () => {
  const v2 = layoutOf(parseMountinfo(line('/sys/fs/cgroup', 'cgroup2')), true, () => 'cpu io memory\n');
  assert.deepEqual(
    [v2.version, v2.controllers, v2.hierarchies],
    ['v2', ['cpu', 'io', 'memory'], [{ key: '', mountPoint: '/sys/fs/cgroup', root: '/' }]],
  );
  const hybrid = parseMountinfo(
    [
      line('/c/cpu,cpuacct', 'cgroup', 'rw,cpu,cpuacct'),
      line('/c/blkio', 'cgroup', 'rw,blkio'),
      line('/c/systemd', 'cgroup', 'rw,name=systemd'),
      line('/c/unified', 'cgroup2'),
    ].join('\n'),
  );
  const v1 = layoutOf(hybrid, false, () => '');
  assert.deepEqual(
    [v1.version, v1.controllers, v1.mounts.get('io'), v1.hierarchies.map(({ key, mountPoint }) => [key, mountPoint])],
    [
      'v1',
      ['cpu', 'cpuacct', 'io'],
      '/c/blkio',
      [
        ['cpuacct', '/c/cpu,cpuacct'],
        ['blkio', '/c/blkio'],
        ['name=systemd', '/c/systemd'],
        ['', '/c/unified'],
      ],
    ],
  );
  assert.throws(() => layoutOf([], false, () => ''), { name: 'KernelError', code: 'ENOENT' });
});
