import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { openKernel } from '../kernel/kernel.ts';
import { RootFiles } from './root-files.ts';

test('RootFiles: hostile roots lead nowhere else, and devices and pipes are not opened', async () => {
  const base = await mkdtemp(join(tmpdir(), 'root-files-'));
  const root = join(base, 'root');
  await using kernel = await openKernel();
  const files = new RootFiles(kernel.files, { uid: 0, gid: 0 });
  try {
    await mkdir(join(root, 'etc'), { recursive: true });
    await mkdir(join(base, 'outside'));
    await writeFile(join(base, 'secret'), 'secret');
    await writeFile(join(root, 'etc/passwd'), 'root:x:0:0');
    await symlink('../../secret', join(root, 'etc/up'));
    await symlink('/etc/passwd', join(root, 'etc/abs'));
    await symlink('../../outside', join(root, 'out'));
    execFileSync('mkfifo', [join(root, 'etc/fifo')]);
    execFileSync('mknod', [join(root, 'etc/zero'), 'c', '1', '5']);
    const texts: [string, string][] = [
      ['/etc/passwd', 'root:x:0:0'],
      ['/etc/abs', 'root:x:0:0'],
      ['/../../etc/passwd', 'root:x:0:0'],
      ['/etc/up', ''],
      ['/etc/fifo', ''],
      ['/etc/zero', ''],
      ['/etc', ''],
      ['/none/at/all', ''],
    ];
    for (const [path, text] of texts) assert.equal(await files.readText(root, path, 100), text, path);
    await assert.rejects(files.readText(root, '/etc/passwd', 5), { code: 'CONTAINER_PATH_INVALID' });
    assert.equal(await files.locate(root, '/etc/abs'), join(root, 'etc/passwd'));
    assert.equal(await files.locate(root, '/etc/up'), null);

    await files.ensureDirectory(root, '/a/b/../c');
    assert.equal((await stat(join(root, 'a/c'))).mode & 0o777, 0o755);
    await files.ensureDirectory(root, '/a/c');
    await assert.rejects(files.ensureDirectory(root, '/etc/passwd/x'), {
      message: 'Cannot mkdir: /etc/passwd/x is not a directory',
    });
    await files.ensureDirectory(root, '/out/x'); // the link leads to nothing inside: what it names is made there
    assert.equal((await stat(join(root, 'outside/x'))).isDirectory(), true);
    await symlink('loop', join(root, 'loop'));
    await assert.rejects(files.ensureDirectory(root, '/loop/x'), { code: 'CONTAINER_PATH_INVALID' });

    await symlink('/gone/deep', join(root, 'nowhere'));
    await symlink('gone/file', join(root, 'no-file'));
    await files.ensureBehindLinks(root, '/nowhere/x', 'directory');
    assert.equal((await stat(join(root, 'gone/deep/x'))).isDirectory(), true);
    await files.ensureBehindLinks(root, '/no-file', 'file');
    assert.equal((await stat(join(root, 'gone/file'))).isFile(), true);
    for (const path of ['/new/x', '/nowhere/x', '/etc/passwd/x', '/loop/x', '/etc/fifo'])
      await files.ensureBehindLinks(root, path, 'directory'); // there, the runtime's to make, or to refuse
    await files.ensureBehindLinks(root, '/out/new/x', 'directory');
    assert.deepEqual((await readdir(root)).toSorted(), [
      'a',
      'etc',
      'gone',
      'loop',
      'no-file',
      'nowhere',
      'out',
      'outside',
    ]);
    assert.deepEqual(await readdir(join(base, 'outside')), []);
  } finally {
    await rm(base, { recursive: true });
  }
});
