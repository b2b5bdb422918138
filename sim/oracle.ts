/**
 * What must hold, said a second time and in other words than lifecycle/ says it: checked at each commit of a record,
 * at each event, at each start and at rest. DESIGN.md section 4 has the rules by number.
 */
import { ZERO_TIME, parseTime } from '../src/core/clock.ts';
import type { Container, ExitStatus, State } from '../src/lifecycle/container.ts';
import type { StoryEntry } from '../src/lifecycle/story.ts';
import type { Kernel, Process } from './kernel.ts';

/** What the user asked for last, as the driver of the world knows it. */
export interface Wanted {
  is: 'up' | 'down' | 'gone';
  /** The run at that time: no later one may begin while it is down. */
  run: number;
  /** Asked for by a stop signal that may be ignored. */
  softly: boolean;
  /** The record says so too; until then a crash may undo it. */
  firm: boolean;
}

type At = State['at'];

const EDGES: Readonly<Record<At, readonly At[]>> = {
  created: ['starting', 'removing'],
  starting: ['starting', 'running', 'stopping', 'exited', 'restarting', 'removing'],
  running: ['paused', 'stopping', 'exited', 'restarting', 'removing'],
  paused: ['running', 'stopping', 'exited', 'restarting', 'removing'],
  stopping: ['stopping', 'exited', 'restarting', 'removing', 'starting'],
  restarting: ['starting', 'exited', 'removing'],
  exited: ['starting', 'removing'],
  removing: ['dead'],
  dead: ['removing'],
};

const LIVE: readonly At[] = ['running', 'paused', 'stopping'];

export class Oracle {
  readonly wanted = new Map<string, Wanted>();
  readonly #kernel: Kernel;
  readonly #dies = new Set<string>();
  readonly #last = new Map<string, string>();
  readonly #up = new Map<string, boolean>();
  readonly #destroyed = new Set<string>();
  /** Of the last commit. */
  readonly #untold = new Set<string>();
  /** The restart that waits: how long it must, and since when. */
  readonly #delays = new Map<string, { readonly ms: number; readonly sinceMs: number | null }>();
  /** The daemon is reading what is: starts by the boot rules are right now. */
  booting = false;
  /** Where writes are dropped on purpose, what is told does not go with what is kept. */
  tellsStory = true;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  want(id: string, is: Wanted['is'], run: number, softly = false): void {
    this.wanted.set(id, { is, run, softly, firm: false });
  }

  onCommit(before: Container | undefined, after: Container | undefined): void {
    this.#checkTold();
    if (after === undefined) return;
    const wanted = this.wanted.get(after.id);
    if (wanted !== undefined && wanted.is === wantedBy(after)) wanted.firm = true;
    if (before === undefined) return;
    const from = before.state.at;
    const to = after.state.at;
    if (from !== to && !EDGES[from].includes(to)) this.#violate('edges', `${from} -> ${to}`);
    const begun = after.run - before.run;
    if (begun < 0 || begun > 1 || (begun === 1 && to !== 'starting'))
      this.#violate('runs', `run ${before.run} -> ${after.run} at ${to}`);
    if (begun === 1) this.#checkBegin(before, after);
    const ended = endOf(before, after);
    if (ended !== null) this.#checkEnd(before, after, ended);
    // What the journal of causes must say along with this record.
    const has = before.state.at === 'starting' && (LIVE.includes(to) || ended?.error === '');
    if (!this.tellsStory) return;
    if (has) this.#untold.add(`started ${after.id} ${before.run}`);
    if (ended !== null) this.#untold.add(`${ended.error === '' ? 'ended' : 'start-failed'} ${after.id} ${before.run}`);
  }

  onStory(id: string, { what: { kind }, run }: StoryEntry): void {
    if (kind !== 'started' && kind !== 'ended' && kind !== 'start-failed') return;
    if (!this.#untold.delete(`${kind} ${id} ${run}`))
      this.#violate('story', `"${kind}" of ${id} run ${run}, which was not`);
  }

  #checkTold(): void {
    for (const what of this.#untold) this.#violate('story', `nothing tells of ${what}`);
  }

  /** A run begins: somebody must have asked, or a rule must say so (rules 3 and 5). */
  #checkBegin(before: Container, after: Container): void {
    const wanted = this.wanted.get(after.id);
    const { state } = before;
    this.#checkDelay(before, after);
    if (wanted?.is === 'up') return;
    if (this.booting && wanted?.is === 'down' && state.at === 'exited' && bootStarts(before, state.exit)) {
      return this.want(after.id, 'up', after.run);
    }
    this.#violate('stop wins', `run ${after.run} begins from ${state.at}, but it is wanted ${wanted?.is}`);
  }

