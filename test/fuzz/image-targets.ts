/** Archives, their names and their documents: what registries, archives and containers hand to the engine. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { EngineError } from '../../src/core/engine-error.ts';
import { decodeFileName, encodeFileName } from '../../src/core/file-name.ts';
import { cleanEntryName } from '../../src/image/archive-path.ts';
import { ByteSource } from '../../src/image/byte-source.ts';
import { extractInto } from '../../src/image/extract-into.ts';
import { extractLayer } from '../../src/image/extract-layer.ts';
import { parseConfigFile } from '../../src/image/image-config.ts';
import { RecipeWriter, replay } from '../../src/image/layer-recipe.ts';
import { parseManifest } from '../../src/image/oci.ts';
import { decodePax, encodeHeader, padding } from '../../src/image/tar-header.ts';
import { TarReader, type TarEntry } from '../../src/image/tar-reader.ts';
import { KernelError } from '../../src/kernel/kernel-error.ts';
import { openKernel } from '../../src/kernel/kernel.ts';
import type { Kernel } from '../../src/kernel/port.ts';
import type { Random } from '../support/random.ts';
import { mutated, pieces, randomBytes } from './bytes.ts';
import type { Target } from './targets.ts';

const BLOCK_BYTES = 512;
const CHECKSUM_AT = 148;
/** What the kernel may say of a name, a device number or a size that nobody has. */
const REFUSALS = [
  'ENAMETOOLONG',
  'EINVAL',
  'EFBIG',
  'ELOOP',
  'EEXIST',
  'ENOENT',
  'ENOTDIR',
  'EPERM',
  'EXDEV',
  'ENODATA',
];

/** Made by GNU tar of one tree, in each of its formats; the tree has what the formats differ in. */
let archives: readonly Buffer[] | null = null;
function seeds(): readonly Buffer[] {
  if (archives !== null) return archives;
  const directory = mkdtempSync(join(tmpdir(), 'lsfuzz-'));
  try {
    mkdirSync(join(directory, 't', 'd'.repeat(90)), { recursive: true });
    const at = (name: string): string => join(directory, 't', name);
    writeFileSync(at('f'), 'content');
    writeFileSync(at('long-'.repeat(30)), 'x'.repeat(700));
    writeFileSync(at(`${'d'.repeat(90)}/é`), '');
    writeFileSync(at('sparse'), 'begin');
    truncateSync(at('sparse'), 600_000);
    execFileSync('sh', ['-ec', 'cd "$0"; printf end >>sparse; ln f h; mkfifo p; mknod c c 1 3', join(directory, 't')]);
    symlinkSync('../'.repeat(40), at('s'));
    const formats = [
      ['--format=ustar', '--exclude=long*', '--exclude=s'],
      ['--format=v7', '--exclude=long*', '--exclude=s', '--exclude=dd*', '--exclude=p', '--exclude=c'],
      ['--format=gnu', '--sparse'],
      ...['0.0', '0.1', '1.0'].map((version) => ['--format=posix', '--sparse', `--sparse-version=${version}`]),
    ];
    archives = [
      ...formats.map((options) =>
        execFileSync('tar', [...options, '-C', directory, '-c', 't'], {
          stdio: ['ignore', 'pipe', 'ignore'],
        }),
      ),
      layerSeed(),
    ];
    return archives;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What GNU tar does not write: whiteouts, xattrs, links that lead out. */
function layerSeed(): Buffer {
  const base = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 1n, linkName: '', major: 0, minor: 0, xattrs: new Map() };
  const drafts = [
    { name: 'd', type: 'directory' },
    { name: 'd/.wh.gone', type: 'file' },
    { name: 'd/.wh..wh..opq', type: 'file' },
    { name: 'x', type: 'file', content: 'x', xattrs: new Map([['user.a', Buffer.from([0, 10, 61])]]) },
    { name: 'l', type: 'symlink', linkName: '/etc' },
    { name: 'up', type: 'symlink', linkName: '../../outside' },
    { name: 'l/passwd', type: 'file', content: 'evil' },
    { name: 'up/canary', type: 'file', content: 'evil' },
    { name: 'h', type: 'link', linkName: 'x' },
    { name: '../outside/canary', type: 'file', content: 'evil' },
  ] as const;
  const parts = drafts.flatMap(({ content, ...draft }: (typeof drafts)[number] & { readonly content?: string }) => {
    const bytes = Buffer.from(content ?? '');
    return [encodeHeader({ ...base, sizeBytes: bytes.length, ...draft }), bytes, padding(bytes.length)];
  });
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK_BYTES)]);
}

