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
import { CursorReader, type Batch } from './cursor-reader.ts';
import { RefusedForGood, type Destination } from './drivers/driver.ts';
import type { ForwardingStatus, LogFileOptions } from './port.ts';
import { watchDirectory } from './watch-directory.ts';

const SEND_MS_MAX = 30_000;
const RETRY_MS = 100;
const RETRY_MS_MAX = 30_000;
/** A connection that still stands this long after a batch has delivered it. */
const CONFIRM_MS = 1000;
/** How long the rest of a removed container's log is still sent. */
const LAST_WORDS_MS = 60_000;

export interface ForwarderOptions {
  readonly containerId: string;
  readonly driver: string;
  readonly file: LogFileOptions;
  readonly destination: Destination;
  readonly cursor: CursorFile;
  readonly clock: Clock;
  readonly logger: Logger;
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
    await using reader = await CursorReader.open(file, await cursor.load());
    this.#reader = reader;
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
      if (this.#hasNews) continue;
      if (isEnded) return;
      await this.#news();
      if (destination.lingerMs > 0 && !this.#isEnded) await this.#sleep(destination.lingerMs);
    }
  }

  /** Until the service has it, or never will, or this is stopped. */
  async #deliver(batch: Batch, reader: CursorReader): Promise<void> {
    const { destination } = this.#options;
    let isFailing = false;
    for (let delayMs = RETRY_MS; !this.#stop.signal.aborted; delayMs = Math.min(delayMs * 2, RETRY_MS_MAX)) {
      try {
        if (this.#unconfirmed !== null && (isFailing || destination.isBroken)) {
          await this.#send(this.#unconfirmed);
          this.#checkStanding();
        }
        await this.#send(batch);
        this.#checkStanding();
        this.#noteWorking();
        this.#sentLines += batch.entries.length;
        if (destination.confirms === 'connection') {
          if (this.#unconfirmed !== null) await this.#save(this.#unconfirmed.cursor);
          this.#unconfirmed = batch;
        } else {
          await this.#save(batch.cursor);
        }
        return;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        if (error instanceof RefusedForGood) return this.#refuse(batch, error);
        isFailing = true;
        this.#noteFailing(error);
        await this.#sleep(delayMs, () => void reader.look().catch(() => {}));
      }
    }
  }

  /** A connection that went right after it took a batch may have lost that, and what it took before. */
  #checkStanding(): void {
    const { confirms, isBroken } = this.#options.destination;
    if (confirms === 'connection' && isBroken) throw new Error('the connection broke');
  }

  async #send({ entries }: Batch): Promise<void> {
    const late = new AbortController();
    const timer = this.#options.clock.setTimer(SEND_MS_MAX, () => late.abort(new Error('the service does not answer')));
    try {
      await this.#options.destination.send(entries, AbortSignal.any([this.#stop.signal, late.signal]));
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
      this.#sentLines -= batch.entries.length;
      await this.#deliver(batch, reader);
    } else {
      await this.#save(batch.cursor);
    }
  }

  /** Sent again for ever, it would hold up everything behind it. */
  async #refuse(batch: Batch, error: RefusedForGood): Promise<void> {
    const { logger, containerId, driver } = this.#options;
    this.#refusedLines += batch.entries.length;
    this.#lastError = error.message;
    logger.warn(
      { containerId, driver, lines: batch.entries.length, error: error.message },
      'log: the service refuses lines for good',
    );
    await this.#save(batch.cursor);
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

  #noteDropped(reader: CursorReader): void {
    const { logger, containerId, driver } = this.#options;
    const { dropped } = reader;
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
