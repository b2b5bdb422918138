import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';

import { heldStream } from './held-stream.ts';

async function* source(failAt = -1): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < 3; i++) {
    if (i === failAt) throw new Error('failed');
    yield Buffer.from([i]);
  }
}

function counted() {
  const count = { released: 0 };
  return { count, held: { [Symbol.asyncDispose]: async () => void count.released++ } };
}

test('heldStream: gives back once, at the end, on an error, and when the reader leaves', async () => {
  const read = async (stream: AsyncIterable<Uint8Array>, most: number): Promise<void> => {
    let n = 0;
    for await (const _ of stream) if (++n >= most) return;
  };
  for (const [failAt, most] of [
    [-1, 9],
    [-1, 1],
    [1, 9],
  ] as const) {
    const { count, held } = counted();
    await read(heldStream(source(failAt), held), most).catch(() => {});
    assert.equal(count.released, 1);
  }
});

test('heldStream: gives back when nothing was ever read', async () => {
  const { count, held } = counted();
  const readable = Readable.from(heldStream(source(), held));
  readable.destroy();
  await new Promise((resolve) => readable.on('close', resolve));
  await new Promise(setImmediate);
  assert.equal(count.released, 1);
});
