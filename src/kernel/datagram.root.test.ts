import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';

import { FakeJournal } from '../../test/support/journal.ts';
import { openKernel } from './kernel.ts';

test('Kernel.sendDatagrams: all that the receiver takes, in order; then says how many; no receiver is an error', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'lsdgram-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  await using kernel = await openKernel();
  const path = join(directory, 's');
  await assert.rejects(kernel.sendDatagrams(path, [Buffer.from('x')]), /sendto/);
  await assert.rejects(kernel.sendDatagrams(`/${'x'.repeat(200)}`, []), /not a path of a socket/);
  // Nothing in Node receives on such a socket: perl does, and reads only when it is told to by its standard input.
  const script = `use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0); bind(S, sockaddr_un($ARGV[0])); $|=1; print "up\\n";
    <STDIN>; while (1) { recv(S, $m, 70000, 0); last if $m eq "end"; print length($m), "\\n"; }`;
  const { promise, resolve } = Promise.withResolvers<string>();
  const child = execFile('perl', ['-e', script, path], (_error, stdout) => resolve(stdout));
  await new Promise((ready) => child.stdout?.once('data', ready));
  const messages = Array.from({ length: 2000 }, (_, i) => Buffer.alloc(i + 1));
  let sent = await kernel.sendDatagrams(path, messages);
  assert(sent > 0 && sent < messages.length, `${sent} fit`);
  assert.equal(await kernel.sendDatagrams(path, messages.slice(sent)), 0, 'it is full');
  child.stdin?.write('\n');
  while (sent < messages.length) {
    sent += await kernel.sendDatagrams(path, messages.slice(sent));
    await sleep(1);
  }
  while ((await kernel.sendDatagrams(path, [Buffer.from('end')])) === 0) await sleep(1);
  const lengths = (await promise)
    .split('\n')
    .filter((line) => /^\d+$/.test(line))
    .map(Number);
  assert.deepEqual(
    lengths,
    messages.map(({ length }) => length),
  );
});

test('Kernel.sendDatagrams: what is too large for a datagram is an error, or goes as a sealed memfd, in its place', async () => {
  await using journal = await FakeJournal.start();
  await using kernel = await openKernel();
  const large = Buffer.alloc(8 * 1024 * 1024, 'x');
  await assert.rejects(kernel.sendDatagrams(journal.path, [large]), /sendto.*EMSGSIZE|ENOBUFS/s);
  assert.equal(await kernel.sendDatagrams(journal.path, [Buffer.from('a'), large, Buffer.from('b')], 'memfd'), 3);
  await journal.until(3);
  assert.deepEqual(
    journal.entries.map((entry) => entry.length),
    [1, large.length, 1],
  );
});
