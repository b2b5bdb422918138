/** The shape of the house: which room of src/ may import which. docs/architecture.md says why. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { ERROR_KINDS } from '../src/core/engine-error.ts';
import { VERSION } from '../src/daemon/version.ts';

const MAY_IMPORT: Record<string, readonly string[]> = {
  core: [],
  lifecycle: ['core'],
  kernel: ['core'],
  event: ['core'],
  telemetry: ['core'],
  store: ['core', 'event'],
  log: ['core', 'event'],
  shim: ['core', 'kernel'],
  runtime: ['core', 'kernel', 'log', 'shim'],
  image: ['core', 'event', 'kernel', 'store'],
  network: ['core', 'event', 'kernel', 'store'],
  volume: ['core', 'event', 'kernel', 'store'],
  supervisor: ['core', 'event', 'lifecycle', 'log', 'runtime', 'store'],
  container: ['core', 'event', 'image', 'lifecycle', 'log', 'network', 'runtime', 'store', 'supervisor', 'volume'],
  build: ['core', 'event', 'image', 'container'],
  api: ['core', 'event', 'log', 'image', 'network', 'volume', 'container', 'build', 'telemetry'],
};
/** These connect the others. */
const MAY_IMPORT_ALL = ['daemon', 'cli'];
/** No node: modules, no clock, no chance, no waiting: the same code runs against a simulated kernel. */
const PURE = ['lifecycle'];

const room = (path: string): string => path.split('/')[1]!;
const sources = globSync('src/**/*.ts').filter((path) => path.split('/').length > 2);
const imports = (text: string): string[] =>
  [...text.matchAll(/\bfrom '(\.[^']+)'|\bimport\('(\.[^']+)'\)/g)].map(([, from, dynamic]) => (from ?? dynamic)!);

test('tidy: every room of src/ is in the table', () => {
  const rooms = new Set(sources.map(room));
  assert.deepEqual(
    [...rooms].filter((name) => !(name in MAY_IMPORT) && !MAY_IMPORT_ALL.includes(name)),
    [],
  );
});

test('tidy: rooms import only what the table allows', () => {
  const wrong: string[] = [];
  for (const file of sources) {
    // A unit test may use the fakes of sim/, what tests share, and the system clock, but no other room either.
    for (const specifier of imports(readFileSync(file, 'utf8'))) {
      const path = join(dirname(file), specifier);
      if (/^(?:sim|test\/support)\//.test(path) && file.endsWith('.test.ts')) continue;
      const target = room(path);
      if (target === room(file) || MAY_IMPORT_ALL.includes(room(file))) continue;
      if (file.endsWith('.root.test.ts') && ['kernel', 'shim', 'store', 'event'].includes(target)) continue; // the real thing under test
      if (!MAY_IMPORT[room(file)]?.includes(target))
        wrong.push(`${file}: ${room(file)}/ may not import ${target}/ (${specifier})`);
    }
  }
  assert.deepEqual(wrong, []);
});

test('tidy: pure rooms stay pure', () => {
  const wrong = sources.filter(
    (file) =>
      PURE.includes(room(file)) &&
      !file.endsWith('.test.ts') &&
      /from 'node:|\bawait\b |Date\.now|Math\.random|setTimeout/.test(readFileSync(file, 'utf8')),
  );
  assert.deepEqual(wrong, []);
});

test('tidy: every room says what it is in a README of at most a page', () => {
  for (const name of new Set(sources.map(room))) {
    const lines = readFileSync(`src/${name}/README.md`, 'utf8').split('\n').length;
    assert(lines <= 80, `src/${name}/README.md has ${lines} lines`);
  }
});

test('tidy: a file over 500 lines says why it is one piece', () => {
  const wrong = [...sources.filter((path) => !path.endsWith('.test.ts')), ...globSync('native/*.c')].filter((file) => {
    const lines = readFileSync(file, 'utf8').split('\n');
    return lines.length > 501 && !/one (piece|file)/i.test(lines.slice(0, 30).join(' '));
  });
  assert.deepEqual(wrong, []);
});

test('tidy: docs/errors.md explains each error code, and no other', () => {
  const explained = [...readFileSync('docs/errors.md', 'utf8').matchAll(/^\| `([A-Z_]+)` \|/gm)].map(
    ([, code]) => code!,
  );
  assert.deepEqual(explained.toSorted(), Object.keys(ERROR_KINDS).toSorted());
});

test('tidy: the version is one', () => {
  assert.equal(VERSION, (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version);
});

test('tidy: every dependency has its reason in docs/dependencies.md', () => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync('package.json', 'utf8')) as Record<
    'dependencies' | 'devDependencies',
    Record<string, string>
  >;
  const text = readFileSync('docs/dependencies.md', 'utf8');
  assert.deepEqual(
    Object.keys({ ...dependencies, ...devDependencies }).filter((name) => !text.includes(`\`${name}\``)),
    [],
  );
});
