/** Coming up: requests to start, the policy's and the daemon's own starts, and what the runtime says of them. */
import { ZERO_TIME, formatTime } from '../core/clock.ts';
import { beginRemoval, beginStart } from './begin.ts';
import type { Cause, Container, ExitStatus } from './container.ts';
import {
  prepend,
  publish,
  refuse,
  step,
  type Effect,
  type Fact,
  type Request,
  type Step,
  type Timer,
} from './event.ts';
import { onEnded } from './exit.ts';
import { initialHealth, probeTimer } from './health.ts';
import { decideRestart } from './restart-policy.ts';
import { SIGKILL, START_MS, policyText, secondsText } from './state.ts';
import { beginStop } from './stop.ts';
import * as words from './words.ts';

type Of<Union, Kind> = Extract<Union, { readonly kind: Kind }>;

export function onStartRequested(container: Container, event: Of<Request, 'start-requested'>): Step {
  const { state } = container;
  switch (state.at) {
    case 'created':
    case 'exited': {
      const begun = beginStart(container, { byPolicy: false, restart: false, cause: event.cause });
      return { ...begun, effects: [{ kind: 'await', request: event.request, until: 'started' }, ...begun.effects] };
    }
    case 'starting':
      if (container.intent.wanted === 'remove') return refused(container, event.request, words.markedForRemoval);
      if (state.byPolicy) return answered(container, event.request, 'already-running');
      return step(container, { kind: 'await', request: event.request, until: 'started' });
    case 'paused':
      return refused(container, event.request, words.startPaused);
    case 'running':
    case 'stopping':
    case 'restarting':
      return answered(container, event.request, 'already-running');
    case 'removing':
    case 'dead':
      return refused(container, event.request, words.markedForRemoval);
  }
}

export function onRestartDue(container: Container, event: Timer): Step {
  const { state } = container;
  if (state.at !== 'restarting' || event.run !== container.run) return step(container); // Called off while it was on its way.
  const run = container.run + 1;
  return step(
    { ...container, state: { at: 'starting', previous: state.exit, byPolicy: true }, run, held: true },
    { kind: 'start-process', run },
    { kind: 'set-timer', timer: 'stuck-due', delayMs: START_MS, run },
  );
}

export function onProcessStarted(container: Container, event: Of<Fact, 'process-started'>, nowNs: bigint): Step {
  const { state } = container;
  if (state.at !== 'starting' || event.run !== container.run) return step(container); // Of a run that is over.
  const running: Container = {
    ...container,
    state: { at: 'running', pid: event.pid, startedAt: event.startedAt, oomKilled: false },
    ...(state.previous === null ? {} : { lastFinishedAt: state.previous.finishedAt }),
    health: initialHealth(container),
  };
  const effects: Effect[] = [
    { kind: 'clear-timer', timer: 'stuck-due' },
    publish('start'),
    ...(state.restart === true ? [publish('restart')] : []),
    { kind: 'settle', until: 'started' },
    // A restart asked for while it was starting is not done yet.
    ...(state.next?.by === 'restart' ? [] : [{ kind: 'settle', until: 'restarted' } as const]),
  ];
  const { early, next } = state;
  if (early !== undefined && early.pid === event.pid) {
    // Over already; a stop that was asked for has what it wanted, a restart goes on.
    const live = { pid: event.pid, startedAt: event.startedAt, oomKilled: false };
    const ending: Container =
      next === undefined
        ? running
        : { ...running, state: { ...live, at: 'stopping', paused: false, phase: 'signalled', by: next.by } };
    return prepend(effects, onEnded(ending, early.exit, nowNs));
  }
  if (next?.by === 'kill' && next.signal !== SIGKILL) {
    // `docker kill` with the stop signal only sends it: no timeout, no SIGKILL.
    const { signal } = next;
    const kill: Effect[] = [
      { kind: 'signal-process', run: container.run, pid: event.pid, signal, request: null },
      publish('kill', { signal: String(signal) }),
    ];
    return prepend([...effects, ...kill], step(running, ...probeTimer(running, nowNs)));
  }
  if (next !== undefined) return prepend(effects, beginStop(running, next, nowNs));
  return prepend(effects, step(running, ...probeTimer(running, nowNs)));
}

