/** The program that tries from inside a container what would lead out of it (escape-probe.c). */
import assert from 'node:assert/strict';
import { join } from 'node:path';

import { findProgram } from '../../src/runtime/detect.ts';
import { run, type TestDaemon } from './daemon.ts';

const PATHS = (process.env['PATH'] ?? '').split(':');

/** Compiles it into the daemon's directory, static, so that it runs in any rootfs; and makes the image probe:1 of bb:1. */
export async function probeImage(d: TestDaemon): Promise<string> {
  const path = join(d.directory, 'escape-probe');
  const compiler = (await findProgram('musl-gcc', PATHS)) ?? 'gcc';
  const { code, stderr } = await run(compiler, [
    '-static',
    '-O1',
    '-o',
    path,
    join(import.meta.dirname, 'escape-probe.c'),
  ]);
  assert.equal(code, 0, stderr);
  await d.ok('create', '--name', 'with-probe', 'bb:1');
  await d.ok('cp', '-q', path, 'with-probe:/escape-probe');
  await d.ok('commit', 'with-probe', 'probe:1');
  await d.ok('rm', 'with-probe');
  return path;
}

/** What became of each attempt in a container with these options of docker run. */
export async function attempts(d: TestDaemon, ...options: readonly string[]): Promise<Record<string, string>> {
  const text = await d.ok('run', '--rm', ...options, 'probe:1', '/escape-probe');
  return Object.fromEntries(text.split('\n').map((line) => line.split('=', 2)));
}
