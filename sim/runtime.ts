/**
 * The Runtime port over the simulated kernel, as one generation of the daemon sees it: when that daemon is dead its
 * calls go nowhere, but what it had set going on the host goes on.
 */
import { PassThrough, type Duplex } from 'node:stream';

import { formatTime } from '../src/core/clock.ts';
import {
  RuntimeStartError,
  type ExecLaunch,
  type ExecStarted,
  type Launch,
  type Recovered,
  type Runtime,
  type RuntimeEvent,
  type Started,
} from '../src/runtime/port.ts';
import { type Exec, type Kernel, type Process } from './kernel.ts';

/** Asked before each call: false once the daemon is dead. May decide that it dies now. */
export type Alive = () => boolean;

export interface RuntimeChecks {
  /** A start is asked of the runtime. */
  onStart(id: string, run: number): void;
  /** What a run left is cleaned away. */
  onRelease(id: string, live: readonly Process[]): void;
}

export class SimRuntime implements Runtime {
  onEvent: (event: RuntimeEvent) => void = () => {};
  readonly #kernel: Kernel;
  readonly #alive: Alive;
  readonly #checks: RuntimeChecks;
  /** Starts that a shim carries out, whether or not the daemon lives: recover() waits for them. */
  readonly #inFlight: Map<string, Promise<void>>;
  readonly #hidesExecs: boolean;

  constructor(
    kernel: Kernel,
    alive: Alive,
    checks: RuntimeChecks,
    inFlight: Map<string, Promise<void>>,
    hidesExecs: boolean,
  ) {
    this.#hidesExecs = hidesExecs;
    this.#kernel = kernel;
    this.#alive = alive;
    this.#checks = checks;
    this.#inFlight = inFlight;
    kernel.listener = (event) => {
      if (alive()) this.onEvent(event);
    };
  }

  async start({ id, run }: Launch): Promise<Started> {
    const { random, quiet } = this.#kernel;
    if (!this.#alive()) return await never();
    this.#checks.onStart(id, run);
    await this.#wait(random.below(10));
    if (!quiet && random.oneIn(25)) throw new RuntimeStartError(128, 'the shim could not be started');
    const launched = Promise.withResolvers<void>();
    this.#inFlight.set(id, launched.promise);
    const outcome = Promise.withResolvers<Process>();
    this.#kernel.later(random.below(40), () => {
      this.#inFlight.delete(id);
      launched.resolve();
      if (!quiet && random.oneIn(12)) {
        return outcome.reject(
          new RuntimeStartError(random.pick([126, 127, 128]), 'exec: "nope": executable file not found in $PATH'),
        );
      }
      outcome.resolve(this.#kernel.spawn(id, run));
    });
    const process = await outcome.promise;
    const startedAt = formatTime(this.#kernel.timeline.wallNs());
    await this.#wait(random.pick([0, 0, 1, 20]));
    return { pid: process.pid, startedAt };
  }

  async recover(id: string, run: number): Promise<Recovered> {
    await this.#inFlight.get(id);
    await this.#wait(this.#kernel.random.below(5));
    const process = this.#kernel.find(id, run);
    if (process === undefined) {
      const ran = this.#kernel.history.get(`${id} ${run}`);
      return ran === undefined ? { at: 'never-started' } : { at: 'lost', because: 'reboot', pid: null };
    }
    if (process.exit !== null && process.shim) return { at: 'exited', exit: process.exit };
    if (!process.shim) return { at: 'lost', because: 'shim-died', pid: process.pid };
    const execs = [...this.#kernel.execs]
      .filter((exec) => exec.id === id)
      .map(({ execId }) => ({ execId, pid: 7, record: null }));
    return {
      at: 'running',
      pid: process.pid,
      paused: process.frozen,
      oomKilled: process.oomKilled,
      execs: this.#hidesExecs ? [] : execs,
      endedExecs: [],
    };
  }

  async signal(id: string, signal: number): Promise<boolean> {
    await this.#wait(this.#kernel.random.below(3));
    const process = this.#kernel.live(id)[0];
    if (process === undefined || !process.shim) return false;
    this.#kernel.signal(process, signal);
    return true;
  }

  async killAll(id: string): Promise<void> {
    for (const process of this.#kernel.live(id)) this.#kernel.signal(process, 9);
  }

  async pause(id: string): Promise<void> {
    await this.#wait(this.#kernel.random.below(5));
    const process = this.#kernel.live(id)[0];
    if (process === undefined) throw new Error('no such process');
    process.frozen = true;
  }

  async resume(id: string): Promise<void> {
    await this.#wait(this.#kernel.random.below(5));
    const process = this.#kernel.live(id)[0];
    if (process === undefined) throw new Error('no such process');
    this.#kernel.thaw(process);
  }

  async resize(): Promise<boolean> {
    return false;
  }

  async attach(): Promise<Duplex> {
    return new PassThrough();
  }

  async exec(id: string, { execId }: ExecLaunch): Promise<ExecStarted> {
    const { random } = this.#kernel;
    await this.#wait(random.pick([0, 5, 200]));
    if (this.#kernel.live(id).length === 0) throw new RuntimeStartError(128, 'cannot exec in a stopped container');
    if ([...this.#kernel.execs].some((exec) => exec.id === id && exec.alive)) {
      this.#kernel.violate('probes', `${id} has two probes at once`);
    }
    const exec: Exec = {
      id,
      execId,
      alive: true,
      end: (exitCode) => {
        if (!exec.alive) return;
        exec.alive = false;
        this.#kernel.execs.delete(exec);
        this.#kernel.later(random.below(3), () => {
          if (this.#alive()) this.onEvent({ kind: 'exec-exited', id, execId, exitCode });
        });
      },
    };
    this.#kernel.execs.add(exec);
    if (!random.oneIn(5)) this.#kernel.later(random.below(500), () => exec.end(random.pick([0, 0, 1])));
    return { pid: 7, stream: null };
  }

  async signalExec(_id: string, execId: string): Promise<boolean> {
    await this.#wait(this.#kernel.random.below(3));
    for (const exec of this.#kernel.execs) {
      if (exec.execId === execId) this.#kernel.later(this.#kernel.random.below(20), () => exec.end(137));
    }
    return true;
  }

  async resizeExec(): Promise<boolean> {
    return false;
  }

  async processes(id: string): Promise<number[]> {
    return this.#kernel.live(id).map(({ pid }) => pid);
  }

  async update(): Promise<void> {
    await this.#wait(1);
  }

  async release(id: string): Promise<void> {
    const { random, quiet } = this.#kernel;
    await this.#wait(random.pick([0, 1, 10, 80]));
    if (!quiet && random.oneIn(40)) throw new Error('device or resource busy');
    this.#checks.onRelease(id, this.#kernel.live(id));
    this.#kernel.releaseAll(id);
  }

  /** Nothing comes back to a daemon that is dead. */
  async #wait(ms: number): Promise<void> {
    if (!this.#alive()) return await never();
    if (ms > 0) await new Promise<void>((resolve) => this.#kernel.later(ms, resolve));
    if (!this.#alive()) return await never();
  }
}

export function never(): Promise<never> {
  return new Promise(() => {});
}
