/**
 * The end of a process: recorded once, then decided on. An end is taken only from the present run and pid; one that
 * is reported before its start waits in the record for it.
 */
import { formatTime, parseTime } from '../core/clock.ts';
import { beginRemoval, beginStart } from './begin.ts';
import type { Cause, Container, Exit, ExitStatus } from './container.ts';
import { prepend, publish, step, type Effect, type Fact, type Step, type Timer } from './event.ts';
import { decideRestart, type RestartDecision } from './restart-policy.ts';
import { GONE_MS, SIGKILL, elapsedMs, isLive, policyText, secondsText, type LiveState } from './state.ts';
import * as words from './words.ts';

type Of<Union, Kind> = Extract<Union, { readonly kind: Kind }>;

/** The code of an end that nobody saw (moby daemon/daemon.go restore). */
export const EXIT_CODE_UNKNOWN = 255;

export function onExited(container: Container, event: Of<Fact, 'exited'>, nowNs: bigint): Step {
  const { state } = container;
  if (event.run !== container.run) return step(container); // Late news of an earlier run.
  if (state.at === 'starting') {
    if (state.early !== undefined) return step(container); // Reported twice: the first counts.
    return step({ ...container, state: { ...state, early: { pid: event.pid, exit: event.exit } } });
  }
  if (!isLive(state) || state.pid !== event.pid) return step(container); // Reported twice (moby#46212).
  return onEnded(container, event.exit, nowNs);
}

export function onLost(container: Container, event: Of<Fact, 'lost'>, nowNs: bigint): Step {
  return onExited(container, { ...event, kind: 'exited', exit: unknownExit(nowNs) }, nowNs);
}

export function unknownExit(nowNs: bigint): Exit {
  return { code: EXIT_CODE_UNKNOWN, signal: 0, oomKilled: false, at: formatTime(nowNs) };
}

export function onOom(container: Container, event: Of<Fact, 'oom'>): Step {
  const { state } = container;
  if (event.run !== container.run || !isLive(state)) return step(container);
  return step({ ...container, state: { ...state, oomKilled: true } }, publish('oom'));
}

/** A signal found no process: its end should be known any moment; if not, the runtime is asked. */
export function onSignalMissed(container: Container, event: Of<Fact, 'signal-missed'>): Step {
  const { state } = container;
  if (event.run !== container.run || !isLive(state) || state.pid !== event.pid) return step(container);
  return step(container, { kind: 'set-timer', timer: 'gone-due', delayMs: GONE_MS, run: container.run });
}

export function onGoneDue(container: Container, event: Timer): Step {
  if (event.run !== container.run || !isLive(container.state)) return step(container);
  return step(container, { kind: 'look', run: container.run });
}

/** `container` is live. Everything that may follow an end is decided here. */
export function onEnded(container: Container, raw: Exit, nowNs: bigint): Step {
  const { state, intent, spec } = container;
  if (!isLive(state)) throw new Error(`an end of a container that is ${state.at}`);
  const exit: ExitStatus = {
    code: raw.code,
    oomKilled: raw.oomKilled || state.oomKilled,
    error: '',
    startedAt: state.startedAt,
    finishedAt: raw.at,
  };
  const runMs = elapsedMs(state.startedAt, parseTime(raw.at));
  const by = state.at === 'stopping' ? (state.by ?? 'kill') : null;
  const effects: Effect[] = endEffects(container, state, exit, runMs);

  if (intent.wanted === 'remove') {
    return prepend(effects, beginRemoval(container, exit, intent.removeVolumes === true));
  }
  if (by === 'restart' && intent.wanted === 'run') {
    const down: Container = { ...container, state: { at: 'exited', exit } };
    return prepend(effects, beginStart(down, { byPolicy: false, restart: true, cause: container.cause }));
  }
  const failRestart: Effect = { kind: 'settle', until: 'restarted', error: words.overtaken(container.id, 'stop') };
  const decision: RestartDecision =
    by === 'shutdown'
      ? { kind: 'stay', because: 'intent' }
      : decideRestart({
          policy: spec.host.restartPolicy,
          wanted: intent.wanted,
          exitCode: exit.code,
          runMs,
          restartCount: container.restartCount,
          lastDelayMs: container.lastDelayMs,
        });
  if (decision.kind === 'stay') {
    if (spec.host.autoRemove) return prepend([...effects, failRestart], beginRemoval(container, exit, true));
    const cause = by === null ? causeOf(container, exit, runMs, decision) : container.cause;
    return prepend([...effects, failRestart], step({ ...container, state: { at: 'exited', exit }, cause }));
  }
  const { delayMs } = decision;
  return prepend(
    [...effects, failRestart],
    step(
      {
        ...container,
        state: { at: 'restarting', exit, dueAt: formatTime(nowNs + BigInt(delayMs) * 1_000_000n) },
        restartCount: container.restartCount + 1,
        lastDelayMs: delayMs,
        cause: causeOf(container, exit, runMs, decision),
      },
      { kind: 'set-timer', timer: 'restart-due', delayMs, run: container.run },
    ),
  );
}

/** In Docker's order: die, then stop for who stopped it; then answers, and only then the slow clean-up. */
function endEffects(container: Container, state: LiveState, exit: ExitStatus, runMs: number): Effect[] {
  const stopped = state.at === 'stopping' && state.by !== undefined && state.by !== 'kill';
  const notRunning = words.notRunning(container.id);
  return [
    { kind: 'cancel-probe' },
    { kind: 'clear-timer', timer: 'probe-due' },
    { kind: 'clear-timer', timer: 'kill-due' },
    { kind: 'clear-timer', timer: 'stuck-due' },
    { kind: 'clear-timer', timer: 'gone-due' },
    publish('die', { exitCode: String(exit.code), execDuration: String(Math.floor(runMs / 1000)) }),
    ...(stopped ? [publish('stop')] : []),
    { kind: 'ended', exitCode: exit.code, error: exit.error },
    { kind: 'settle', until: 'stopped' },
    { kind: 'settle', until: 'paused', error: notRunning },
    { kind: 'settle', until: 'resumed', error: notRunning },
    { kind: 'release', run: container.run },
  ];
}

function causeOf({ spec, restartCount }: Container, exit: ExitStatus, runMs: number, decision: RestartDecision): Cause {
  const policy = spec.host.restartPolicy;
  const killed = exit.oomKilled ? ', out of memory' : exit.code === 128 + SIGKILL ? ', killed' : '';
  const what = `exit code ${exit.code}${killed} after ${secondsText(runMs)}: ${policyText(policy)}`;
  if (decision.kind === 'stay') {
    if (policy.name === 'no') return { actor: 'kernel', detail: what };
    return { actor: 'policy', detail: `${what}, stays down (${decision.because})` };
  }
  const of = policy.maximumRetryCount > 0 ? ` of ${policy.maximumRetryCount}` : '';
  return {
    actor: 'policy',
    detail: `${what}, attempt ${restartCount + 1}${of}, waits ${secondsText(decision.delayMs)}`,
  };
}
