/**
 * The life of one container: (container, event) -> (container, effects).
 *
 * Pure: no clock, no timer, no randomness, no I/O. `nowNs` is the wall clock in nanoseconds. The supervisor calls it
 * for each event of a container in order, saves the new container, and then performs the effects in order.
 * README.md has the picture of the states.
 */
import { unreachable } from '../core/unreachable.ts';
import * as change from './change.ts';
import type { Container } from './container.ts';
import { step, type Event, type Step } from './event.ts';
import * as exit from './exit.ts';
import * as health from './health.ts';
import * as pause from './pause.ts';
import { onFound } from './recover.ts';
import * as remove from './remove.ts';
import * as start from './start.ts';
import * as stop from './stop.ts';

// One line for each event; long because there are many.
export function transition(container: Container, event: Event, nowNs: bigint): Step {
  switch (event.kind) {
    case 'start-requested':
      return start.onStartRequested(container, event);
    case 'stop-requested':
      return stop.onStopRequested(container, event, nowNs);
    case 'restart-requested':
      return stop.onRestartRequested(container, event, nowNs);
    case 'kill-requested':
      return stop.onKillRequested(container, event, nowNs);
    case 'shutdown-requested':
      return stop.onShutdownRequested(container, event, nowNs);
    case 'pause-requested':
      return pause.onPauseRequested(container, event);
    case 'unpause-requested':
      return pause.onUnpauseRequested(container, event);
    case 'remove-requested':
      return remove.onRemoveRequested(container, event, nowNs);
    case 'rename-requested':
      return change.onRenameRequested(container, event);
    case 'update-requested':
      return change.onUpdateRequested(container, event);
    case 'amend-requested':
      return change.onAmendRequested(container, event);
    case 'process-started':
      return start.onProcessStarted(container, event, nowNs);
    case 'start-failed':
      return start.onStartFailed(container, event, nowNs);
    case 'exited':
      return exit.onExited(container, event, nowNs);
    case 'lost':
      return exit.onLost(container, event, nowNs);
    case 'oom':
      return exit.onOom(container, event);
    case 'paused':
      return pause.onPaused(container, event);
    case 'pause-failed':
      return pause.onPauseFailed(container, event);
    case 'resumed':
      return pause.onResumed(container, event, nowNs);
    case 'resume-failed':
      return pause.onResumeFailed(container, event);
    case 'signal-missed':
      return exit.onSignalMissed(container, event);
    case 'limits-applied':
      return change.onLimitsApplied(container, event);
    case 'released':
      return onReleased(container, event.run);
    case 'destroyed':
      return remove.onDestroyed(container);
    case 'destroy-failed':
      return remove.onDestroyFailed(container, event);
    case 'probe-ended':
      return health.onProbeEnded(container, event, nowNs);
    case 'kill-due':
      return stop.onKillDue(container, event, nowNs);
    case 'stuck-due':
      return stop.onStuckDue(container, event);
    case 'gone-due':
      return exit.onGoneDue(container, event);
    case 'restart-due':
      return start.onRestartDue(container, event);
    case 'probe-due':
      return health.onProbeDue(container, event);
    case 'found':
      return onFound(container, event, nowNs);
    default:
      return unreachable(event);
  }
}

/** Unless a later run holds them again. */
function onReleased(container: Container, run: number): Step {
  if (run !== container.run || container.held !== true) return step(container);
  const { held: _, ...free } = container;
  return step(free);
}
