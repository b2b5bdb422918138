/** A container's log, a service that it is forwarded to, and time: what the tests of forwarding share. The files are real. */
import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdtempSync, renameSync, rmSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';

import { silent } from '../src/core/log.ts';
import { CursorFile } from '../src/log/cursor.ts';
import { RefusedForGood, type Destination, type RetryLimits, type Sent } from '../src/log/drivers/driver.ts';
import { Forwarder, newTally } from '../src/log/forwarder.ts';
import type { LogEntry, LogFileOptions } from '../src/log/port.ts';
import { Timeline } from './clock.ts';

/** A log as the shim writes it: one line after the other, with rotation. */
export class Writer {
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
export class Service implements Destination {
  readonly confirms: Destination['confirms'];
  readonly lingerMs = 0;
  isBroken = false;
  readonly received: string[] = [];
  /** What to do with the next batch. */
  never: ReadonlySet<string> = new Set();
  asked = 0;
  /** Each that came, whatever became of it. */
  readonly batches: string[][] = [];
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
    this.batches.push(lines);
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

export interface World {
  readonly writer: Writer;
  readonly service: Service;
  readonly clock: Timeline;
  readonly directory: string;
  readonly forwarder: () => Forwarder;
}

export async function inWorld(
  t: { after(run: () => void): void },
  given: {
    maxSizeBytes?: number;
    maxFiles?: number;
    confirms?: Destination['confirms'];
    cursor?: (path: string) => CursorFile;
  },
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
      cursor: given.cursor?.(join(directory, 'cursor')) ?? new CursorFile(join(directory, 'cursor')),
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
export async function settle(clock: Timeline, until: () => boolean, horizonMs = Infinity): Promise<void> {
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

export const numbers = (to: number, from = 0): string[] =>
  Array.from({ length: to - from }, (_, i) => String(i + from));
