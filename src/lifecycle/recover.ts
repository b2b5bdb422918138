/**
 * What was found when the daemon came up (or when it asked because a report is missing), made true by the same rules
 * as everything else: the record says what was wanted and seen last, the finding says what is.
 * Source: moby daemon/daemon.go restore() (v28).
 */
import { formatTime, parseTime } from '../core/clock.ts';
import { unreachable } from '../core/unreachable.ts';
import { beginRemoval, beginStart } from './begin.ts';
import type { Cause, Container, Exit, State } from './container.ts';
import { prepend, step, type Effect, type Finding, type Found, type Step } from './event.ts';
import { onEnded, unknownExit } from './exit.ts';
import { initialHealth, probeTimer } from './health.ts';
import { decideAtBoot } from './restart-policy.ts';
import { onProcessStarted, onStartFailed } from './start.ts';
import { SIGKILL, everRan, isLive, stopSignal, stopTimeoutMs } from './state.ts';
import { beginStop } from './stop.ts';

const CAUSE: Cause = { actor: 'daemon', detail: 'the daemon started' };

export function onFound(container: Container, event: Found, nowNs: bigint): Step {
  const { state } = container;
  const { finding, run, boot } = event;
  if (run !== container.run) return step(container);
  if (state.at === 'starting') return boot ? foundOfStarting(container, finding, nowNs) : step(container);
  if (isLive(state)) return foundOfLive(container, finding, boot, nowNs);
  return boot && finding.at === 'none' ? foundAtRest(container, nowNs) : step(container);
}

function foundOfLive(container: Container, finding: Finding, boot: boolean, nowNs: bigint): Step {
  const { state } = container;
  if (!isLive(state)) throw new Error(`not live: ${state.at}`);
  // A shutdown that was cut short is over: whoever was not down yet is wanted again.
  const awake: Container =
    boot && state.at === 'stopping' && state.by === 'shutdown'
      ? { ...container, state: { ...state, by: 'stop' } }
      : container;
  switch (finding.at) {
    case 'running':
      return boot ? adopt(awake, finding, nowNs) : step(container);
    case 'exited':
      return onEnded(awake, finding.exit, nowNs);
    case 'lost':
      return lost(awake, finding.because, nowNs);
    case 'never-started':
    case 'none':
      return lost(awake, 'shim-died', nowNs);
    default:
      return unreachable(finding);
  }
}

/** It runs on; timers and probes begin anew, and a stop goes on where it was. */
function adopt(container: Container, finding: Extract<Finding, { at: 'running' }>, nowNs: bigint): Step {
  const { state } = container;
  if (!isLive(state)) throw new Error(`not live: ${state.at}`);
  const { startedAt } = state;
  const live = { pid: finding.pid, startedAt, oomKilled: state.oomKilled || finding.oomKilled };
  if (state.at === 'stopping') {
    const by = state.by ?? 'kill';
    const paused = finding.paused;
    const again: Container = { ...container, state: { ...state, ...live, paused, phase: 'signalled', killAt: null } };
    if (state.phase === 'killed') return beginStop(again, { by, signal: SIGKILL, timeoutMs: 0 }, nowNs);
    return beginStop(
      again,
      { by, signal: stopSignal(container), timeoutMs: remainingMs(container, state, nowNs) },
      nowNs,
    );
  }
  const running: Container = {
    ...container,
    state: { at: finding.paused ? 'paused' : 'running', ...live },
    health: initialHealth(container),
  };
  return step(running, ...probeTimer(running, nowNs));
}

/** What was left until SIGKILL; a clock that jumped makes it neither longer nor negative. */
function remainingMs(container: Container, state: Extract<State, { at: 'stopping' }>, nowNs: bigint): number | null {
  if (state.killAt === null) return null;
  const ownMs = stopTimeoutMs(container, null);
  if (state.killAt === undefined) return ownMs;
  const leftMs = Number((parseTime(state.killAt) - nowNs) / 1_000_000n);
  return Math.max(0, ownMs === null ? leftMs : Math.min(leftMs, Math.max(ownMs, 10_000)));
}

function lost(container: Container, because: 'reboot' | 'shim-died', nowNs: bigint): Step {
  const { state } = container;
  const exit = unknownExit(nowNs);
  // We killed it and its end was not reported: the code is known all the same.
  const killed = isLive(state) && state.at === 'stopping' && state.phase === 'killed' && because !== 'reboot';
  const known: Exit = killed ? { ...exit, code: 128 + SIGKILL, signal: SIGKILL } : exit;
  const detail = because === 'reboot' ? 'the host was restarted' : 'its monitor died: the exit code is not known';
  return onEnded({ ...container, cause: { actor: 'daemon', detail } }, known, nowNs);
}

/** The daemon died while it was starting: the process may be there, over, or never have been. */
function foundOfStarting(container: Container, finding: Finding, nowNs: bigint): Step {
  const { run, state } = container;
  if (state.at !== 'starting') throw new Error(`not starting: ${state.at}`);
  switch (finding.at) {
    case 'running': {
      const { startedAt = formatTime(nowNs) } = finding;
      return onProcessStarted(container, { kind: 'process-started', run, pid: finding.pid, startedAt }, nowNs);
    }
    case 'exited': {
      const { exit, pid = state.early?.pid ?? 0, startedAt = exit.at } = finding;
      const over: Container = { ...container, state: { ...state, early: { pid, exit } } };
      return onProcessStarted(over, { kind: 'process-started', run, pid, startedAt }, nowNs);
    }
    case 'never-started':
    case 'lost':
    case 'none': {
      // Whoever asked was not answered; the policy decides, as on any start that failed.
      const message = 'the daemon was restarted during the start';
      const byPolicy: Container = { ...container, state: { ...state, byPolicy: true } };
      return onStartFailed(
        byPolicy,
        { kind: 'start-failed', run, exitCode: 128, code: 'RUNTIME_START_FAILED', message },
        nowNs,
      );
    }
    default:
      return unreachable(finding);
  }
}

function foundAtRest(container: Container, nowNs: bigint): Step {
  const { state, spec, intent, restartCount, run } = container;
  const release: Effect[] = container.held === true ? [{ kind: 'release', run }] : [];
  switch (state.at) {
    case 'restarting': {
      const leftMs = Number((parseTime(state.dueAt) - nowNs) / 1_000_000n);
      const delayMs = Math.max(0, Math.min(leftMs, container.lastDelayMs));
      return step(container, ...release, { kind: 'set-timer', timer: 'restart-due', delayMs, run });
    }
    case 'removing':
      return prepend(release, beginRemoval(container, state.exit, state.volumes === true));
    case 'created':
    case 'exited': {
      const exit = state.at === 'exited' ? state.exit : null;
      const policy = spec.host.restartPolicy;
      const { stoppedByUser } = intent;
      const facts = { policy, stoppedByUser, ranBefore: everRan(exit), exitCode: exit?.code ?? 0, restartCount };
      if (decideAtBoot(facts)) {
        const cause: Cause = { ...CAUSE, detail: `${CAUSE.detail}: ${policy.name}` };
        return prepend(release, beginStart(container, { byPolicy: true, restart: false, cause }));
      }
      if (spec.host.autoRemove) return prepend(release, beginRemoval({ ...container, cause: CAUSE }, exit, true));
      return step(container, ...release);
    }
    case 'dead':
      return step(container, ...release);
    case 'starting':
    case 'running':
    case 'paused':
    case 'stopping':
      return step(container);
    default:
      return unreachable(state);
  }
}
