import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdtempSync, renameSync, rmSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';

import { Timeline } from '../../sim/clock.ts';
import { silent } from '../core/log.ts';
import { CursorFile, START } from './cursor.ts';
import { CursorReader, partOf, type Batch } from './cursor-reader.ts';
import { RefusedForGood, type Destination, type RetryLimits, type Sent } from './drivers/driver.ts';
import { Forwarder, newTally } from './forwarder.ts';
import type { LogEntry, LogFileOptions } from './port.ts';

/** A log as the shim writes it: one line after the other, with rotation. */
class Writer {
  readonly options: LogFileOptions;
  #number = 0;
  #bytes = 0;
  rotations = 0;
  onChange: (name: string | null) => void = () => {};

  constructor(directory: string, maxSizeBytes: number, maxFiles: number) {
    this.options = { path: join(directory, 'x-json.log'), maxSizeBytes, maxFiles, attributes: {} };
  }

  get written(): number {
    return this.#number;
  }

  write(lines = 1): void {
    const { path, maxSizeBytes } = this.options;
    for (let i = 0; i < lines; i++) {
      const time = new Date(1_795_305_600_000 + this.#number).toISOString();
      const line = `{"log":"${this.#number++} ${'x'.repeat(this.#number % 40)}\\n","stream":"stdout","time":"${time}"}\n`;
      if (this.#bytes > 0 && this.#bytes + line.length > (maxSizeBytes ?? Infinity)) this.#rotate();
      appendFileSync(path, line);
      this.#bytes += line.length;
    }
    this.onChange('x-json.log');
  }

  #rotate(): void {
    const { path, maxFiles } = this.options;
    const name = (i: number): string => (i === 0 ? path : `${path}.${i}`);
    if (maxFiles === 1) unlinkSync(path);
    else {
      for (let i = maxFiles - 1; i >= 1; i--) if (existsSync(name(i - 1))) renameSync(name(i - 1), name(i));
    }
    this.#bytes = 0;
    this.rotations++;
    this.onChange('x-json.log');
  }
}

/** A service that goes up and down, and may take a part of a batch, or all of it, before it fails. */
class Service implements Destination {
  readonly confirms: Destination['confirms'];
  readonly lingerMs = 0;
  isBroken = false;
  readonly received: string[] = [];
  /** What to do with the next batch. */
  never: ReadonlySet<string> = new Set();
  asked = 0;
  retry: RetryLimits | null = null;
  /** The last line of each batch waits for the next, as a beginning of something longer. */
  holdsLast = false;
  held: string[] = [];
  mood: () => 'take' | 'refuse' | 'take-and-fail' | 'take-half' | 'take-and-lose' = () => 'take';

  constructor(confirms: Destination['confirms'] = 'answer') {
    this.confirms = confirms;
  }

  async send(batch: readonly LogEntry[]): Promise<Sent | void> {
    this.asked++;
    await turn();
    const mood = this.mood();
    const lines = batch.map((entry) => entry.line.toString().trim().split(' ')[0] as string);
    if (lines.some((line) => this.never.has(line))) throw new RefusedForGood('too large');
    if (this.holdsLast && mood === 'take') {
      this.received.push(...this.held, ...lines.slice(0, -1));
      this.held = lines.slice(-1);
      return { heldFrom: lines.length - 1 };
    }
    this.isBroken = false;
    if (mood === 'take' || mood === 'take-and-fail') this.received.push(...lines);
    if (mood === 'take-half') this.received.push(...lines.slice(0, Math.ceil(lines.length / 2)));
    if (mood === 'take-and-lose') this.isBroken = true; // the connection took it, and is gone with it
    else if (mood !== 'take') throw new Error('the service is down');
  }

  async flush(): Promise<void> {
    this.received.push(...this.held.splice(0));
  }

  discard(): void {
    this.held = [];
  }

  [Symbol.dispose](): void {}
}

interface World {
  readonly writer: Writer;
  readonly service: Service;
  readonly clock: Timeline;
  readonly directory: string;
  readonly forwarder: () => Forwarder;
}

async function inWorld(
  t: { after(run: () => void): void },
  given: { maxSizeBytes?: number; maxFiles?: number; confirms?: Destination['confirms'] },
  run: (world: World) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'lsforward-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const writer = new Writer(directory, given.maxSizeBytes ?? 1_000_000, given.maxFiles ?? 5);
  const service = new Service(given.confirms);
  const clock = new Timeline();
  const forwarder = (): Forwarder =>
    new Forwarder({
      containerId: 'c',
      driver: 'fake',
      file: writer.options,
      destination: service,
      cursor: new CursorFile(join(directory, 'cursor')),
      clock,
      logger: silent,
      tally: newTally(),
      watch: (_path, listener) => {
        writer.onChange = listener;
        return { close: () => undefined };
      },
    });
  await run({ writer, service, clock, directory, forwarder });
}

/** Lets everything happen that may, jumping over the time in which nothing does; not further than `horizonMs` at once. */
async function settle(clock: Timeline, until: () => boolean, horizonMs = Infinity): Promise<void> {
  for (let i = 0, idle = 0; !until(); i++) {
    assert(i < 500_000, 'nothing comes of it');
    await turn();
    idle++;
    if (idle > 30 && (clock.untilNext() ?? Infinity) <= horizonMs) {
      clock.step();
      idle = 0;
    }
  }
}

const numbers = (to: number, from = 0): string[] => Array.from({ length: to - from }, (_, i) => String(i + from));

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

for (const confirms of ['answer', 'connection'] as const) {
  test(`Forwarder: a day of a service going up and down at random (${confirms}), daemons killed: nothing lost, in order`, async (t) => {
    await inWorld(t, { maxSizeBytes: 4000, maxFiles: 200, confirms }, async ({ writer, service, clock, forwarder }) => {
      let seed = 7;
      const chance = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
      let isUp = true;
      const lengths: number[] = [];
      service.mood = () => {
        if (chance(10) === 0) isUp = !isUp;
        if (isUp) return confirms === 'connection' && chance(6) === 0 ? 'take-and-lose' : 'take';
        return (['refuse', 'take-and-fail', 'take-half'] as const)[chance(3)] as 'refuse';
      };
      let one = forwarder();
      one.begin();
      const dayMs = 24 * 3_600_000;
      while (clock.nowMs() < dayMs) {
        const lines = 1 + chance(20);
        lengths.push(lines);
        writer.write(lines);
        const at = clock.nowMs() + chance(900_000);
        let woken = false;
        clock.setTimer(at - clock.nowMs(), () => (woken = true));
        await settle(clock, () => woken);
        if (chance(20) === 0) {
          // Killed: nothing is said to anybody, and the next one goes on from the note on disk.
          await one.close();
          one = forwarder();
          one.begin();
        }
      }
      service.mood = () => 'take';
      writer.write(1);
      one.end();
      const total = writer.written;
      await settle(clock, () => service.received.at(-1) === String(total - 1));
      let reached = -1;
      for (const text of service.received) {
        const number = Number(text);
        if (number === reached + 1) reached = number;
        else if (number > reached) assert.fail(`${reached + 1} is missing before ${number}`);
      }
      assert.equal(reached, total - 1);
      assert.equal(one.status.droppedBytes, 0);
      await one.close();
    });
  });
}

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
    assert.equal(clock.nowMs(), 500 + 1000 + 2000);
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
