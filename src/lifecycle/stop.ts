/**
 * Going down on request: stop (signal, timeout, SIGKILL), kill, restart, the daemon's shutdown. Source: moby
 * daemon/stop.go, kill.go, restart.go (v28), and the order of events that dockerd 20.10 was seen to publish.
 */
import { formatTime, parseTime } from '../core/clock.ts';
import { beginStart } from './begin.ts';
import type { Cause, Container, Intent, NextStop, StopBy, Timestamp } from './container.ts';
import {
  prepend,
  publish,
  refuse,
  step,
  type Effect,
  type Request,
  type Step,
  type StopOptions,
  type Ticket,
  type Timer,
  type Until,
} from './event.ts';
import { SIGKILL, START_MS, STUCK_MS, isLive, stopSignal, stopTimeoutMs, type LiveState } from './state.ts';
import * as words from './words.ts';

type Of<Union, Kind> = Extract<Union, { readonly kind: Kind }>;

const STOPPED: Intent = { wanted: 'stop', stoppedByUser: true };
const WANTED: Intent = { wanted: 'run', stoppedByUser: false };

export function onStopRequested(container: Container, event: Of<Request, 'stop-requested'>, nowNs: bigint): Step {
  const { state } = container;
  const { request, cause } = event;
  switch (state.at) {
    case 'running':
    case 'paused':
    case 'stopping':
    case 'starting':
      return awaiting(
        request,
        'stopped',
        goDown(intend(container, STOPPED, cause), nextStop(container, event, 'stop'), nowNs),
      );
    case 'restarting': {
      const down = callOffRestart(intend(container, STOPPED, cause));
      return { ...down, effects: [...down.effects, publish('stop'), { kind: 'answer', request, answer: 'stopped' }] };
    }
    case 'created':
    case 'exited':
    case 'removing':
    case 'dead':
      return step(container, { kind: 'answer', request, answer: 'already-stopped' });
  }
}

export function onRestartRequested(container: Container, event: Of<Request, 'restart-requested'>, nowNs: bigint): Step {
  const { state } = container;
  const { request, cause } = event;
  const { code, message } = words.markedForRemoval;
  if (container.intent.wanted === 'remove') return step(container, refuse(request, code, message));
  const begin = { byPolicy: false, restart: true, cause };
  switch (state.at) {
    case 'created':
    case 'exited':
      return awaiting(request, 'restarted', beginStart(container, begin));
    case 'restarting': {
      const down = callOffRestart({ ...container, cause });
      return awaiting(
        request,
        'restarted',
        prepend([...down.effects, publish('stop')], beginStart(down.container, begin)),
      );
    }
    case 'running':
    case 'paused':
    case 'stopping':
    case 'starting':
      return awaiting(
        request,
        'restarted',
        goDown(intend(container, WANTED, cause), nextStop(container, event, 'restart'), nowNs),
      );
    case 'removing':
    case 'dead':
      return step(container, refuse(request, code, message));
  }
}

/** Only SIGKILL and the container's stop signal say "down"; `kill -s HUP` leaves the policy on (moby#26087). */
export function onKillRequested(container: Container, event: Of<Request, 'kill-requested'>, nowNs: bigint): Step {
  const { state } = container;
  const { request, cause, signal } = event;
  const saysDown = signal === SIGKILL || signal === stopSignal(container);
  const intended = saysDown ? intend(container, STOPPED, cause) : container;
  if (state.at === 'restarting') {
    const down = saysDown ? callOffRestart(intended) : step(container);
    return { ...down, effects: [...down.effects, { kind: 'answer', request, answer: 'done' }] };
  }
  if (signal === SIGKILL && (isLive(state) || state.at === 'starting')) {
    return awaiting(request, 'stopped', goDown(intended, { by: 'kill', signal, timeoutMs: 0 }, nowNs));
  }
  if (saysDown && state.at === 'starting') {
    const down = goDown(intended, { by: 'kill', signal, timeoutMs: null }, nowNs);
    return { ...down, effects: [...down.effects, { kind: 'answer', request, answer: 'done' }] };
  }
  if (!isLive(state)) {
    const { code, message } = words.notRunning(container.id);
    return step(container, refuse(request, code, message));
  }
  const thaw = isFrozen(state) && (saysDown || container.spec.process.stopSignal === null);
  return step(
    intended,
    { kind: 'signal-process', run: container.run, pid: state.pid, signal, request },
    publish('kill', { signal: String(signal) }),
    ...(thaw ? [{ kind: 'resume-process', run: container.run } as const] : []),
  );
}

export function onShutdownRequested(
  container: Container,
  event: Of<Request, 'shutdown-requested'>,
  nowNs: bigint,
): Step {
  const { state } = container;
  if (!isLive(state) && state.at !== 'starting') {
    return step(container, { kind: 'answer', request: event.request, answer: 'already-stopped' }); // Also a restart that waits: its record says so.
  }
  const next: NextStop = {
    by: 'shutdown',
    signal: stopSignal(container),
    timeoutMs: stopTimeoutMs(container, event.timeoutS),
  };
  return awaiting(event.request, 'stopped', goDown({ ...container, cause: event.cause }, next, nowNs));
}

export function onKillDue(container: Container, event: Timer, nowNs: bigint): Step {
  const { state } = container;
  if (state.at !== 'stopping' || state.phase === 'killed' || event.run !== container.run) return step(container);
  return beginStop(container, { by: state.by ?? 'kill', signal: SIGKILL, timeoutMs: 0 }, nowNs);
}

