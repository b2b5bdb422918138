/**
 * Sends one container's log to a service, from the local file on: the file is the buffer, so that a service that is down,
 * slow or refuses never reaches the container. At least once and in order; what may come twice is the last batch (of
 * services that do not acknowledge over a connection: the last two), what may be missing is what rotation took before it
 * was sent, and that is counted. Decides nothing about containers; its owner says when a run begins and ends.
 */
import { basename, dirname } from 'node:path';

import type { Clock } from '../core/clock.ts';
import { messageOf } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import type { Cursor, CursorFile } from './cursor.ts';
import { CursorReader, partOf, type Batch } from './cursor-reader.ts';
import { RefusedForGood, type Destination, type Sent } from './drivers/driver.ts';
import type { ForwardingStatus, LogCounters, LogFileOptions } from './port.ts';
import { watchDirectory } from './watch-directory.ts';

const SEND_MS_MAX = 30_000;
const RETRY_MS = 100;
const RETRY_MS_MAX = 30_000;
/** A connection that still stands this long after a batch has delivered it. */
const CONFIRM_MS = 1000;
/** Of one batch: a service that refuses everything is not asked about each line. */
const REFUSALS_MAX = 32;
/** How long the rest of a removed container's log is still sent. */
const LAST_WORDS_MS = 60_000;

/** LogCounters while they grow. */
export type Tally = { -readonly [name in Exclude<keyof LogCounters, 'driver'>]: number };

export function newTally(): Tally {
  return { sentLines: 0, sentBytes: 0, refusedLines: 0, droppedBytes: 0, failures: 0 };
}

export interface ForwarderOptions {
  readonly containerId: string;
  readonly driver: string;
  readonly file: LogFileOptions;
  readonly destination: Destination;
  readonly cursor: CursorFile;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of all forwarders of the driver. */
  readonly tally: Tally;
  /** For tests; inotify otherwise. */
  readonly watch?: typeof watchDirectory;
}

