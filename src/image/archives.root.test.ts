/** load, save and layers: hostile archives are refused by name, real ones come back byte for byte. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { lstat, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { after, before, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { systemClock } from '../core/clock.ts';
import { silent } from '../core/log.ts';
import { openKernel } from '../kernel/kernel.ts';
import type { Kernel } from '../kernel/port.ts';
import { openStore } from '../store/store.ts';

import { digestOf } from './digest.ts';
import { openImages } from './images.ts';
import type { Images, Progress } from './port.ts';
import { encodeHeader, padding, type TarHeader } from './tar-header.ts';

let kernel: Kernel;
let scratch: string;
let images: Images;

before(async () => {
  kernel = await openKernel();
  scratch = await mkdtemp(join(tmpdir(), 'image-test-'));
  images = await openAt('data');
});
after(async () => {
  await kernel[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

async function openAt(name: string): Promise<Images> {
  const dataRoot = join(scratch, name);
  const store = openStore({ path: join(dataRoot, 'state.db'), clock: systemClock, logger: silent });
  return await openImages({
    dataRoot,
    kernel,
    store,
    events: { publish: () => {} },
    clock: systemClock,
    logger: silent,
  });
}

type Draft = Partial<TarHeader> & { readonly name: string; readonly content?: string | Buffer };

function tar(...drafts: readonly Draft[]): Buffer {
  const parts: Buffer[] = [];
  for (const { content = '', ...draft } of drafts) {
    const bytes = Buffer.from(content);
    parts.push(
      encodeHeader({
        type: 'file',
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtimeNs: 1_700_000_000_123_456_789n,
        linkName: '',
        major: 0,
        minor: 0,
        xattrs: new Map(),
        sizeBytes: bytes.length,
        ...draft,
      }),
    );
    parts.push(bytes, padding(bytes.length));
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

function stream(bytes: Buffer, chunk = 1000): AsyncIterable<Uint8Array> {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += chunk) pieces.push(bytes.subarray(at, at + chunk));
  return Readable.from(pieces);
}

async function importOf(bytes: Buffer, reference: string | null = null): Promise<string> {
  return (
    await images.importTar({
      source: stream(bytes, Math.max(1000, bytes.length >> 12)),
      reference,
      message: '',
      changes: [],
      platform: null,
    })
  ).id;
}

async function text(progress: AsyncIterable<Progress>): Promise<string> {
  let all = '';
  for await (const line of progress) if (line.kind === 'stream') all += line.text;
  return all;
}

async function saveTo(from: Images, name: string, ...names: string[]): Promise<string> {
  const path = join(scratch, name);
  await pipeline(from.save(names, { platform: null }), createWriteStream(path));
  return path;
}

/** A file "x" of ten bytes with these records in front of it. */
function pax(...records: readonly string[]): Buffer {
  const content = records.map((record) => {
    const rest = Buffer.byteLength(record) + 2; // its blank and newline
    const length = [1, 2, 3].map((digits) => rest + digits).find((sum) => String(sum).length === sum - rest)!;
    return `${length} ${record}\n`;
  });
  const extended = tar({ name: 'PaxHeaders/x', mtimeNs: 0n, content: content.join('') }).subarray(0, -1024);
  extended[156] = 'x'.charCodeAt(0);
  extended.fill(0x20, 148, 156);
  const sum = extended.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  extended.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([extended, tar({ name: 'x', mtimeNs: 0n, content: '9999999999' })]);
}

