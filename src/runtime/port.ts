/**
 * The Runtime port: what supervisor/ and container/ know of processes. Nothing above runtime/ may know that
 * crun exists, that stdio is a file, or that the host is Linux.
 */
import type { Duplex } from 'node:stream';

import type { Owner } from '../core/id-map.ts';
import type { LogFileOptions } from '../log/port.ts';

export interface Runtime {
  /**
   * Starts the container's first process; resolves once it runs.
   * `attachments` are given the streams before the first byte is produced.
   * @throws {RuntimeStartError} with the exit code that users see; nothing is left behind then.
   */
  start(launch: Launch, attachments: readonly PendingAttachment[]): Promise<Started>;
  /** Finds again what ran while the daemon was away, and listens to it from now on. */
  recover(id: string, run: number): Promise<Recovered>;
  /** False when the process is gone already. */
  signal(id: string, signal: number): Promise<boolean>;
  /** Every process of the container. */
  killAll(id: string): Promise<void>;
  pause(id: string): Promise<void>;
  resume(id: string): Promise<void>;
  /** rows and columns. False when there is no terminal or no process. */
  resize(id: string, rows: number, columns: number): Promise<boolean>;
  /** The container must have a live process. */
  attach(id: string, streams: StreamSelection): Promise<Duplex>;
  /**
   * Starts a further process. `streams` null: detached.
   * @throws {RuntimeStartError} exit code 126/127 with Docker's wording.
   */
  exec(id: string, exec: ExecLaunch, streams: StreamSelection | null): Promise<ExecStarted>;
  signalExec(id: string, execId: string, signal: number): Promise<boolean>;
  resizeExec(id: string, execId: string, rows: number, columns: number): Promise<boolean>;
  /** Pids on the host of all processes of the container. */
  processes(id: string): Promise<number[]>;
  /** Applies changed limits to the running container. `resources` is the OCI linux.resources object. */
  update(id: string, resources: object): Promise<void>;
  /**
   * A rotated file of the run's log was compressed, to LOG.INODE.tmp beside it: whoever rotates the log puts the copy into
   * its place. False when nobody does now. Left out by runtimes that rotate otherwise.
   */
  logCompressed?(id: string, inode: bigint): boolean;
  /** Removes whatever a run left: shim directory, runtime state, cgroup. Idempotent; kills what still lives. */
  release(id: string): Promise<void>;
  /** Told of everything that happens to processes, in order for each container. Set once, before start or recover. */
  onEvent: (event: RuntimeEvent) => void;
}

/** What runtime/ needs to start a container; made by runtime/spec (pure) from the container's spec. */
export interface Launch {
  readonly id: string;
  readonly run: number;
  /** The OCI runtime's name in the daemon's table ("crun", "runc"). */
  readonly runtime: string;
  /** OCI runtime-spec config.json, complete. */
  readonly oci: object;
  /** Compiled seccomp filter for runtimes that take one; the profile itself is in `oci` for those that do not. */
  readonly tty: boolean;
  /** "open" stays open when its writer leaves, "once" closes with the first attached writer, "none" is /dev/null. */
  readonly stdin: 'none' | 'open' | 'once';
  readonly consoleSize: readonly [rows: number, columns: number];
  /** Whose the pipes are, on the host, so that the container may open them by name; left out: the daemon's user. */
  readonly stdioOwner?: Owner;
  /** null: output is kept nowhere. */
  readonly log: LogFileOptions | null;
}

export interface Started {
  readonly pid: number;
  /** RFC 3339, nanoseconds. */
  readonly startedAt: string;
}

export type Recovered =
  | {
      readonly at: 'running';
      readonly pid: number;
      /** RFC 3339, as Started's. */
      readonly startedAt?: string;
      readonly paused: boolean;
      readonly oomKilled: boolean;
      readonly execs: readonly RecoveredExec[];
      /** Those that ended while no daemon was there to be told; the latest 64. */
      readonly endedExecs: readonly (Omit<RecoveredExec, 'pid'> & { readonly exitCode: number })[];
    }
  /** It ended while nobody looked; the record is true. */
  | { readonly at: 'exited'; readonly exit: ProcessExit; readonly pid?: number; readonly startedAt?: string }
  /** The start never got as far as a process. */
  | { readonly at: 'never-started' }
  /** The shim is gone without a record (killed, or the host was rebooted): the exit code is not known. */
  | { readonly at: 'lost'; readonly because: 'reboot' | 'shim-died'; readonly pid: number | null };

export interface RecoveredExec {
  readonly execId: string;
  readonly pid: number;
  /** As in ExecLaunch; null: it is not known any more. */
  readonly record: string | null;
}

export interface ProcessExit {
  /** 0..255, 128+signal. */
  readonly code: number;
  readonly signal: number;
  readonly oomKilled: boolean;
  /** RFC 3339, nanoseconds. */
  readonly at: string;
}

export type RuntimeEvent =
  | {
      readonly kind: 'oom';
      readonly id: string;
      readonly run: number;
      /** The limit (null: none) and the most that was used; absent when the cgroup is gone already. */
      readonly memory?: { readonly limitBytes: number | null; readonly usedBytes: number };
    }
  /** All output was written and handed on before this. Reported exactly once a run by a runtime that works. */
  | {
      readonly kind: 'exited';
      readonly id: string;
      readonly run: number;
      readonly pid: number;
      readonly exit: ProcessExit;
    }
  | { readonly kind: 'lost'; readonly id: string; readonly run: number; readonly pid: number }
  | { readonly kind: 'exec-exited'; readonly id: string; readonly execId: string; readonly exitCode: number };

export interface StreamSelection {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
}

/**
 * An attach that waits for the start. `connect` is called with the stream once there is one.
 * The Duplex reads what the container writes (Docker's multiplexed frames; raw for a tty) and is written its
 * stdin; end() half-closes stdin; it ends when the container's output ends; destroy() detaches.
 */
export interface PendingAttachment {
  readonly streams: StreamSelection;
  connect(stream: Duplex): void;
}

export interface ExecLaunch {
  readonly execId: string;
  /** OCI runtime-spec "process" object, complete. */
  readonly process: object;
  readonly tty: boolean;
  readonly consoleSize: readonly [rows: number, columns: number];
  /** What the caller wants to know of it again after a restart of the daemon; kept as long as it runs. */
  readonly record: string;
}

export interface ExecStarted {
  readonly pid: number;
  /** As of PendingAttachment; null when detached. */
  readonly stream: Duplex | null;
}

/** A start that failed in the runtime. `exitCode` is what users see: 126, 127, or 128 for anything else. */
export class RuntimeStartError extends Error {
  override readonly name = 'RuntimeStartError';
  readonly exitCode: 126 | 127 | 128;

  constructor(exitCode: 126 | 127 | 128, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}
