/**
 * One simulated world: the real supervisor and the real transition over the simulated host, all in virtual time and
 * driven by one seed. Requests come in random order and overlap; the daemon is killed between any two calls that it
 * makes, and started again; at the end everything goes quiet and must come to rest.
 */
import type { Clock } from '../src/core/clock.ts';
import { EngineError, messageOf } from '../src/core/engine-error.ts';
import { silent } from '../src/core/log.ts';
import type { HealthcheckSpec } from '../src/core/container-spec.ts';
import type { Cause, Container } from '../src/lifecycle/container.ts';
import type { Event, Step } from '../src/lifecycle/event.ts';
import { countsAsRunning } from '../src/lifecycle/state.ts';
import type { Supervisor } from '../src/supervisor/port.ts';
import type { StoryEntry } from '../src/lifecycle/story.ts';
import { openSupervisor } from '../src/supervisor/supervisor.ts';
import { Timeline } from './clock.ts';
import { Kernel } from './kernel.ts';
import { Oracle } from './oracle.ts';
import { Random } from './random.ts';
import { SimResources } from './resources.ts';
import { SimRuntime } from './runtime.ts';
import { plainContainer } from './spec.ts';
import { Disk } from './store.ts';

/** A bug that is planted, to see that it is caught. */
export interface Plant {
  readonly name: string;
  readonly transition?: (container: Container, event: Event, nowNs: bigint) => Step;
  /** Writes that never reach the disk. */
  readonly dropsWrite?: (record: Container) => boolean;
  /** recover() does not tell of execs. */
  readonly hidesExecs?: boolean;
  readonly hidesStory?: (entry: StoryEntry) => boolean;
}

export interface WorldResult {
  readonly transitions: number;
  readonly crashes: number;
  readonly requests: number;
  readonly virtualMs: number;
}

const CAUSE: Cause = { actor: 'api', detail: 'the simulation' };
/** How long requests and mishaps go on. */
const BUSY_MS = 40_000;
/** How long everything may then take to come to rest: a stop timeout, a stuck process, the longest delay. */
const REST_MS = 150_000;
/** Microtasks that are let run before the clock moves far; more than the longest chain of the supervisor. */
const SETTLE_HOPS = 24;
const HEALTHCHECK: HealthcheckSpec = {
  test: ['CMD', 'true'],
  intervalNs: 1_000_000_000,
  timeoutNs: 300_000_000,
  startPeriodNs: 0,
  startIntervalNs: 0,
  retries: 2,
};

/** Awaiting it lets one round of microtasks run. */
const settled = Promise.resolve();

interface Generation {
  dead: boolean;
  ready: boolean;
  supervisor: Supervisor;
  /** Calls into its ports until it is killed; null: it lives on. */
  callsLeft: number | null;
}

export class World {
  readonly #random: Random;
  readonly #timeline = new Timeline();
  readonly #kernel: Kernel;
  readonly #oracle: Oracle;
  readonly #disk = new Disk<Container>();
  readonly #files = new Set<string>();
  readonly #inFlight = new Map<string, Promise<void>>();
  readonly #plant: Plant | null;
  readonly #ids: string[] = [];
  readonly #open = new Set<string>();
  #generation: Generation;
  #crashes = 0;
  #requests = 0;
  #transitions = 0;
  #power = false;

  readonly #trace: ((line: string) => void) | null;

  /** `trace` is told everything, to understand one seed. */
  constructor(seed: number, plant: Plant | null, trace: ((line: string) => void) | null = null) {
    this.#trace = trace;
    this.#random = new Random(seed);
    this.#plant = plant;
    this.#kernel = new Kernel(this.#timeline, this.#random);
    this.#oracle = new Oracle(this.#kernel);
    this.#oracle.tellsStory = plant?.dropsWrite === undefined;
    this.#generation = this.#open_();
  }

