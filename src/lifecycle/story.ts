/**
 * What of a transition is worth telling later, and why it came about: one entry for each thing that happened. Pure, like
 * transition(): the supervisor appends what this returns to the store together with the record. story-text.ts has the words.
 */
import { policyText, elapsedMs, isLive, lastExit, SIGKILL } from './state.ts';
import { unreachable } from '../core/unreachable.ts';
import type { Cause, Container, Exit, ExitStatus, Health, State, Timestamp } from './container.ts';
import type { Event, Finding, Request, Step } from './event.ts';
import { parseTime } from '../core/clock.ts';

/** Of an error message or a probe's output. */
const TEXT_LENGTH_MAX = 500;

export interface StoryEntry {
  /** The run that it belongs to; 0: before the first. */
  readonly run: number;
  readonly from: State['at'] | null;
  readonly to: State['at'];
  readonly cause: Cause;
  readonly what: Happened;
}

export type Happened =
  | { readonly kind: 'created'; readonly name: string; readonly image: string; readonly policy: string }
  | {
      readonly kind: 'asked';
      readonly for:
        | 'start'
        | 'stop'
        | 'restart'
        | 'kill'
        | 'pause'
        | 'unpause'
        | 'remove'
        | 'rename'
        | 'update'
        | 'change';
      /** stop, restart, kill: what is sent. */
      readonly signal?: number;
      /** stop, restart: when SIGKILL follows; null: never. */
      readonly killAt?: Timestamp | null;
      readonly name?: string;
    }
  /** By the daemon, without a request: at its start, or for its own end. */
  | { readonly kind: 'daemon'; readonly does: 'start' | 'stop' | 'remove' }
  | { readonly kind: 'started'; readonly pid: number; readonly byPolicy: boolean; readonly attempt: number }
  | { readonly kind: 'start-failed'; readonly code: number; readonly message: string; readonly decision: Decision }
  | {
      readonly kind: 'ended';
      readonly pid: number;
      readonly code: number;
      readonly signal: number;
      readonly oomKilled: boolean;
      /** "" or that of a start that failed. */
      readonly at: Timestamp;
      readonly runMs: number;
      readonly health: Pick<Health, 'status' | 'failingStreak'> | null;
      readonly decision: Decision;
    }
  | { readonly kind: 'oom'; readonly limitBytes: number | null; readonly usedBytes: number | null }
  | {
      readonly kind: 'health';
      readonly status: Health['status'];
      readonly failingStreak: number;
      readonly exitCode: number;
      readonly output: string;
    }
  | { readonly kind: 'timeout' }
  | { readonly kind: 'stuck'; readonly pid: number | null }
  | { readonly kind: 'paused' | 'resumed' | 'destroyed' }
  | { readonly kind: 'destroy-failed'; readonly message: string }
  /** What a daemon that came up (or looked, because a report was missing) found. */
  | { readonly kind: 'found'; readonly finding: Finding['at']; readonly because: string; readonly boot: boolean };

/** What was decided after an end. */
export type Decision =
  | {
      readonly kind: 'restart';
      readonly attempt: number;
      readonly of: number;
      readonly delayMs: number;
      readonly dueAt: Timestamp;
    }
  | { readonly kind: 'start' | 'remove' }
  | {
      readonly kind: 'stay';
      readonly policy: string;
      readonly because: 'asked' | 'policy' | 'clean-exit' | 'retries-used' | 'daemon';
    };

export function storyOfCreation(container: Container): StoryEntry {
  const { name, spec, cause } = container;
  const policy = policyText(spec.host.restartPolicy);
  return {
    run: 0,
    from: null,
    to: container.state.at,
    cause,
    what: { kind: 'created', name, image: spec.process.image, policy },
  };
}

