/**
 * Further processes of containers (docker exec), and those of health checks. They live in memory only.
 * Source: moby daemon/exec.go, monitor.go (v28), and the events that dockerd 20.10 was seen to publish.
 */
import { EngineError, messageOf } from '../core/engine-error.ts';
import { newId } from '../core/id.ts';
import type { Container } from '../lifecycle/container.ts';
import { isLive, isWaiting } from '../lifecycle/state.ts';
import * as words from '../lifecycle/words.ts';
import { RuntimeStartError, type ExecStarted, type Recovered, type StreamSelection } from '../runtime/port.ts';
import { publishOf, type Context } from './context.ts';
import { withDeadline } from './deadline.ts';
import type { Exec, ExecConfig } from './port.ts';

/** moby: how long a resize waits for the start. */
const READY_MS = 10_000;
/** How long one is known after its end: 5 to 10 minutes, as in moby (execCommandGC). Health checks are many. */
const KEPT_MS = 600_000;
const SWEEP_MS = 300_000;
/** Of one container, ended ones included; the oldest that ended go first. */
const EXECS_MAX = 5_000;
/** moby: "default to 126 (EACCES) if we fail to start the exec without setting an exit code". */
const EXIT_CODE_FAILED = 126;
const EXIT_CODE_KILLED = 137;

interface Entry {
  exec: Exec;
  /** It has a process. */
  readonly ready: PromiseWithResolvers<void>;
  readonly ended: PromiseWithResolvers<number>;
  endedAtMs: number;
}

export class Execs {
  readonly #context: Context;
  readonly #container: (id: string) => Container | undefined;
  readonly #entries = new Map<string, Entry>();
  readonly #byContainer = new Map<string, Set<Entry>>();
  #sweep: Disposable | null = null;

  constructor(context: Context, container: (id: string) => Container | undefined) {
    this.#context = context;
    this.#container = container;
  }

  get(execId: string): Exec | undefined {
    return this.#entries.get(execId)?.exec;
  }

