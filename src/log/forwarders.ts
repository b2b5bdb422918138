/** The forwarders of all containers: LogForwarding of the port. */
import { dirname, join } from 'node:path';

import type { Clock } from '../core/clock.ts';
import type { Logger } from '../core/log.ts';
import { CursorFile } from './cursor.ts';
import type { DriverHost } from './drivers/driver.ts';
import { Forwarder } from './forwarder.ts';
import type { ForwardedLog, ForwardingStatus, LogForwarding } from './port.ts';

const CURSOR_NAME = 'forwarded';

export interface ForwardersOptions {
  readonly host: DriverHost;
  readonly clock: Clock;
  readonly logger: Logger;
}

export function openForwarders(options: ForwardersOptions): LogForwarding & AsyncDisposable {
  return new Forwarders(options);
}

class Forwarders implements LogForwarding, AsyncDisposable {
  readonly #options: ForwardersOptions;
  readonly #forwarders = new Map<string, Forwarder>();
  /** Of removed containers. */
  readonly #leaving = new Set<Forwarder>();

  constructor(options: ForwardersOptions) {
    this.#options = options;
  }

  begin(containerId: string, { file, driver, source }: ForwardedLog): void {
    let forwarder = this.#forwarders.get(containerId);
    // Made anew for each run: the container may have another name by now.
    if (forwarder?.isIdle === true) void forwarder.close();
    if (forwarder === undefined || forwarder.isIdle) {
      const { host, clock, logger } = this.#options;
      forwarder = new Forwarder({
        containerId,
        driver: driver.name,
        file,
        destination: driver.open(source, host),
        cursor: new CursorFile(join(dirname(file.path), CURSOR_NAME)),
        clock,
        logger,
      });
      this.#forwarders.set(containerId, forwarder);
    }
    forwarder.begin();
  }

  end(containerId: string): void {
    this.#forwarders.get(containerId)?.end();
  }

  async remove(containerId: string): Promise<void> {
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

  async [Symbol.asyncDispose](): Promise<void> {
    const forwarders = [...this.#forwarders.values(), ...this.#leaving];
    this.#forwarders.clear();
    await Promise.all(forwarders.map((forwarder) => forwarder.close()));
  }
}
