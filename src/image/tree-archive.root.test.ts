/** treeArchive against a tree that does its worst. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { lstat, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, beforeEach, test } from 'node:test';

import { NO_REMAP } from '../core/id-map.ts';
import { openKernel } from '../kernel/kernel.ts';
import type { Kernel } from '../kernel/port.ts';

import type { TreeArchive } from './port.ts';
import { encodeHeader, padding, type TarHeader } from './tar-header.ts';
import { treeArchive } from './tree-archive.ts';

let kernel: Kernel;
let scratch: string;
let root: string;
let outside: string;
let tree: TreeArchive;

before(async () => {
  kernel = await openKernel();
  tree = treeArchive(kernel, NO_REMAP);
});
after(async () => await kernel[Symbol.asyncDispose]());
beforeEach(async (t) => {
  scratch = await mkdtemp(join(tmpdir(), 'image-tree-'));
  root = join(scratch, 'root');
  outside = join(scratch, 'outside');
  execFileSync('sh', [
    '-ec',
    `mkdir -p ${root}/etc ${root}/dir/sub ${outside}; cd ${root}; echo secret >${outside}/passwd; echo inner >etc/passwd; echo f >dir/f
    ln -s ${outside} abs; ln -s ../../../../../..${outside} rel; ln -s /dir todir; ln -s f dir/link; ln -s nowhere broken; ln -s loop loop; mkfifo dir/p; ln dir/f dir/hard`,
  ]);
  (t as { after?: (run: () => Promise<void>) => void }).after?.(
    async () => await rm(scratch, { recursive: true, force: true }),
  );
});

type Draft = Partial<TarHeader> & { readonly name: string; readonly content?: string };

function tar(...drafts: readonly Draft[]): AsyncIterable<Uint8Array> {
  const parts: Buffer[] = [];
  for (const { content = '', ...draft } of drafts) {
    const bytes = Buffer.from(content);
    parts.push(
      encodeHeader({
        type: 'file',
        mode: 0o644,
        uid: 7,
        gid: 8,
        mtimeNs: 1_700_000_000_000_000_001n,
        linkName: '',
        major: 0,
        minor: 0,
        xattrs: new Map(),
        sizeBytes: bytes.length,
        ...draft,
      }),
      bytes,
      padding(bytes.length),
    );
  }
  return Readable.from([Buffer.concat([...parts, Buffer.alloc(1024)])]);
}

const OPTIONS = { noOverwriteDirNonDir: false, copyUidGid: false };
const RACE_MS = 2500;
const RACE_MORE_MS = 60_000;

async function list(source: AsyncIterable<Uint8Array>): Promise<string[]> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return execFileSync('tar', ['-t'], { input: Buffer.concat(chunks) })
    .toString()
    .trim()
    .split('\n');
}

test('stat: names, modes as Go has them, link targets resolved inside', async () => {
  const { modifiedAt: _, ...dir } = await tree.stat(root, '/dir');
  assert.deepEqual({ ...dir, sizeBytes: 0 }, { name: 'dir', sizeBytes: 0, goMode: 2 ** 31 + 0o755, linkTarget: '' });
  assert.equal((await tree.stat(root, 'todir')).linkTarget, '/dir');
  assert.equal((await tree.stat(root, 'todir')).goMode, 2 ** 27 + 0o777);
  assert.equal((await tree.stat(root, 'todir/')).goMode, 2 ** 31 + 0o755);
  assert.equal((await tree.stat(root, 'todir/link')).linkTarget, '/dir/f');
  assert.equal((await tree.stat(root, 'broken')).linkTarget, '/nowhere');
  assert.equal((await tree.stat(root, '/')).name, '/');
  assert.equal((await tree.stat(root, '../../dir/.')).name, '.');
  assert.equal((await tree.stat(root, 'dir/p')).goMode, 2 ** 25 + 0o644);
  await assert.rejects(tree.stat(root, '/dir/none'), {
    code: 'CONTAINER_PATH_NOT_FOUND',
    message: 'Could not find the file /dir/none',
  });
  await assert.rejects(tree.stat(root, '/abs/passwd'), { code: 'CONTAINER_PATH_NOT_FOUND' });
  await assert.rejects(tree.stat(root, '/rel/passwd'), { code: 'CONTAINER_PATH_NOT_FOUND' });
  await assert.rejects(tree.stat(root, '/loop/x'), { code: 'CONTAINER_PATH_NOT_FOUND' });
});

test('read: first entry is the base name; links are not followed, and lead nowhere', async () => {
  assert.deepEqual(await list((await tree.read(root, '/dir')).tar), [
    'dir/',
    'dir/f',
    'dir/hard',
    'dir/link',
    'dir/p',
    'dir/sub/',
  ]);
  assert.deepEqual(await list((await tree.read(root, '/dir/.')).tar), [
    './',
    './f',
    './hard',
    './link',
    './p',
    './sub/',
  ]);
  assert.deepEqual(await list((await tree.read(root, '/todir/f')).tar), ['f']);
  assert.deepEqual(await list((await tree.read(root, '/todir')).tar), ['todir']);
  assert.deepEqual(await list((await tree.read(root, '/abs')).tar), ['abs']);
  assert.deepEqual((await list(tree.export(root))).slice(0, 4), ['abs', 'broken', 'dir/', 'dir/f']);
});

test('write: replaces as Docker does, follows links inside only', async () => {
  await tree.write(
    root,
    '/todir',
    tar(
      { name: 'f', content: 'new' },
      { name: 'a/b/c', content: 'deep' },
      { name: 'a', type: 'directory', mode: 0o750 },
      { name: 'h', type: 'link', linkName: 'f' },
      { name: 's', type: 'symlink', linkName: '../dir/f' },
      { name: 't', type: 'symlink', linkName: '/etc' },
    ),
    OPTIONS,
  );
  assert.equal(await readFile(join(root, 'dir/f'), 'utf8'), 'new');
  assert.equal(await readFile(join(root, 'dir/hard'), 'utf8'), 'f\n');
  const { uid, gid, mtimeNs } = await lstat(join(root, 'dir/f'), { bigint: true });
  assert.deepEqual([uid, gid, mtimeNs], [7n, 8n, 1_700_000_000_000_000_001n]);
  assert.equal((await lstat(join(root, 'dir/a'))).mode & 0o7777, 0o750);
  assert.equal(await readFile(join(root, 'dir/a/b/c'), 'utf8'), 'deep');
  await tree.write(root, '/', tar({ name: 'todir/x', content: '1' }, { name: 'broken', content: 'plain' }), {
    ...OPTIONS,
    copyUidGid: true,
    owner: { uid: 3, gid: 4 },
  });
  assert.equal((await lstat(join(root, 'dir/x'))).uid, 3);
  assert.equal(await readFile(join(root, 'broken'), 'utf8'), 'plain');
  await assert.rejects(tree.write(root, '/dir/f', tar(), OPTIONS), { message: 'extraction point is not a directory' });
  await assert.rejects(tree.write(root, '/none', tar(), OPTIONS), { code: 'CONTAINER_PATH_NOT_FOUND' });
  const strict = { ...OPTIONS, noOverwriteDirNonDir: true };
  await assert.rejects(tree.write(root, '/', tar({ name: 'dir' }), strict), {
    message: 'cannot overwrite directory "/dir" with non-directory "/"',
  });
  await assert.rejects(tree.write(root, '/', tar({ name: 'etc/passwd', type: 'directory' }), strict), {
    message: 'cannot overwrite non-directory "/etc/passwd" with directory "/"',
  });
  await tree.write(
    root,
    '/',
    tar({ name: 'etc/passwd', type: 'directory' }, { name: 'big', content: 'x'.repeat(400_000) }),
    OPTIONS,
  );
  assert.ok((await lstat(join(root, 'etc/passwd'))).isDirectory());
  assert.equal((await lstat(join(root, 'big'))).size, 400_000);
});

test('write: nothing outside is touched, whatever archive and tree agree on', async () => {
  const attempts: Draft[][] = [
    [{ name: '../outside/passwd', content: 'evil' }],
    [{ name: 'abs/passwd', content: 'evil' }],
    [{ name: 'rel/passwd', content: 'evil' }],
    [
      { name: 'l', type: 'symlink', linkName: outside },
      { name: 'l/passwd', content: 'evil' },
    ],
    [
      { name: 'l2', type: 'symlink', linkName: `../..${outside}` },
      { name: 'l2/big', content: 'x'.repeat(400_000) },
    ],
    [
      { name: 'h', type: 'link', linkName: `../../..${outside}/passwd` },
      { name: 'h', content: 'evil' },
    ],
    [{ name: 'h2', type: 'link', linkName: 'abs/passwd' }],
    [
      { name: 'abs', type: 'directory', mode: 0o777 },
      { name: 'abs/passwd', content: 'evil' },
    ],
  ];
  for (const drafts of attempts) await tree.write(root, '/', tar(...drafts), OPTIONS).catch(() => {});
  await tree.write(root, '/abs', tar({ name: 'passwd', content: 'evil' }), OPTIONS).catch(() => {});
  assert.deepEqual(await readdir(outside), ['passwd']);
  assert.equal(await readFile(join(outside, 'passwd'), 'utf8'), 'secret\n');
  assert.equal((await lstat(outside)).mode & 0o777, 0o755);
});

test('write: a hostile archive is refused by the name of its entry, and nothing but its target is touched', async () => {
  const snapshot = (): string =>
    execFileSync('sh', [
      '-ec',
      `find ${root} ${outside} -path ${root}/dir -prune -o -printf '%p %y %m %U:%G %s %T@ %n %l\\n' | sort`,
    ]).toString();
  const before = snapshot();
  const link = (name: string, linkName: string): Draft => ({ name, type: 'symlink', linkName });
  const evil = (name: string): Draft => ({ name, content: 'evil' });
  const corpus: Readonly<Record<string, readonly [readonly Draft[], RegExp]>> = {
    'a name above': [[evil('../evil')], /"\.\.\/evil" leads out/],
    'a name that climbs': [[evil('x/../../evil')], /"x\/\.\.\/\.\.\/evil" leads out/],
    'a link above': [[link('up', '../..'), evil('up/evil')], /"up" leads out of the target directory: invalid symlink/],
    'a file through its own link': [
      [link('out', '/etc'), evil('out/evil')],
      /"out\/evil" lies below "out", a symbolic link/,
    ],
    'a directory through its own link': [
      [link('out', '/etc'), { name: 'out/d', type: 'directory' }],
      /"out\/d" lies below "out"/,
    ],
    'a file through two links of its own': [
      [{ name: 'd1', type: 'directory', mode: 0o755 }, link('d1/l', '/etc'), link('m', 'd1/l'), evil('m/evil')],
      /"m\/evil" lies below "m"/,
    ],
    'a hard link above': [
      [{ name: 'h', type: 'link', linkName: '../etc/passwd' }],
      /"h" is a hard link to .* leads out/,
    ],
    'a hard link through its own link': [
      [link('e', '/etc'), { name: 'h', type: 'link', linkName: 'e/passwd' }],
      /"h" lies below "e"/,
    ],
    'a file below a file': [[evil('ff'), evil('ff/x')], /"ff\/x" lies below "ff", which is not a directory/],
  };
  for (const [what, [drafts, reason]] of Object.entries(corpus)) {
    await assert.rejects(
      tree.write(root, '/todir', tar(...drafts), OPTIONS),
      { message: reason, code: 'IMAGE_ARCHIVE_INVALID' },
      what,
    );
    assert.equal(snapshot(), before, what);
  }
  // A link that is replaced by a directory is no link any more; one that the container has leads where it leads.
  const honest = [
    link('was', '/etc'),
    { name: 'was', type: 'directory', mode: 0o755 } as const,
    { name: 'was/in', content: 'in' },
  ];
  await tree.write(root, '/todir', tar(...honest), OPTIONS);
  assert.equal(await readFile(join(root, 'dir/was/in'), 'utf8'), 'in');
  assert.equal(snapshot(), before);
  // An entry for the target itself is passed over, whatever it is, unless kinds must agree.
  await tree.write(root, '/todir', tar(evil('.'), { name: 'after', content: 'after' }), OPTIONS);
  assert.equal(await readFile(join(root, 'dir/after'), 'utf8'), 'after');
  await assert.rejects(tree.write(root, '/todir', tar(evil('.')), { ...OPTIONS, noOverwriteDirNonDir: true }), {
    message: 'cannot overwrite directory "/dir" with non-directory "/dir"',
  });
  assert.equal(snapshot(), before);
});

test('read: shows what is mounted in a directory instead of what lies under it', async () => {
  execFileSync('sh', [
    '-ec',
    `mkdir -p ${root}/m/vol/hidden ${scratch}/volume/in ${scratch}/volume/deeper; echo 1 >${root}/m/file; echo 22 >${scratch}/one; ln -s one ${scratch}/link; echo 3 >${scratch}/volume/in/f`,
  ]);
  const over = new Map([
    ['vol', join(scratch, 'volume')],
    ['vol/deeper', join(scratch, 'volume/in')],
    ['file', join(scratch, 'link')],
    ['nowhere', join(scratch, 'volume')],
  ]);
  assert.deepEqual(await list((await tree.read(root, '/m', { name: 'as', over })).tar), [
    'as/',
    'as/file',
    'as/vol/',
    'as/vol/deeper/',
    'as/vol/deeper/f',
    'as/vol/in/',
    'as/vol/in/f',
  ]);
});

test('write, read, stat: a container that swaps directories for links all the time leads nowhere', async () => {
  await mkdir(join(root, 'race'));
  const race = join(root, 'race');
  const swaps = spawn('sh', [
    '-c',
    `cd ${race}; mkdir real; echo mine >real/passwd; ln -s ${outside} link; while :; do cp -r real d; rm -rf d; cp -P link d; rm -rf d; done 2>/dev/null`,
  ]);
  try {
    const before = await lstat(join(outside, 'passwd'), { bigint: true });
    const outcomes = new Set<string>();
    const endMs = performance.now() + RACE_MS;
    // However slow the host: until each of the three has been seen.
    while (performance.now() < endMs || (outcomes.size < 3 && performance.now() < endMs + RACE_MORE_MS)) {
      await tree.write(root, '/race/d', tar({ name: 'evil', content: 'x' }), OPTIONS).then(
        () => outcomes.add('written'),
        () => outcomes.add('not written'),
      );
      await tree.write(root, '/race', tar({ name: 'd/passwd', content: 'x'.repeat(300_000) }), OPTIONS).catch(() => {});
      for (const path of ['/race/d/passwd', '/race/d/', '/race']) {
        let text = '';
        try {
          for await (const chunk of (await tree.read(root, path)).tar) text += Buffer.from(chunk).toString('latin1');
          await tree.stat(root, path);
        } catch {
          continue; // it was not there
        }
        assert(!text.includes('secret'), path);
        outcomes.add('read');
      }
    }
    assert.deepEqual([...outcomes].toSorted(), ['not written', 'read', 'written']);
    assert.deepEqual(await readdir(outside), ['passwd']);
    assert.equal(await readFile(join(outside, 'passwd'), 'utf8'), 'secret\n');
    assert.equal((await lstat(join(outside, 'passwd'), { bigint: true })).ctimeNs, before.ctimeNs);
  } finally {
    swaps.kill('SIGKILL');
    await new Promise((resolve) => swaps.once('exit', resolve));
  }
});

test('write, export: ten thousand small files there and back are the same', async () => {
  execFileSync('sh', [
    '-ec',
    `mkdir ${scratch}/many ${root}/many; cd ${scratch}/many; for i in $(seq 20); do mkdir d$i; for j in $(seq 100); do echo $i-$j >d$i/$j; done; done`,
  ]);
  await tree.write(root, '/many', tree.export(join(scratch, 'many')), OPTIONS);
  execFileSync('diff', ['-r', join(scratch, 'many'), join(root, 'many')]);
});
