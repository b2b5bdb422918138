import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as tar from 'tar-stream';

import type { TreeArchive } from '../image/port.ts';
import { copyTar } from './copy-source.ts';

test('copyTar: an empty file is copied like any other', { timeout: 5000 }, async () => {
  const archive = {
    read: async () => {
      const pack = tar.pack();
      pack.entry({ name: 'dir/', type: 'directory' });
      pack.entry({ name: 'dir/empty' }, '');
      pack.entry({ name: 'dir/full' }, 'x');
      pack.finalize();
      return { tar: pack };
    },
  } as unknown as TreeArchive;
  const source = { archive, root: '/', hidden: new Set<string>(), isContext: true };
  const extract = tar.extract();
  const seen: string[] = [];
  const reading = (async () => {
    for await (const entry of extract) {
      seen.push(`${entry.header.name} ${entry.header.size}`);
      entry.resume();
    }
  })();
  for await (const chunk of copyTar(source, [{ path: 'dir', name: 'd', isDirectory: true }], '/to', true, null))
    extract.write(chunk);
  extract.end(undefined);
  await reading;
  assert.deepEqual(seen, ['to/empty 0', 'to/full 1']);
});
