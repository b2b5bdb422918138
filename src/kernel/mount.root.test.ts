import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { overlayByPage } from './mount.ts';
import { withScratch } from './scratch.ts';

/** overlayfs takes layers one by one since Linux 6.7; Debian 12 has 6.1. */
const [major = 0, minor = 0] = release().split('.').map(Number);
const hasLowerdirPlus = major > 6 || (major === 6 && minor >= 7);
const MS_BIND = 0x1000;
const MS_NODEV = 4;

function directories(base: string, ...names: string[]): string[] {
  return names.map((name) => {
    mkdirSync(join(base, name), { recursive: true });
    return join(base, name);
  });
}

test('overlay: the topmost layer wins, writes go to the upper, read-only without one', () =>
  withScratch(async ({ kernel, directory }) => {
    const [top = '', bottom = '', upperDir = '', workDir = '', target = ''] = directories(
      directory,
      'top',
      'bottom',
      'upper',
      'work',
      'merged',
    );
    writeFileSync(join(top, 'both'), 'top');
    writeFileSync(join(bottom, 'both'), 'bottom');
    writeFileSync(join(bottom, 'low'), 'low');
    await kernel.mounts.overlay({ lowerDirs: [top, bottom], upper: { upperDir, workDir }, target, volatile: true });
    assert.deepEqual(await kernel.mounts.below(directory), [target]);
    assert.equal(readFileSync(join(target, 'both'), 'utf8'), 'top');
    writeFileSync(join(target, 'new'), 'x');
    assert.deepEqual(readdirSync(upperDir), ['new']);
    assert.equal(await kernel.mounts.unmount(target), true);
    assert.equal(await kernel.mounts.unmount(target), false);
    assert.equal(await kernel.mounts.unmount(join(directory, 'nothing')), false);
    await kernel.mounts.overlay({ lowerDirs: [top, bottom], upper: null, target });
    assert.throws(() => writeFileSync(join(target, 'x'), ''), { code: 'EROFS' });
    await kernel.mounts.unmount(target);
  }));

test('overlay: 120 layers of long and hostile names', () =>
  withScratch(async ({ kernel, directory }) => {
    const lowerDirs = Array.from({ length: 120 }, (_, index) =>
      join(
        directory,
        `a:b,c\\d ${index}`.padEnd(80 + (index % 2) * 150, 'x'),
        index % 3 === 0 ? 'y'.repeat(120) : 'diff',
      ),
    );
    for (const [index, path] of lowerDirs.entries()) {
      mkdirSync(path, { recursive: true });
      writeFileSync(join(path, `file-${index}`), '');
    }
    const [upperDir = '', workDir = '', target = ''] = directories(directory, 'upper', 'work', 'merged');
    await kernel.mounts.overlay({ lowerDirs, upper: { upperDir, workDir }, target });
    try {
      assert.equal(readdirSync(target).length, 120);
    } finally {
      await kernel.mounts.unmount(target);
    }
  }));

test('overlay: errors name the call, what was asked and what the kernel said', () =>
  withScratch(async ({ kernel, directory }) => {
    const [target = ''] = directories(directory, 'merged');
    const missing = join(directory, 'missing');
    await assert.rejects(kernel.mounts.overlay({ lowerDirs: [missing, target], upper: null, target }), {
      name: 'KernelError',
      code: 'ENOENT',
      ...(hasLowerdirPlus
        ? { syscall: 'fsconfig', detail: `overlay ${JSON.stringify(target)}, lowerdir+=${JSON.stringify(missing)}` }
        : {
            syscall: 'mount',
            detail: `overlay, ${JSON.stringify(target)}, ${JSON.stringify(`lowerdir=${missing}:${target}`)}`,
          }),
    });
    await assert.rejects(kernel.mounts.overlay({ lowerDirs: [], upper: null, target }), {
      code: 'EINVAL',
      text: 'no lower directory',
    });
    await assert.rejects(kernel.mounts.overlay({ lowerDirs: [target], upper: null, target: `${target}\0/etc` }), {
      code: 'EINVAL',
    });
    await assert.rejects(
      kernel.mounts.overlay({ lowerDirs: [target], upper: { upperDir: '/proc', workDir: '/sys' }, target }),
      { syscall: hasLowerdirPlus ? 'fsconfig' : 'mount', code: 'EINVAL' },
    );
    assert.deepEqual(await kernel.mounts.below(directory), []);
  }));