/** Nothing of the attempt is left (the supervisor undid it; `release` makes sure). */
export function onStartFailed(container: Container, event: Of<Fact, 'start-failed'>, nowNs: bigint): Step {
  const { state } = container;
  if (state.at !== 'starting' || event.run !== container.run) return step(container);
  const { code, message } = event;
  const exit = failedExit(state.previous, event, state.byPolicy ? formatTime(nowNs) : null);
  const effects: Effect[] = [
    { kind: 'clear-timer', timer: 'stuck-due' },
    { kind: 'release', run: container.run },
    { kind: 'settle', until: 'started', error: { code, message } },
    { kind: 'settle', until: 'restarted', error: { code, message } },
    { kind: 'settle', until: 'stopped' },
  ];
  if (container.intent.wanted === 'remove') {
    return prepend(effects, beginRemoval(container, exit, container.intent.removeVolumes === true));
  }
  if (state.byPolicy) return prepend(effects, onPolicyStartFailed(container, exit, nowNs));
  if (container.spec.host.autoRemove) return prepend(effects, beginRemoval(container, exit, true));
  const cause: Cause = { actor: 'daemon', detail: `the start failed: ${message}` };
  return prepend(effects, step({ ...container, state: { at: 'exited', exit }, cause }));
}

/** Decided on like an exit; in moby "always" stays down after some of these. */
function onPolicyStartFailed(container: Container, exit: ExitStatus, nowNs: bigint): Step {
  const { spec, intent, restartCount, lastDelayMs } = container;
  const policy = spec.host.restartPolicy;
  const decision = decideRestart({
    policy,
    wanted: intent.wanted,
    exitCode: exit.code,
    runMs: 0,
    restartCount,
    lastDelayMs,
  });
  const ended: Effect = { kind: 'ended', exitCode: exit.code, error: exit.error };
  if (decision.kind === 'stay') {
    if (spec.host.autoRemove) return prepend([ended], beginRemoval(container, exit, true));
    const cause: Cause = {
      actor: 'policy',
      detail: `the start failed (${exit.error}): ${policyText(policy)}, stays down (${decision.because})`,
    };
    return step({ ...container, state: { at: 'exited', exit }, cause }, ended);
  }
  const { delayMs } = decision;
  const cause: Cause = {
    actor: 'policy',
    detail: `the start failed (${exit.error}): ${policyText(policy)}, attempt ${restartCount + 1}, waits ${secondsText(delayMs)}`,
  };
  return step(
    {
      ...container,
      state: { at: 'restarting', exit, dueAt: formatTime(nowNs + BigInt(delayMs) * 1_000_000n) },
      restartCount: restartCount + 1,
      lastDelayMs: delayMs,
      cause,
    },
    ended,
    { kind: 'set-timer', timer: 'restart-due', delayMs, run: container.run },
  );
}

/**
 * As Docker's: a failed start changes code and error, not the times of the last run; one that never ran has ZERO_TIME,
 * by which api/ shows it as "created". `finishedAt` null keeps the last run's.
 */
export function failedExit(
  previous: ExitStatus | null,
  { exitCode, message }: { readonly exitCode: number; readonly message: string },
  finishedAt: string | null,
): ExitStatus {
  return {
    code: exitCode,
    oomKilled: false,
    error: message,
    startedAt: previous?.startedAt ?? ZERO_TIME,
    finishedAt: finishedAt ?? previous?.finishedAt ?? ZERO_TIME,
  };
}

function refused(container: Container, request: number, { code, message }: words.Refusal): Step {
  return step(container, refuse(request, code, message));
}

function answered(container: Container, request: number, answer: 'already-running'): Step {
  return step(container, { kind: 'answer', request, answer });
}