/** Requests are told what holds them up; what was asked for goes on by itself once the process is gone. */
export function onStuckDue(container: Container, event: Timer): Step {
  const { state, run } = container;
  if (event.run !== run) return step(container);
  if (state.at === 'starting' || state.at === 'removing') return step(container, { kind: 'report-stuck', pid: null });
  if (state.at !== 'stopping' || state.phase !== 'killed') return step(container);
  // A restart that was answered by an error must not start it later: the policy decides then.
  const by = state.by === 'restart' ? 'kill' : state.by;
  return step(
    { ...container, state: { ...state, ...(by !== undefined && { by }) } },
    { kind: 'signal-process', run, pid: state.pid, signal: SIGKILL, request: null },
    { kind: 'report-stuck', pid: state.pid },
    // Asked again until it is gone: also an end whose report got lost is found so.
    { kind: 'set-timer', timer: 'stuck-due', delayMs: STUCK_MS, run },
  );
}

/** Sends the signal and sets what follows. `container` is live. */
export function beginStop(container: Container, next: NextStop, nowNs: bigint): Step {
  const { state, run } = container;
  if (!isLive(state)) throw new Error(`a stop of a container that is ${state.at}`);
  const kills = next.signal === SIGKILL;
  const killed = kills || (state.at === 'stopping' && state.phase === 'killed');
  const killAt = next.timeoutMs === null ? null : formatTime(nowNs + BigInt(next.timeoutMs) * 1_000_000n);
  // Two stops at once: the earlier deadline holds.
  const earlier = state.at === 'stopping' && isBefore(state.killAt ?? null, killAt);
  const { pid, startedAt, oomKilled } = state;
  const stopping: Container = {
    ...container,
    state: {
      at: 'stopping',
      pid,
      startedAt,
      oomKilled,
      paused: isFrozen(state),
      phase: killed ? 'killed' : 'signalled',
      by: state.at === 'stopping' ? mergeBy(state.by, next.by) : next.by,
      killAt: killed ? null : earlier ? (state.killAt ?? null) : killAt,
    },
  };
  const effects: Effect[] = [
    { kind: 'cancel-probe' },
    { kind: 'clear-timer', timer: 'probe-due' },
    { kind: 'signal-process', run, pid, signal: next.signal, request: null },
    publish('kill', { signal: String(next.signal) }),
  ];
  if (isFrozen(state)) effects.push({ kind: 'resume-process', run });
  if (killed) {
    const keep = state.at === 'stopping' && state.phase === 'killed';
    effects.push(
      { kind: 'clear-timer', timer: 'kill-due' },
      { kind: 'set-timer', timer: 'stuck-due', delayMs: STUCK_MS, run, ...(keep && { keep }) },
    );
  } else if (!earlier && next.timeoutMs !== null) {
    effects.push({ kind: 'set-timer', timer: 'kill-due', delayMs: next.timeoutMs, run });
  }
  return step(stopping, ...effects);
}

/** Of a container that has, or is about to have, a process. */
export function goDown(container: Container, next: NextStop, nowNs: bigint): Step {
  const { state, run } = container;
  if (state.at !== 'starting') return beginStop(container, next, nowNs);
  const before = state.next;
  const kills = next.signal === SIGKILL || before?.signal === SIGKILL;
  const merged: NextStop = {
    by: mergeBy(before?.by, next.by),
    signal: kills ? SIGKILL : next.signal,
    timeoutMs: kills ? 0 : before === undefined ? next.timeoutMs : before.timeoutMs,
  };
  const effects: Effect[] = [
    {
      kind: 'set-timer',
      timer: 'stuck-due',
      delayMs: next.timeoutMs === null ? START_MS : next.timeoutMs + STUCK_MS,
      run,
    },
  ];
  if (container.intent.wanted !== 'run' && state.next?.by === 'restart') effects.push(overtaken(container));
  return step({ ...container, state: { ...state, next: merged } }, ...effects);
}

/** null is never. */
function isBefore(a: Timestamp | null, b: Timestamp | null): boolean {
  return a !== null && (b === null || parseTime(a) < parseTime(b));
}

/** Only a later restart turns a stop into one; a stop, kill or removal ends a restart. */
function mergeBy(before: StopBy | undefined, next: StopBy): StopBy {
  if (next === 'kill' && before !== undefined && before !== 'kill') return before === 'restart' ? 'stop' : before;
  return next;
}

function callOffRestart(container: Container): Step {
  const { state } = container;
  if (state.at !== 'restarting') throw new Error(`no restart to call off: ${state.at}`);
  return step(
    { ...container, state: { at: 'exited', exit: state.exit } },
    { kind: 'clear-timer', timer: 'restart-due' },
    { kind: 'ended', exitCode: state.exit.code, error: state.exit.error },
  );
}

function overtaken({ id, intent }: Container): Effect {
  return {
    kind: 'settle',
    until: 'restarted',
    error: words.overtaken(id, intent.wanted === 'remove' ? 'remove' : 'stop'),
  };
}

/** A removal that was asked for stays. */
function intend(container: Container, intent: Intent, cause: Cause): Container {
  return container.intent.wanted === 'remove' ? container : { ...container, intent, cause };
}

function nextStop(container: Container, event: StopOptions, by: StopBy): NextStop {
  return { by, signal: event.signal ?? stopSignal(container), timeoutMs: stopTimeoutMs(container, event.timeoutS) };
}

function isFrozen(state: LiveState): boolean {
  return state.at === 'paused' || (state.at === 'stopping' && state.paused);
}

function awaiting(request: Ticket, until: Until, next: Step): Step {
  return { ...next, effects: [{ kind: 'await', request, until }, ...next.effects] };
}
