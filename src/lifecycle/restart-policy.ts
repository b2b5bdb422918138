/**
 * Decides what follows when a container's process has ended, or could not be started by its policy.
 *
 * Source: moby restartmanager/restartmanager.go (v28) and daemon/daemon.go restore(). Differences on purpose
 * (issue 3): only stop, kill with the stop signal or SIGKILL, and remove count as stopped by hand (moby#26087); a
 * start that fails is decided on like an exit.
 */
import type { RestartPolicySpec } from '../core/container-spec.ts';
import { unreachable } from '../core/unreachable.ts';
import type { Intent } from './container.ts';

/** Delay before the first restart; doubles after every short run, up to DELAY_MS_MAX. */
export const DELAY_MS_MIN = 100;
export const DELAY_MS_MAX = 60_000;

/** A run of at least this length forgives the failures before it. */
export const STABLE_RUN_MS = 10_000;

export interface ExitFacts {
  readonly policy: RestartPolicySpec;
  readonly wanted: Intent['wanted'];
  /** 0..255; 128 + n when signal n ended the process. */
  readonly exitCode: number;
  /** How long the process lived; 0 for a start that failed. */
  readonly runMs: number;
  /** Restarts by the policy since a user last started the container. */
  readonly restartCount: number;
  /** The delay used before the last restart; 0 when there was none. */
  readonly lastDelayMs: number;
}

export type RestartDecision =
  | { readonly kind: 'restart'; readonly delayMs: number }
  | { readonly kind: 'stay'; readonly because: 'intent' | 'policy' | 'clean-exit' | 'retries-used' };

export function decideRestart(facts: ExitFacts): RestartDecision {
  if (facts.wanted !== 'run') return { kind: 'stay', because: 'intent' };
  const { policy } = facts;
  switch (policy.name) {
    case 'no':
      return { kind: 'stay', because: 'policy' };
    case 'always':
    case 'unless-stopped': // Differs from always only at daemon start: see decideAtBoot().
      return { kind: 'restart', delayMs: nextDelayMs(facts) };
    case 'on-failure':
      if (facts.exitCode === 0) return { kind: 'stay', because: 'clean-exit' };
      if (policy.maximumRetryCount > 0 && facts.restartCount >= policy.maximumRetryCount) {
        return { kind: 'stay', because: 'retries-used' };
      }
      return { kind: 'restart', delayMs: nextDelayMs(facts) };
    default:
      return unreachable(policy.name);
  }
}

export interface BootFacts {
  readonly policy: RestartPolicySpec;
  readonly stoppedByUser: boolean;
  /** A container that never ran is not started by a daemon. */
  readonly ranBefore: boolean;
  readonly exitCode: number;
  readonly restartCount: number;
}

/**
 * Whether a container that is down when the daemon starts comes up with it. As in Docker, "always" forgets that it was
 * stopped by hand; unlike moby's code and like its documentation, "on-failure" remembers it.
 */
export function decideAtBoot({ policy, stoppedByUser, ranBefore, exitCode, restartCount }: BootFacts): boolean {
  if (!ranBefore) return false;
  switch (policy.name) {
    case 'no':
      return false;
    case 'always':
      return true;
    case 'unless-stopped':
      return !stoppedByUser;
    case 'on-failure':
      if (stoppedByUser || exitCode === 0) return false;
      return policy.maximumRetryCount === 0 || restartCount < policy.maximumRetryCount;
    default:
      return unreachable(policy.name);
  }
}

function nextDelayMs({ runMs, lastDelayMs }: ExitFacts): number {
  if (runMs >= STABLE_RUN_MS || lastDelayMs === 0) return DELAY_MS_MIN;
  return Math.min(lastDelayMs * 2, DELAY_MS_MAX);
}
