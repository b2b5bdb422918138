/**
 * The supervisor: finds a container's keeper, hands it requests and what the runtime reports, and answers reads from
 * the latest snapshots without waiting for anything. Recovery at boot and the daemon's end are here too.
 */
import type { Duplex } from 'node:stream';

import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Cause, Container } from '../lifecycle/container.ts';
import type { Answer, Finding, Request, StopOptions, Ticket } from '../lifecycle/event.ts';
import { SIGKILL, countsAsRunning, isLive, isWaiting, lastExit } from '../lifecycle/state.ts';
import { storyOfCreation } from '../lifecycle/story.ts';
import { transition } from '../lifecycle/transition.ts';
import * as words from '../lifecycle/words.ts';
import type { RuntimeEvent, StreamSelection } from '../runtime/port.ts';
import { publishOf, recordOf, type Context, type SupervisorOptions } from './context.ts';
import { Execs } from './execs.ts';
import { Keeper, type KeeperHost } from './keeper.ts';
import type { Exec, ExecConfig, StartedExec, Supervisor } from './port.ts';
import { isProbeId } from './probe.ts';
import { findingOf } from './processes.ts';
import type { WaitCondition, WaitResult } from './waits.ts';

export type { SupervisorOptions } from './context.ts';

/** Soft writes are synced this soon, many at once. */
const SYNC_MS = 250;
/** Containers that the runtime is asked about at the same time at boot. */
const RECOVER_AT_ONCE = 16;

type Asked<Kind extends Request['kind']> = Omit<Extract<Request, { kind: Kind }>, 'request'>;

export function openSupervisor(options: SupervisorOptions): Supervisor {
  return new ContainerSupervisor({
    stuck: async (pid) => `process ${pid} does not go away`,
    transition,
    history: { append: () => {}, close: () => {} },
    ...options,
  });
}

class ContainerSupervisor implements Supervisor {
  readonly #context: Context;
  readonly #execs: Execs;
  readonly #keepers = new Map<string, Keeper>();
  readonly #host: KeeperHost;
  #ticket: Ticket = 0;
  #unsynced: Keeper | null = null;
  #syncTimer: Disposable | null = null;
  #closed = false;
  /** Reports of the runtime while recover() asks it what is. */
  #heldBack: RuntimeEvent[] | null = null;

