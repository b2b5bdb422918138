/** Images of very many layers, and archives in every compression that Docker takes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { encodeHeader, padding, type TarHeader } from '../../src/image/tar-header.ts';
import { TestDaemon, run } from '../support/daemon.ts';

const LAYERS = 200;

type Draft = Pick<TarHeader, 'name'> & Partial<TarHeader> & { readonly content?: string | Buffer };

function tar(...drafts: readonly Draft[]): Buffer {
  const parts = drafts.flatMap(({ content = '', ...draft }) => {
    const bytes = Buffer.from(content);
    const header = encodeHeader({
      type: 'file',
      mode: 0o644,
      uid: 0,
      gid: 0,
      mtimeNs: 1_700_000_000_000_000_000n,
      linkName: '',
      major: 0,
      minor: 0,
      xattrs: new Map(),
      sizeBytes: bytes.length,
      ...draft,
    });
    return [header, bytes, padding(bytes.length)];
  });
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

/** Each layer adds a file, changes one that all have, hides the one of the layer below, and makes a directory anew. */
function manyLayers(base: Buffer): Buffer {
  const layers = [base];
  for (let i = 1; i < LAYERS; i++) {
    layers.push(
      tar(
        { name: `f${i}`, content: String(i) },
        { name: `.wh.f${i - 1}` },
        { name: 'all', content: `layer ${i}` },
        { name: 'd', type: 'directory', mode: 0o755 },
        { name: 'd/.wh..wh..opq' },
        { name: `d/of-${i}`, content: '' },
      ),
    );
  }
  const config = JSON.stringify({
    os: 'linux',
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    config: { Cmd: ['sleep', '100000'], Env: ['PATH=/bin'] },
    rootfs: {
      type: 'layers',
      diff_ids: layers.map((layer) => `sha256:${createHash('sha256').update(layer).digest('hex')}`),
    },
  });
  const manifest = [{ Config: 'config.json', RepoTags: ['many:1'], Layers: layers.map((_, i) => `${i}.tar`) }];
  return tar(
    { name: 'manifest.json', content: JSON.stringify(manifest) },
    { name: 'config.json', content: config },
    ...layers.map((content, i) => ({ name: `${i}.tar`, content })),
  );
}

async function busyboxTar(): Promise<Buffer> {
  const { code, bytes } = await run('sh', [join(import.meta.dirname, '../support/busybox-image.sh')]);
  assert.equal(code, 0);
  return bytes;
}

test(`snapshots: an image of ${LAYERS} layers is loaded, run, changed, compared, committed and saved`, async () => {
  await using daemon = await TestDaemon.start();
  const { status, text } = await daemon.api('POST', '/images/load', manyLayers(await busyboxTar()));
  assert.equal(status, 200, text);
  const shown = 'cat /all; echo; ls -d /f*; ls /d';
  const expected = `layer ${LAYERS - 1}\n/f${LAYERS - 1}\nof-${LAYERS - 1}`;
  const id = await daemon.ok('run', '-d', 'many:1');
  assert.equal(await daemon.ok('exec', id, 'sh', '-c', shown), expected);
  await daemon.ok('exec', id, 'sh', '-c', `echo own >/all; rm -r /d /f${LAYERS - 1}; mkdir /d; touch /d/new`);
  assert.deepEqual((await daemon.ok('diff', id)).split('\n').toSorted(), [
    'A /d/new',
    'C /all',
    'C /d',
    `D /d/of-${LAYERS - 1}`,
    `D /f${LAYERS - 1}`,
  ]);
  await daemon.ok('commit', id, 'many:2');
  assert.equal(await daemon.ok('run', '--rm', 'many:2', 'sh', '-c', 'cat /all; ls /d; ls -d /f*; true'), 'own\nnew');
  assert.equal(await daemon.inspect('many:2', '{{len .RootFS.Layers}}'), String(LAYERS + 1));
  const saved = join(daemon.directory, 'many.tar');
  await daemon.ok('save', '-o', saved, 'many:2');
  await daemon.ok('rm', '-f', id);
  await daemon.ok('rmi', 'many:1', 'many:2');
  await daemon.ok('load', '-q', '-i', saved);
  assert.equal(await daemon.ok('run', '--rm', 'many:2', 'cat', '/all'), 'own');
});

