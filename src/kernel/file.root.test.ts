import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { withScratch } from './scratch.ts';

const S_IFCHR = 0o020000;
const S_IFIFO = 0o010000;
const O_WRONLY = 1;
const O_CREAT = 0o100;
const MS_BIND = 0x1000;

test('removeTree: everything goes, what links and names lead to stays', () =>
  withScratch(async ({ kernel, directory }) => {
    const outside = join(directory, 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'kept'), '');
    const tree = join(directory, 'tree');
    mkdirSync(join(tree, 'a', 'b'), { recursive: true });
    symlinkSync(outside, join(tree, 'a', 'link'));
    symlinkSync('/nonexistent', join(tree, 'dangling'));
    writeFileSync(join(tree, 'new\nline'), '');
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0xfe, 0x80])]), ''); // not UTF-8
    mkdirSync(join(tree, 'locked'), { mode: 0 });
    for (let index = 0; index < 3000; index++) writeFileSync(join(tree, 'a', 'b', `${'n'.repeat(100)}${index}`), '');
    await kernel.files.removeTree(tree);
    assert.equal(existsSync(tree), false);
    assert.deepEqual(readdirSync(outside), ['kept']);
    await kernel.files.removeTree(tree);
    await kernel.files.removeTree(join(directory, 'no', 'such', 'parent'));
    symlinkSync(outside, join(directory, 'link'));
    await kernel.files.removeTree(join(directory, 'link'));
    assert.deepEqual(readdirSync(directory), ['outside']);
    assert.deepEqual(readdirSync(outside), ['kept']);
  }));

test('removeTree: deeper than descriptors and paths reach', () =>
  withScratch(async ({ kernel, directory }) => {
    const here = process.cwd();
    process.chdir(directory);
    for (let depth = 0; depth < 1500; depth++) {
      mkdirSync('deep-directory');
      process.chdir('deep-directory');
      if (depth % 100 === 0) writeFileSync('f', '');
    }
    process.chdir(here);
    await kernel.files.removeTree(join(directory, 'deep-directory'));
    assert.deepEqual(readdirSync(directory), []);
  }));

test('removeTree: stops at mount points and immutable files with their path; others are not held up', () =>
  withScratch(async ({ kernel, directory }) => {
    const tree = join(directory, 'tree');
    const mounted = join(tree, 'mounted');
    const source = join(directory, 'source');
    for (const path of [mounted, source]) mkdirSync(path, { recursive: true });
    writeFileSync(join(source, 'kept'), '');
    await kernel.mounts.mount({ source, target: mounted, type: '', flags: MS_BIND, data: '' });
    await assert.rejects(kernel.files.removeTree(tree), {
      name: 'KernelError',
      code: 'EXDEV',
      detail: `${JSON.stringify(mounted)}, RESOLVE_NO_XDEV`,
    });
    await assert.rejects(kernel.files.removeTree(mounted), { code: 'EXDEV' });
    assert.deepEqual(readdirSync(source), ['kept']);
    await kernel.mounts.unmount(mounted);
    const file = join(tree, 'immutable');
    writeFileSync(file, '');
    execFileSync('chattr', ['+i', file]);
    try {
      await assert.rejects(kernel.files.removeTree(tree), {
        syscall: 'unlinkat',
        code: 'EPERM',
        detail: JSON.stringify(file),
      });
    } finally {
      execFileSync('chattr', ['-i', file]);
    }
    await kernel.files.removeTree(tree);
    for (const path of ['/', '', 'relative', '/tmp/..', '/tmp/.'])
      await assert.rejects(kernel.files.removeTree(path), { code: 'EINVAL' }, path);
    await assert.rejects(kernel.files.removeTree(`${directory}\0/x`), { code: 'EINVAL' });
  }));

test('extended attributes: set, get, list; none is null; a link is never followed', () =>
  withScratch(async ({ kernel: { files }, directory }) => {
    const path = join(directory, 'file');
    writeFileSync(path, '');
    await files.setXattr(path, 'trusted.a', Buffer.from([0, 1, 255]));
    await files.setXattr(path, 'trusted.empty', Buffer.alloc(0));
    assert.deepEqual(await files.getXattr(path, 'trusted.a'), Buffer.from([0, 1, 255]));
    assert.deepEqual(await files.getXattr(path, 'trusted.empty'), Buffer.alloc(0));
    assert.equal(await files.getXattr(path, 'trusted.none'), null);
    assert.deepEqual((await files.listXattr(path)).filter((name) => name.startsWith('trusted.')).toSorted(), [
      'trusted.a',
      'trusted.empty',
    ]);
    symlinkSync(path, join(directory, 'link'));
    assert.equal(await files.getXattr(join(directory, 'link'), 'trusted.a'), null);
    await assert.rejects(files.getXattr(join(directory, 'none'), 'trusted.a'), {
      syscall: 'lgetxattr',
      code: 'ENOENT',
    });
    await assert.rejects(files.setXattr(path, 'trusted.big', Buffer.alloc(70_000)), { code: 'E2BIG' });
    await assert.rejects(files.setXattr(path, 'nonsense', Buffer.alloc(1)), { syscall: 'lsetxattr' });
  }));

