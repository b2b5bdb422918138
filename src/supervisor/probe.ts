/**
 * Runs one container's health checks: an exec whose output is kept, with a deadline. At most one at a time: a probe
 * that was called off is killed, and the next waits until it is gone. Source: moby daemon/health.go (v28).
 */
import { formatTime } from '../core/clock.ts';
import { messageOf } from '../core/engine-error.ts';
import { goDuration } from '../core/go-duration.ts';
import { newId } from '../core/id.ts';
import type { Container, ProbeResult } from '../lifecycle/container.ts';
import type { Event } from '../lifecycle/event.ts';
import { OUTPUT_BYTES_MAX, PROBE_START_MS, healthPlan } from '../lifecycle/health.ts';
import { SIGKILL } from '../lifecycle/state.ts';
import type { Context } from './context.ts';
import { withDeadline } from './deadline.ts';
import type { Execs } from './execs.ts';
import { collectOutput } from './probe-output.ts';

/** How long a killed probe may take to go before its result is given out all the same. */
const KILL_MS = 10_000;
/** How long its output may lag behind its end. */
const OUTPUT_MS = 2_000;

/** Exec IDs of probes begin with this, so that a daemon finds the probes of one that was killed. */
const PROBE_ID_PREFIX = 'bea75eed';

export function isProbeId(execId: string): boolean {
  return execId.startsWith(PROBE_ID_PREFIX);
}

export interface ProbeOwner {
  readonly container: Container;
  send(event: Event): void;
}

interface Running {
  cancelled: boolean;
  execId: string | null;
}

export class Probe {
  readonly #context: Context;
  readonly #execs: Execs;
  readonly #owner: ProbeOwner;
  #running: Running | null = null;
  /** Due while one that was given up was still going. */
  #next: { readonly run: number; readonly timeoutMs: number } | null = null;

  constructor(context: Context, execs: Execs, owner: ProbeOwner) {
    this.#context = context;
    this.#execs = execs;
    this.#owner = owner;
  }

  start(run: number, timeoutMs: number): void {
    if (this.#running !== null) {
      this.#next = { run, timeoutMs };
      return;
    }
    const running: Running = { cancelled: false, execId: null };
    this.#running = running;
    void this.#probe(running, timeoutMs).then(async (result) => {
      if (!running.cancelled) this.#owner.send({ kind: 'probe-ended', run, result });
      if (running.execId !== null) await this.#execs.ended(running.execId); // However long it takes to die.
      this.#running = null;
      const next = this.#next;
      this.#next = null;
      if (next !== null) this.start(next.run, next.timeoutMs);
    });
  }

  /** Its result is not heard of any more. */
  cancel(): void {
    this.#next = null;
    const running = this.#running;
    if (running === null || running.cancelled) return;
    running.cancelled = true;
    this.#kill(running);
  }

  async #probe(running: Running, timeoutMs: number): Promise<ProbeResult> {
    const { clock } = this.#context;
    const startedAt = formatTime(clock.wallNs());
    const result = (exitCode: number, output: string): ProbeResult => ({
      startedAt,
      endedAt: formatTime(clock.wallNs()),
      exitCode,
      output,
    });
    try {
      const { execId, output } = await this.#startExec(running);
      const exitCode = await this.#end(execId, timeoutMs);
      if (exitCode !== null) {
        await output.finished(OUTPUT_MS, clock);
        return result(exitCode, output.text());
      }
      this.#kill(running);
      await this.#end(execId, KILL_MS);
      const text = output.text();
      const exceeded = `Health check exceeded timeout (${goDuration(timeoutMs)})`;
      return result(-1, text === '' ? exceeded : `${exceeded}: ${text}`);
    } catch (error) {
      return result(-1, messageOf(error));
    }
  }

  /** The time that this takes is not the probe's. */
  async #startExec(
    running: Running,
  ): Promise<{ readonly execId: string; readonly output: ReturnType<typeof collectOutput> }> {
    const { container } = this.#owner;
    const { id, spec } = container;
    const plan = healthPlan(container);
    if (plan === null) throw new Error('no health check');
    const probe = {
      tty: false,
      attachStdin: false,
      attachStdout: true,
      attachStderr: true,
      detachKeys: '',
      env: null,
      cmd: plan.command,
      privileged: false,
      user: spec.process.user,
      workingDir: spec.process.workingDir,
    };
    const execId = this.#execs.create(id, probe, PROBE_ID_PREFIX + newId().slice(PROBE_ID_PREFIX.length));
    const late = (): Error => new Error(`timed out starting health check for container ${id}`);
    const starting = this.#execs.start(execId, { stdin: false, stdout: true, stderr: true }, null).then((started) => {
      running.execId = execId;
      if (running.cancelled) this.#kill(running); // Called off, or given up, while it was starting.
      return started;
    });
    try {
      const { stream } = await withDeadline(this.#context.clock, PROBE_START_MS, starting, late);
      return { execId, output: collectOutput(stream, OUTPUT_BYTES_MAX) };
    } catch (error) {
      void starting.then(
        () => this.#kill(running),
        () => {},
      );
      throw error;
    }
  }

  /** null: not within `ms`. */
  async #end(execId: string, ms: number): Promise<number | null> {
    const late = new Error('late');
    try {
      return await withDeadline(this.#context.clock, ms, this.#execs.ended(execId), () => late);
    } catch (error) {
      if (error === late) return null;
      throw error;
    }
  }

  #kill(running: Running): void {
    if (running.execId === null) return;
    const { runtime, logger } = this.#context;
    const { id } = this.#owner.container;
    void runtime.signalExec(id, running.execId, SIGKILL).catch((error: unknown) => {
      logger.warn({ container: id, error: messageOf(error) }, 'a health check could not be killed');
    });
  }
}
