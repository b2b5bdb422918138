/**
 * One run of a container as the daemon follows it: what its shim reports becomes runtime events, in order, and the end of
 * the run is reported exactly once, also when the connection to the shim breaks.
 */
import { messageOf } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import { connectShim, readShimExit, readShimProcess, type ShimConnection } from '../shim/client.ts';
import { SHIM_STDERR, SHIM_STDIN, SHIM_STDOUT, type ShimEvent } from '../shim/protocol.ts';
import type { DirectPlace } from './direct-exec.ts';
import type { OomMemory } from './oom-memory.ts';
import type { RuntimeEvent, StreamSelection } from './port.ts';

/** How often a shim that closed its connection, but lives, is called again. */
const RECONNECT_ATTEMPTS = 5;
const RECONNECT_DELAY_MS = 50;

/** What does not change during a run. */
export interface RunIdentity {
  readonly id: string;
  readonly run: number;
  /** Name in the table of runtimes. */
  readonly runtime: string;
  readonly directory: string;
  readonly cgroupPath: string;
}

/** The streams as the shim's protocol has them: one number. */
export function maskOf(streams: StreamSelection): number {
  return (streams.stdin ? SHIM_STDIN : 0) | (streams.stdout ? SHIM_STDOUT : 0) | (streams.stderr ? SHIM_STDERR : 0);
}

export class ShimLink {
  readonly identity: RunIdentity;
  /** Execs that were started and whose end was not reported. */
  readonly execs = new Set<string>();
  /** Of execs that do without the runtime; null: it does them all. Undefined until the first. */
  directPlace: Promise<DirectPlace | null> | undefined;
  /** Resolves when the shim is gone, and with it everything it had to do (`runtime delete`). */
  readonly gone: Promise<void>;
  #connection: ShimConnection;
  #pid: number;
  #isOver = false;
  #hadOom: boolean;
  readonly #setGone: () => void;
  readonly #report: (event: RuntimeEvent) => void;
  readonly #logger: Logger;
  readonly #memory: () => { readonly memory?: OomMemory };

  constructor(
    identity: RunIdentity,
    pid: number,
    connection: ShimConnection,
    options: {
      readonly report: (event: RuntimeEvent) => void;
      readonly logger: Logger;
      readonly hadOom: boolean;
      /** Asked when the kernel killed something for its memory. */
      readonly memory?: () => OomMemory | null;
    },
  ) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.identity = identity;
    this.gone = promise;
    this.#setGone = resolve;
    this.#pid = pid;
    this.#connection = connection;
    this.#report = options.report;
    this.#logger = options.logger;
    this.#hadOom = options.hadOom;
    this.#memory = () => {
      const memory = options.memory?.() ?? null;
      return memory === null ? {} : { memory };
    };
    connection.onClose = () => void this.#onClose();
  }

  get connection(): ShimConnection {
    return this.#connection;
  }

  /** Its end was reported. */
  get isOver(): boolean {
    return this.#isOver;
  }

  receive(event: ShimEvent): void {
    const { id, run } = this.identity;
    switch (event.kind) {
      case 'started':
        this.#pid = event.pid;
        break;
      case 'oom':
        this.#hadOom = true;
        if (!this.#isOver) this.#report({ kind: 'oom', id, run, ...this.#memory() });
        break;
      case 'exec-exited':
        this.#execExited(event.execId, event.exitCode);
        break;
      case 'exited':
        this.#end({ kind: 'exited', id, run, pid: event.pid, exit: event.exit });
        break;
      case 'log-dropped':
        this.#logger.warn({ id, bytes: event.bytes }, 'runtime: output could not be logged');
        break;
      case 'released':
        if (event.status !== 0) this.#logger.warn({ id, error: event.error }, 'runtime: delete failed');
        break;
      case 'state':
      case 'failed':
        break;
    }
  }

  /** From now on nothing is reported any more: for a run that is released, and that nobody asks about. */
  silence(): void {
    this.#isOver = true;
    this.execs.clear();
  }

  dispose(): void {
    this.silence();
    this.#connection[Symbol.dispose]();
    this.#setGone();
  }

  #execExited(execId: string, exitCode: number): void {
    if (this.#isOver || !this.execs.delete(execId)) return;
    this.#report({ kind: 'exec-exited', id: this.identity.id, execId, exitCode });
  }

  #end(event: RuntimeEvent): void {
    if (this.#isOver) return;
    // An exec cannot outlive its container; what the shim did not tell before is told now.
    for (const execId of this.execs) this.#execExited(execId, 137);
    this.#isOver = true;
    this.#report(event);
  }

  /** The shim ended, or only closed the connection (to a daemon that was too slow to read). */
  async #onClose(): Promise<void> {
    try {
      if (!this.#isOver && (await this.#reconnect())) return;
    } catch (error) {
      this.#logger.error({ id: this.identity.id, error: messageOf(error) }, 'runtime: shim cannot be reached');
    }
    const { id, run } = this.identity;
    this.#end({ kind: 'lost', id, run, pid: this.#pid });
    this.#setGone();
  }

  /** True when the link stands again; false when the run is over, or lost. */
  async #reconnect(): Promise<boolean> {
    const { id, run, directory } = this.identity;
    for (let attempt = 0; attempt < RECONNECT_ATTEMPTS; attempt++) {
      const found = await connectShim(directory, (event) => this.receive(event));
      if (found !== null) {
        this.#connection = found.connection;
        found.connection.onClose = () => void this.#onClose();
        for (const { execId, exitCode } of found.state.endedExecs) this.#execExited(execId, exitCode);
        if (found.state.oomKilled && !this.#hadOom) this.receive({ kind: 'oom' });
        return true;
      }
      const record = await readShimExit(directory);
      if (record?.run === run) {
        this.#end({ kind: 'exited', id, run, pid: record.pid, exit: record.exit });
        return false;
      }
      const shim = await readShimProcess(directory);
      if (shim?.alive !== true) return false;
      // It lives but does not listen yet (or no more): give it time to write its record.
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_DELAY_MS));
    }
    return false;
  }
}
