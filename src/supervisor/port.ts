/**
 * The supervisor as container/ sees it: one mailbox per container, requests that resolve when they are true,
 * and snapshots that never wait.
 */
import type { Duplex } from 'node:stream';

import type { ResourceSpec, RestartPolicySpec } from '../core/container-spec.ts';
import type { Cause, Container } from '../lifecycle/container.ts';
import type { StopOptions } from '../lifecycle/event.ts';
import type { ExecLaunch, Launch, ProcessExit, StreamSelection } from '../runtime/port.ts';

/**
 * Messages are Docker's inner ones ("container ID is not running"); the prefixes that name the container as the user
 * did ("cannot kill container: web: ", "cannot stop container: web: ", "Cannot restart container web: ") are the caller's.
 */
export interface Supervisor extends AsyncDisposable {
  /** The latest snapshot. */
  get(id: string): Container | undefined;
  /** All, oldest first. */
  list(): readonly Container[];
  /** Commits the record (durably), publishes `create` and begins to supervise it. The caller holds the name. */
  add(container: Container): Promise<void>;

  start(id: string, cause: Cause): Promise<'started' | 'already-running'>;
  stop(id: string, options: StopOptions, cause: Cause): Promise<'stopped' | 'already-stopped'>;
  restart(id: string, options: StopOptions, cause: Cause): Promise<void>;
  kill(id: string, signal: number, cause: Cause): Promise<void>;
  pause(id: string, cause: Cause): Promise<void>;
  unpause(id: string, cause: Cause): Promise<void>;
  /**
   * Resolves when nothing of it is left. Not `force` and live: CONTAINER_RUNNING with Docker's words.
   * A second removal while one is under way: CONTAINER_REMOVING "removal of container x is already in progress", where
   * x is `asked`: how the user named it (the ID when not given).
   */
  remove(
    id: string,
    options: { readonly force: boolean; readonly volumes: boolean; readonly asked?: string },
    cause: Cause,
  ): Promise<void>;
  rename(id: string, name: string, cause: Cause): Promise<void>;
  /** Changes what a user may change later; a live process is updated before the record. */
  update(
    id: string,
    change: { readonly resources?: ResourceSpec; readonly restartPolicy?: RestartPolicySpec },
    cause: Cause,
  ): Promise<void>;
  /** Any other change of the record that container/ decides on (endpoints connected later, mounts). */
  amend(id: string, change: (container: Container) => Pick<Container, 'spec' | 'mounts'>, cause: Cause): Promise<void>;

  wait(
    id: string,
    condition: 'not-running' | 'next-exit' | 'removed',
    signal: AbortSignal,
  ): Promise<{ readonly exitCode: number; readonly error: string }>;
  /** rows, columns. Not running: CONTAINER_NOT_RUNNING. */
  resize(id: string, rows: number, columns: number): Promise<void>;
  /**
   * At once, also when the container does not run yet: `stream` resolves with the start, or with null when
   * `signal` is aborted or the container is removed.
   */
  attach(
    id: string,
    streams: StreamSelection,
    signal: AbortSignal,
  ): Promise<{ readonly stream: Promise<Duplex | null> }>;
  /** Aborted when the container's present (or next, if it does not run) run ends: for log followers. */
  runEnded(id: string): AbortSignal;

  /** Those that run are known again after a restart of the daemon; all are known from creation until ten minutes after their end or the removal of the container. */
  execCreate(id: string, exec: ExecConfig): Promise<string>;
  exec(execId: string): Exec | undefined;
  execs(id: string): readonly Exec[];
  execStart(execId: string, options: ExecStartOptions): Promise<StartedExec>;
  execResize(execId: string, rows: number, columns: number): Promise<void>;
  /** Runs the health check's and other internal processes too. */
  processes(id: string): Promise<number[]>;

  /** Boot: loads records, asks the runtime what is, and decides. Resolves when every container is in a true state. */
  recover(): Promise<void>;
  /** `stopContainers`: dockerd's behaviour without live-restore; else they are left running. */
  shutdown(options: { readonly stopContainers: boolean; readonly timeoutS: number }): Promise<void>;
}

export interface ExecStartOptions {
  readonly detach: boolean;
  readonly tty: boolean;
  /** rows, columns */
  readonly consoleSize: readonly [number, number] | null;
}

export interface ExecConfig {
  readonly tty: boolean;
  /** rows, columns of its terminal where the start says nothing of it. */
  readonly consoleSize?: readonly [number, number] | null;
  readonly attachStdin: boolean;
  readonly attachStdout: boolean;
  readonly attachStderr: boolean;
  readonly detachKeys: string;
  readonly env: readonly string[] | null;
  readonly cmd: readonly string[];
  readonly privileged: boolean;
  readonly user: string;
  readonly workingDir: string;
}

export interface Exec {
  readonly id: string;
  readonly containerId: string;
  readonly config: ExecConfig;
  readonly state:
    | { readonly at: 'created' }
    | { readonly at: 'running'; readonly pid: number }
    | { readonly at: 'exited'; readonly exitCode: number; readonly pid: number };
}

export interface StartedExec {
  /** null when detached. */
  readonly stream: Duplex | null;
  /** Its exit code, once that is known; never rejects. */
  readonly ended: Promise<number>;
}

/**
 * What the supervisor needs done around a process, implemented by container/ out of image/, network/, volume/.
 */
export interface Resources {
  /**
   * Everything that a start acquires: rootfs, volumes, networks, files; each acquisition is pushed on `stack` with
   * its undo. Returns what to launch.
   */
  acquire(container: Container, stack: AsyncDisposableStack): Promise<Launch>;
  /** A run has ended, and that is about to be told: publishes what dockerd tells before it, of networks and volumes. */
  leaving(container: Container): void;
  /** After a run: gives back what acquire() took. Idempotent; also right after a crash at any point of acquire(). */
  release(container: Container): Promise<void>;
  /** After a daemon restart, for a container found running: makes sure in-memory tables (addresses, ports) know it. */
  adopt(container: Container): Promise<void>;
  /** Removes what exists from creation on: rootfs top, log files, directory, and with `volumes` its anonymous volumes. */
  destroy(container: Container, options: { readonly volumes: boolean }): Promise<void>;
  /** The OCI process object of an exec in this container. */
  execLaunch(container: Container, execId: string, exec: ExecConfig): Promise<ExecLaunch>;
  /** OCI linux.resources of the (changed) limits. */
  limits(resources: ResourceSpec): object;
  /** Attributes of the container's events: image, name, labels. */
  eventAttributes(container: Container): Record<string, string>;
}

export type { Container, ProcessExit };
