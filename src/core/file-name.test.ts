import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { decodeFileName, encodeFileName, fsPath } from './file-name.ts';

test('decodeFileName, encodeFileName: UTF-8 is read as what it is, and any bytes come back', () => {
  assert.equal(decodeFileName(Buffer.from('Főtanúsítvány 🙂')), 'Főtanúsítvány 🙂');
  assert.equal(decodeFileName(Buffer.from('\ufeffmark')), '\ufeffmark');
  assert.equal(decodeFileName(Buffer.from('caf\xe9!', 'latin1')), 'caf\udce9!');
  assert.equal(decodeFileName(Buffer.from([0xe2, 0x82, 0x2f, 0xff])), '\udce2\udc82/\udcff');
  assert.equal(decodeFileName(Buffer.from([0xed, 0xb3, 0xa9])), '\udced\udcb3\udca9'); // U+DCE9 itself, as no UTF-8 has it
  assert.deepEqual(fsPath('/a/caf\udce9'), Buffer.from('/a/caf\xe9', 'latin1'));
  assert.equal(fsPath('/a/é'), '/a/é');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      assert.deepEqual(encodeFileName(decodeFileName(bytes)), Buffer.from(bytes));
    }),
  );
});

test('decodeFileName: two names never become one', () => {
  const name = fc.uint8Array({ minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(name, name, (a, b) => {
      assert.equal(decodeFileName(a) === decodeFileName(b), Buffer.compare(a, b) === 0);
    }),
  );
});