const HOSTILE: Readonly<Record<string, readonly [Buffer, RegExp]>> = {
  'a name above the target': [tar({ name: '../evil', content: 'x' }), /"\.\.\/evil" leads out/],
  'a name that climbs in the middle': [tar({ name: 'a/../../evil', content: 'x' }), /"a\/\.\.\/\.\.\/evil" leads out/],
  'a file below a symbolic link': [
    tar({ name: 'l', type: 'symlink', linkName: '/etc' }, { name: 'l/evil', content: 'x' }),
    /"l\/evil" lies below "l"/,
  ],
  'a directory over a symbolic link': [
    tar({ name: 'l', type: 'symlink', linkName: '/etc' }, { name: 'l', type: 'directory', mode: 0o777 }),
    /"l" is in the archive twice/,
  ],
  'a file below a file': [tar({ name: 'f' }, { name: 'f/x' }), /"f\/x" lies below "f"/],
  'a hard link out of the target': [
    tar({ name: 'h', type: 'link', linkName: '../../../etc/passwd' }),
    /"h" is a hard link to "\.\.\/\.\.\/\.\.\/etc\/passwd", which leads out/,
  ],
  'a hard link to what the host has': [
    tar({ name: 'h', type: 'link', linkName: '/etc/passwd' }),
    /"h" is a hard link to "\/etc\/passwd"/,
  ],
  'a hard link below a symbolic link': [
    tar({ name: 'l', type: 'symlink', linkName: '/etc' }, { name: 'h', type: 'link', linkName: 'l/passwd' }),
    /"h" is a hard link/,
  ],
  'a path twice': [tar({ name: 'f', content: '1' }, { name: './f', content: '2' }), /duplicates of file paths/],
  'an archive that is cut': [tar({ name: 'f', content: 'x'.repeat(2000) }).subarray(0, 1500), /unexpected EOF/],
  'a size that lies': [tar({ name: 'f', content: 'x', sizeBytes: 5000 } as Draft).subarray(0, 2048), /unexpected EOF/],
  'a whiteout of the parent': [tar({ name: 'd/.wh...', content: '' }), /"d\/\.wh\.\.\." is no valid whiteout/],
  'an endless name': [tar({ name: 'a/'.repeat(5000), content: '' }), /has a name that is too long/],
  'a whiteout of nothing': [tar({ name: 'd/.wh.' }), /"d\/\.wh\." is no valid whiteout/],
  'a whiteout with content': [tar({ name: '.wh.f', content: 'x' }), /"\.wh\.f" is a whiteout with content/],
  'a whiteout below a symbolic link': [
    tar({ name: 'l', type: 'symlink', linkName: '/etc' }, { name: 'l/.wh.passwd' }),
    /"l\/\.wh\.passwd" lies below "l"/,
  ],
  'an opaque mark below a symbolic link': [
    tar({ name: 'l', type: 'symlink', linkName: '/etc' }, { name: 'l/.wh..wh..opq' }),
    /"l\/\.wh\.\.wh\.\.opq" lies below "l"/,
  ],
  'a file below a device': [
    tar({ name: 'n', type: 'character', major: 1, minor: 3 }, { name: 'n/x', content: 'x' }),
    /"n\/x" lies below "n"/,
  ],
  'a PAX path with a NUL': [pax('path=good\0../evil'), /invalid tar header/],
  'a PAX path that leads out': [pax('path=../evil'), /"\.\.\/evil" leads out/],
  'a negative PAX size': [pax('size=-512'), /invalid tar header/],
  'a PAX size beyond all': [pax('size=9007199254740993'), /invalid tar header/],
  'an owner that is no number': [pax('uid=0x0'), /invalid tar header/],
  'a sparse map with overlaps': [pax('GNU.sparse.size=99', 'GNU.sparse.map=0,5,2,5'), /invalid sparse map of "x"/],
  'a sparse map beyond the end': [pax('GNU.sparse.size=9', 'GNU.sparse.map=0,10'), /invalid sparse map of "x"/],
  'a sparse map that holds less than the archive': [
    pax('GNU.sparse.size=99', 'GNU.sparse.map=0,9'),
    /invalid sparse map of "x"/,
  ],
  'sparse segments without their lengths': [
    pax('GNU.sparse.size=9', 'GNU.sparse.offset=0', 'GNU.sparse.offset=5'),
    /invalid tar header/,
  ],
  'a sparse map of a billion segments': [
    pax('GNU.sparse.major=1', 'GNU.sparse.minor=0', 'GNU.sparse.realsize=9'),
    /invalid/,
  ],
  junk: [Buffer.from('junk'), /unexpected EOF/],
  'more junk': [Buffer.alloc(2048, 'junk'), /invalid tar header/],
  'damaged gzip': [gzipSync(tar({ name: 'f', content: 'x'.repeat(5000) })).subarray(0, 60), /damaged compressed data/],
  'an xattr record that lies': [
    Buffer.concat([
      encodeHeader({
        name: 'x',
        type: 'file',
        mode: 0,
        uid: 0,
        gid: 0,
        sizeBytes: 0,
        mtimeNs: 0n,
        linkName: '',
        major: 0,
        minor: 0,
        xattrs: new Map([['user.a', Buffer.from('b')]]),
      }).fill('9', 512, 514),
      Buffer.alloc(1024),
    ]),
    /invalid tar header/,
  ],
};