  of(containerId: string): readonly Exec[] {
    return [...(this.#byContainer.get(containerId) ?? [])].map(({ exec }) => exec);
  }

  create(containerId: string, config: ExecConfig, id = newId()): string {
    const container = this.#running(containerId);
    this.#enter({ id, containerId, config, state: { at: 'created' } });
    publishOf(this.#context, container, `exec_create: ${commandText(config)}`, { execID: id });
    return id;
  }

  /** What ran, or ended, while there was no daemon: known by what create() was given. */
  adopt(containerId: string, found: Pick<Extract<Recovered, { at: 'running' }>, 'execs' | 'endedExecs'>): void {
    for (const { execId: id, pid, record } of found.execs) {
      const config = parseRecord(record);
      if (config !== null) this.#enter({ id, containerId, config, state: { at: 'running', pid } });
    }
    for (const { execId: id, exitCode, record } of found.endedExecs) {
      const config = parseRecord(record);
      if (config === null) continue;
      const entry = this.#enter({ id, containerId, config, state: { at: 'running', pid: 0 } });
      this.#end(entry, exitCode);
      this.#publishDie(entry, exitCode);
    }
  }

  /** `streams` null: detached. */
  async start(
    execId: string,
    streams: StreamSelection | null,
    consoleSize: readonly [number, number] | null,
  ): Promise<ExecStarted> {
    const entry = this.#entries.get(execId);
    if (entry === undefined) throw notFound(execId);
    const { config, containerId, state } = entry.exec;
    const container = this.#running(containerId);
    if (state.at === 'exited') throw new EngineError('EXEC_CONFLICT', `exec command ${execId} has already run`);
    if (state.at === 'running') throw new EngineError('EXEC_CONFLICT', `exec command ${execId} is already running`);
    entry.exec = { ...entry.exec, state: { at: 'running', pid: 0 } };
    publishOf(this.#context, container, `exec_start: ${commandText(config)}`, { execID: execId });
    try {
      const launch = await this.#context.resources.execLaunch(container, execId, config);
      const size = consoleSize ?? config.consoleSize ?? null;
      const sized = size === null ? launch : { ...launch, consoleSize: size };
      const started = await this.#context.runtime.exec(containerId, sized, streams);
      const now = entry.exec.state; // Its end may have been reported meanwhile.
      entry.exec = {
        ...entry.exec,
        state: now.at === 'exited' ? { ...now, pid: started.pid } : { at: 'running', pid: started.pid },
      };
      entry.ready.resolve();
      return started;
    } catch (error) {
      const exitCode = error instanceof RuntimeStartError && error.exitCode !== 128 ? error.exitCode : EXIT_CODE_FAILED;
      this.#end(entry, exitCode);
      throw asEngineError(error);
    }
  }

  /** The runtime says that it ended. */
  exited(containerId: string, execId: string, exitCode: number): void {
    const entry = this.#entries.get(execId);
    if (entry === undefined || entry.exec.containerId !== containerId || entry.exec.state.at === 'exited') return;
    this.#end(entry, exitCode);
    this.#publishDie(entry, exitCode);
  }

  /** Resolves with the exit code of one that was started. */
  ended(execId: string): Promise<number> {
    const entry = this.#entries.get(execId);
    return entry === undefined ? Promise.resolve(EXIT_CODE_KILLED) : entry.ended.promise;
  }

  /** Clients resize as soon as their start is answered, or even before: as in moby it is waited for a while. */
  async resizable(execId: string): Promise<Exec> {
    const entry = this.#entries.get(execId);
    if (entry === undefined) throw notFound(execId);
    this.#running(entry.exec.containerId);
    const late = (): Error => new EngineError('RUNTIME_FAILED', 'timeout waiting for exec session ready');
    await withDeadline(this.#context.clock, READY_MS, Promise.race([entry.ready.promise, entry.ended.promise]), late);
    const { exec } = entry;
    if (exec.state.at !== 'running') throw new EngineError('EXEC_CONFLICT', `exec ${execId} is not running`);
    return exec;
  }

  /** The container's processes are gone: so are its execs; those that never started cannot any more. */
  endAll(container: Container): void {
    for (const entry of this.#byContainer.get(container.id) ?? []) {
      if (entry.exec.state.at === 'created') this.#drop(entry);
      if (entry.exec.state.at !== 'running') continue;
      this.#end(entry, EXIT_CODE_KILLED);
      this.#publishDie(entry, EXIT_CODE_KILLED);
    }
  }

  forget(containerId: string): void {
    for (const entry of this.#byContainer.get(containerId) ?? []) this.#drop(entry);
  }

  close(): void {
    this.#sweep?.[Symbol.dispose]();
    this.#sweep = null;
  }

  /** Wording and order of the checks as moby's getExecConfig(). */
  #running(containerId: string): Container {
    const container = this.#container(containerId);
    if (container === undefined) throw toError(words.gone(containerId));
    if (isWaiting(container)) throw toError(words.restarting(containerId));
    if (!isLive(container.state)) throw toError(words.notRunning(containerId));
    if (container.state.at === 'paused') throw toError(words.pausedBeforeExec(containerId));
    return container;
  }

  #enter(exec: Exec): Entry {
    const { id, containerId } = exec;
    const [ready, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<number>()];
    const entry: Entry = { exec, ready, ended, endedAtMs: Infinity };
    if (exec.state.at === 'running') ready.resolve();
    const siblings = this.#byContainer.get(containerId) ?? new Set();
    if (siblings.size >= EXECS_MAX) this.#evict(siblings);
    this.#byContainer.set(containerId, siblings.add(entry));
    this.#entries.set(id, entry);
    this.#sweepLater();
    return entry;
  }

  #end(entry: Entry, exitCode: number): void {
    const { state } = entry.exec;
    const pid = state.at === 'running' ? state.pid : 0;
    entry.exec = { ...entry.exec, state: { at: 'exited', exitCode, pid } };
    entry.endedAtMs = this.#context.clock.nowMs();
    entry.ended.resolve(exitCode);
  }

  #publishDie({ exec }: Entry, exitCode: number): void {
    const container = this.#container(exec.containerId);
    if (container === undefined) return;
    publishOf(this.#context, container, 'exec_die', { execID: exec.id, exitCode: String(exitCode) });
  }

  #drop(entry: Entry): void {
    const { id, containerId } = entry.exec;
    this.#entries.delete(id);
    const siblings = this.#byContainer.get(containerId);
    siblings?.delete(entry);
    if (siblings?.size === 0) this.#byContainer.delete(containerId);
    entry.ended.resolve(EXIT_CODE_KILLED);
  }

  #evict(siblings: Set<Entry>): void {
    for (const entry of siblings) {
      if (entry.exec.state.at === 'running') continue;
      return this.#drop(entry);
    }
    throw new EngineError('EXEC_CONFLICT', `the container has ${EXECS_MAX} exec commands running`);
  }

  #sweepLater(): void {
    this.#sweep ??= this.#context.clock.setTimer(SWEEP_MS, () => {
      this.#sweep = null;
      const oldest = this.#context.clock.nowMs() - KEPT_MS + SWEEP_MS;
      for (const entry of this.#entries.values()) if (entry.endedAtMs <= oldest) this.#drop(entry);
      if (this.#entries.size > 0) this.#sweepLater();
    });
  }
}

/** What execLaunch() noted. null: nothing was, or a daemon of another version did. */
function parseRecord(record: string | null): ExecConfig | null {
  try {
    const config = JSON.parse(record ?? 'null') as ExecConfig | null;
    return Array.isArray(config?.cmd) ? config : null;
  } catch {
    return null;
  }
}

/** With the space that moby leaves where there are no arguments. */
function commandText({ cmd }: ExecConfig): string {
  return `${cmd[0] ?? ''} ${cmd.slice(1).join(' ')}`;
}

function notFound(execId: string): EngineError {
  return new EngineError('EXEC_NOT_FOUND', `No such exec instance: ${execId}`);
}

function toError({ code, message }: words.Refusal): EngineError {
  return new EngineError(code, message);
}

function asEngineError(error: unknown): EngineError {
  if (error instanceof EngineError) return error;
  const invalid = error instanceof RuntimeStartError && error.exitCode !== 128;
  const code = invalid ? 'RUNTIME_INVALID_COMMAND' : 'RUNTIME_FAILED';
  return new EngineError(code, messageOf(error), { cause: error });
}
