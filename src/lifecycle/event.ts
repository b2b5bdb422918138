/**
 * What goes into transition() and what comes out of it. Events are requests of users, facts of the runtime, timers
 * and findings; effects are data that the supervisor performs, and that answer with further events.
 */
import type { ErrorCode } from '../core/engine-error.ts';
import type { ResourceSpec, RestartPolicySpec } from '../core/container-spec.ts';
import type { Cause, Container, Exit, ProbeResult, Timestamp } from './container.ts';

/** Tells one request from another, for its answer. */
export type Ticket = number;

export type TimerName = 'kill-due' | 'stuck-due' | 'gone-due' | 'restart-due' | 'probe-due';

/** What of a container a user may change while it lives. */
export interface Change {
  readonly resources?: ResourceSpec;
  readonly restartPolicy?: RestartPolicySpec;
}

/** What the runtime found of a process; `none`: there was nothing to look for. */
export type Finding =
  | {
      readonly at: 'running';
      readonly pid: number;
      readonly startedAt?: Timestamp;
      readonly paused: boolean;
      readonly oomKilled: boolean;
    }
  | { readonly at: 'exited'; readonly exit: Exit; readonly pid?: number; readonly startedAt?: Timestamp }
  | { readonly at: 'never-started' }
  | { readonly at: 'lost'; readonly because: 'reboot' | 'shim-died' }
  | { readonly at: 'none' };

/** Of a stop or restart. null takes the container's own. `Signal`: a number, or before it is looked up as it was asked. */
export interface StopOptions<Signal = number> {
  readonly signal: Signal | null;
  /** Until SIGKILL; negative: for ever. */
  readonly timeoutS: number | null;
}

interface Requested {
  readonly request: Ticket;
  readonly cause: Cause;
}
type StopAsked = Requested & StopOptions;

export type Request =
  | (Requested & { readonly kind: 'start-requested' })
  | (StopAsked & { readonly kind: 'stop-requested' })
  | (StopAsked & { readonly kind: 'restart-requested' })
  | (Requested & { readonly kind: 'kill-requested'; readonly signal: number })
  | (Requested & { readonly kind: 'pause-requested' })
  | (Requested & { readonly kind: 'unpause-requested' })
  | (Requested & {
      readonly kind: 'remove-requested';
      readonly force: boolean;
      readonly volumes: boolean;
      /** How the user named it, for the words of an error. */
      readonly asked: string;
    })
  | (Requested & { readonly kind: 'rename-requested'; readonly name: string })
  | (Requested & { readonly kind: 'update-requested'; readonly change: Change })
  /** `change` is pure; it may throw an EngineError to refuse. */
  | (Requested & {
      readonly kind: 'amend-requested';
      readonly change: (container: Container) => Pick<Container, 'spec' | 'mounts'>;
    })
  /** The daemon's end without live-restore: stopped, but wanted. */
  | (Requested & { readonly kind: 'shutdown-requested'; readonly timeoutS: number });

export type Fact =
  | { readonly kind: 'process-started'; readonly run: number; readonly pid: number; readonly startedAt: Timestamp }
  | {
      readonly kind: 'start-failed';
      readonly run: number;
      /** 126 not executable, 127 not found, 128 anything else. */
      readonly exitCode: number;
      readonly code: ErrorCode;
      readonly message: string;
    }
  | { readonly kind: 'exited'; readonly run: number; readonly pid: number; readonly exit: Exit }
  | { readonly kind: 'lost'; readonly run: number; readonly pid: number }
  | {
      readonly kind: 'oom';
      readonly run: number;
      /** As the cgroup said just then; absent: it could not be asked any more. */
      readonly memory?: { readonly limitBytes: number | null; readonly usedBytes: number };
    }
  | { readonly kind: 'paused'; readonly run: number }
  | { readonly kind: 'pause-failed'; readonly run: number; readonly message: string }
  | { readonly kind: 'resumed'; readonly run: number }
  | { readonly kind: 'resume-failed'; readonly run: number; readonly message: string }
  /** A signal found no process: its end should be reported any moment. */
  | { readonly kind: 'signal-missed'; readonly run: number; readonly pid: number }
  | { readonly kind: 'limits-applied'; readonly request: Ticket; readonly change: Change; readonly cause: Cause }
  | { readonly kind: 'released'; readonly run: number }
  | { readonly kind: 'destroyed' }
  | { readonly kind: 'destroy-failed'; readonly message: string }
  | { readonly kind: 'probe-ended'; readonly run: number; readonly result: ProbeResult };