for (const [what, [bytes, reason]] of Object.entries(HOSTILE)) {
  test(`importTar: refuses ${what} and leaves nothing`, async () => {
    const before = await lstat('/etc');
    await assert.rejects(importOf(bytes), (error: Error & { code: string }) => {
      assert.match(error.message, reason);
      assert.equal(error.code, 'IMAGE_ARCHIVE_INVALID');
      return true;
    });
    assert.deepEqual(
      (await readdir(join(scratch, 'data/layer'))).filter((name) => name !== 'empty'),
      [],
    );
    assert.deepEqual((await lstat('/etc')).mode, before.mode);
  });
}

test('extractLayer: gives every attribute back; the recipe gives the tar back', async () => {
  const source = join(scratch, 'every');
  execFileSync('sh', [
    '-ec',
    `mkdir -p ${source}/d/e; cd ${source}; echo a >f; ln f d/hard; ln -s ../f d/soft; mkfifo p; mknod c c 5 300; mknod b b 7 1
    echo s >suid; chown 12:3000000 suid; chmod 6755 suid; chmod 1777 d; mkdir g; chown 0:50 g; chmod 2775 g; touch g/f; chgrp 0 g/f; mkdir g/sub; chgrp 0 g/sub; chmod 755 g/sub; head -c 700000 /dev/urandom >big; truncate -s 50M sparse; echo end >>sparse; echo x | dd of=sparse bs=1 seek=20000000 conv=notrunc 2>/dev/null
    cp /bin/true cap; setcap cap_net_raw+ep cap 2>/dev/null || true; setfattr -n user.note -v hi f 2>/dev/null || true
    mkdir -p $(printf 'long%.0s' $(seq 40))/$(printf 'name%.0s' $(seq 40)); touch "ü é" ; touch -d '2001-02-03 04:05:06.789012345' f d/e; touch -d '1960-01-01' old; touch -h -d 2002-02-02 d/soft`,
  ]);
  for (const format of ['--format=posix', '--format=gnu', '--format=posix --sparse', '--format=gnu --sparse']) {
    const child = spawn(
      'tar',
      ['-C', source, '--numeric-owner', '--xattrs', '--xattrs-include=*', ...format.split(' '), '-c', '.'].filter(
        (flag) => !(format.includes('gnu') && flag.startsWith('--xattrs')),
      ),
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const chunks: Buffer[] = [];
    for await (const chunk of child.stdout) chunks.push(chunk as Buffer);
    const bytes = Buffer.concat(chunks);
    const image = images.resolve(await importOf(bytes));
    assert.equal(image.layers[0], digestOf(bytes));
    const unpacked = join(scratch, 'data/layer', image.layers[0]!.slice(7), 'diff');
    const list = (root: string): string =>
      execFileSync('sh', [
        '-ec',
        `cd ${root}; find . ! -name . -printf '%p %y %m %U %G %s %T@ %n %l\\n' | sort; find . -type f | sort | xargs -d '\\n' sha256sum; stat -c '%n %t %T' b c; ${format.includes('posix') ? "getfattr -dh -m '^(user|security)' -R . 2>/dev/null | sort" : 'true'}`,
      ])
        .toString()
        .replaceAll(/\.\d{10} /g, format.includes('posix') ? '$&' : ' ');
    assert.equal(list(unpacked), list(source), format);
    const archive = await saveTo(images, 'every.tar', image.id);
    const member = execFileSync('tar', ['-xO', '-f', archive, `blobs/sha256/${image.layers[0]!.slice(7)}`], {
      maxBuffer: 1e9,
    });
    assert.equal(digestOf(member), image.layers[0]);
    await images.remove(image.id, { force: false, prune: true }, () => null);
  }
  assert.deepEqual(images.list(), []);
});

test('saveImages: takes the beginning of an ID, with its algorithm too', async () => {
  const id = await importOf(tar({ name: 'f', content: 'short' }), 'short:1');
  const config = `blobs/sha256/${id.slice('sha256:'.length)}`;
  for (const name of [id, id.slice(0, 'sha256:'.length + 12), id.slice('sha256:'.length, 'sha256:'.length + 12)]) {
    const [saved] = JSON.parse(
      execFileSync('tar', ['-xO', '-f', await saveTo(images, 'short.tar', name), 'manifest.json']).toString(),
    ) as { Config: string; RepoTags: null }[];
    assert.deepEqual([saved!.Config, saved!.RepoTags], [config, null], name);
  }
  assert.throws(() => images.save(['sha256:000000000000'], { platform: null }), { code: 'IMAGE_NOT_FOUND' });
  await images.remove('short:1', { force: false, prune: true }, () => null);
});

test('loadImages: takes back what saveImages wrote, tags and parents too, into another store', async () => {
  await importOf(tar({ name: 'f', content: 'one' }), 'a/b:1');
  await images.tag('a/b:1', 'a/b:2');
  await importOf(tar({ name: 'f', content: 'two' }), 'localhost:5000/c:x');
  const path = await saveTo(images, 'two.tar', 'a/b', 'localhost:5000/c:x');
  const other = await openAt('other');
  assert.equal(
    await text(other.load(createReadStream(path), { quiet: false, platform: null })),
    'Loaded image: a/b:1\nLoaded image: a/b:2\nLoaded image: localhost:5000/c:x\n',
  );
  assert.deepEqual(
    other.list().map(({ id, tags }) => ({ id, tags })),
    images.list().map(({ id, tags }) => ({ id, tags })),
  );
  assert.equal(
    await text(other.load(createReadStream(path), { quiet: true, platform: null })),
    'Loaded image: a/b:1\nLoaded image: a/b:2\nLoaded image: localhost:5000/c:x\n',
  );
  const again = await openAt('other');
  assert.deepEqual(again.list(), other.list());
});

test('loadImages: exchanges docker-archive and OCI archives with skopeo, compressed layers too', async () => {
  const id = await importOf(
    tar({ name: 'd', type: 'directory', mode: 0o755 }, { name: 'd/f', content: 'skopeo' }),
    'sk:1',
  );
  const ours = await saveTo(images, 'sk.tar', 'sk:1');
  const skopeo = (...args: string[]): void =>
    void execFileSync('skopeo', ['--insecure-policy', 'copy', '-q', ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  skopeo(`docker-archive:${ours}`, `docker-archive:${scratch}/sk-docker.tar:sk:2`);
  skopeo(`docker-archive:${ours}`, `oci-archive:${scratch}/sk-oci.tar:sk:3`);
  execFileSync('sh', ['-ec', `mkdir ${scratch}/lay; tar -C ${scratch}/lay -xf ${ours}`]);
  skopeo(`oci:${scratch}/lay`, `oci:${scratch}/lay2`);
  const other = await openAt('skopeo');
  assert.equal(
    await text(other.load(createReadStream(`${scratch}/sk-docker.tar`), { quiet: true, platform: null })),
    'Loaded image: sk:2\n',
  );
  assert.equal(
    await text(other.load(createReadStream(`${scratch}/sk-oci.tar`), { quiet: true, platform: null })),
    'Loaded image: sk:3\n',
  );
  assert.deepEqual(other.resolve('sk:2').layers, images.resolve(id).layers);
  assert.deepEqual(other.resolve('sk:3').layers, images.resolve(id).layers);
});

test('loadImages: refuses an archive whose manifest does not fit', async () => {
  const layer = tar({ name: 'f', content: 'x' });
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    config: {},
    rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
  });
  const load = async (...drafts: Draft[]): Promise<string> =>
    await text(images.load(stream(tar(...drafts)), { quiet: true, platform: null }));
  const manifest = (value: object): Draft => ({ name: 'manifest.json', content: JSON.stringify([value]) });
  const good = { Config: 'c.json', RepoTags: ['t:1'], Layers: ['l.tar'] };
  await assert.rejects(load({ name: 'junk', content: 'x' }), /does not contain a manifest.json/);
  await assert.rejects(load(manifest(good)), /c.json is missing/);
  const windows = { name: 'c.json', content: config.replace('linux', 'windows') };
  await assert.rejects(load(manifest(good), windows), /^EngineError: cannot load windows image on linux$/);
  await assert.rejects(load(manifest(good), { name: 'c.json', content: config }), /layer l.tar is missing/);
  await assert.rejects(
    load(manifest({ ...good, Layers: [] }), { name: 'c.json', content: config }),
    /layers length mismatch: expected 1, got 0/,
  );
  await assert.rejects(
    load(
      manifest(good),
      { name: 'c.json', content: config },
      { name: 'l.tar', content: tar({ name: 'f', content: 'y' }) },
    ),
    /invalid diffID for layer 0/,
  );
  await assert.rejects(
    load(manifest(good), { name: 'c.json', content: config }, { name: 'l.tar', content: tar({ name: '../f' }) }),
    /leads out/,
  );
  await assert.rejects(load(manifest({ ...good, Config: '../c.json' })), /leads out/);
  await assert.rejects(
    load(manifest(good), { name: 'c.json', type: 'symlink', linkName: 'c.json' }),
    /c.json is missing/,
  );
  assert.equal(
    await load(
      manifest(good),
      { name: 'c.json', content: config },
      { name: 'l.tar', content: zstdCompressSync(layer) },
    ),
    'Loaded image: t:1\n',
  );
  const left = (await readdir(join(scratch, 'data/layer'))).filter((name) => name.startsWith('tmp-'));
  assert.deepEqual(left, []);
});

test('removeImage: speaks as Docker does about what is in use', async () => {
  const id = await importOf(tar({ name: 'f', content: 'rm' }), 'rm:1');
  const short = id.slice(7, 19);
  const running = (): { containerId: string; running: boolean } => ({ containerId: 'c'.repeat(64), running: true });
  const stopped = (): { containerId: string; running: boolean } => ({ containerId: 'c'.repeat(64), running: false });
  const options = { force: false, prune: true };
  await assert.rejects(images.remove('rm:1', options, running), {
    message: `conflict: unable to remove repository reference "rm:1" (must force) - container cccccccccccc is using its referenced image ${short}`,
  });
  await assert.rejects(images.remove(id, { ...options, force: true }, running), {
    message: `conflict: unable to delete ${short} (cannot be forced) - image is being used by running container cccccccccccc`,
  });
  await assert.rejects(images.remove(short, options, stopped), {
    message: `conflict: unable to delete ${short} (must be forced) - image is being used by stopped container cccccccccccc`,
  });
  await images.tag('rm:1', 'other:1');
  await assert.rejects(
    images.remove(id, options, () => null),
    { message: `conflict: unable to delete ${short} (must be forced) - image is referenced in multiple repositories` },
  );
  assert.deepEqual(await images.remove('other:1', options, running), [{ untagged: 'other:1' }]);
  const layer = images.resolve(id).layers[0]!;
  assert.deepEqual(await images.remove('rm:1', options, () => null), [
    { untagged: 'rm:1' },
    { deleted: id },
    { deleted: layer },
  ]);
  await assert.rejects(
    images.remove('rm:1', options, () => null),
    { message: 'No such image: rm:1' },
  );
});
