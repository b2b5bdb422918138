/** Freezing and thawing. Source: moby daemon/pause.go, unpause.go, monitor.go (v28). */
import type { Container } from './container.ts';
import { publish, refuse, step, type Fact, type Request, type Step } from './event.ts';
import { probeTimer } from './health.ts';
import { isWaiting } from './state.ts';
import * as words from './words.ts';

type Of<Union, Kind> = Extract<Union, { readonly kind: Kind }>;

export function onPauseRequested(container: Container, { request }: Of<Request, 'pause-requested'>): Step {
  const { state, id, run } = container;
  if (state.at === 'running' || (state.at === 'stopping' && !state.paused)) {
    return step(container, { kind: 'await', request, until: 'paused' }, { kind: 'pause-process', run });
  }
  const { code, message } =
    state.at === 'paused' || state.at === 'stopping'
      ? words.alreadyPaused(id)
      : isWaiting(container)
        ? words.restarting(id)
        : words.notRunning(id);
  return step(container, refuse(request, code, message));
}

export function onUnpauseRequested(container: Container, { request }: Of<Request, 'unpause-requested'>): Step {
  const { state, id, run } = container;
  if (state.at === 'paused' || (state.at === 'stopping' && state.paused)) {
    return step(container, { kind: 'await', request, until: 'resumed' }, { kind: 'resume-process', run });
  }
  const { code, message } = words.notPaused(id);
  return step(container, refuse(request, code, message));
}

export function onPaused(container: Container, { run }: Of<Fact, 'paused'>): Step {
  const { state } = container;
  if (run !== container.run) return step(container);
  if (state.at === 'stopping' && !state.paused) {
    // A stop came in between, and a frozen process cannot heed it.
    return step(
      { ...container, state: { ...state, paused: true } },
      publish('pause'),
      { kind: 'settle', until: 'paused' },
      { kind: 'resume-process', run },
    );
  }
  if (state.at !== 'running') return step(container, { kind: 'settle', until: 'paused' });
  const { pid, startedAt, oomKilled } = state;
  return step(
    { ...container, state: { at: 'paused', pid, startedAt, oomKilled } },
    { kind: 'cancel-probe' },
    { kind: 'clear-timer', timer: 'probe-due' },
    publish('pause'),
    { kind: 'settle', until: 'paused' },
  );
}

export function onResumed(container: Container, { run }: Of<Fact, 'resumed'>, nowNs: bigint): Step {
  const { state } = container;
  if (run !== container.run) return step(container);
  if (state.at === 'stopping' && state.paused) {
    // Thawed only so that SIGKILL can end it, it is not published (as dockerd was seen to do).
    const told = state.phase === 'killed' ? [] : [publish('unpause')];
    return step({ ...container, state: { ...state, paused: false } }, ...told, { kind: 'settle', until: 'resumed' });
  }
  if (state.at !== 'paused') return step(container, { kind: 'settle', until: 'resumed' });
  const { pid, startedAt, oomKilled } = state;
  const running: Container = { ...container, state: { at: 'running', pid, startedAt, oomKilled } };
  return step(running, publish('unpause'), { kind: 'settle', until: 'resumed' }, ...probeTimer(running, nowNs));
}

export function onPauseFailed(container: Container, event: Of<Fact, 'pause-failed'>): Step {
  const message = `cannot pause container ${container.id}: ${event.message}`;
  return step(container, { kind: 'settle', until: 'paused', error: { code: 'RUNTIME_FAILED', message } });
}

export function onResumeFailed(container: Container, event: Of<Fact, 'resume-failed'>): Step {
  const message = `Cannot unpause container ${container.id}: ${event.message}`;
  return step(container, { kind: 'settle', until: 'resumed', error: { code: 'RUNTIME_FAILED', message } });
}
