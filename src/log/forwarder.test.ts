import assert from 'node:assert/strict';
import { appendFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';

import { inWorld, numbers, settle } from '../../sim/log-world.ts';
import { CursorFile, START } from './cursor.ts';
import { CursorReader, partOf, type Batch } from './cursor-reader.ts';

test('Forwarder: all of a log, over rotations, in order', async (t) => {
  await inWorld(t, { maxSizeBytes: 600 }, async ({ writer, service, clock, forwarder }) => {
    const one = forwarder();
    writer.write(3);
    one.begin();
    for (let i = 0; i < 30; i++) {
      writer.write(5);
      await settle(clock, () => service.received.length === writer.written);
    }
    one.end();
    await one.settled();
    assert.deepEqual(service.received, numbers(153));
    assert(writer.rotations > 10);
    assert.deepEqual(one.status, {
      driver: 'fake',
      sentLines: 153,
      refusedLines: 0,
      droppedBytes: 0,
      gaps: 0,
      lastError: '',
    });
    await one.close();
  });
});

test('Forwarder: what rotation takes while the service is down is counted, and the rest goes on', async (t) => {
  await inWorld(t, { maxSizeBytes: 1000, maxFiles: 3 }, async ({ writer, service, clock, forwarder }) => {
    const one = forwarder();
    one.begin();
    let isUp = true;
    service.mood = () => (isUp ? 'take' : 'refuse');
    writer.write(2);
    await settle(clock, () => service.received.length === 2);
    isUp = false;
    for (let i = 0; i < 100; i++) {
      writer.write(1);
      await sleep(3); // the forwarder looks at the real file system when it is told of a rotation
    }
    isUp = true;
    one.end();
    await settle(clock, () => one.isIdle);
    const { droppedBytes, gaps } = one.status;
    assert.equal(service.received.at(-1), '101');
    const missing = 102 - service.received.length;
    assert(missing > 10);
    assert.equal(gaps, 1);
    assert(droppedBytes > missing * 60 && droppedBytes < missing * 130, `${droppedBytes} bytes for ${missing} lines`);
    await one.close();
  });
});

test('Forwarder: a line that the service will never take takes no other with it, and is counted', async (t) => {
  await inWorld(t, {}, async ({ writer, service, clock, forwarder }) => {
    const one = forwarder();
    service.never = new Set(['3', '70']);
    writer.write(100);
    one.begin();
    await settle(clock, () => service.received.at(-1) === '99');
    assert.deepEqual(
      service.received,
      numbers(100).filter((number) => !service.never.has(number)),
    );
    assert.deepEqual([one.status.refusedLines, one.status.sentLines], [2, 98]);
    assert(service.asked < 40, `${service.asked} requests`);
    // One that refuses everything is not asked for each line.
    service.never = new Set(numbers(1100, 100));
    service.asked = 0;
    writer.write(1000);
    await settle(clock, () => one.status.refusedLines === 1002);
    assert(service.asked < 140, `${service.asked} requests`);
    await one.close();
  });
});

test('Forwarder: with limits to retries a batch is given up and counted', async (t) => {
  await inWorld(t, {}, async ({ writer, service, clock, forwarder }) => {
    service.retry = { waitMs: 500, attempts: 3 };
    service.mood = () => 'refuse';
    const one = forwarder();
    writer.write(4);
    one.begin();
    await settle(clock, () => one.status.refusedLines === 4);
    assert.equal(service.asked, 4);
    // settle() may jump over the 30 s that an answer may take, when the files are slow.
    assert.equal(clock.nowMs() % 30_000, 500 + 1000 + 2000);
    assert.match(one.status.lastError, /given up after 3 retries: the service is down/);
    service.mood = () => 'take';
    writer.write(1);
    await settle(clock, () => service.received.length === 1);
    await one.close();
  });
});

test('Forwarder: what a destination holds comes again after a daemon died, and is flushed when nothing follows', async (t) => {
  await inWorld(t, {}, async ({ writer, service, clock, directory, forwarder }) => {
    const cursor = async (): Promise<number> => (await new CursorFile(join(directory, 'cursor')).load()).offset;
    service.holdsLast = true;
    const one = forwarder();
    writer.write(3);
    one.begin();
    await settle(clock, () => service.held.length === 1);
    await turn();
    assert.deepEqual([service.received, service.held], [['0', '1'], ['2']]);
    await one.close(); // before the event is whole
    const two = forwarder();
    two.begin();
    await settle(clock, () => service.held.length === 1, 0);
    assert.deepEqual(service.held, ['2'], 'held again, and once');
    const before = await cursor();
    await settle(clock, () => service.received.at(-1) === '2');
    await settle(clock, () => two.isIdle || service.held.length === 0);
    for (let i = 0; i < 50; i++) await turn();
    assert((await cursor()) > before, 'noted once it was flushed');
    await two.close();
  });
});

test('Forwarder: the rest of a removed container is still sent, from open files', async (t) => {
  await inWorld(t, { maxSizeBytes: 500 }, async ({ writer, service, clock, directory, forwarder }) => {
    const one = forwarder();
    let isUp = false;
    service.mood = () => (isUp ? 'take' : 'refuse');
    writer.write(20);
    one.begin();
    await settle(clock, () => one.status.lastError !== '');
    await one.remove();
    rmSync(directory, { recursive: true });
    isUp = true;
    await settle(clock, () => service.received.length === 20, 1000); // not the minute after which it would give up
    assert.deepEqual(service.received, numbers(20));
    await one.lastWords;
  });
});

test('CursorReader: goes on behind any entry of any batch', async (t) => {
  await inWorld(t, { maxSizeBytes: 150_000 }, async ({ writer }) => {
    writer.write(4000);
    const texts = ({ entries }: Batch): string[] => entries.map(({ line }) => line.toString());
    const batches: Batch[] = [];
    await using reader = await CursorReader.open(writer.options, START);
    for (let batch = await reader.next(); batch !== null; batch = await reader.next()) batches.push(batch);
    assert(batches.length > 3 && writer.rotations > 0);
    for (const [i, batch] of batches.entries()) {
      for (const count of [1, 7, batch.entries.length]) {
        await using again = await CursorReader.open(writer.options, partOf(batch, 0, count).cursor);
        const next = texts(
          count === batch.entries.length ? (batches[i + 1] ?? batch) : partOf(batch, count, count + 1),
        );
        assert.equal(texts((await again.next()) ?? batch)[0], next[0], `batch ${i}, ${count}`);
      }
    }
  });
});

test('CursorReader: a damaged cursor and a truncated file mean from the beginning, half a line waits for its rest', async (t) => {
  await inWorld(t, {}, async ({ writer, directory }) => {
    const { path } = writer.options;
    appendFileSync(join(directory, 'cursor'), 'nonsense');
    assert.deepEqual(await new CursorFile(join(directory, 'cursor')).load(), START);
    appendFileSync(path, '{"log":"a\\n","stream":"stdout","time":"2026-11-22T00:00:00Z"}\n{"log":"b');
    await using reader = await CursorReader.open(writer.options, START);
    assert.deepEqual(
      (await reader.next())?.entries.map(({ line }) => line.toString()),
      ['a\n'],
    );
    assert.equal(await reader.next(), null);
    appendFileSync(path, '\\n","stream":"stderr","time":"2026-11-22T00:00:01Z"}\n');
    assert.deepEqual(
      (await reader.next())?.entries.map(({ line, stream }) => [line.toString(), stream]),
      [['b\n', 'stderr']],
    );
  });
});