export type Timer = { readonly kind: TimerName; readonly run: number };

export type Found = { readonly kind: 'found'; readonly run: number; readonly boot: boolean; readonly finding: Finding };

export type Event = Request | Fact | Timer | Found;

/** What a pending request waits for. */
export type Until = 'started' | 'stopped' | 'restarted' | 'removed' | 'paused' | 'resumed';

export type Answer = 'started' | 'already-running' | 'stopped' | 'already-stopped' | 'done';

export type Effect =
  /** Acquire and launch; answers process-started or start-failed. */
  | { readonly kind: 'start-process'; readonly run: number }
  /** `request`: answered when the signal was sent. */
  | {
      readonly kind: 'signal-process';
      readonly run: number;
      readonly pid: number;
      readonly signal: number;
      readonly request: Ticket | null;
    }
  | { readonly kind: 'pause-process'; readonly run: number }
  | { readonly kind: 'resume-process'; readonly run: number }
  | {
      readonly kind: 'update-process';
      readonly request: Ticket;
      readonly change: Change;
      readonly cause: Cause;
      readonly resources: ResourceSpec;
    }
  /** Replaces one of the same name; with `keep` one that is set already stays. */
  | {
      readonly kind: 'set-timer';
      readonly timer: TimerName;
      readonly delayMs: number;
      readonly run: number;
      readonly keep?: boolean;
    }
  | { readonly kind: 'clear-timer'; readonly timer: TimerName }
  /** Gives back what the run acquired, and kills what still lives of it; answers released. */
  | { readonly kind: 'release'; readonly run: number }
  | { readonly kind: 'destroy'; readonly volumes: boolean }
  /** Asks the runtime what is; answers found. */
  | { readonly kind: 'look'; readonly run: number }
  | { readonly kind: 'publish'; readonly action: string; readonly attributes: Readonly<Record<string, string>> }
  | { readonly kind: 'answer'; readonly request: Ticket; readonly answer: Answer }
  | { readonly kind: 'refuse'; readonly request: Ticket; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'await'; readonly request: Ticket; readonly until: Until }
  /** Answers all that wait for `until`; with `error`, refuses them. */
  | {
      readonly kind: 'settle';
      readonly until: Until;
      readonly error?: { readonly code: ErrorCode; readonly message: string };
    }
  /** A run is over (or a restart was called off): docker wait and log followers hear of it, execs are over too. */
  | { readonly kind: 'ended'; readonly exitCode: number; readonly error: string }
  /** The record goes for ever. */
  | { readonly kind: 'forget' }
  /** Requests that wait for an end are refused with words on the process; the container goes on trying. */
  | { readonly kind: 'report-stuck'; readonly pid: number | null }
  | { readonly kind: 'start-probe'; readonly run: number; readonly timeoutMs: number }
  | { readonly kind: 'cancel-probe' };

export interface Step {
  readonly container: Container;
  readonly effects: readonly Effect[];
  /** Not worth a write to disk (results of probes). */
  readonly volatile?: boolean;
}

export function step(container: Container, ...effects: readonly Effect[]): Step {
  return { container, effects };
}

export function publish(action: string, attributes: Readonly<Record<string, string>> = {}): Effect {
  return { kind: 'publish', action, attributes };
}

export function refuse(request: Ticket, code: ErrorCode, message: string): Effect {
  return { kind: 'refuse', request, code, message };
}

/** `effects` first, then what follows. */
export function prepend(effects: readonly Effect[], next: Step): Step {
  return { ...next, effects: [...effects, ...next.effects] };
}
