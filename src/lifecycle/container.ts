/**
 * A container: what is wanted of it, and what is. Values are immutable snapshots; readers may keep them.
 * Only transition() makes new ones, and only the supervisor commits them.
 */
import type { ContainerSpec } from '../core/container-spec.ts';
import type { MountPoint } from '../core/mount-point.ts';

/** RFC 3339 with nanoseconds, UTC, as core/clock.ts formatTime() gives it. */
export type Timestamp = string;

export interface Container {
  readonly id: string;
  /** Without the leading slash. */
  readonly name: string;
  readonly createdAt: Timestamp;
  readonly spec: ContainerSpec;
  /** sha256:… of the image's config; "" for none. */
  readonly imageId: string;
  /** Where the rootfs, volumes and so on go: fixed at creation, opaque to lifecycle/ and supervisor/. */
  readonly mounts: readonly MountPoint[];
  /** Desired. Changed by requests only. */
  readonly intent: Intent;
  /** Observed. Changed by facts only. */
  readonly state: State;
  /** Counts the starts of this container; tells the events of one run from those of another. */
  readonly run: number;
  /** Restarts by policy since a user started it. */
  readonly restartCount: number;
  /** The delay before the last restart by policy; 0 at first. */
  readonly lastDelayMs: number;
  /** null where no health check is configured (or the container has never run). */
  readonly health: Health | null;
  /** Why it is in this state: the last transition's cause. */
  readonly cause: Cause;
  /** When the run before this one ended, which Docker goes on to show; absent in the first. */
  readonly lastFinishedAt?: Timestamp;
  /** What a run acquired is not given back yet: set with the start, gone once the release is done. Survives a crash. */
  readonly held?: boolean;
}

export interface Intent {
  /** "run" from a start request to a stop, kill or remove request. A policy never changes it. */
  readonly wanted: 'run' | 'stop' | 'remove';
  /** Someone asked for a stop since the last start (unless-stopped stays down at daemon start). */
  readonly stoppedByUser: boolean;
  /** With "remove": its anonymous volumes go too. */
  readonly removeVolumes?: boolean;
}

export interface ExitStatus {
  /** As Docker shows it: 0..255, 128+signal, 125/126/127 for starts that failed. */
  readonly code: number;
  readonly oomKilled: boolean;
  /** "" or the message of a start that failed, as Docker's State.Error. */
  readonly error: string;
  readonly startedAt: Timestamp; // ZERO_TIME if it never ran
  readonly finishedAt: Timestamp;
}

export type State =
  | { readonly at: 'created' }
  | {
      readonly at: 'starting';
      readonly previous: ExitStatus | null;
      readonly byPolicy: boolean;
      /** Part of a restart request: `restart` is published after `start`. */
      readonly restart?: boolean;
      /** A stop asked for while there was no pid yet: honoured as soon as there is one. */
      readonly next?: NextStop;
      /** An end that was reported before the start was; settled once the start is known. */
      readonly early?: { readonly pid: number; readonly exit: Exit };
    }
  | (Live & { readonly at: 'running' })
  | (Live & { readonly at: 'paused' })
  /** A stop signal was sent; what ends it is `kill-due` or the exit. */
  | (Live & {
      readonly at: 'stopping';
      readonly paused: boolean;
      readonly phase: 'signalled' | 'killed';
      /** Who asked; decides what is published and what follows. `kill` when not given. */
      readonly by?: StopBy;
      /** When SIGKILL follows; null: never. */
      readonly killAt?: Timestamp | null;
    })
  /** Ended; the policy restarts it at `dueAt`. */
  | { readonly at: 'restarting'; readonly exit: ExitStatus; readonly dueAt: Timestamp }
  | { readonly at: 'exited'; readonly exit: ExitStatus }
  /** Being removed, with what it was before (so that a reader sees the last exit). */
  | { readonly at: 'removing'; readonly exit: ExitStatus | null; readonly volumes?: boolean }
  /** Removal failed or the record is damaged: only removal is possible. */
  | { readonly at: 'dead'; readonly exit: ExitStatus | null; readonly why: string };

/** `kill` is a SIGKILL or a forced removal; `shutdown` is the daemon's own end, after which policies still hold. */
export type StopBy = 'stop' | 'restart' | 'kill' | 'shutdown';

export interface NextStop {
  readonly by: StopBy;
  readonly signal: number;
  /** Until SIGKILL; null: never. */
  readonly timeoutMs: number | null;
}

/** How a process ended, as the runtime reports it. */
export interface Exit {
  readonly code: number;
  readonly signal: number;
  readonly oomKilled: boolean;
  readonly at: Timestamp;
}

export interface Live {
  readonly pid: number;
  readonly startedAt: Timestamp;
  /** Some process of it met the OOM killer in this run. */
  readonly oomKilled: boolean;
}

export interface Health {
  readonly status: 'starting' | 'healthy' | 'unhealthy';
  readonly failingStreak: number;
  /** The last five, oldest first. */
  readonly log: readonly ProbeResult[];
}

export interface ProbeResult {
  readonly startedAt: Timestamp;
  readonly endedAt: Timestamp;
  readonly exitCode: number;
  /** At most 4096 bytes. */
  readonly output: string;
}

/** Who or what made a transition happen. */
export interface Cause {
  readonly actor: 'api' | 'policy' | 'health' | 'kernel' | 'daemon';
  /** In words: "POST /containers/x/stop", "exit code 1 after 2.1 s: on-failure, attempt 3 of 5, waits 400 ms". */
  readonly detail: string;
}