  /** @throws {Violation} */
  async run(): Promise<WorldResult> {
    this.#generation.ready = true;
    const random = this.#random;
    await this.#create();
    const requests = 8 + random.below(20);
    for (let n = 0; n < requests; n++) this.#timeline.setTimer(random.below(BUSY_MS), () => this.#request());
    for (let n = random.below(6); n > 0; n--) this.#timeline.setTimer(random.below(BUSY_MS), () => this.#mishap());
    for (let n = random.below(4); n > 0; n--) this.#timeline.setTimer(random.below(BUSY_MS), () => this.#armCrash());
    await this.#runUntil(BUSY_MS);
    this.#quieten();
    await this.#runUntil(BUSY_MS + REST_MS);
    this.#oracle.atRest(this.#generation.supervisor.list());
    this.#checkAnswered();
    await this.#removeAll();
    return {
      transitions: this.#transitions,
      crashes: this.#crashes,
      requests: this.#requests,
      virtualMs: this.#timeline.nowMs(),
    };
  }

  async #create(): Promise<void> {
    const random = this.#random;
    for (let n = 1 + random.below(2); n > 0; n--) {
      const id = `c${n}`;
      const name = random.pick(['no', 'always', 'unless-stopped', 'on-failure'] as const);
      const container = plainContainer(id, {
        process: {
          healthcheck: random.oneIn(4) ? HEALTHCHECK : null,
          stopTimeoutS: random.pick([null, 0, 1, 3]),
        },
        host: {
          restartPolicy: { name, maximumRetryCount: name === 'on-failure' ? random.below(4) : 0 },
          autoRemove: name === 'no' && random.oneIn(3),
        },
      });
      this.#ids.push(id);
      this.#files.add(id);
      this.#oracle.want(id, 'down', 0);
      await this.#generation.supervisor.add(container);
    }
  }

  async #runUntil(endMs: number): Promise<void> {
    for (let steps = 0; ; steps++) {
      if (steps > 200_000) this.#kernel.violate('rest', 'the world does not come to rest');
      const untilMs = this.#timeline.untilNext();
      // Time hardly passes while code runs: a long jump comes only when all has been done that could be.
      const hops = untilMs !== null && untilMs < 2 ? this.#random.below(4) : SETTLE_HOPS;
      for (let n = 0; n < hops; n++) await settled;
      if (this.#kernel.violation !== null) throw this.#kernel.violation;
      const next = this.#timeline.untilNext();
      if (next === null || this.#timeline.nowMs() + next > endMs) return;
      this.#timeline.step();
    }
  }

  /** Opens a daemon over what is on the disk and on the host. */
  #open_(): Generation {
    const generation: Generation = {
      dead: false,
      ready: false,
      callsLeft: null,
      supervisor: null as unknown as Supervisor,
    };
    const alive = (): boolean => this.#countCall(generation);
    const oracle = this.#oracle;
    const runtime = new SimRuntime(
      this.#kernel,
      alive,
      {
        onStart: (id, run) => oracle.onStart(id, run),
        onRelease: (id, live) => {
          const state = this.#generation.supervisor.get(id)?.state;
          const own = live.find(({ pid, shim }) => shim && state !== undefined && 'pid' in state && state.pid === pid);
          if (own !== undefined) this.#kernel.violate('release', `${id} is cleaned away while pid ${own.pid} runs`);
        },
      },
      this.#inFlight,
      this.#plant?.hidesExecs === true,
    );
    const plant = this.#plant;
    const collection = this.#disk.collection(alive, (_key, before, after) => {
      this.#transitions += 1;
      this.#note(`commit ${JSON.stringify(after?.state ?? 'gone')} run ${after?.run} wanted ${after?.intent.wanted}`);
      oracle.onCommit(before, after);
    });
    const clock: Clock = {
      nowMs: () => this.#timeline.nowMs(),
      wallNs: () => this.#timeline.wallNs(),
      setTimer: (delayMs, run) =>
        this.#timeline.setTimer(delayMs, () => {
          if (alive()) run();
        }),
    };
    generation.supervisor = openSupervisor({
      clock,
      logger: {
        ...silent,
        error: (fields, message) => {
          if (message.startsWith('bug'))
            this.#kernel.violate('bug', `${message} ${messageOf((fields as { error: unknown }).error)}`);
        },
      },
      records:
        plant?.dropsWrite === undefined
          ? collection
          : {
              ...collection,
              put: (key, record, options) =>
                plant.dropsWrite?.(record) === true ? options?.also?.() : collection.put(key, record, options),
            },
      runtime,
      resources: new SimResources(this.#kernel, alive, this.#files),
      events: {
        publish: ({ action, actor }) => {
          if (!alive()) return;
          this.#note(`event ${action} ${JSON.stringify(actor.attributes)}`);
          oracle.onEvent(generation.supervisor.get(actor.id), action, actor.id);
        },
      },
      history: {
        append: (id, entry) => {
          const told = entry as StoryEntry;
          this.#note(`told ${told.what.kind} of run ${told.run}`);
          if (!generation.dead && plant?.dropsWrite === undefined && plant?.hidesStory?.(told) !== true)
            oracle.onStory(id, told);
        },
        close: () => {},
      },
      ...(plant?.transition !== undefined && { transition: plant.transition }),
    });
    return generation;
  }

  #countCall(generation: Generation): boolean {
    if (generation.dead) return false;
    if (generation.callsLeft === null) return true;
    generation.callsLeft -= 1;
    if (generation.callsLeft >= 0) return true;
    this.#die(generation);
    return false;
  }

  #armCrash(): void {
    const generation = this.#generation;
    if (generation.dead || this.#kernel.quiet) return;
    this.#power = this.#random.oneIn(4);
    generation.callsLeft = this.#random.below(12);
    this.#timeline.setTimer(1_000, () => this.#die(generation));
    if (this.#random.oneIn(2)) this.#request(); // So that there is something to be killed in.
  }

  #die(generation: Generation): void {
    if (generation.dead) return;
    generation.dead = true;
    this.#crashes += 1;
    this.#note(`the daemon dies${this.#power ? ', the power too' : ''}`);
    this.#open.clear();
    this.#kernel.listener = null;
    if (this.#power) {
      this.#kernel.reboot();
      this.#inFlight.clear();
      this.#disk.losePower((below) => this.#random.below(below));
    }
    this.#oracle.onCrash(this.#power);
    this.#timeline.setTimer(this.#random.pick([0, 10, 3_000, 15_000]), () => this.#boot());
  }

  #boot(): void {
    this.#note('a daemon starts');
    this.#oracle.onBoot(
      this.#disk
        .collection(
          () => false,
          () => {},
        )
        .load(),
      this.#power,
    );
    this.#power = false;
    const generation = this.#open_();
    this.#generation = generation;
    this.#oracle.booting = true;
    void generation.supervisor.recover().then(() => {
      generation.ready = true;
      if (!generation.dead) this.#oracle.booting = false;
    });
  }

  #note(line: string): void {
    this.#trace?.(`${this.#timeline.nowMs().toFixed(1).padStart(9)} ${line}`);
  }

  #mishap(): void {
    const { quiet } = this.#kernel;
    const process = this.#kernel.live(this.#random.pick(this.#ids))[0];
    if (quiet || process === undefined) return;
    if (this.#random.oneIn(3)) this.#kernel.killShim(process);
    else this.#kernel.oom(process);
    this.#note(`mishap of ${process.id} run ${process.run}: shim ${process.shim}`);
  }

  #request(): void {
    const { ready, dead, supervisor } = this.#generation;
    if (!ready || dead) return;
    const id = this.#random.pick(this.#ids);
    const container = supervisor.get(id);
    if (container === undefined) return;
    const { run } = container;
    const random = this.#random;
    const was = container.intent.wanted === 'remove' ? 'leaving' : container.state.at;
    const up = countsAsRunning(container) || was === 'starting';
    const leaving = was === 'leaving' || was === 'removing' || was === 'dead';
    const stop = { signal: null, timeoutS: random.pick([null, 0, 1, 2]) };
    const oracle = this.#oracle;
    switch (random.below(12)) {
      case 0:
      case 1:
      case 2:
        if (was === 'created' || was === 'exited') oracle.want(id, 'up', run);
        return this.#track(id, 'start', supervisor.start(id, CAUSE));
      case 3:
      case 4:
        if (up && !leaving) oracle.want(id, 'down', run);
        return this.#track(id, 'stop', supervisor.stop(id, stop, CAUSE));
      case 5:
      case 6:
        if (!leaving) oracle.want(id, 'up', run);
        return this.#track(id, 'restart', supervisor.restart(id, stop, CAUSE));
      case 7: {
        const signal = random.pick([9, 15, 1]);
        if (up && !leaving && signal !== 1) oracle.want(id, 'down', run, signal === 15 && was !== 'restarting');
        return this.#track(id, `kill ${signal}`, supervisor.kill(id, signal, CAUSE));
      }
      case 8:
        return this.#track(id, 'pause', supervisor.pause(id, CAUSE));
      case 9:
        return this.#track(id, 'unpause', supervisor.unpause(id, CAUSE));
      case 10: {
        const force = !random.oneIn(3);
        if (force || !up) oracle.want(id, 'gone', run);
        return this.#track(id, 'remove', supervisor.remove(id, { force, volumes: false }, CAUSE));
      }
      default:
        return this.#track(id, 'wait', supervisor.wait(id, 'next-exit', new AbortController().signal));
    }
  }

  #track(id: string, kind: string, answer: Promise<unknown>): void {
    const generation = this.#generation;
    const key = `${++this.#requests} ${kind} of ${id}`;
    this.#note(`request ${key}`);
    if (kind !== 'wait' && !generation.dead) this.#open.add(key);
    answer.then(
      () => {
        this.#open.delete(key);
        this.#note(`answered ${key}`);
        if (generation.dead) return;
        if (kind === 'remove') this.#checkGone(id);
      },
      (error: unknown) => {
        this.#open.delete(key);
        this.#note(`refused ${key}: ${messageOf(error)}`);
        if (!(error instanceof EngineError)) this.#kernel.violate('answers', `${kind}: ${messageOf(error)}`);
      },
    );
  }

  /** Rule 4. */
  #checkGone(id: string): void {
    const { held, processes } = this.#kernel;
    if (processes.has(id) || held.has(id) || this.#files.has(id))
      this.#kernel.violate('leak', `${id} is removed, but something is left`);
    if (this.#disk.get(id) !== undefined) this.#kernel.violate('leak', `${id} is removed, but its record is there`);
  }

  #quieten(): void {
    this.#kernel.quiet = true;
    this.#generation.callsLeft = null;
  }

  /** Rule 7. */
  #checkAnswered(): void {
    if (this.#kernel.violation !== null) throw this.#kernel.violation;
    for (const key of this.#open) this.#kernel.violate('answers', `never answered: ${key}`);
    if (this.#kernel.violation !== null) throw this.#kernel.violation;
  }

  async #removeAll(): Promise<void> {
    const { supervisor } = this.#generation;
    for (const { id, run } of supervisor.list()) {
      this.#oracle.want(id, 'gone', run);
      this.#track(id, 'remove', supervisor.remove(id, { force: true, volumes: true }, CAUSE));
    }
    await this.#runUntil(this.#timeline.nowMs() + REST_MS);
    this.#checkAnswered();
    for (const id of this.#ids) this.#checkGone(id);
    if (this.#kernel.violation !== null) throw this.#kernel.violation;
    await supervisor[Symbol.asyncDispose]();
  }
}