/** `step` is what transition(before, event) gave. */
export function storyOf(before: Container, event: Event, step: Step, nowNs: bigint): readonly StoryEntry[] {
  const after = step.container;
  const told: Happened[] = [];
  if ('request' in event && event.kind !== 'limits-applied') {
    const asked = askedFor(event, step);
    if (asked !== null) told.push(asked);
  }
  const fact = factOf(before, event, after);
  if (fact !== null) told.push(fact);
  if (event.kind === 'found' && fact !== null && before.state.at === 'starting') {
    const { finding } = event;
    if (finding.at === 'running' || finding.at === 'exited') told.push(started(before, finding.pid ?? 0));
  }
  const end = endOf(before, event, after, nowNs);
  if (end !== null) told.push(end);
  if (event.kind === 'found' && event.boot) {
    if (before.state.at !== 'starting' && after.run > before.run) told.push({ kind: 'daemon', does: 'start' });
    if (!isLive(before.state) && before.state.at !== 'starting' && after.state.at === 'removing') {
      told.push({ kind: 'daemon', does: 'remove' });
    }
  }
  const cause = 'cause' in event ? event.cause : after.cause;
  return told.map((what) => ({
    // A request (or the daemon) begins a run; all else is of the run that was.
    run: what.kind === 'asked' || what.kind === 'daemon' ? after.run : before.run,
    from: before.state.at,
    to: after.state.at,
    cause,
    what,
  }));
}

/** null: it was refused, or true already. */
function askedFor(event: Request, { container, effects }: Step): Happened | null {
  for (const effect of effects) {
    if (effect.kind === 'refuse' && effect.request === event.request) return null;
    if (effect.kind === 'answer' && (effect.answer === 'already-running' || effect.answer === 'already-stopped'))
      return null;
  }
  const { state } = container;
  const sent = effects.find((effect) => effect.kind === 'signal-process');
  const next = state.at === 'starting' ? state.next : undefined;
  const signal = sent?.signal ?? next?.signal;
  const down = {
    ...(signal !== undefined && { signal }),
    ...(state.at === 'stopping' && state.killAt !== undefined && signal !== SIGKILL && { killAt: state.killAt }),
  };
  switch (event.kind) {
    case 'start-requested':
      return { kind: 'asked', for: 'start' };
    case 'stop-requested':
      return { kind: 'asked', for: 'stop', ...down };
    case 'restart-requested':
      return { kind: 'asked', for: 'restart', ...down };
    case 'kill-requested':
      return { kind: 'asked', for: 'kill', signal: event.signal };
    case 'pause-requested':
      return { kind: 'asked', for: 'pause' };
    case 'unpause-requested':
      return { kind: 'asked', for: 'unpause' };
    case 'remove-requested':
      return { kind: 'asked', for: 'remove' };
    case 'rename-requested':
      return { kind: 'asked', for: 'rename', name: event.name };
    case 'update-requested':
      return { kind: 'asked', for: 'update' };
    case 'amend-requested':
      return { kind: 'asked', for: 'change' };
    case 'shutdown-requested':
      return { kind: 'daemon', does: 'stop' };
  }
}

function factOf(before: Container, event: Event, after: Container): Happened | null {
  const { state } = before;
  switch (event.kind) {
    case 'process-started':
      return state.at === 'starting' && after !== before ? started(before, event.pid) : null;
    case 'oom': {
      // The first of a run: a child that is killed again and again must not fill the story.
      if (after === before || !isLive(state) || state.oomKilled) return null;
      const limit = before.spec.host.resources.memoryBytes;
      const { limitBytes = limit > 0 ? limit : null, usedBytes = null } = event.memory ?? {};
      return { kind: 'oom', limitBytes, usedBytes };
    }
    case 'paused':
      return after === before ? null : { kind: 'paused' };
    case 'resumed':
      return after === before ? null : { kind: 'resumed' };
    case 'kill-due':
      return after === before ? null : { kind: 'timeout' };
    case 'stuck-due':
      if (after === before && state.at !== 'starting' && state.at !== 'removing') return null;
      if (event.run !== before.run) return null;
      return { kind: 'stuck', pid: isLive(state) ? state.pid : null };
    case 'destroyed':
      return state.at === 'removing' ? { kind: 'destroyed' } : null;
    case 'destroy-failed':
      return state.at === 'removing' ? { kind: 'destroy-failed', message: cut(event.message) } : null;
    case 'probe-ended': {
      const { health } = after;
      if (health === null || after === before || health.status === before.health?.status) return null;
      const { exitCode, output } = event.result;
      return {
        kind: 'health',
        status: health.status,
        failingStreak: health.failingStreak,
        exitCode,
        output: cut(output),
      };
    }
    case 'found': {
      const { finding, boot } = event;
      if (finding.at === 'none' || event.run !== before.run || (!boot && after === before)) return null;
      return { kind: 'found', finding: finding.at, because: finding.at === 'lost' ? finding.because : '', boot };
    }
    // Requests were told by askedFor(), ends are by endOf(); the rest changes nothing that a user would ask about.
    case 'start-requested':
    case 'stop-requested':
    case 'restart-requested':
    case 'kill-requested':
    case 'shutdown-requested':
    case 'pause-requested':
    case 'unpause-requested':
    case 'remove-requested':
    case 'rename-requested':
    case 'update-requested':
    case 'amend-requested':
    case 'limits-applied':
    case 'start-failed':
    case 'exited':
    case 'lost':
    case 'signal-missed':
    case 'pause-failed':
    case 'resume-failed':
    case 'released':
    case 'restart-due':
    case 'probe-due':
    case 'gone-due':
      return null;
    default:
      return unreachable(event);
  }
}