/** Changed here and there; mostly with checksums that fit again, since otherwise little would be read. */
function archive(random: Random): Buffer {
  const bytes = Buffer.from(random.pick(seeds()));
  for (let changes = random.below(8); changes > 0; changes--) {
    const block = random.below(bytes.length / BLOCK_BYTES) * BLOCK_BYTES;
    const at = block + random.below(BLOCK_BYTES);
    if (random.below(3) === 0) bytes[at] = random.below(256);
    else if (random.below(2) === 0) bytes.write(random.pick(WORDS), at, 'latin1');
    else
      random
        .pick(seeds())
        .copy(bytes, block, random.below(8) * BLOCK_BYTES, random.below(8) * BLOCK_BYTES + BLOCK_BYTES);
  }
  if (random.below(6) > 0) {
    for (let block = 0; block + BLOCK_BYTES <= bytes.length; block += BLOCK_BYTES)
      if (/^[ 0-7]{6}/.test(bytes.toString('latin1', block + CHECKSUM_AT, block + CHECKSUM_AT + 6))) sign(bytes, block);
  }
  return random.below(10) === 0 ? mutated(random, [bytes]) : bytes;
}

const WORDS = [
  '../', '/', '.wh.', '.wh..wh..opq', '\0', '77777777777', '00000000000', '\x80\0\0\0\0\0\0\0\0\0\0\x7f', '\xff\xff\xff\xff',
  'GNU.sparse.size=', 'GNU.sparse.map=0,0', 'path=', 'size=-1', '1', '2', '5', 'x', 'L', 'S', 'ustar\0', '30 mtime=', '-',
]; // prettier-ignore

function sign(bytes: Buffer, block: number): void {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK_BYTES; i++) if (i < CHECKSUM_AT || i >= CHECKSUM_AT + 8) sum += bytes[block + i]!;
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, block + CHECKSUM_AT, 'latin1');
}

// oxlint-disable-next-line typescript/require-await -- a stream of what is there
async function* stream(parts: readonly Buffer[]): AsyncGenerator<Uint8Array> {
  yield* parts.filter(({ length }) => length > 0);
}

interface Read {
  readonly entries: readonly TarEntry[];
  /** Headers and contents, in the order of the stream. */
  readonly bytes: Buffer;
  readonly refusal: string | null;
}

async function read(parts: readonly Buffer[]): Promise<Read> {
  const all: Buffer[] = [];
  const entries: TarEntry[] = [];
  const reader = new TarReader(new ByteSource(stream(parts)), (bytes) => void all.push(Buffer.from(bytes)));
  try {
    for (let entry; (entry = await reader.next()) !== null;) {
      entries.push(entry);
      for (let part; (part = await reader.chunk()) !== null;) all.push(Buffer.from(part));
    }
    return { entries, bytes: Buffer.concat(all), refusal: null };
  } catch (error) {
    return { entries, bytes: Buffer.concat(all), refusal: refusalOf(error) };
  }
}

/** @throws what is no refusal but a bug */
function refusalOf(error: unknown): string {
  if (error instanceof EngineError) return error.message;
  if (error instanceof Error && 'code' in error && REFUSALS.includes(String(error.code))) return error.message;
  throw error instanceof KernelError
    ? new Error(`the kernel was asked for: ${error.message}`, { cause: error })
    : error;
}

const DOCUMENTS = [
  '{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","config":{"Cmd":["sh"],"Env":["A=b"],"Labels":{"a":"b"},"ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"Healthcheck":{"Test":["CMD","x"],"Interval":1}},"rootfs":{"type":"layers","diff_ids":["sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"]},"history":[{"created_by":"x","empty_layer":true},{"created":"2024-01-01T00:00:00Z"}]}',
  '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef","size":32}]}',
  '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef","size":7,"platform":{"os":"linux","architecture":"arm","variant":"v7"},"annotations":{"a":"b"}}]}',
].map((text) => Buffer.from(text));
const VALUES = [
  'null',
  '-1',
  '1e400',
  '{}',
  '[]',
  '""',
  '"sha256:"',
  '[[null]]',
  '{"__proto__":1}',
  'true',
  '"\\ud800"',
];

