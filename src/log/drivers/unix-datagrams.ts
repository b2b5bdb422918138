/**
 * Batches to a datagram socket of the host. Its queue is short (ten, as Linux has it), so a batch goes in parts, and what was
 * taken is not sent again when a batch is tried again.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import type { LogEntry } from '../port.ts';
import type { DriverHost } from './driver.ts';

const PAUSE_MS = 5;
/** Who takes nothing for as long is away. */
const STALLED_MS = 1000;

export class UnixDatagrams {
  readonly #send: DriverHost['sendDatagrams'];
  readonly #large: 'error' | 'memfd';
  #of: readonly LogEntry[] | null = null;
  #sent = 0;

  constructor(send: DriverHost['sendDatagrams'], large: 'error' | 'memfd' = 'error') {
    this.#send = send;
    this.#large = large;
  }

  /** `format`: of the entries that are left; `onSent`: how many of those went. */
  async send(
    path: string,
    batch: readonly LogEntry[],
    signal: AbortSignal,
    format: (left: readonly LogEntry[]) => readonly Uint8Array[],
    onSent: (left: readonly LogEntry[], count: number) => void = () => {},
  ): Promise<void> {
    if (this.#of !== batch) {
      this.#of = batch;
      this.#sent = 0;
    }
    for (let lastMs = performance.now(); this.#sent < batch.length;) {
      const left = batch.slice(this.#sent);
      const count = await this.#send(path, format(left), this.#large); // oxlint-disable-line no-await-in-loop
      onSent(left, count);
      this.#sent += count;
      if (count > 0) lastMs = performance.now();
      else if (performance.now() - lastMs > STALLED_MS) throw new Error(`${path} does not take more for now`);
      if (this.#sent < batch.length) await sleep(PAUSE_MS, undefined, { signal }); // oxlint-disable-line no-await-in-loop
    }
    this.#of = null;
  }
}