function started(before: Container, pid: number): Happened {
  const byPolicy = before.state.at === 'starting' && before.state.byPolicy;
  return { kind: 'started', pid, byPolicy, attempt: before.restartCount };
}

/** The end of the present run, or of an attempt to start it; null: this transition ended none. */
function endOf(before: Container, event: Event, after: Container, nowNs: bigint): Happened | null {
  const wasUp = isLive(before.state) || before.state.at === 'starting';
  const begun = after.run > before.run;
  const isUp = isLive(after.state) || (after.state.at === 'starting' && !begun);
  if (!wasUp || isUp) return null;
  const exit = lastExit(after);
  if (exit === null) return null;
  const decision = decisionOf(after, exit, begun);
  if (exit.error !== '') return { kind: 'start-failed', code: exit.code, message: cut(exit.error), decision };
  const raw = rawExitOf(before, event);
  const { health } = before;
  return {
    kind: 'ended',
    pid: pidOf(before, event),
    code: exit.code,
    signal: raw?.signal ?? 0,
    oomKilled: exit.oomKilled,
    at: exit.finishedAt,
    runMs: elapsedMs(exit.startedAt, parseTime(exit.finishedAt) || nowNs),
    health: health === null ? null : { status: health.status, failingStreak: health.failingStreak },
    decision,
  };
}

function rawExitOf({ state }: Container, event: Event): Exit | null {
  if (event.kind === 'exited') return event.exit;
  if (event.kind === 'found' && event.finding.at === 'exited') return event.finding.exit;
  return state.at === 'starting' ? (state.early?.exit ?? null) : null;
}

function pidOf({ state }: Container, event: Event): number {
  if (isLive(state)) return state.pid;
  if (event.kind === 'exited' || event.kind === 'process-started') return event.pid;
  if (event.kind === 'found' && event.finding.at === 'exited' && event.finding.pid !== undefined)
    return event.finding.pid;
  return state.at === 'starting' ? (state.early?.pid ?? 0) : 0;
}

function decisionOf(after: Container, exit: ExitStatus, begun: boolean): Decision {
  const { state, spec, intent, restartCount } = after;
  const { restartPolicy } = spec.host;
  if (begun) return { kind: 'start' };
  if (state.at === 'removing') return { kind: 'remove' };
  if (state.at === 'restarting') {
    const { dueAt } = state;
    return {
      kind: 'restart',
      attempt: restartCount,
      of: restartPolicy.maximumRetryCount,
      delayMs: after.lastDelayMs,
      dueAt,
    };
  }
  const policy = policyText(restartPolicy);
  if (intent.wanted !== 'run') return { kind: 'stay', policy, because: 'asked' };
  if (restartPolicy.name === 'no') return { kind: 'stay', policy, because: 'policy' };
  if (restartPolicy.name !== 'on-failure') return { kind: 'stay', policy, because: 'daemon' };
  return { kind: 'stay', policy, because: exit.code === 0 ? 'clean-exit' : 'retries-used' };
}

function cut(text: string): string {
  return text.length > TEXT_LENGTH_MAX ? `${text.slice(0, TEXT_LENGTH_MAX)}...` : text;
}