/** With one value replaced, so that more than the JSON parser is asked. */
function document(random: Random): Buffer {
  if (random.below(3) === 0) return mutated(random, DOCUMENTS);
  const text = random.pick(DOCUMENTS).toString();
  const values = [...text.matchAll(/(?<=[:[,])(?:"[^"]*"|\d+|true|\{[^{}]*\}|\[[^[\]]*\])/g)];
  const chosen = values[random.below(values.length)]!;
  return Buffer.from(text.slice(0, chosen.index) + random.pick(VALUES) + text.slice(chosen.index + chosen[0].length));
}

let kernel: Promise<Kernel> | null = null;
const CANARY = 'canary\n';

/** ROOT/target for what is unpacked, ROOT/outside/canary for what must stay as it is. */
class Place implements AsyncDisposable {
  readonly root = mkdtempSync(join(tmpdir(), 'lsfuzz-'));
  readonly target = join(this.root, 'target');

  constructor() {
    mkdirSync(this.target);
    mkdirSync(join(this.root, 'outside'));
    writeFileSync(join(this.root, 'outside/canary'), CANARY);
  }

  check(): void {
    const found = execFileSync('find', [this.root, '-path', this.target, '-prune', '-o', '-printf', '%P %y %n\n']);
    assert.deepEqual(found.toString().split('\n').toSorted(), ['', ' d 4', 'outside d 2', 'outside/canary f 1']);
    assert.equal(readFileSync(join(this.root, 'outside/canary'), 'utf8'), CANARY);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await kernel!).files.removeTree(this.root);
  }
}

export const IMAGE_TARGETS: readonly Target[] = [
  {
    name: 'tar entries',
    async run(random) {
      const bytes = archive(random);
      const whole = await read([bytes]);
      // What is read can be put together again: a layer's recipe rests on it.
      assert(
        bytes.subarray(0, whole.bytes.length).equals(whole.bytes),
        'headers and contents are those of the archive',
      );
      if (whole.refusal === null) assert.equal(whole.bytes.length, bytes.length);
      const cut = await read(pieces(random, bytes));
      assert.deepEqual([cut.entries, cut.refusal], [whole.entries, whole.refusal]);
      for (const { name, sizeBytes, storedBytes, sparse } of whole.entries) {
        assert(!name.includes('\0'));
        assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0 && storedBytes >= 0, `${sizeBytes}, ${storedBytes}`);
        let end = 0;
        for (const { offset, length } of sparse ?? []) {
          assert(offset >= end && length >= 0);
          end = offset + length;
        }
        assert(end <= sizeBytes);
      }
    },
  },
  {
    name: 'names in archives',
    run(random) {
      const bytes = mutated(
        random,
        WORDS.map((word) => Buffer.from(`a/../${word}/./b//${word}`, 'latin1')),
      );
      const name = decodeFileName(bytes);
      assert.deepEqual(encodeFileName(name), bytes);
      try {
        const clean = cleanEntryName(name);
        assert(clean === '' || clean.split('/').every((part) => part !== '' && part !== '.' && part !== '..'), clean);
        assert(!clean.includes('\0'));
      } catch (error) {
        refusalOf(error);
      }
    },
  },
  {
    name: 'PAX records',
    run(random) {
      const bytes = mutated(random, [
        Buffer.from('30 mtime=1700000000.123456789\n18 path=some/name\n'),
        randomBytes(random, 60),
      ]);
      try {
        const length = [...decodePax(bytes)].reduce(
          (sum, [key, value]) => sum + Buffer.byteLength(key) + value.length,
          0,
        );
        assert(length <= 3 * bytes.length);
      } catch (error) {
        refusalOf(error);
      }
    },
  },
  {
    name: 'configs and manifests',
    run(random) {
      const bytes = document(random);
      for (const parse of [parseConfigFile, parseManifest]) {
        try {
          parse(bytes);
        } catch (error) {
          refusalOf(error);
        }
      }
    },
  },
  {
    name: 'layers, unpacked and put together again',
    isSlow: true,
    async run(random) {
      kernel ??= openKernel();
      const { files } = await kernel;
      await using place = new Place();
      const bytes = archive(random);
      const recipe = new RecipeWriter(join(place.target, 'recipe'));
      const root = join(place.target, 'diff');
      mkdirSync(root);
      try {
        await extractLayer({ source: new ByteSource(stream(pieces(random, bytes))), root, files, recipe });
        await recipe.finish();
        const again: Buffer[] = [];
        for await (const part of replay(join(place.target, 'recipe'), root)) again.push(part);
        assert(Buffer.concat(again).equals(bytes), 'the tar is not what came in');
      } catch (error) {
        await recipe.abandon();
        refusalOf(error);
      }
      place.check();
    },
  },
  {
    name: 'copies into a tree with links',
    isSlow: true,
    async run(random) {
      kernel ??= openKernel();
      const { files } = await kernel;
      await using place = new Place();
      // The container's own links lead out, as seen from the host.
      symlinkSync(join(place.root, 'outside'), join(place.target, 'l'));
      symlinkSync('../outside', join(place.target, 'd'));
      try {
        const source = new ByteSource(stream(pieces(random, archive(random))));
        const options = { noOverwriteDirNonDir: random.below(2) === 0, target: '/' };
        await extractInto({ source, files, root: place.target, ...options });
      } catch (error) {
        refusalOf(error);
      }
      place.check();
    },
  },
];
