/**
 * A day's worth of logs, in simulated time, with a log service that goes up and down at random and daemons that are killed:
 * nothing is lost, and twice comes only what the guarantee of docs/logging.md allows.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';

import { inWorld, settle, type Service } from '../../sim/log-world.ts';
import { Random } from '../../test/support/random.ts';
import { CursorFile, START, type Cursor } from './cursor.ts';

const DAY_MS = 24 * 3_600_000;
const SEEDS = [7, 8, 9, Math.trunc(Math.random() * 2 ** 32)];

interface Day {
  readonly seed: number;
  /** What a resolved send means; "held": as "answer", and the end of each batch is kept for the next. */
  readonly kind: 'answer' | 'connection' | 'held';
  readonly maxFiles?: number;
  readonly cursor?: (path: string) => CursorFile;
  /** What is wrong with the service. */
  readonly plant?: (service: Service) => void;
}

async function live(t: TestContext, { seed, kind, maxFiles = 300, cursor, plant }: Day): Promise<void> {
  const random = new Random(seed);
  const confirms = kind === 'held' ? 'answer' : kind;
  const given = { maxSizeBytes: 4000, maxFiles, confirms, ...(cursor && { cursor }) } as const;
  await inWorld(t, given, async ({ writer, service, clock, forwarder }) => {
    let isUp = true;
    service.mood = () => {
      if (random.below(10) === 0) isUp = !isUp;
      if (isUp) return confirms === 'connection' && random.below(6) === 0 ? 'take-and-lose' : 'take';
      // A destination that holds takes a batch or does not.
      return kind === 'held' ? 'refuse' : random.pick(['refuse', 'take-and-fail', 'take-half'] as const);
    };
    service.holdsLast = kind === 'held';
    plant?.(service);
    let one = forwarder();
    one.begin();
    while (clock.nowMs() < DAY_MS) {
      writer.write(1 + random.below(20));
      let isWoken = false;
      clock.setTimer(random.below(900_000), () => (isWoken = true));
      await settle(clock, () => isWoken);
      if (random.below(20) > 0) continue;
      // Killed: nothing is said to anybody, and the next one goes on from the note on disk.
      await one.close();
      one = forwarder();
      one.begin();
    }
    service.mood = () => 'take';
    writer.write(1);
    one.end();
    const total = writer.written;
    await settle(clock, () => service.received.at(-1) === String(total - 1) || one.isIdle);
    const { droppedBytes } = one.status;
    await one.close();
    checkAll(service.received, total);
    checkRepeats(service.batches, kind === 'connection' ? 2 : kind === 'held' ? 2 : 1);
    assert.equal(droppedBytes, 0);
  });
}

function checkAll(received: readonly string[], total: number): void {
  let next = 0;
  for (const text of received) {
    const number = Number(text);
    assert(number <= next, `lost: ${next} is missing before ${number}`);
    if (number === next) next++;
  }
  assert.equal(next, total, 'lost: the end is missing');
}

/** A batch begins at most `allowed` batches before the last that went on. */
function checkRepeats(batches: readonly (readonly string[])[], allowed: number): void {
  const starts: number[] = [];
  for (const [first] of batches) {
    const start = Number(first);
    const earliest = starts.at(-allowed) ?? 0;
    assert(start >= earliest, `doubled: ${start} again, after a batch that began with ${starts.at(-1)}`);
    if (start > (starts.at(-1) ?? -1)) starts.push(start);
  }
}

for (const kind of ['answer', 'connection', 'held'] as const) {
  test(`Forwarder: a day of a service going up and down at random (${kind}): nothing lost, nothing doubled beyond the guarantee`, async (t) => {
    for (const seed of SEEDS) {
      try {
        await live(t, { seed, kind });
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error });
      }
    }
  });
}

/** The notes on disk with something wrong. */
class PlantedCursor extends CursorFile {
  readonly #wrong: (cursor: Cursor) => Cursor;
  constructor(path: string, wrong: (cursor: Cursor) => Cursor) {
    super(path);
    this.#wrong = wrong;
  }
  override save(cursor: Cursor): Promise<void> {
    return super.save(this.#wrong(cursor));
  }
}

const noted = (wrong: (cursor: Cursor) => Cursor): Pick<Day, 'cursor'> => ({
  cursor: (path) => new PlantedCursor(path, wrong),
});

const PLANTS: readonly (Omit<Day, 'seed'> & { readonly name: string; readonly found: RegExp })[] = [
  { name: 'a note that is a line ahead', kind: 'answer', ...noted((one) => ({ ...one, offset: one.offset + 90 })), found: /lost|doubled/ },
  { name: 'a note that is not written', kind: 'answer', ...noted(() => START), found: /doubled/ },
  { name: 'a note that is three batches behind', kind: 'connection', ...noted(behind(3)), found: /doubled/ },
  { name: 'a connection whose end nobody tells', kind: 'connection', plant: neverBroken, found: /lost/ },
  { name: 'a buffer that is too small', kind: 'answer', maxFiles: 2, found: /lost/ },
  { name: 'held lines that are forgotten at a flush', kind: 'held', plant: forgetful, found: /lost/ },
]; // prettier-ignore

function behind(count: number): (cursor: Cursor) => Cursor {
  const past: Cursor[] = [];
  return (cursor) => {
    past.push(cursor);
    return past.at(-1 - count) ?? START;
  };
}

function neverBroken(service: Service): void {
  Object.defineProperty(service, 'isBroken', { get: () => false, set: () => {} });
}

function forgetful(service: Service): void {
  service.flush = async () => {
    service.held = [];
  };
}

test('Forwarder: the day finds what is wrong on purpose', async (t) => {
  for (const { name, found, ...day } of PLANTS) {
    // Some need chance to meet them.
    let error: unknown = null;
    for (let seed = 1; seed <= 5 && error === null; seed++)
      error = await live(t, { ...day, seed }).then(
        () => null,
        (reason: unknown) => reason,
      );
    assert.match(String(error), found, name);
  }
});
