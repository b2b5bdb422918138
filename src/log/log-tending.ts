/** Forwarders and compressors of all containers: LogTending of the port. */
import { dirname, join } from 'node:path';

import type { Clock } from '../core/clock.ts';
import { messageOf } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import { Compressor } from './compressor.ts';
import { CursorFile } from './cursor.ts';
import type { Destination, DriverHost } from './drivers/driver.ts';
import { Forwarder, newTally, type Tally } from './forwarder.ts';
import type { ForwardingStatus, LogCounters, LogTending, TendedLog } from './port.ts';

const CURSOR_NAME = 'forwarded';

export interface LogTendingOptions {
  readonly host: DriverHost;
  /** A rotated file was packed: see Runtime.logCompressed. */
  readonly replace: (containerId: string, inode: bigint) => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

export function openLogTending(options: LogTendingOptions): LogTending & AsyncDisposable {
  return new Tending(options);
}

class Tending implements LogTending, AsyncDisposable {
  readonly #options: LogTendingOptions;
  readonly #forwarders = new Map<string, Forwarder>();
  readonly #compressors = new Map<string, Compressor>();
  /** Forwarders of removed containers. */
  readonly #leaving = new Set<Forwarder>();
  /** By driver. */
  readonly #tallies = new Map<string, Tally>();

  constructor(options: LogTendingOptions) {
    this.#options = options;
  }

  begin(containerId: string, log: TendedLog): void {
    if (log.service !== null) this.#forward(containerId, log);
    if (!log.compress || this.#compressors.has(containerId)) return;
    const { clock, logger, replace } = this.#options;
    const { file } = log;
    const compressor = new Compressor({
      containerId,
      file,
      replace: (inode) => replace(containerId, inode),
      unsentFrom: () => this.#forwarders.get(containerId)?.unsentFrom ?? 'none',
      clock,
      logger,
    });
    this.#compressors.set(containerId, compressor);
  }

  end(containerId: string): void {
    this.#forwarders.get(containerId)?.end();
    void this.#endCompressor(containerId);
  }

  async remove(containerId: string): Promise<void> {
    await this.#endCompressor(containerId);
    const forwarder = this.#forwarders.get(containerId);
    this.#forwarders.delete(containerId);
    if (forwarder === undefined) return;
    await forwarder.remove();
    this.#leaving.add(forwarder);
    void forwarder.lastWords.then(() => this.#leaving.delete(forwarder));
  }

  status(containerId: string): ForwardingStatus | null {
    return this.#forwarders.get(containerId)?.status ?? null;
  }

  counters(): readonly LogCounters[] {
    return [...this.#tallies].map(([driver, tally]) => ({ driver, ...tally }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const forwarders = [...this.#forwarders.values(), ...this.#leaving];
    this.#forwarders.clear();
    const ids = [...this.#compressors.keys()];
    await Promise.all([
      ...forwarders.map((forwarder) => forwarder.close()),
      ...ids.map((id) => this.#endCompressor(id)),
    ]);
  }

  #forward(containerId: string, { file, service }: TendedLog): void {
    const present = this.#forwarders.get(containerId);
    // Made anew for each run: the container may have another name by now.
    if (present?.isIdle === true) void present.close();
    if (service === null || present?.isIdle === false) return present?.begin();
    const { host, clock, logger } = this.#options;
    let destination: Destination;
    try {
      destination = service.driver.open(service.source, host);
    } catch (error) {
      // A file that an option names is gone, say. The container runs all the same, and the file keeps its output.
      logger.error(
        { containerId, driver: service.driver.name, error: messageOf(error) },
        'log: not forwarded in this run',
      );
      return;
    }
    const { name } = service.driver;
    const tally = this.#tallies.get(name) ?? newTally();
    this.#tallies.set(name, tally);
    const forwarder = new Forwarder({
      containerId,
      driver: name,
      file,
      destination,
      tally,
      cursor: new CursorFile(join(dirname(file.path), CURSOR_NAME)),
      clock,
      logger,
    });
    this.#forwarders.set(containerId, forwarder);
    forwarder.begin();
  }

  async #endCompressor(containerId: string): Promise<void> {
    const compressor = this.#compressors.get(containerId);
    this.#compressors.delete(containerId);
    await compressor?.[Symbol.asyncDispose]();
  }
}