  constructor(context: Context) {
    this.#context = context;
    this.#execs = new Execs(context, (id) => this.get(id));
    this.#host = {
      context,
      execs: this.#execs,
      forget: (keeper) => this.#keepers.delete(keeper.container.id),
      savedSoftly: (keeper) => this.#syncSoon(keeper),
    };
    context.runtime.onEvent = (event) => this.#onRuntimeEvent(event);
  }

  get(id: string): Container | undefined {
    return this.#keepers.get(id)?.container;
  }

  list(): readonly Container[] {
    return Array.from(this.#keepers.values(), ({ container }) => container);
  }

  async add(container: Container): Promise<void> {
    this.#refuseClosed();
    if (this.#keepers.has(container.id)) throw new Error(`container ${container.id} is there already`);
    const { records, history, clock } = this.#context;
    let tell = (): void => {};
    const also = (): void => {
      history.append(container.id, storyOfCreation(container), clock.wallNs());
      tell = recordOf(this.#context, container, 'create', {});
    };
    records.put(container.id, container, { durable: true, also });
    this.#keepers.set(container.id, new Keeper(this.#host, container));
    tell();
  }

  async start(id: string, cause: Cause): Promise<'started' | 'already-running'> {
    return (await this.#ask<'start-requested'>(id, { kind: 'start-requested', cause })) as
      | 'started'
      | 'already-running';
  }

  async stop(id: string, { signal, timeoutS }: StopOptions, cause: Cause): Promise<'stopped' | 'already-stopped'> {
    const answer = await this.#ask<'stop-requested'>(id, { kind: 'stop-requested', signal, timeoutS, cause });
    return answer as 'stopped' | 'already-stopped';
  }

  async restart(id: string, { signal, timeoutS }: StopOptions, cause: Cause): Promise<void> {
    await this.#ask<'restart-requested'>(id, { kind: 'restart-requested', signal, timeoutS, cause });
  }

  async kill(id: string, signal: number, cause: Cause): Promise<void> {
    await this.#ask<'kill-requested'>(id, { kind: 'kill-requested', signal, cause });
  }

  async pause(id: string, cause: Cause): Promise<void> {
    await this.#ask<'pause-requested'>(id, { kind: 'pause-requested', cause });
  }

  async unpause(id: string, cause: Cause): Promise<void> {
    await this.#ask<'unpause-requested'>(id, { kind: 'unpause-requested', cause });
  }

  async remove(id: string, options: Parameters<Supervisor['remove']>[1], cause: Cause): Promise<void> {
    const { force, volumes, asked = id } = options;
    await this.#ask<'remove-requested'>(id, { kind: 'remove-requested', force, volumes, asked, cause });
  }

  async rename(id: string, name: string, cause: Cause): Promise<void> {
    await this.#ask<'rename-requested'>(id, { kind: 'rename-requested', name, cause });
  }

  async update(id: string, change: Parameters<Supervisor['update']>[1], cause: Cause): Promise<void> {
    await this.#ask<'update-requested'>(id, { kind: 'update-requested', change, cause });
  }

  async amend(id: string, change: Parameters<Supervisor['amend']>[1], cause: Cause): Promise<void> {
    await this.#ask<'amend-requested'>(id, { kind: 'amend-requested', change, cause });
  }

  async wait(id: string, condition: WaitCondition, signal: AbortSignal): Promise<WaitResult> {
    const keeper = this.#keeper(id);
    const { container, waits } = keeper;
    const atRest = !countsAsRunning(container) && container.state.at !== 'starting';
    if (condition === 'not-running' && atRest) {
      const exit = lastExit(container);
      await keeper.released();
      return { exitCode: exit?.code ?? 0, error: exit?.error ?? '' };
    }
    return await waits.add(condition, signal);
  }

  runEnded(id: string): AbortSignal {
    return this.#keepers.get(id)?.waits.runEnded() ?? AbortSignal.abort();
  }

  async resize(id: string, rows: number, columns: number): Promise<void> {
    const container = this.#live(id);
    await this.#context.runtime.resize(id, rows, columns);
    publishOf(this.#context, container, 'resize', { height: String(rows), width: String(columns) });
  }

  async attach(
    id: string,
    streams: StreamSelection,
    signal: AbortSignal,
  ): Promise<{ readonly stream: Promise<Duplex | null> }> {
    this.#refuseClosed();
    const keeper = this.#keeper(id);
    const { container } = keeper;
    if (container.state.at === 'paused') throw toError(words.pausedBeforeAttach(id));
    if (isWaiting(container)) throw toError(words.restarting(id));
    if (!isLive(container.state)) return { stream: keeper.attachments.add(streams, signal) };
    try {
      const stream = await this.#context.runtime.attach(id, streams);
      return { stream: Promise.resolve(stream) };
    } catch (error) {
      if (isLive(keeper.container.state)) throw error;
      return { stream: Promise.resolve(null) }; // It ended in between: there is nothing to see.
    }
  }

  async execCreate(id: string, config: ExecConfig): Promise<string> {
    this.#refuseClosed();
    this.#keeper(id);
    return this.#execs.create(id, config);
  }

  exec(execId: string): Exec | undefined {
    return this.#execs.get(execId);
  }

  execs(id: string): readonly Exec[] {
    return this.#execs.of(id);
  }

  async execStart(execId: string, options: Parameters<Supervisor['execStart']>[1]): Promise<StartedExec> {
    this.#refuseClosed();
    const config = this.#execs.get(execId)?.config;
    const streams =
      options.detach || config === undefined
        ? null
        : { stdin: config.attachStdin, stdout: config.attachStdout, stderr: config.attachStderr };
    const { stream } = await this.#execs.start(execId, streams, options.consoleSize);
    return { stream, ended: this.#execs.ended(execId) };
  }

  async execResize(execId: string, rows: number, columns: number): Promise<void> {
    const { containerId } = await this.#execs.resizable(execId);
    await this.#context.runtime.resizeExec(containerId, execId, rows, columns);
  }

  async processes(id: string): Promise<number[]> {
    this.#live(id);
    return await this.#context.runtime.processes(id);
  }

  /**
   * First everything is asked and what runs is made known to the tables of addresses and ports; only then is
   * decided, so that no new start can take what a running container has.
   */
  async recover(): Promise<void> {
    for (const [id, container] of this.#context.records.load()) {
      this.#keepers.set(id, new Keeper(this.#host, container));
    }
    const found: { readonly keeper: Keeper; readonly finding: Finding }[] = [];
    const left = [...this.#keepers.values()];
    const ask = async (): Promise<void> => {
      for (let keeper; (keeper = left.shift()) !== undefined;) {
        found.push({ keeper, finding: await this.#find(keeper.container) });
      }
    };
    // What is reported meanwhile comes after what was found, and no start gets ahead of what runs.
    const early: RuntimeEvent[] = [];
    this.#heldBack = early;
    await Promise.all(Array.from({ length: RECOVER_AT_ONCE }, ask));
    for (const { keeper, finding } of found) {
      keeper.send({ kind: 'found', run: keeper.container.run, boot: true, finding });
    }
    this.#heldBack = null;
    for (const event of early) this.#onRuntimeEvent(event);
    await Promise.all(Array.from(this.#keepers.values(), (keeper) => keeper.settled()));
  }

  async shutdown({
    stopContainers,
    timeoutS,
  }: {
    readonly stopContainers: boolean;
    readonly timeoutS: number;
  }): Promise<void> {
    if (!stopContainers) return;
    for (const keeper of this.#keepers.values()) keeper.holdRestarts();
    const cause: Cause = { actor: 'daemon', detail: 'the daemon shuts down' };
    const stopping = Array.from(this.#keepers.keys(), (id) =>
      this.#ask<'shutdown-requested'>(id, { kind: 'shutdown-requested', timeoutS, cause }).catch((error: unknown) => {
        this.#context.logger.warn(
          { container: id, error: messageOf(error) },
          'a container could not be stopped at shutdown',
        );
      }),
    );
    await Promise.all(stopping);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const keeper of this.#keepers.values()) keeper.close();
    this.#execs.close();
    this.#sync();
  }

  async #find(container: Container): Promise<Finding> {
    const { runtime, resources, logger } = this.#context;
    const { id, run, state } = container;
    if (state.at !== 'starting' && !isLive(state)) return { at: 'none' };
    try {
      const recovered = await runtime.recover(id, run);
      if (recovered.at === 'running') {
        await resources.adopt(container);
        this.#execs.adopt(id, recovered);
        // Nobody waits for the probes of a daemon that was killed.
        const probes = recovered.execs.filter(({ execId }) => isProbeId(execId));
        await Promise.all(probes.map(({ execId }) => runtime.signalExec(id, execId, SIGKILL)));
      }
      return findingOf(recovered);
    } catch (error) {
      logger.error({ container: id, error: messageOf(error) }, 'the runtime could not say what became of a container');
      return { at: 'lost', because: 'shim-died' };
    }
  }

  #onRuntimeEvent(event: RuntimeEvent): void {
    if (this.#closed) return;
    if (this.#heldBack !== null) {
      this.#heldBack.push(event);
      return;
    }
    if (event.kind === 'exec-exited') return this.#execs.exited(event.id, event.execId, event.exitCode);
    this.#keepers.get(event.id)?.send(event);
  }

  #ask<Kind extends Request['kind']>(id: string, asked: Asked<Kind>): Promise<Answer> {
    this.#refuseClosed();
    const request = ++this.#ticket;
    return this.#keeper(id).request(request, { ...asked, request } as unknown as Request);
  }

  #keeper(id: string): Keeper {
    const keeper = this.#keepers.get(id);
    if (keeper === undefined) throw toError(words.gone(id));
    return keeper;
  }

  #live(id: string): Container {
    this.#refuseClosed();
    const { container } = this.#keeper(id);
    if (isWaiting(container)) throw toError(words.restarting(id));
    if (!isLive(container.state)) throw toError(words.notRunning(id));
    return container;
  }

  #refuseClosed(): void {
    if (this.#closed) throw new EngineError('DAEMON_SHUTTING_DOWN', 'the daemon is shutting down');
  }

  /** One synced write makes all writes before it durable (store/ keeps them in one log). */
  #syncSoon(keeper: Keeper): void {
    this.#unsynced = keeper;
    if (this.#closed) return;
    this.#syncTimer ??= this.#context.clock.setTimer(SYNC_MS, () => this.#sync());
  }

  #sync(): void {
    this.#syncTimer?.[Symbol.dispose]();
    this.#syncTimer = null;
    const keeper = this.#unsynced;
    this.#unsynced = null;
    if (keeper === null || !this.#keepers.has(keeper.container.id)) return;
    const { container } = keeper;
    try {
      this.#context.records.put(container.id, container, { durable: true });
    } catch (error) {
      this.#context.logger.error(
        { container: container.id, error: messageOf(error) },
        'a container could not be saved',
      );
      this.#syncSoon(keeper);
    }
  }
}

function toError({ code, message }: words.Refusal): EngineError {
  return new EngineError(code, message);
}
