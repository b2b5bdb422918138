/**
 * Removal: wins over everything. A live container is killed first (only with force); what is left is destroyed, and
 * the record goes last, so that a crash anywhere in between is taken up again at the next start of the daemon.
 * Source: moby daemon/delete.go (v28).
 */
import { beginRemoval } from './begin.ts';
import type { Container } from './container.ts';
import { prepend, publish, refuse, step, type Effect, type Fact, type Request, type Step } from './event.ts';
import { SIGKILL, isLive, lastExit } from './state.ts';
import { goDown } from './stop.ts';
import * as words from './words.ts';

type Of<Union, Kind> = Extract<Union, { readonly kind: Kind }>;

export function onRemoveRequested(container: Container, event: Of<Request, 'remove-requested'>, nowNs: bigint): Step {
  const { state } = container;
  const { request, cause, volumes } = event;
  const wait: Effect = { kind: 'await', request, until: 'removed' };
  if (state.at === 'removing' || container.intent.wanted === 'remove') {
    if (state.at !== 'dead') return refused(container, request, words.removalInProgress(event.asked));
  }
  const intended: Container = {
    ...container,
    intent: { wanted: 'remove', stoppedByUser: true, removeVolumes: volumes },
    cause,
  };
  if (isLive(state) || state.at === 'starting') {
    if (!event.force) return refused(container, request, words.removeLive(container));
    return prepend([wait], goDown(intended, { by: 'kill', signal: SIGKILL, timeoutMs: 0 }, nowNs));
  }
  if (state.at === 'restarting') {
    if (!event.force) return refused(container, request, words.removeLive(container));
    const called: Effect[] = [
      { kind: 'clear-timer', timer: 'restart-due' },
      { kind: 'ended', exitCode: state.exit.code, error: state.exit.error },
    ];
    return prepend([wait, ...called], beginRemoval(intended, state.exit, volumes));
  }
  return prepend([wait], beginRemoval(intended, lastExit(container), volumes));
}

export function onDestroyed(container: Container): Step {
  if (container.state.at !== 'removing') return step(container);
  return step(container, { kind: 'clear-timer', timer: 'stuck-due' }, { kind: 'forget' }, publish('destroy'), {
    kind: 'settle',
    until: 'removed',
  });
}

export function onDestroyFailed(container: Container, event: Of<Fact, 'destroy-failed'>): Step {
  const { state } = container;
  if (state.at !== 'removing') return step(container);
  return step(
    { ...container, state: { at: 'dead', exit: state.exit, why: event.message } },
    { kind: 'clear-timer', timer: 'stuck-due' },
    { kind: 'settle', until: 'removed', error: { code: 'CONTAINER_DEAD', message: event.message } },
  );
}

function refused(container: Container, request: number, { code, message }: words.Refusal): Step {
  return step(container, refuse(request, code, message));
}
