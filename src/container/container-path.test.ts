import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { locateOnHost, type PathMount } from './container-path.ts';

test('locateOnHost: follows links as the container sees them, into mounts and out again', async () => {
  const base = await mkdtemp(join(tmpdir(), 'container-path-'));
  try {
    const rootfs = join(base, 'rootfs');
    const volume = join(base, 'volume');
    const file = join(base, 'file');
    await mkdir(join(rootfs, 'etc/deep'), { recursive: true });
    await mkdir(join(volume, 'sub'), { recursive: true });
    await writeFile(file, 'x');
    await symlink('/vol', join(rootfs, 'to-volume'));
    await symlink('../../../../../etc', join(rootfs, 'etc/deep/up'));
    await symlink('/etc', join(volume, 'to-etc'));
    await symlink('../sub', join(volume, 'sub/relative'));
    await symlink('loop', join(rootfs, 'loop'));
    const mounts: PathMount[] = [
      { destination: '/vol', source: volume, readWrite: false },
      { destination: '/etc/one', source: file, readWrite: true },
    ];
    const where = async (path: string): Promise<string> => {
      const found = await locateOnHost(rootfs, mounts, path);
      return `${found.root.slice(base.length + 1)} ${found.path}${found.mount === null ? '' : ' mounted'}`;
    };
    const cases: [string, string][] = [
      ['/', 'rootfs /'],
      ['/etc', 'rootfs /etc'],
      ['/../../etc', 'rootfs /etc'],
      ['/vol', 'volume / mounted'],
      ['/vol/sub/../x', 'volume /x mounted'],
      ['/vol/..', 'rootfs /'],
      ['/to-volume', 'rootfs /to-volume'],
      ['/to-volume/', 'volume / mounted'],
      ['/to-volume/sub', 'volume /sub mounted'],
      ['/vol/to-etc/deep', 'rootfs /etc/deep'],
      ['/vol/sub/relative/x', 'volume /sub/x mounted'],
      ['/etc/deep/up/passwd', 'rootfs /etc/passwd'],
      ['/etc/one', ' /file mounted'],
      ['/nowhere/at/all', 'rootfs /nowhere/at/all'],
    ];
    for (const [path, expected] of cases) assert.equal(await where(path), expected, path);
    await assert.rejects(where('/loop/x'), { code: 'CONTAINER_PATH_INVALID' });
  } finally {
    await rm(base, { recursive: true });
  }
});
