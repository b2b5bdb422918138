import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { ByteSource } from './byte-source.ts';
import { cleanEntryName } from './archive-path.ts';
import { decodePax, encodeHeader, padding, parsePaxTime, type TarHeader } from './tar-header.ts';
import { TarReader, type TarEntry } from './tar-reader.ts';

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function readAll(bytes: Buffer, size = 333): Promise<{ entries: TarEntry[]; contents: Buffer[]; raw: Buffer }> {
  const raw: Buffer[] = [];
  const reader = new TarReader(new ByteSource(pieces(bytes, size)), (part) => void raw.push(part));
  const entries: TarEntry[] = [];
  const contents: Buffer[] = [];
  for (let entry; (entry = await reader.next()) !== null;) {
    entries.push(entry);
    contents.push(await reader.bytes());
  }
  return { entries, contents, raw: Buffer.concat(raw) };
}

const header = fc.record({
  name: fc.oneof(
    fc.stringMatching(/^[a-z][a-z/]{0,30}[a-z]$/),
    fc
      .string({ minLength: 1, maxLength: 200, unit: 'grapheme' })
      .filter((name) => !name.includes('\0') && !name.endsWith('/') && Buffer.from(name).toString() === name),
  ),
  type: fc.constantFrom('file', 'symlink', 'link', 'character', 'block', 'fifo') as fc.Arbitrary<TarHeader['type']>,
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.integer({ min: 0, max: 2 ** 32 - 2 }),
  gid: fc.integer({ min: 0, max: 2 ** 32 - 2 }),
  mtimeNs: fc.bigInt({ min: -(10n ** 18n), max: 10n ** 19n }),
  linkName: fc.string({ maxLength: 150 }).filter((name) => !name.includes('\0')),
  major: fc.integer({ min: 0, max: 4095 }),
  minor: fc.integer({ min: 0, max: 1_048_575 }),
  xattrs: fc
    .dictionary(fc.stringMatching(/^user\.[a-z]{1,10}$/), fc.uint8Array({ maxLength: 50 }), { maxKeys: 3 })
    .map((values) => new Map(Object.entries(values).map(([key, value]) => [key, Buffer.from(value)]))),
  content: fc.uint8Array({ maxLength: 2000 }),
});

test('encodeHeader, TarReader: what is written is read again, however it is cut', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(header, { maxLength: 5 }), fc.integer({ min: 1, max: 3000 }), async (drafts, size) => {
      const parts: Buffer[] = [];
      const expected = drafts.map(({ content, ...rest }) => {
        const bytes = rest.type === 'file' ? Buffer.from(content) : Buffer.alloc(0);
        const entry: TarHeader = { ...rest, sizeBytes: bytes.length };
        parts.push(encodeHeader(entry), bytes, padding(bytes.length));
        return { ...entry, storedBytes: bytes.length, sparse: null, content: bytes };
      });
      const whole = Buffer.concat([...parts, Buffer.alloc(1024)]);
      const { entries, contents, raw } = await readAll(whole, size);
      assert.deepEqual(
        entries.map((entry, i) => ({ ...entry, content: contents[i] })),
        expected,
      );
      assert.equal(raw.length + contents.reduce((sum, { length }) => sum + length, 0), whole.length);
    }),
    { numRuns: 150 },
  );
});

test('TarReader: bytes that were changed are read or refused, never anything else', async () => {
  const base = Buffer.concat([
    encodeHeader({
      name: 'long'.repeat(40),
      type: 'file',
      mode: 0o644,
      uid: 1,
      gid: 2,
      sizeBytes: 700,
      mtimeNs: 1n,
      linkName: '',
      major: 0,
      minor: 0,
      xattrs: new Map([['user.x', Buffer.from([0, 255])]]),
    }),
    Buffer.alloc(700, 7),
    padding(700),
    Buffer.alloc(1024),
  ]);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(base.length - 1), fc.nat(255)), { minLength: 1, maxLength: 10 }),
      fc.boolean(),
      async (changes, fixChecksum) => {
        const bytes = Buffer.from(base);
        for (const [at, value] of changes) bytes[at] = value;
        if (fixChecksum) repairChecksum(bytes, 0);
        try {
          await readAll(bytes);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'IMAGE_ARCHIVE_INVALID', String((error as Error).stack));
        }
      },
    ),
    { numRuns: 1000 },
  );
});

test('decodePax: takes its own bytes or refuses', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      try {
        decodePax(Buffer.from(bytes));
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'IMAGE_ARCHIVE_INVALID');
      }
    }),
  );
  assert.deepEqual(
    [...decodePax(Buffer.from('11 path=ab\n12 x=a=b\n\n\n'.slice(0, 11)))],
    [['path', Buffer.from('ab')]],
  );
});

test('parsePaxTime: nanoseconds, before 1970 too', () => {
  assert.equal(parsePaxTime('1.5'), 1_500_000_000n);
  assert.equal(parsePaxTime('-0.000000001'), -1n);
  assert.equal(parsePaxTime('12.1234567899'), 12_123_456_789n);
  assert.throws(() => parsePaxTime('1e5'), { code: 'IMAGE_ARCHIVE_INVALID' });
});

test('cleanEntryName: stays inside, whatever it is given', () => {
  assert.equal(cleanEntryName('./a//b/../c/'), 'a/c');
  assert.equal(cleanEntryName('/etc/passwd'), 'etc/passwd');
  assert.equal(cleanEntryName('.'), '');
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('..', '.', 'a', '', 'b c'), { maxLength: 8 }).map((parts) => parts.join('/')),
      (name) => {
        let clean: string;
        try {
          clean = cleanEntryName(name);
        } catch {
          return;
        }
        assert.ok(!clean.startsWith('/') && !clean.split('/').includes('..'), clean);
      },
    ),
  );
});

function repairChecksum(bytes: Buffer, at: number): void {
  bytes.fill(0x20, at + 148, at + 156);
  let sum = 0;
  for (let i = at; i < at + 512; i++) sum += bytes[i]!;
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
}
