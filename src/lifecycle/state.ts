/** Questions about a container that several transitions ask. */
import type { RestartPolicySpec } from '../core/container-spec.ts';
import { parseSignal } from '../core/signal.ts';
import { ZERO_TIME, parseTime } from '../core/clock.ts';
import { unreachable } from '../core/unreachable.ts';
import type { Container, ExitStatus, Live, State, Timestamp } from './container.ts';

export const SIGKILL = 9;
export const SIGTERM = 15;

/** Seconds until SIGKILL where nobody said otherwise (moby container.DefaultStopTimeout). */
export const STOP_TIMEOUT_S_DEFAULT = 10;

/** How long after SIGKILL a process may stay before requests are told that it is stuck. */
export const STUCK_MS = 10_000;

/** How long the report of an end may be out after a signal found no process. */
export const GONE_MS = 2_000;

/** How long a removal may take before its request is answered; it goes on. */
export const REMOVE_MS = 60_000;

/** How long a start may take before its request is answered; it goes on. */
export const START_MS = 120_000;

export type LiveState = Extract<State, Live>;

/** It has a process that the engine knows of. */
export function isLive(state: State): state is LiveState {
  return state.at === 'running' || state.at === 'paused' || state.at === 'stopping';
}

/** What Docker shows as "restarting": between an end and the next start by the policy, that start included. */
export function isWaiting({ state }: Container): boolean {
  return state.at === 'restarting' || (state.at === 'starting' && state.byPolicy && state.previous !== null);
}

/** Docker's State.Running: live, or the policy is about to bring it up. */
export function countsAsRunning(container: Container): boolean {
  return isLive(container.state) || isWaiting(container);
}

/** The last exit; null if it never ended (or never ran). */
export function lastExit({ state }: Container): ExitStatus | null {
  switch (state.at) {
    case 'created':
    case 'running':
    case 'paused':
    case 'stopping':
      return null;
    case 'starting':
      return state.previous;
    case 'restarting':
    case 'exited':
    case 'removing':
    case 'dead':
      return state.exit;
    default:
      return unreachable(state);
  }
}

export function stopSignal({ spec }: Container): number {
  if (spec.process.stopSignal === null || spec.process.stopSignal === '') return SIGTERM;
  try {
    return parseSignal(spec.process.stopSignal);
  } catch {
    return SIGTERM; // Checked at creation; an image's nonsense must not make a container unstoppable.
  }
}

/** null: for ever. */
export function stopTimeoutMs({ spec }: Container, askedS: number | null): number | null {
  const timeoutS = askedS ?? spec.process.stopTimeoutS ?? STOP_TIMEOUT_S_DEFAULT;
  return timeoutS < 0 ? null : timeoutS * 1000;
}

/** From one timestamp to another, never negative: the wall clock may have jumped back. */
export function elapsedMs(from: Timestamp, toNs: bigint): number {
  const ns = toNs - parseTime(from);
  return ns > 0n ? Number(ns / 1_000_000n) : 0;
}

export function everRan(exit: ExitStatus | null): boolean {
  return exit !== null && exit.startedAt !== ZERO_TIME;
}

/** "on-failure:3", for causes. */
export function policyText({ name, maximumRetryCount }: RestartPolicySpec): string {
  return name === 'on-failure' && maximumRetryCount > 0 ? `${name}:${maximumRetryCount}` : name;
}

export function secondsText(ms: number): string {
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}
