/** The two things that many transitions end in: a start that begins, and a removal that begins. */
import type { Cause, Container, ExitStatus } from './container.ts';
import { step, type Step } from './event.ts';
import { REMOVE_MS, START_MS, lastExit } from './state.ts';
import * as words from './words.ts';

/** By a user, or by the daemon as it comes up: counters begin anew. By the policy: see onRestartDue(). */
export function beginStart(
  container: Container,
  { byPolicy, restart, cause }: { readonly byPolicy: boolean; readonly restart: boolean; readonly cause: Cause },
): Step {
  const run = container.run + 1;
  return step(
    {
      ...container,
      intent: { wanted: 'run', stoppedByUser: false },
      state: { at: 'starting', previous: lastExit(container), byPolicy, ...(restart && { restart }) },
      run,
      restartCount: 0,
      lastDelayMs: 0,
      held: true,
      cause,
    },
    { kind: 'start-process', run },
    { kind: 'set-timer', timer: 'stuck-due', delayMs: START_MS, run },
  );
}

/** `container` has no process. The supervisor destroys after the release of the last run. */
export function beginRemoval(container: Container, exit: ExitStatus | null, volumes: boolean): Step {
  const { id, run } = container;
  return step(
    { ...container, state: { at: 'removing', exit, volumes } },
    { kind: 'settle', until: 'restarted', error: words.overtaken(id, 'remove') },
    { kind: 'destroy', volumes },
    { kind: 'set-timer', timer: 'stuck-due', delayMs: REMOVE_MS, run },
  );
}
