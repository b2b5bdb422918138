/**
 * What users are told, in Docker's own words: clients parse them. Source: moby daemon/errors.go, delete.go, start.go,
 * pause.go, unpause.go, update.go (v28). The prefix that names the container as the user did ("cannot kill container:
 * web: ") is container/'s.
 */
import type { ErrorCode } from '../core/engine-error.ts';
import type { Container } from './container.ts';
import { isWaiting } from './state.ts';

export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
}

export function notRunning(id: string): Refusal {
  return { code: 'CONTAINER_NOT_RUNNING', message: `container ${id} is not running` };
}

export function restarting(id: string): Refusal {
  return {
    code: 'CONTAINER_RESTARTING',
    message: `Container ${id} is restarting, wait until the container is running`,
  };
}

export function alreadyPaused(id: string): Refusal {
  return { code: 'CONTAINER_PAUSED', message: `Container ${id} is already paused` };
}

export function notPaused(id: string): Refusal {
  return { code: 'CONTAINER_NOT_PAUSED', message: `Container ${id} is not paused` };
}

export function pausedBeforeExec(id: string): Refusal {
  return { code: 'CONTAINER_PAUSED', message: `Container ${id} is paused, unpause the container before exec` };
}

export function pausedBeforeAttach(id: string): Refusal {
  return { code: 'CONTAINER_PAUSED', message: `container ${id} is paused, unpause the container before attach` };
}

export const startPaused: Refusal = {
  code: 'CONTAINER_PAUSED',
  message: 'cannot start a paused container, try unpause instead',
};

export const markedForRemoval: Refusal = {
  code: 'CONTAINER_REMOVING',
  message: 'container is marked for removal and cannot be started',
};

export function markedForRemovalOn(id: string, verb: string): Refusal {
  return {
    code: 'CONTAINER_REMOVING',
    message: `Cannot ${verb} container ${id}: container is marked for removal and cannot be "${verb}"`,
  };
}

export function removalInProgress(asked: string): Refusal {
  return { code: 'CONTAINER_REMOVING', message: `removal of container ${asked} is already in progress` };
}

/** Go's %q of a name is JSON's: names are of [a-zA-Z0-9_.-]. */
export function removeLive(container: Container): Refusal {
  const prefix = `cannot remove container "/${container.name}": container is`;
  if (container.state.at === 'paused') {
    return { code: 'CONTAINER_RUNNING', message: `${prefix} paused and must be unpaused first` };
  }
  const state = isWaiting(container) ? 'restarting' : 'running';
  return {
    code: 'CONTAINER_RUNNING',
    message: `${prefix} ${state}: stop the container before removing or force remove`,
  };
}

export function overtaken(id: string, by: 'stop' | 'remove'): Refusal {
  return {
    code: 'CONTAINER_NOT_RUNNING',
    message: `container ${id} is not running: a later request ${by === 'stop' ? 'stopped' : 'removes'} it`,
  };
}

export function gone(id: string): Refusal {
  return { code: 'CONTAINER_NOT_FOUND', message: `No such container: ${id}` };
}