test('mount, below, unmount: binds, tmpfs, names with a newline, links left alone', () =>
  withScratch(async ({ kernel, directory }) => {
    const [source = '', target = '', hostile = ''] = directories(directory, 'source', 'target', 'a b\nc\\');
    writeFileSync(join(source, 'here'), '');
    await kernel.mounts.mount({ source, target, type: '', flags: MS_BIND, data: '' });
    await kernel.mounts.mount({
      source: 'tmpfs',
      target: hostile,
      type: 'tmpfs',
      flags: MS_NODEV,
      data: 'size=64k,mode=700',
    });
    assert.deepEqual(readdirSync(target), ['here']);
    assert.deepEqual(new Set(await kernel.mounts.below(directory)), new Set([hostile, target]));
    symlinkSync(target, join(directory, 'link'));
    assert.equal(await kernel.mounts.unmount(join(directory, 'link')), false);
    assert.equal(await kernel.mounts.unmount(target), true);
    assert.equal(await kernel.mounts.unmount(hostile), true);
    const bad = { source: 'none', target, type: 'nosuchfs', flags: 0, data: 'x' };
    await assert.rejects(kernel.mounts.mount(bad), {
      syscall: 'mount',
      code: 'ENODEV',
      detail: `"none", ${JSON.stringify(target)}, "nosuchfs", 0x0, "x"`,
    });
    await assert.rejects(kernel.mounts.mount({ ...bad, type: 'tmpfs', data: `size=1k,${'x'.repeat(5000)}` }), {
      code: 'E2BIG',
    });
    await assert.rejects(kernel.mounts.mount({ ...bad, flags: -1 }), { code: 'EINVAL' });
    await assert.rejects(kernel.mounts.mount({ ...bad, flags: 2 ** 40 }), { code: 'EINVAL' });
  }));

test('unmount: does not hold up other calls', () =>
  withScratch(async ({ kernel, directory }) => {
    const [lower = '', upperDir = '', workDir = '', target = ''] = directories(
      directory,
      'lower',
      'upper',
      'work',
      'merged',
    );
    await kernel.mounts.overlay({ lowerDirs: [lower], upper: { upperDir, workDir }, target });
    writeFileSync(join(target, 'dirty'), Buffer.alloc(64 * 1024 * 1024, 1));
    const order: string[] = [];
    await Promise.all([
      kernel.mounts.unmount(target).then(() => order.push('unmount')),
      kernel.mounts.below('/nothing').then(() => order.push('other')),
    ]);
    assert.deepEqual(order, ['other', 'unmount']);
  }));

test('overlayByPage: the way of kernels before 6.5 takes as many layers and the same hostile names', () =>
  withScratch(async ({ kernel, directory }) => {
    const [upperDir = '', workDir = '', target = ''] = directories(directory, 'upper', 'work', 'merged');
    for (const [count, padding] of [
      [3, 20],
      [120, 120],
    ] as const) {
      const lowerDirs = directories(
        directory,
        ...Array.from({ length: count }, (_, index) => `a:b,c\\d ${index}`.padEnd(padding, 'x')),
      );
      for (const [index, path] of lowerDirs.entries()) writeFileSync(join(path, `file-${index}`), '');
      overlayByPage({ lowerDirs, upper: { upperDir, workDir }, target });
      try {
        assert.equal(readdirSync(target).filter((name) => name.startsWith('file-')).length, count);
      } finally {
        await kernel.mounts.unmount(target);
      }
    }
  }));