test('makeNode, setTimes: devices, FIFOs, times before 1970 and with nanoseconds', () =>
  withScratch(async ({ kernel: { files }, directory }) => {
    const device = join(directory, 'null');
    await files.makeNode(device, S_IFCHR | 0o666, 1, 3);
    assert.equal(lstatSync(device).mode & 0o777, 0o666);
    assert.equal(readFileSync(device).length, 0);
    await files.makeNode(join(directory, 'wide'), S_IFCHR | 0o600, 0xabc, 0x54321);
    assert.equal(
      execFileSync('stat', ['-c', '%t %T', join(directory, 'wide')], { encoding: 'utf8' }).trim(),
      'abc 54321',
    );
    await assert.rejects(files.makeNode(join(directory, 'x'), S_IFCHR, 0x1000, 0), { code: 'EINVAL' });
    symlinkSync('/nonexistent', join(directory, 'link'));
    await files.setTimes(join(directory, 'link'), -1n, 1_700_000_000_123_456_789n);
    const times = lstatSync(join(directory, 'link'), { bigint: true });
    assert.deepEqual([times.atimeNs, times.mtimeNs], [-1n, 1_700_000_000_123_456_789n]);
  }));

test('openInRoot: links lead no further than the root, and a FIFO hangs nobody', () =>
  withScratch(async ({ kernel: { files, processes }, directory }) => {
    const root = join(directory, 'root');
    mkdirSync(join(root, 'etc'), { recursive: true });
    writeFileSync(join(root, 'etc', 'passwd'), 'inside');
    symlinkSync('/etc', join(root, 'absolute'));
    symlinkSync('../../../../../../etc', join(root, 'upwards'));
    for (const path of ['/etc/passwd', 'absolute/passwd', '/upwards/passwd', '../../etc/passwd']) {
      const fd = await files.openInRoot(root, path, 0, 0);
      const content = Buffer.alloc(6);
      readSync(fd, content);
      closeSync(fd);
      assert.equal(content.toString(), 'inside', path);
    }
    for (const path of ['absolute/passwd', 'upwards/passwd', '../etc/passwd', '/etc/passwd', 'etc/../../x'])
      await assert.rejects(files.openInRoot(root, path, 0, 0, 'refused'), { code: 'EXDEV' }, path);
    symlinkSync('../etc', join(root, 'etc', 'itself'));
    closeSync(await files.openInRoot(root, 'etc/itself/../etc/passwd', 0, 0, 'refused'));
    await files.makeNode(join(root, 'fifo'), S_IFIFO | 0o600, 0, 0);
    await processes.closeDescriptor(await files.openInRoot(root, 'fifo', 0, 0));
    await assert.rejects(files.openInRoot(root, 'fifo', O_WRONLY, 0), { code: 'ENXIO' });
    await processes.closeDescriptor(await files.openInRoot(root, 'upwards/made', O_WRONLY | O_CREAT, 0o640));
    assert.equal(statSync(join(root, 'etc', 'made')).mode & 0o777, 0o640);
    await assert.rejects(files.openInRoot(root, 'none', 0, 0), {
      syscall: 'openat2',
      code: 'ENOENT',
      detail: `${JSON.stringify(root)}, "none", 0o0`,
    });
    await assert.rejects(files.openInRoot(root, 'a\0b', 0, 0), { code: 'EINVAL' });
  }));