  /** A restart by the policy comes when its delay is over; one that somebody asked for begins to count anew. */
  #checkDelay(before: Container, after: Container): void {
    if (before.state.at !== 'restarting' || after.state.at !== 'starting' || !after.state.byPolicy) {
      this.#delays.delete(after.id);
      return;
    }
    const delay = this.#delays.get(after.id);
    if (delay === undefined || delay.sinceMs === null) return;
    const waitedMs = this.#kernel.timeline.nowMs() - delay.sinceMs;
    if (waitedMs < delay.ms || waitedMs > delay.ms + 1)
      this.#violate('backoff', `waited ${waitedMs} ms and not ${delay.ms}`);
  }

  #checkEnd(before: Container, after: Container, exit: ExitStatus): void {
    const { id, run } = before;
    const started = before.state.at !== 'starting' || exit.error === '';
    if (started) this.#checkTruth(this.#kernel.history.get(`${id} ${run}`), exit, `${id} run ${run}`);
    const wanted = this.wanted.get(id)?.is;
    const user = before.state.at === 'starting' && !before.state.byPolicy && !started && !this.booting;
    const { policy, max } = policyOf(before);
    const allowed =
      policy === 'always' ||
      policy === 'unless-stopped' ||
      (policy === 'on-failure' && exit.code !== 0 && (max === 0 || before.restartCount < max));
    const at = after.state.at;
    const byRequest = before.state.at === 'stopping' && before.state.by === 'restart';
    if (at === 'restarting') {
      if (!allowed || wanted !== 'up' || user) {
        this.#violate(
          'policy',
          `restarts with ${policy}, code ${exit.code}, count ${before.restartCount}, wanted ${wanted}`,
        );
      }
      if (after.restartCount !== before.restartCount + 1)
        this.#violate('policy', `restart count ${after.restartCount}`);
      const runMs = started ? Number((parseTime(exit.finishedAt) - parseTime(exit.startedAt)) / 1_000_000n) : 0;
      const lastMs = this.#delays.get(id)?.ms ?? 0;
      const expectedMs = runMs >= 10_000 || lastMs === 0 ? 100 : Math.min(60_000, 2 * lastMs);
      this.#delays.set(id, { ms: expectedMs, sinceMs: this.#kernel.timeline.nowMs() });
      if (after.lastDelayMs !== expectedMs)
        this.#violate('backoff', `waits ${after.lastDelayMs} ms and not ${expectedMs}`);
    }
    const shutdown = before.state.at === 'stopping' && before.state.by === 'shutdown';
    if (at === 'exited') {
      if (allowed && wanted === 'up' && !user && !shutdown && !byRequest) {
        this.#violate('policy', `stays down with ${policy}, code ${exit.code}, count ${before.restartCount}`);
      }
      if (before.spec.host.autoRemove) this.#violate('auto-remove', 'stays after its end');
      if (wanted === 'gone') this.#violate('removal', 'stays after its end');
    }
    if (at === 'removing' && wanted !== 'gone' && !before.spec.host.autoRemove)
      this.#violate('removal', 'nobody asked');
  }

  /** Rule 2. */
  #checkTruth(process: Process | undefined, exit: ExitStatus, which: string): void {
    if (process === undefined) return this.#violate('exits', `${which} never ran, but ended with ${exit.code}`);
    if (process.lost && (exit.code === 255 || exit.code === 137)) return;
    if (process.exit === null) return this.#violate('exits', `${which} lives, but ended with ${exit.code}`);
    if (process.exit.code !== exit.code || process.exit.at !== exit.finishedAt) {
      this.#violate(
        'exits',
        `${which} ended with ${process.exit.code} at ${process.exit.at}, recorded ${exit.code} at ${exit.finishedAt}`,
      );
    }
  }

  onEvent(container: Container | undefined, action: string, id: string): void {
    if (this.#destroyed.has(id)) this.#violate('events', `${action} after destroy`);
    const last = this.#last.get(id);
    const up = this.#up.get(id);
    this.#last.set(id, action);
    if (action === 'start') {
      if (up === true) this.#violate('events', 'start without die before');
      this.#up.set(id, true);
    } else if (action === 'die') {
      const key = `${id} ${container?.run ?? -1} ${container?.state.at === 'starting' ? 'restart' : ''}`;
      if (up === false || this.#dies.has(key)) this.#violate('events', `die a second time (${key})`);
      this.#dies.add(key);
      this.#up.set(id, false);
    } else if (action === 'stop') {
      if (last !== 'die' && up === true) this.#violate('events', `stop after ${last}`);
    } else if (action === 'restart') {
      if (last !== 'start') this.#violate('events', `restart after ${last}`);
    } else if (action === 'destroy') {
      this.#destroyed.add(id);
    } else if (action === 'oom' || action === 'kill' || action === 'pause' || action === 'unpause') {
      if (up === false) this.#violate('events', `${action} of a container that is down`);
    }
  }

  /** Events that were due may not have been sent, or (power) be sent again. */
  onCrash(power: boolean): void {
    this.#up.clear();
    this.#last.clear();
    if (power) this.#dies.clear();
    for (const [id, { ms }] of this.#delays) this.#delays.set(id, { ms, sinceMs: null });
  }

  onStart(id: string, run: number): void {
    const wanted = this.wanted.get(id);
    if (wanted !== undefined && wanted.is !== 'up' && run > wanted.run) {
      this.#violate('stop wins', `${id} run ${run} is started, but it is wanted ${wanted.is}`);
    }
  }

  /** What the record says when a daemon comes up must be what was promised. */
  onBoot(records: Map<string, Container>, power: boolean): void {
    for (const [id, wanted] of this.wanted) {
      const record = records.get(id);
      if (record === undefined) continue;
      const is = wantedBy(record);
      if (power) this.#delays.set(id, { ms: record.lastDelayMs, sinceMs: null });
      // A stop that was cut short before its record: only the signal that was sent before holds.
      if (is === 'down' && (record.state.at === 'running' || record.state.at === 'paused')) wanted.softly = true;
      if (is === wanted.is) continue;
      // A start may be lost when the power goes; a stop or a removal may not.
      if (wanted.firm && (wanted.is !== 'up' || !power))
        this.#violate('durable intent', `${id} is wanted ${wanted.is}, its record says ${is}`);
      this.want(id, is, record.run, wanted.softly);
    }
  }

  /** Nothing fails or dies any more, and time has passed: record and kernel agree (rules 1, 4, 5). */
  atRest(containers: readonly Container[]): void {
    for (const container of containers) {
      const { id, state } = container;
      const wanted = this.wanted.get(id);
      const live = this.#kernel.live(id);
      const what = `${id} is ${state.at}`;
      if (LIVE.includes(state.at)) {
        const pid = 'pid' in state ? state.pid : 0;
        const untold = this.#kernel.history.get(`${id} ${container.run}`)?.untold === true;
        if (untold && state.at !== 'stopping') continue; // Nobody had a reason to ask.
        if (live.length !== 1 || live[0]?.pid !== pid)
          this.#violate('rest', `${what} with pid ${pid}, the kernel has ${live.map((p) => p.pid).join()}`);
        if (wanted?.is === 'gone' || (wanted?.is === 'down' && !wanted.softly))
          this.#violate('rest', `${what}, wanted ${wanted.is}`);
        if (state.at === 'stopping') this.#violate('rest', what);
        continue;
      }
      if (live.length > 0) this.#violate('rest', `${what}, but pid ${live[0]?.pid} lives`);
      if (this.#kernel.held.has(id) || this.#kernel.processes.has(id))
        this.#violate('leak', `${what}, but holds what its run acquired`);
      if (state.at === 'starting' || state.at === 'restarting' || state.at === 'removing') this.#violate('rest', what);
      const { policy } = policyOf(container);
      const failed = state.at === 'exited' && state.exit.error !== '';
      if (wanted?.is === 'up' && (policy === 'always' || policy === 'unless-stopped') && !failed)
        this.#violate('rest', `${what}, wanted up`);
      if (wanted?.is === 'gone' && state.at !== 'dead') this.#violate('rest', `${what}, wanted gone`);
    }
  }

  #violate(rule: string, detail: string): void {
    this.#kernel.violate(rule, detail);
  }
}

/** The exit that this commit records, if it records one. */
function endOf(before: Container, after: Container): ExitStatus | null {
  const from = before.state.at;
  if (!LIVE.includes(from) && from !== 'starting') return null;
  const { state } = after;
  if (state.at === 'restarting' || state.at === 'exited') return state.exit;
  if (state.at === 'removing') return state.exit;
  if (state.at === 'starting' && after.run !== before.run) return state.previous;
  return null;
}

function wantedBy({ intent }: Container): Wanted['is'] {
  return intent.wanted === 'run' ? 'up' : intent.wanted === 'remove' ? 'gone' : 'down';
}

function policyOf({ spec }: Container): { readonly policy: string; readonly max: number } {
  const { name, maximumRetryCount } = spec.host.restartPolicy;
  return { policy: name, max: maximumRetryCount };
}

function bootStarts(container: Container, exit: ExitStatus): boolean {
  const { policy } = policyOf(container);
  return policy === 'always' && exit.startedAt !== ZERO_TIME;
}
