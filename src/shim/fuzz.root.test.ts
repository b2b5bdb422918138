/**
 * What reads bytes of others: the shim's parsers under a fuzzer with sanitizers, the daemon's under ours, and the whole shim
 * under sanitizers against hostile clients; all at once, and at low priority. Longer: npm run fuzz -- SECONDS.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';

const ROOT = join(import.meta.dirname, '../..');
const FUZZ_S = Number(process.env['LONGSHORE_FUZZ_S'] ?? 60);

interface Ran {
  readonly isOk: boolean;
  readonly text: string;
}

function run(program: string, argv: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  return new Promise((resolve) => {
    // A test runner within a test runner must not think that it is part of it.
    const { NODE_TEST_CONTEXT: _, ...outer } = process.env;
    const options = { cwd: ROOT, env: { ...outer, ...env }, maxBuffer: 64 << 20 };
    execFile(program, argv, options, (error, stdout, stderr) =>
      resolve({ isOk: error === null, text: stdout + stderr }),
    );
  });
}

suite('fuzz', { concurrency: 3 }, () => {
  test('frame.h, jsonlog.h: hold under a fuzzer with sanitizers', async () => {
    const { isOk, text } = await run('nice', ['-n', '19', 'sh', 'native/fuzz/run.sh', String(FUZZ_S)]);
    assert(isOk, text.slice(-4000));
    const counts = [...text.matchAll(/number_of_executed_units: *(\d+)/g)].map(([, count]) => Number(count));
    assert.equal(counts.length, 2, text);
    assert(
      counts.every((count) => count > 1000),
      text,
    );
  });

  test('readers of streams: no bytes break them', async () => {
    const { isOk, text } = await run('nice', ['-n', '19', process.execPath, 'test/fuzz/run.ts', String(FUZZ_S)]);
    assert(isOk, text.slice(-4000));
    const counts = [...text.matchAll(/: (\d+)(?:,|$)/gm)].map(([, count]) => Number(count));
    assert(counts.length >= 6 && counts.every((count) => count >= FUZZ_S / 10), text);
  });

  test('shim: nothing that comes in on its socket trips a sanitizer', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'lsasan-'));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const shim = join(directory, 'shim');
    const built = await run('sh', ['native/build.sh', shim], { SANITIZE: '1' });
    assert(built.isOk, built.text);
    const tested = await run(process.execPath, ['--test', '--test-timeout=300000', 'src/shim/hostile.root.test.ts'], {
      LONGSHORE_TEST_SHIM: shim,
      LONGSHORE_FUZZ_S: String(FUZZ_S / 2),
      ASAN_OPTIONS: 'detect_leaks=0',
    });
    assert(tested.isOk, tested.text.slice(-4000));
    assert.doesNotMatch(tested.text, /AddressSanitizer|runtime error:/);
  });
});