export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #stop = new AbortController();
  #loop: Promise<void> | null = null;
  #lastWords: Promise<void> = Promise.resolve();
  #reader: CursorReader | null = null;
  #isEnded = false;
  #isRemoved = false;
  #hasNews = false;
  #wake: () => void = () => {};
  /** Sent, but lost with the connection if that breaks now. */
  #unconfirmed: Batch | null = null;
  /** Behind what the destination holds. */
  #held: Cursor | null = null;
  #lastError = '';
  #sentLines = 0;
  #refusedLines = 0;
  #dropped = { bytes: 0, gaps: 0 };

  constructor(options: ForwarderOptions) {
    this.#options = options;
  }

  /** Output may come from now on, or there may be some from before. */
  begin(): void {
    this.#isEnded = false;
    this.#loop ??= this.#run().finally(() => {
      this.#loop = null;
      if (!this.#isEnded && !this.#stop.signal.aborted) this.begin(); // begun again while it was finishing
    });
  }

  /** No more output comes: rests once everything was sent. */
  end(): void {
    this.#isEnded = true;
    this.#touch();
  }

  /** Resolves when everything was sent after end(), or it was stopped. */
  async settled(): Promise<void> {
    await this.#loop;
  }

  /** The log is about to be removed. Resolves when that may happen; what was not sent yet is sent from open files. */
  async remove(): Promise<void> {
    this.end();
    this.#isRemoved = true;
    if (this.#loop === null) return this.close();
    await this.#reader?.hold();
    const late = this.#options.clock.setTimer(LAST_WORDS_MS, () => {
      this.#stop.abort();
      this.#touch();
    });
    this.#lastWords = this.#loop.then(async () => {
      late[Symbol.dispose]();
      await this.close();
    });
  }

  /** After remove(): resolves when nothing is open any more. */
  get lastWords(): Promise<void> {
    return this.#lastWords;
  }

  /** Everything was sent, and nothing is to come. */
  get isIdle(): boolean {
    return this.#loop === null;
  }

  /** The daemon ends: the rest is sent by the next one. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#touch();
    await this.#loop;
    this.#options.destination[Symbol.dispose]();
    await this.#options.cursor.close();
  }

  /** The file that is being sent; older ones are not needed any more. */
  get unsentFrom(): bigint | 'none' | 'unknown' {
    return this.#loop === null ? 'none' : (this.#reader?.inode ?? 'unknown');
  }

  get status(): ForwardingStatus {
    const { driver } = this.#options;
    return {
      driver,
      sentLines: this.#sentLines,
      refusedLines: this.#refusedLines,
      droppedBytes: this.#dropped.bytes,
      gaps: this.#dropped.gaps,
      lastError: this.#lastError,
    };
  }

  // ---- the loop

  async #run(): Promise<void> {
    const { file, logger, containerId, watch = watchDirectory } = this.#options;
    const name = basename(file.path);
    const watcher = watch(dirname(file.path), (changed) => {
      if (changed === null || changed.startsWith(name)) this.#touch();
    });
    try {
      while (!this.#stop.signal.aborted) {
        try {
          await this.#forward(); // oxlint-disable-line no-await-in-loop
          return;
        } catch (error) {
          logger.error(
            { containerId, error: messageOf(error) },
            'log: the log of a container cannot be read; trying again',
          );
          if (this.#isRemoved) return;
          await this.#sleep(RETRY_MS_MAX); // oxlint-disable-line no-await-in-loop
        }
      }
    } finally {
      watcher?.close();
    }
  }

  async #forward(): Promise<void> {
    const { file, cursor, destination } = this.#options;
    const from = await cursor.load();
    this.#dropped = { bytes: from.droppedBytes, gaps: from.gaps };
    await using reader = await CursorReader.open(file, from);
    this.#reader = reader;
    this.#unconfirmed = this.#held = null;
    this.#options.destination.discard?.(); // it is read again
    if (this.#isRemoved) await reader.hold();
    this.#noteDropped(reader);
    for (;;) {
      if (this.#stop.signal.aborted) return this.#noteLeft(reader);
      this.#hasNews = false;
      const isEnded = this.#isEnded;
      const batch = await reader.next();
      this.#noteDropped(reader);
      if (batch !== null) {
        await this.#deliver(batch, reader);
        continue;
      }
      await this.#confirm(reader);
      await this.#flush(reader);
      if (this.#hasNews) continue;
      if (isEnded) return;
      await this.#news();
      if (destination.lingerMs > 0 && !this.#isEnded) await this.#sleep(destination.lingerMs);
    }
  }

  /** Until the service has it, or never will, or this is stopped. */
  async #deliver(batch: Batch, reader: CursorReader): Promise<void> {
    const parts = [batch];
    let refusals = 0;
    for (let part = parts.pop(); part !== undefined && !this.#stop.signal.aborted; part = parts.pop()) {
      const outcome = await this.#attempt((signal) => this.#send(part as Batch, signal), reader); // oxlint-disable-line no-await-in-loop
      if (outcome === null) continue;
      if (!(outcome instanceof Error)) {
        await this.#settle(part, outcome); // oxlint-disable-line no-await-in-loop
        continue;
      }
      const count = part.entries.length;
      if (count > 1 && outcome instanceof RefusedForGood && refusals < REFUSALS_MAX) {
        refusals++;
        parts.push(partOf(part, count >> 1, count), partOf(part, 0, count >> 1));
      } else {
        await this.#refuse(part, outcome); // oxlint-disable-line no-await-in-loop
      }
    }
  }

  /** What was sent, or the error for which it never will be; null: this was stopped. */
  async #attempt(
    send: (signal: AbortSignal) => Promise<Sent | void>,
    reader: CursorReader,
  ): Promise<Sent | Error | null> {
    const { destination, tally } = this.#options;
    const { waitMs, attempts } = destination.retry ?? { waitMs: RETRY_MS, attempts: Infinity };
    let delayMs = waitMs;
    for (let failed = 0; !this.#stop.signal.aborted; delayMs = Math.min(delayMs * 2, Math.max(RETRY_MS_MAX, waitMs))) {
      try {
        if (this.#unconfirmed !== null && (failed > 0 || destination.isBroken)) {
          const again = this.#unconfirmed;
          await this.#inTime((signal) => this.#send(again, signal));
          this.#checkStanding();
        }
        const sent = await this.#inTime(send);
        this.#checkStanding();
        this.#noteWorking();
        return sent ?? {};
      } catch (error) {
        if (this.#stop.signal.aborted) return null;
        if (error instanceof RefusedForGood) return error;
        failed++;
        tally.failures++;
        this.#noteFailing(error);
        if (failed > attempts) return new Error(`given up after ${attempts} retries: ${messageOf(error)}`);
        await this.#sleep(delayMs, () => void reader.look().catch(() => {}));
      }
    }
    return null;
  }

  #send({ entries }: Batch, signal: AbortSignal): Promise<Sent | void> {
    return this.#options.destination.send(entries, signal);
  }

  /** Notes how far the log is sent now. */
  async #settle(batch: Batch, { refused = 0, heldFrom = batch.entries.length }: Sent): Promise<void> {
    this.#count(batch, 1, refused);
    if (refused > 0) this.#noteRefused(refused, 'the service took the others of the batch');
    if (heldFrom < batch.entries.length) {
      this.#held = batch.cursor;
      // From the first on: they belong to what an earlier batch began, and it is noted where that was.
      if (heldFrom > 0) await this.#save(partOf(batch, 0, heldFrom).cursor);
      return;
    }
    this.#held = null;
    if (this.#options.destination.confirms !== 'connection') return this.#save(batch.cursor);
    if (this.#unconfirmed !== null) await this.#save(this.#unconfirmed.cursor);
    this.#unconfirmed = batch;
  }

  /** Nothing came for a while, or nothing will: what is held is all that there is of it. */
  async #flush(reader: CursorReader): Promise<void> {
    const { destination } = this.#options;
    const cursor = this.#held;
    if (cursor === null) return;
    if (!this.#isEnded) await this.#sleep(destination.lingerMs, () => {}, true);
    if (this.#hasNews || this.#stop.signal.aborted) return;
    const outcome = await this.#attempt(async (signal) => destination.flush?.(signal), reader);
    if (outcome === null) return;
    const refused = outcome instanceof Error ? 1 : (outcome.refused ?? 0);
    if (refused > 0) this.#noteRefused(refused, outcome instanceof Error ? outcome.message : 'refused');
    this.#held = null;
    await this.#save(cursor);
  }

  /** A connection that went right after it took a batch may have lost that, and what it took before. */
  #checkStanding(): void {
    const { confirms, isBroken } = this.#options.destination;
    if (confirms === 'connection' && isBroken) throw new Error('the connection broke');
  }

  async #inTime<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const late = new AbortController();
    const timer = this.#options.clock.setTimer(SEND_MS_MAX, () => late.abort(new Error('the service does not answer')));
    try {
      return await run(AbortSignal.any([this.#stop.signal, late.signal]));
    } finally {
      timer[Symbol.dispose]();
    }
  }

  /** Nothing is left to send but to know whether the last batch arrived. */
  async #confirm(reader: CursorReader): Promise<void> {
    const batch = this.#unconfirmed;
    if (batch === null) return;
    if (!this.#options.destination.isBroken) await this.#sleep(CONFIRM_MS, () => {}, true);
    if (this.#stop.signal.aborted) return;
    // The next batch will tell, too.
    if (this.#hasNews && !this.#options.destination.isBroken) return;
    this.#unconfirmed = null;
    if (this.#options.destination.isBroken) {
      this.#count(batch, -1);
      await this.#deliver(batch, reader);
    } else {
      await this.#save(batch.cursor);
    }
  }

  /** Sent again for ever, it would hold up everything behind it. */
  async #refuse(batch: Batch, error: Error): Promise<void> {
    this.#noteRefused(batch.entries.length, error.message);
    await this.#save(batch.cursor);
  }

  #count({ entries }: Batch, times: 1 | -1, refused = 0): void {
    const { tally } = this.#options;
    this.#sentLines += times * (entries.length - refused);
    tally.sentLines += times * (entries.length - refused);
    for (const { line } of entries) tally.sentBytes += times * line.length;
  }

  async #save(cursor: Cursor): Promise<void> {
    if (this.#isRemoved) return;
    const { containerId, logger } = this.#options;
    try {
      await this.#options.cursor.save(cursor);
    } catch (error) {
      logger.warn({ containerId, error: messageOf(error) }, 'log: how far the log was sent cannot be noted');
    }
  }

  // ---- waiting

  #touch(): void {
    this.#hasNews = true;
    this.#wake();
  }

  async #news(): Promise<void> {
    while (!this.#hasNews && !this.#stop.signal.aborted) await this.#woken(); // oxlint-disable-line no-await-in-loop
  }

  /** Ends early when this is stopped, or with `isLight` at news. `onWake`: something happened to the log meanwhile. */
  async #sleep(delayMs: number, onWake: () => void = () => {}, isLight = false): Promise<void> {
    let isOver = false;
    using _timer = this.#options.clock.setTimer(delayMs, () => {
      isOver = true;
      this.#wake();
    });
    while (!isOver && !this.#stop.signal.aborted && !(isLight && this.#hasNews)) {
      await this.#woken(); // oxlint-disable-line no-await-in-loop
      if (!isOver) onWake();
    }
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  // ---- what is told

  #noteFailing(error: unknown): void {
    const { logger, containerId, driver } = this.#options;
    const message = messageOf(error);
    if (this.#lastError === '')
      logger.warn(
        { containerId, driver, error: message },
        'log: the service does not take the log; kept and tried again',
      );
    this.#lastError = message;
  }

  #noteWorking(): void {
    const { logger, containerId, driver } = this.#options;
    if (this.#lastError !== '') logger.info({ containerId, driver }, 'log: the service takes the log again');
    this.#lastError = '';
  }

  #noteRefused(lines: number, error: string): void {
    const { logger, containerId, driver, tally } = this.#options;
    this.#refusedLines += lines;
    tally.refusedLines += lines;
    this.#lastError = error;
    logger.warn({ containerId, driver, lines, error }, 'log: the service refuses lines for good');
  }

  #noteDropped(reader: CursorReader): void {
    const { logger, containerId, driver, tally } = this.#options;
    const { dropped } = reader;
    tally.droppedBytes += dropped.bytes - this.#dropped.bytes;
    if (dropped.gaps > this.#dropped.gaps || dropped.bytes > this.#dropped.bytes)
      logger.warn(
        { containerId, driver, bytes: dropped.bytes, gaps: dropped.gaps },
        'log: rotation took lines before they were sent',
      );
    this.#dropped = dropped;
  }

  async #noteLeft(reader: CursorReader): Promise<void> {
    if (!this.#isRemoved) return;
    const { logger, containerId, driver } = this.#options;
    const bytes = await reader.leftBytes();
    if (bytes > 0) logger.warn({ containerId, driver, bytes }, 'log: the rest of a removed container was not sent');
  }
}
