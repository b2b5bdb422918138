/** The states as Docker tells them apart: what list filters and error messages speak of. Source: moby container/state.go (v28). */
import { unreachable } from '../core/unreachable.ts';
import type { Container, Live } from '../lifecycle/container.ts';
import { isLive, isWaiting } from '../lifecycle/state.ts';

export const STATUSES = ['created', 'running', 'paused', 'restarting', 'removing', 'exited', 'dead'] as const;
export type Status = (typeof STATUSES)[number];

export function statusOf(container: Container): Status {
  const { state } = container;
  switch (state.at) {
    case 'starting':
      // Until the process runs, users see what was before.
      if (isWaiting(container)) return 'restarting';
      return state.previous === null ? 'created' : 'exited';
    case 'stopping':
      return state.paused ? 'paused' : 'running';
    case 'created':
    case 'running':
    case 'paused':
    case 'restarting':
    case 'removing':
    case 'exited':
    case 'dead':
      return state.at;
    default:
      return unreachable(state);
  }
}

/** The process, if there is one now. */
export function liveOf({ state }: Container): Live | null {
  return isLive(state) ? state : null;
}
