/**
 * The host: processes, the shims beside them and what a start acquired. It goes on while the daemon is dead. It also
 * holds what must never happen on a host: two live processes of one container, probes that pile up, a running container
 * killed by a clean-up.
 */
import { formatTime } from '../src/core/clock.ts';
import type { ProcessExit, RuntimeEvent } from '../src/runtime/port.ts';
import type { Timeline } from './clock.ts';
import type { Random } from './random.ts';

export class Violation extends Error {
  readonly rule: string;

  constructor(rule: string, detail: string) {
    super(`${rule}: ${detail}`);
    this.rule = rule;
  }
}

export interface Process {
  readonly id: string;
  readonly run: number;
  readonly pid: number;
  readonly startedMs: number;
  /** Heeds its stop signal. */
  readonly heeds: boolean;
  alive: boolean;
  frozen: boolean;
  /** In uninterruptible sleep until then. */
  stuckUntilMs: number;
  readonly pending: number[];
  exit: ProcessExit | null;
  /** Its shim is there, and so is the exit record. */
  shim: boolean;
  oomKilled: boolean;
  /** How it ended is known to nobody: its monitor or the host went first. */
  lost: boolean;
  /** Its end was never told: only asking finds it. */
  untold: boolean;
}

export interface Exec {
  readonly id: string;
  readonly execId: string;
  alive: boolean;
  end(exitCode: number): void;
}

export class Kernel {
  readonly timeline: Timeline;
  readonly random: Random;
  /** Told to the daemon that listens now; null while there is none. */
  listener: ((event: RuntimeEvent) => void) | null = null;
  /** Nothing fails or dies by itself any more. */
  quiet = false;
  /** Counts reboots. */
  boot = 0;
  /** Present shims and orphans, by container. */
  readonly processes = new Map<string, Process[]>();
  /** Everything that ever ran: what records must say. */
  readonly history = new Map<string, Process>();
  readonly execs = new Set<Exec>();
  readonly held = new Map<string, Set<string>>();
  #pid = 100;

  constructor(timeline: Timeline, random: Random) {
    this.timeline = timeline;
    this.random = random;
  }

  /** The first thing that must never happen, and did. */
  violation: Violation | null = null;

  violate(rule: string, detail: string): void {
    this.violation ??= new Violation(rule, detail);
  }

  live(id: string): Process[] {
    return (this.processes.get(id) ?? []).filter(({ alive }) => alive);
  }

  find(id: string, run: number): Process | undefined {
    return this.processes.get(id)?.find((process) => process.run === run);
  }

  later(delayMs: number, run: () => void): void {
    const { boot } = this;
    this.timeline.setTimer(delayMs, () => {
      if (boot === this.boot) run();
    });
  }

  spawn(id: string, run: number): Process {
    const others = this.live(id);
    if (others.length > 0) {
      this.violate('one process', `${id} run ${run} started while run ${others[0]?.run} lives`);
    }
    const { random } = this;
    const process: Process = {
      id,
      run,
      pid: this.#pid++,
      startedMs: this.timeline.nowMs(),
      heeds: this.quiet || !random.oneIn(3),
      alive: true,
      frozen: false,
      stuckUntilMs: 0,
      pending: [],
      exit: null,
      shim: true,
      oomKilled: false,
      lost: false,
      untold: false,
    };
    this.processes.set(id, [...(this.processes.get(id) ?? []), process]);
    this.history.set(`${id} ${run}`, process);
    if (!this.quiet && random.oneIn(2)) {
      const lifeMs = random.pick([0, 1, 5, 50, 500, 5_000, 9_999, 10_001, 30_000]);
      this.later(lifeMs, () => {
        if (!this.quiet) this.die(process, random.pick([0, 0, 1, 3, 139]), 0);
      });
    }
    if (!this.quiet && random.oneIn(25)) process.stuckUntilMs = process.startedMs + random.below(60_000);
    return process;
  }

  die(process: Process, code: number, signal: number): void {
    if (!process.alive) return;
    const now = this.timeline.nowMs();
    if (now < process.stuckUntilMs && !this.quiet) {
      return this.later(process.stuckUntilMs - now, () => this.die(process, code, signal));
    }
    process.alive = false;
    for (const exec of this.execs) if (exec.id === process.id) exec.end(137);
    if (!process.shim) return;
    process.exit = { code, signal, oomKilled: process.oomKilled, at: formatTime(this.timeline.wallNs()) };
    this.#report(process);
  }

  signal(process: Process, signal: number): void {
    if (process.frozen) {
      process.pending.push(signal);
      return;
    }
    const { random } = this;
    if (signal === 9) return this.later(random.below(30), () => this.die(process, 137, 9));
    if (signal === 15 && process.heeds)
      this.later(random.below(3_000), () => this.die(process, random.pick([0, 143]), 0));
  }

  thaw(process: Process): void {
    process.frozen = false;
    for (const signal of process.pending.splice(0)) this.signal(process, signal);
  }

  oom(process: Process): void {
    process.oomKilled = true;
    this.#tell({ kind: 'oom', id: process.id, run: process.run });
    if (this.random.oneIn(2)) this.later(0, () => this.die(process, 137, 9));
  }

  /** The monitor is killed; what it watched lives on, and its end will not be known. */
  killShim(process: Process): void {
    if (!process.shim || !process.alive) return;
    process.shim = false;
    process.lost = true;
    this.#tell({ kind: 'lost', id: process.id, run: process.run, pid: process.pid });
  }

  releaseAll(id: string): void {
    for (const process of this.processes.get(id) ?? []) {
      process.alive = false;
      process.shim = false;
    }
    this.processes.delete(id);
    for (const exec of this.execs) if (exec.id === id) exec.end(137);
  }

  /** The host goes down: no process, no mount, no shim is left. */
  reboot(): void {
    this.boot += 1;
    this.listener = null;
    for (const list of this.processes.values()) {
      for (const process of list) {
        process.alive = false;
        process.shim = false;
      }
    }
    // Also what was recorded may be undone, as far as it was not synced.
    for (const process of this.history.values()) process.lost = true;
    this.processes.clear();
    this.execs.clear();
    this.held.clear();
  }

  /** Late, twice, or never, as reports go. */
  #report(process: Process): void {
    const { random } = this;
    const { id, run, pid, exit } = process;
    if (exit === null) return;
    if (!this.quiet && random.oneIn(30)) {
      process.untold = true;
      return;
    }
    const tell = (): void => this.#tell({ kind: 'exited', id, run, pid, exit });
    const delayMs = this.quiet ? 0 : random.pick([0, 0, 0, 1, 20, 1_500]);
    this.later(delayMs, tell);
    if (!this.quiet && random.oneIn(8)) this.later(delayMs + random.pick([0, 1, 100, 3_000]), tell);
  }

  #tell(event: RuntimeEvent): void {
    this.listener?.(event);
  }
}
