import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';

import fc from 'fast-check';

import { systemClock } from '../core/clock.ts';
import { collectOutput, demultiplexer } from './probe-output.ts';

function frame(stream: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(payload.length, 4);
  return Buffer.concat([header, payload]);
}

test('demultiplexer: gives the payloads, however the stream is cut', () => {
  const payloads = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
  fc.assert(
    fc.property(payloads, fc.integer({ min: 1, max: 50 }), (parts, cutBytes) => {
      const stream = Buffer.concat(parts.map((part, n) => frame(1 + (n % 2), Buffer.from(part))));
      const demultiplex = demultiplexer();
      const heard: Buffer[] = [];
      for (let at = 0; at < stream.length; at += cutBytes)
        heard.push(...demultiplex(stream.subarray(at, at + cutBytes)));
      assert.deepEqual(Buffer.concat(heard), Buffer.concat(parts.map((part) => Buffer.from(part))));
    }),
  );
});

test('collectOutput: keeps the first bytes and marks the cut', async () => {
  const stream = new PassThrough();
  const output = collectOutput(stream, 4096);
  stream.end(Buffer.concat([frame(1, Buffer.alloc(4000, 'a')), frame(2, Buffer.alloc(200, 'b'))]));
  await output.finished(1_000, systemClock);
  assert.equal(output.text(), `${'a'.repeat(4000)}${'b'.repeat(96)}...`);
});
