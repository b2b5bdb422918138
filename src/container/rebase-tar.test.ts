import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';

import { extract, pack } from 'tar-stream';

import { rebaseTar } from './rebase-tar.ts';

test('rebaseTar: renames the first component, also of hard links and long names, and keeps the content', async () => {
  const long = `_data/${'d'.repeat(150)}/f`;
  const source = pack();
  source.entry({ name: '_data/', type: 'directory' });
  source.entry({ name: '_data/f', pax: { 'SCHILY.xattr.user.x': 'y' } }, 'content');
  source.entry({ name: '_data/_data', type: 'link', linkname: '_data/f' });
  source.entry({ name: '_data/s', type: 'symlink', linkname: '_data/f' });
  source.entry({ name: long }, 'deep');
  source.finalize();
  const reader = extract();
  const seen: (string | null | undefined)[][] = [];
  const done = new Promise<void>((resolve, reject) => reader.on('finish', () => resolve()).on('error', reject));
  reader.on('entry', (header, stream, next) => {
    let text = '';
    stream.on('data', (chunk) => (text += String(chunk)));
    stream.on('end', () => {
      seen.push([
        header.name,
        header.linkname,
        (header.pax as Record<string, string> | undefined)?.['SCHILY.xattr.user.x'],
        text,
      ]);
      next();
    });
  });
  Readable.from(rebaseTar(Readable.from(source), '_data', 'new')).pipe(reader);
  await done;
  assert.deepEqual(seen, [
    ['new/', null, undefined, ''],
    ['new/f', null, 'y', 'content'],
    ['new/_data', 'new/f', undefined, ''],
    ['new/s', '_data/f', undefined, ''],
    [long.replace('_data', 'new'), null, undefined, 'deep'],
  ]);
});
