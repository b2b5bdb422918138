/**
 * The state as Docker shows it, derived from ours: a start that is under way looks like what was before it, a stop
 * that is under way still runs, and a first start that failed stays "created" with an exit code and an error.
 * Source: moby container/state.go (v28).
 */
import type { ContainerDetails } from '../../container/port.ts';
import { parseTime, ZERO_TIME } from '../../core/clock.ts';
import { unreachable } from '../../core/unreachable.ts';
import { humanDuration } from './time.ts';

type Container = ContainerDetails['container'];
type Exit = Extract<Container['state'], { at: 'exited' }>['exit'];
type Live = Extract<Container['state'], { at: 'running' }>;

export interface DockerState {
  readonly Status: 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';
  readonly Running: boolean;
  readonly Paused: boolean;
  readonly Restarting: boolean;
  readonly OOMKilled: boolean;
  readonly Dead: boolean;
  readonly Pid: number;
  readonly ExitCode: number;
  readonly Error: string;
  readonly StartedAt: string;
  readonly FinishedAt: string;
}

export function deriveState({
  state,
  lastFinishedAt = ZERO_TIME,
}: Pick<Container, 'state' | 'lastFinishedAt'>): DockerState {
  switch (state.at) {
    case 'created':
      return ended(null, 'created');
    case 'starting':
      if (state.byPolicy && state.previous !== null) return restarting(state.previous);
      return ended(state.previous, whenEnded(state.previous));
    case 'running':
      return live(state, false, lastFinishedAt);
    case 'paused':
      return live(state, true, lastFinishedAt);
    case 'stopping':
      return live(state, state.paused, lastFinishedAt);
    case 'restarting':
      return restarting(state.exit);
    case 'exited':
      return ended(state.exit, whenEnded(state.exit));
    case 'removing':
      return ended(state.exit, 'removing');
    case 'dead':
      return { ...ended(state.exit, 'dead'), Dead: true };
    default:
      return unreachable(state);
  }
}

/** As moby's StateString: what never ran is "created" still. */
function whenEnded(exit: Exit | null): 'created' | 'exited' {
  return exit === null || exit.startedAt === ZERO_TIME ? 'created' : 'exited';
}

function live(state: Omit<Live, 'at'>, paused: boolean, lastFinishedAt: string): DockerState {
  return {
    Status: paused ? 'paused' : 'running',
    Running: true,
    Paused: paused,
    Restarting: false,
    OOMKilled: state.oomKilled,
    Dead: false,
    Pid: state.pid,
    ExitCode: 0,
    Error: '',
    StartedAt: state.startedAt,
    FinishedAt: lastFinishedAt,
  };
}

/** moby counts a container that waits for its restart as running. */
function restarting(exit: Exit): DockerState {
  return { ...ended(exit, 'restarting'), Running: true, Restarting: true };
}

function ended(exit: Exit | null, status: DockerState['Status']): DockerState {
  const ran = exit !== null && exit.startedAt !== ZERO_TIME;
  return {
    Status: status,
    Running: false,
    Paused: false,
    Restarting: false,
    OOMKilled: exit?.oomKilled ?? false,
    Dead: false,
    Pid: 0,
    ExitCode: exit?.code ?? 0,
    Error: exit?.error ?? '',
    StartedAt: exit?.startedAt ?? ZERO_TIME,
    FinishedAt: ran ? exit.finishedAt : ZERO_TIME,
  };
}

/** "Up 5 minutes (healthy)", "Exited (0) 3 seconds ago". `nowMs` is wall clock. */
export function describeState(state: DockerState, health: Container['health'], nowMs: number): string {
  if (state.Running) {
    if (state.Restarting) return `Restarting (${state.ExitCode}) ${since(state.FinishedAt, nowMs)} ago`;
    const up = `Up ${since(state.StartedAt, nowMs)}`;
    if (state.Paused) return `${up} (Paused)`;
    if (health !== null) return `${up} (${health.status === 'starting' ? 'health: starting' : health.status})`;
    return up;
  }
  if (state.Status === 'removing') return 'Removal In Progress';
  if (state.Status === 'dead') return 'Dead';
  if (state.StartedAt === ZERO_TIME) return 'Created';
  if (state.FinishedAt === ZERO_TIME) return '';
  return `Exited (${state.ExitCode}) ${since(state.FinishedAt, nowMs)} ago`;
}

function since(time: string, nowMs: number): string {
  return humanDuration(Math.max(0, nowMs - Number(parseTime(time) / 1_000_000n)));
}

export function formatHealth(health: Container['health']): object | undefined {
  if (health === null) return undefined;
  return {
    Status: health.status,
    FailingStreak: health.failingStreak,
    Log: health.log.map((result) => ({
      Start: result.startedAt,
      End: result.endedAt,
      ExitCode: result.exitCode,
      Output: result.output,
    })),
  };
}