test('batch: every kind, exact modes whatever the umask, in order; the first failure ends it', () =>
  withScratch(async ({ kernel: { files }, directory }) => {
    const at = (name: string): string => join(directory, name);
    await files.batch([
      { kind: 'mkdir', path: at('d'), mode: 0o1777 },
      { kind: 'file', path: at('d/f'), mode: 0o4755, content: Buffer.from('content') },
      { kind: 'link', path: at('d/hard'), target: at('d/f') },
      { kind: 'symlink', path: at('d/soft'), target: '/etc/passwd' },
      { kind: 'node', path: at('d/fifo'), mode: S_IFIFO | 0o666, major: 0, minor: 0 },
      { kind: 'chown', path: at('d/soft'), uid: 1234, gid: 4_000_000_000 },
      { kind: 'chmod', path: at('d/hard'), mode: 0o2711 },
      { kind: 'xattr', path: at('d/f'), name: 'trusted.x', value: Buffer.from('v') },
      { kind: 'times', path: at('d'), accessNs: 1n, modifyNs: 2n },
    ]);
    assert.equal(readFileSync(at('d/f'), 'utf8'), 'content');
    assert.deepEqual(
      [lstatSync(at('d')).mode & 0o7777, lstatSync(at('d/f')).mode & 0o7777, lstatSync(at('d/fifo')).mode],
      [0o1777, 0o2711, S_IFIFO | 0o666],
    );
    assert.deepEqual(
      [lstatSync(at('d/soft')).uid, lstatSync(at('d/soft')).gid, readlinkSync(at('d/soft'))],
      [1234, 4_000_000_000, '/etc/passwd'],
    );
    assert.equal(lstatSync(at('d'), { bigint: true }).mtimeNs, 2n);
    assert.deepEqual(await files.getXattr(at('d/hard'), 'trusted.x'), Buffer.from('v'));
    const modeBefore = statSync('/etc/passwd').mode;
    await assert.rejects(files.batch([{ kind: 'chmod', path: at('d/soft'), mode: 0o777 }]), { syscall: 'chmod' });
    assert.equal(statSync('/etc/passwd').mode, modeBefore);
    await assert.rejects(
      files.batch([
        { kind: 'mkdir', path: at('e'), mode: 0o755 },
        { kind: 'file', path: at('d/soft'), mode: 0o644, content: Buffer.from('never') },
        { kind: 'mkdir', path: at('after'), mode: 0o755 },
      ]),
      { name: 'KernelError', syscall: 'openat', code: 'EEXIST' },
    );
    assert.deepEqual(readdirSync(directory).toSorted(), ['d', 'e']);
    await assert.rejects(files.batch([{ kind: 'chown', path: at('d'), uid: -1, gid: 0 }]), { code: 'EINVAL' });
  }));

test('batch: with a root no link on the way leads out', () =>
  withScratch(async ({ kernel: { files }, directory }) => {
    const root = join(directory, 'root');
    const outside = join(directory, 'outside');
    mkdirSync(join(root, 'etc'), { recursive: true });
    mkdirSync(outside);
    writeFileSync(join(outside, 'secret'), '');
    chmodSync(join(outside, 'secret'), 0o600);
    const up = `${'../'.repeat(20)}${outside.slice(1)}`;
    await files.batch(
      [
        { kind: 'symlink', path: '/out', target: up },
        { kind: 'symlink', path: '/abs', target: '/etc' },
      ],
      root,
    );
    await files.batch(
      [
        { kind: 'file', path: 'abs/passwd', mode: 0o644, content: Buffer.from('in') },
        { kind: 'xattr', path: '/abs/passwd', name: 'trusted.y', value: Buffer.from('y') },
        { kind: 'link', path: '/twin', target: '/abs/passwd' },
      ],
      root,
    );
    assert.equal(readFileSync(join(root, 'etc', 'passwd'), 'utf8'), 'in');
    assert.equal(readFileSync(join(root, 'twin'), 'utf8'), 'in');
    assert.deepEqual(await files.getXattr(join(root, 'twin'), 'trusted.y'), Buffer.from('y'));
    const attacks = [
      { kind: 'file', path: '/out/new', mode: 0o644, content: Buffer.alloc(0) },
      { kind: 'chmod', path: '/out/secret', mode: 0o777 },
      { kind: 'link', path: '/stolen', target: '/out/secret' },
    ] as const;
    for (const attack of attacks)
      await assert.rejects(files.batch([attack], root), { syscall: 'openat2', code: 'ENOENT' });
    for (const path of ['', '/', '.', '..', '/a/..', '/x/'])
      await assert.rejects(files.batch([{ kind: 'chmod', path, mode: 0o777 }], root), { name: 'KernelError' }, path);
    assert.deepEqual(readdirSync(outside), ['secret']);
    assert.equal(statSync(join(outside, 'secret')).mode & 0o777, 0o600);
  }));
