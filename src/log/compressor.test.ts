import assert from 'node:assert/strict';
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';

import { systemClock } from '../core/clock.ts';
import type { Logger } from '../core/log.ts';
import { Compressor } from './compressor.ts';

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} } as unknown as Logger;

test('Compressor: a file whose copy was taken, but which is still there, does not lend its inode to another', async () => {
  // Not in /tmp where that is in memory: file systems there do not use inode numbers again.
  const directory = mkdtempSync(join(process.env['TMPDIR'] ?? '/var/tmp', 'compressor-test-'));
  const path = join(directory, 'x-json.log');
  const content = (name: string): string => `${name} ${'x'.repeat(3000)}\n`;
  writeFileSync(path, content('current'));
  writeFileSync(`${path}.1`, content('first'));
  const inode = statSync(`${path}.1`, { bigint: true }).ino;
  const calls: bigint[] = [];
  const lent: string[] = [];
  let made = 0;
  /** As the shim: the copy takes the file's place, and the file goes a moment later. */
  const replace = (asked: bigint): boolean => {
    calls.push(asked);
    if (calls.length === 1) {
      renameSync(`${path}.${asked}.tmp`, `${path}.1.gz`);
      return true;
    }
    // By now it is gone, and new files are made: one of them would have its inode, were it free.
    if (existsSync(`${path}.1`)) unlinkSync(`${path}.1`);
    for (; made < 200; made++) {
      const file = join(directory, `other-${made}`);
      writeFileSync(file, content('another'));
      if (statSync(file, { bigint: true }).ino === inode) lent.push(file);
    }
    rmSync(`${path}.${asked}.tmp`); // there is no such file: it takes the copy with it
    return true;
  };
  try {
    const file = { path, maxSizeBytes: 1, maxFiles: 9, attributes: {} };
    const compressor = new Compressor({ containerId: 'c', file, replace, clock: systemClock, logger: silent });
    for (let i = 0; made === 0 && i < 200; i++) await sleep(20);
    await compressor[Symbol.asyncDispose]();
    assert.deepEqual([calls, lent], [[inode, inode], []]);
    assert.equal(gunzipSync(readFileSync(`${path}.1.gz`)).toString(), content('first'));
    assert.ok(!existsSync(`${path}.${inode}.tmp`) && !existsSync(`${path}.${inode}.part`));
  } finally {
    rmSync(directory, { recursive: true });
  }
});
