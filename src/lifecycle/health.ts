/**
 * Health checks: when the next probe is due, and what its result means. Running it is the supervisor's.
 * Source: moby daemon/health.go (v28).
 */
import type { Container, Health } from './container.ts';
import { publish, step, type Effect, type Fact, type Step, type Timer } from './event.ts';
import { elapsedMs, isLive } from './state.ts';
import { parseTime } from '../core/clock.ts';

type Of<Union, Kind> = Extract<Union, { readonly kind: Kind }>;

export const INTERVAL_MS_DEFAULT = 30_000;
export const TIMEOUT_MS_DEFAULT = 30_000;
export const START_INTERVAL_MS_DEFAULT = 5_000;
export const RETRIES_DEFAULT = 3;
export const LOG_ENTRIES_MAX = 5;
/** Bytes of a probe's output that are kept; more is cut and marked "...". */
export const OUTPUT_BYTES_MAX = 4096;
/** Starting the probe's process has this long, apart from the probe's own timeout. */
export const PROBE_START_MS = 30_000;

export interface HealthPlan {
  readonly command: readonly string[];
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly startPeriodMs: number;
  readonly startIntervalMs: number;
  readonly retries: number;
}

/** null: no health check. */
export function healthPlan({ spec }: Pick<Container, 'spec'>): HealthPlan | null {
  const check = spec.process.healthcheck;
  const [kind, ...args] = check?.test ?? [];
  if (check === null || (kind !== 'CMD' && kind !== 'CMD-SHELL') || args.length === 0) return null;
  const shell = spec.process.shell === null || spec.process.shell.length === 0 ? ['/bin/sh', '-c'] : spec.process.shell;
  return {
    command: kind === 'CMD' ? args : [...shell, ...args],
    intervalMs: ms(check.intervalNs, INTERVAL_MS_DEFAULT),
    timeoutMs: ms(check.timeoutNs, TIMEOUT_MS_DEFAULT),
    startPeriodMs: ms(check.startPeriodNs, 0),
    startIntervalMs: ms(check.startIntervalNs, START_INTERVAL_MS_DEFAULT),
    retries: check.retries > 0 ? check.retries : RETRIES_DEFAULT,
  };
}

/** At each start: "starting", with the results of earlier runs kept, as moby does. */
export function initialHealth(container: Container): Health | null {
  if (healthPlan(container) === null) return null;
  return { status: 'starting', failingStreak: 0, log: container.health?.log ?? [] };
}

/** The timer of the next probe; nothing where there is none to be. */
export function probeTimer(container: Container, nowNs: bigint): readonly Effect[] {
  const plan = healthPlan(container);
  const { state, health, run } = container;
  if (plan === null || health === null || state.at !== 'running') return [];
  const young = elapsedMs(state.startedAt, nowNs) < plan.startPeriodMs;
  const delayMs = young && health.status === 'starting' ? plan.startIntervalMs : plan.intervalMs;
  return [{ kind: 'set-timer', timer: 'probe-due', delayMs, run }];
}

export function onProbeDue(container: Container, event: Timer): Step {
  const plan = healthPlan(container);
  if (plan === null || container.state.at !== 'running' || event.run !== container.run) return step(container);
  return step(container, { kind: 'start-probe', run: container.run, timeoutMs: plan.timeoutMs });
}

export function onProbeEnded(container: Container, event: Of<Fact, 'probe-ended'>, nowNs: bigint): Step {
  const plan = healthPlan(container);
  const { state, health } = container;
  if (plan === null || health === null || event.run !== container.run) return step(container);
  if (!isLive(state) || state.at !== 'running') return step(container); // Called off while its result was on its way.
  const { result } = event;
  const log = [...health.log, result].slice(-LOG_ENTRIES_MAX);
  const young = elapsedMs(state.startedAt, parseTime(result.startedAt)) < plan.startPeriodMs;
  const next = nextHealth({ ...health, log }, result.exitCode === 0, young, plan.retries);
  const after: Container = { ...container, health: next };
  const changed = next.status !== health.status;
  const effects: Effect[] = changed ? [publish(`health_status: ${next.status}`)] : [];
  return { container: after, effects: [...effects, ...probeTimer(after, nowNs)], volatile: true };
}

/** In the start period a failure does not count until the first success. */
export function nextHealth(health: Health, passed: boolean, young: boolean, retries: number): Health {
  if (passed) return { ...health, status: 'healthy', failingStreak: 0 };
  if (young && health.status === 'starting') return health;
  const failingStreak = health.failingStreak + 1;
  return { ...health, failingStreak, status: failingStreak >= retries ? 'unhealthy' : health.status };
}

/** 0 takes the default. Not under 1 ms, so that no nonsense can spin the daemon. */
function ms(ns: number, defaultMs: number): number {
  return ns <= 0 ? defaultMs : Math.max(1, ns / 1_000_000);
}
