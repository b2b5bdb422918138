import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { familiarReference, formatReference, parseAnyReference, parseReference, withDefaultTag } from './reference.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

/** Text, full, familiar: as distribution/reference's own tests have them. */
const VALID: readonly (readonly [string, string, string])[] = [
  ['busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
  ['busybox:1', 'docker.io/library/busybox:1', 'busybox:1'],
  ['library/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
  ['docker.io/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
  ['index.docker.io/library/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
  ['user/app', 'docker.io/user/app:latest', 'user/app:latest'],
  ['localhost/app', 'localhost/app:latest', 'localhost/app:latest'],
  ['localhost:5000/app:x', 'localhost:5000/app:x', 'localhost:5000/app:x'],
  ['[::1]:5000/app', '[::1]:5000/app:latest', '[::1]:5000/app:latest'],
  ['Uppercase/app', 'Uppercase/app:latest', 'Uppercase/app:latest'],
  ['a.b/c/d__e/f--g.h', 'a.b/c/d__e/f--g.h:latest', 'a.b/c/d__e/f--g.h:latest'],
  [`busybox@${DIGEST}`, `docker.io/library/busybox@${DIGEST}`, `busybox@${DIGEST}`],
  [`busybox:1@${DIGEST}`, `docker.io/library/busybox:1@${DIGEST}`, `busybox:1@${DIGEST}`],
  ['sha256:abc', 'docker.io/library/sha256:abc', 'sha256:abc'],
];

const INVALID: Readonly<Record<string, string>> = {
  '': 'invalid reference format',
  Busybox: 'invalid reference format: repository name (library/Busybox) must be lowercase',
  'user/App:1': 'invalid reference format: repository name (user/App) must be lowercase',
  '-app': 'invalid reference format',
  'app:': 'invalid reference format',
  'app:tag:tag': 'invalid reference format',
  'a//b': 'invalid reference format',
  '/app': 'invalid reference format',
  'app ': 'invalid reference format',
  a___b: 'invalid reference format',
  'https://x/y': 'invalid reference format',
  [`app:${'t'.repeat(129)}`]: 'invalid reference format',
  'app@sha256:abc': 'invalid reference format',
  [`app@sha256:${'a'.repeat(32)}`]: 'invalid checksum digest length',
  [`app@md5:${'a'.repeat(32)}`]: 'unsupported digest algorithm',
  ['a'.repeat(64)]: `invalid repository name (${'a'.repeat(64)}), cannot specify 64-byte hexadecimal strings`,
  [`x/${'a'.repeat(255)}`]: 'repository name must not be more than 255 characters',
};

test('parseReference: normalises as Docker does', () => {
  for (const [text, full, short] of VALID) {
    const reference = withDefaultTag(parseReference(text));
    assert.deepEqual([formatReference(reference), familiarReference(reference)], [full, short]);
  }
});

test("parseReference: refuses in Docker's words", () => {
  for (const [text, message] of Object.entries(INVALID)) {
    assert.throws(() => parseReference(text), { code: 'IMAGE_REFERENCE_INVALID', message }, JSON.stringify(text));
  }
});

test('parseReference: whatever it takes, its full and its familiar form mean the same', () => {
  const part = fc.stringMatching(/^[a-zA-Z0-9._:@/-]{0,30}$/);
  fc.assert(
    fc.property(
      fc.oneof(
        part,
        fc
          .array(fc.stringMatching(/^[a-z0-9]{1,5}([._-][a-z0-9]{1,3})?$/), { minLength: 1, maxLength: 4 })
          .map((parts) => parts.join('/')),
      ),
      (text) => {
        let reference;
        try {
          reference = parseReference(text);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'IMAGE_REFERENCE_INVALID');
          return;
        }
        assert.deepEqual(parseReference(formatReference(reference)), reference);
        assert.deepEqual(parseReference(familiarReference(reference)), reference);
      },
    ),
    { numRuns: 2000 },
  );
});

test('parseReference: takes no time over long nonsense', () => {
  const startMs = performance.now();
  for (const text of ['a-'.repeat(50_000), `${'a'.repeat(1000)}!`, `${'a.'.repeat(500)}/`, `${'a-'.repeat(400)}!/x`])
    assert.throws(() => parseReference(text));
  assert.ok(performance.now() - startMs < 200);
});

test('parseAnyReference: tells IDs from names', () => {
  assert.deepEqual(parseAnyReference('a'.repeat(64)), { kind: 'id', id: DIGEST });
  assert.deepEqual(parseAnyReference(DIGEST), { kind: 'id', id: DIGEST });
  assert.equal(parseAnyReference('abcdef').kind, 'named');
});