const through = (program: string, bytes: Buffer): Buffer =>
  execFileSync(program, ['-c'], { input: bytes, maxBuffer: 1 << 28 });
const COMPRESSIONS: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  none: (bytes) => bytes,
  gzip: (bytes) => gzipSync(bytes),
  'gzip in two members': (bytes) => Buffer.concat([gzipSync(bytes.subarray(0, 700)), gzipSync(bytes.subarray(700))]),
  bzip2: (bytes) => through('bzip2', bytes),
  xz: (bytes) => through('xz', bytes),
  zstd: (bytes) => zstdCompressSync(bytes),
};

test('import, load, PUT archive: take each compression; what is damaged is refused and leaves nothing', async () => {
  await using daemon = await TestDaemon.start();
  await daemon.image('bb:1');
  const container = await daemon.ok('create', 'bb:1');
  const imageTar = join(daemon.directory, 'bb.tar');
  await daemon.ok('save', '-o', imageTar, 'bb:1');
  const image = execFileSync('cat', [imageTar], { maxBuffer: 1 << 28 });
  const noise = createHash('sha512').update('noise').digest();
  const files = tar({ name: 'x', content: 'compressed' }, { name: 'y', content: Buffer.alloc(100_000, noise) });
  for (const [what, compress] of Object.entries(COMPRESSIONS)) {
    const name = what.replaceAll(' ', '-');
    const put = await daemon.api('PUT', `/containers/${container}/archive?path=/tmp`, compress(files));
    assert.equal(put.status, 200, `PUT ${what}: ${put.text}`);
    const imported = await daemon.api('POST', `/images/create?fromSrc=-&repo=${name}&tag=1`, compress(files));
    assert.doesNotMatch(imported.text, /error/, `import ${what}`);
    assert.equal(await daemon.inspect(`${name}:1`, '{{len .RootFS.Layers}}'), '1', what);
    const loaded = await daemon.api('POST', '/images/load?quiet=1', compress(image));
    assert.match(loaded.text, /Loaded image: bb:1/, `load ${what}`);
  }
  const ids = new Set((await daemon.ok('image', 'ls', '-q', '--filter', 'reference=*:1')).split('\n'));
  assert.equal(ids.size, Object.keys(COMPRESSIONS).length + 1);

  const layers = async (): Promise<unknown> => (await daemon.api('GET', '/system/df?type=image')).json.LayersSize;
  const before = await layers();
  for (const [what, compress] of Object.entries(COMPRESSIONS)) {
    const whole = compress(files);
    const cut = whole.subarray(0, Math.floor(whole.length * 0.6));
    const changed = Buffer.from(whole).fill(0xa5, 60, 90);
    for (const [how, bytes] of [
      ['cut', cut],
      ['changed', changed],
    ] as const) {
      const put = await daemon.api('PUT', `/containers/${container}/archive?path=/home`, bytes);
      assert.equal(put.status, 400, `PUT ${what} ${how}: ${put.text}`);
      assert.match(put.json.message, /EOF|damaged compressed data|invalid tar header/, `${what} ${how}`);
      const imported = await daemon.api('POST', '/images/create?fromSrc=-&repo=damaged&tag=1', bytes);
      assert.match(imported.text, /EOF|damaged compressed data|invalid tar header/, `import ${what} ${how}`);
      const loaded = await daemon.api('POST', '/images/load', bytes);
      assert.match(loaded.text, /EOF|damaged compressed data|invalid|does not contain/, `load ${what} ${how}`);
    }
  }
  assert.deepEqual(await layers(), before);
  assert.equal((await daemon.docker('image', 'inspect', 'damaged:1')).code, 1);
});
