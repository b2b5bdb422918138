/**
 * What users can ask of containers: one function each. `api/` turns HTTP into these and back; it decides nothing.
 * Names: `ref` is a name (with or without the leading slash), an ID, or a unique ID prefix; unknown:
 * CONTAINER_NOT_FOUND "No such container: x".
 */
import type { Duplex } from 'node:stream';

import type {
  ContainerSpec,
  EndpointSpec,
  PortBinding,
  ResourceSpec,
  RestartPolicySpec,
} from '../core/container-spec.ts';
import type { Image, ImageConfig, PathStat, Platform } from '../image/port.ts';
import type { Container } from '../lifecycle/container.ts';
import type { StopOptions } from '../lifecycle/event.ts';
import type { StoryEntry } from '../lifecycle/story.ts';
import type { LogEntry, LogReadOptions } from '../log/port.ts';
import type { EndpointState, Network } from '../network/port.ts';
import type { StreamSelection } from '../runtime/port.ts';
import type { Exec, ExecConfig, ExecStartOptions, StartedExec } from '../supervisor/port.ts';

/** In words, for the journal: "POST /v1.51/containers/web/stop from docker/28.2". */
export interface Request {
  readonly description: string;
}

export interface Containers {
  /** `spec` as the client sent it (defaults of the wire applied, the image's config not merged in yet). `name` "" makes one up. */
  create(
    request: {
      readonly name: string;
      readonly spec: ContainerSpec;
      readonly platform: Platform | null;
      readonly apiVersion: ApiVersion;
    },
    by: Request,
  ): Promise<{ readonly id: string; readonly warnings: readonly string[] }>;
  resolve(ref: string): Container;
  list(options: {
    readonly all: boolean;
    readonly limit: number | null;
    readonly size: boolean;
    readonly filters: Filters;
  }): Promise<readonly ContainerDetails[]>;
  inspect(ref: string, options: { readonly size: boolean }): Promise<ContainerDetails>;
  /** What happened to it and why, oldest first; of one that is gone, too, for a day after its removal. */
  why(ref: string): Story;

  start(ref: string, by: Request): Promise<'started' | 'already-running'>;
  stop(ref: string, options: StopOptions<string>, by: Request): Promise<'stopped' | 'already-stopped'>;
  restart(ref: string, options: StopOptions<string>, by: Request): Promise<void>;
  /** "" is KILL. */
  kill(ref: string, signal: string, by: Request): Promise<void>;
  pause(ref: string, by: Request): Promise<void>;
  unpause(ref: string, by: Request): Promise<void>;
  rename(ref: string, name: string, by: Request): Promise<void>;
  update(ref: string, change: ContainerUpdate, by: Request): Promise<{ readonly warnings: readonly string[] }>;
  remove(
    ref: string,
    options: { readonly force: boolean; readonly volumes: boolean; readonly link: boolean },
    by: Request,
  ): Promise<void>;
  prune(
    filters: Filters,
    by: Request,
  ): Promise<{ readonly deleted: readonly string[]; readonly reclaimedBytes: number }>;
  /** Checks at once that the container exists, then waits: the answer's headers are sent in between. */
  wait(
    ref: string,
    condition: 'not-running' | 'next-exit' | 'removed',
    signal: AbortSignal,
  ): { readonly result: Promise<{ readonly exitCode: number; readonly error: string }> };
  resize(ref: string, rows: number, columns: number): Promise<void>;

  /** `logs`: what was written so far is sent first. `stream` comes when the container runs; null when it never will. */
  attach(
    ref: string,
    options: {
      readonly streams: StreamSelection;
      readonly logs: boolean;
      readonly stream: boolean;
      readonly detachKeys: string | null;
    },
    signal: AbortSignal,
  ): Promise<{
    readonly tty: boolean;
    readonly past: AsyncIterable<LogEntry[]> | null;
    readonly stream: Promise<Duplex | null> | null;
    readonly detachKeys: Buffer | null;
  }>;
  /** @throws LOG_UNREADABLE "configured logging driver does not support reading" */
  logs(
    ref: string,
    options: LogReadOptions,
    signal: AbortSignal,
  ): Promise<{ readonly tty: boolean; readonly entries: AsyncIterable<LogEntry[]> }>;
  /** `psArgs` as for ps; "" is "-ef". */
  top(
    ref: string,
    psArgs: string,
  ): Promise<{ readonly titles: readonly string[]; readonly processes: readonly (readonly string[])[] }>;
  /** One sample each second until aborted; `oneShot`: one, without the wait for a second one. */
  stats(
    ref: string,
    options: { readonly stream: boolean; readonly oneShot: boolean },
    signal: AbortSignal,
  ): Promise<AsyncIterable<StatsSample>>;

  execCreate(ref: string, config: ExecConfig, by: Request): Promise<string>;
  execInspect(execId: string): {
    readonly exec: Exec;
    readonly process: { readonly entrypoint: string; readonly arguments: readonly string[] };
  };
  /**
   * Throws what keeps any exec from being started in its container, before anything happens: what is answered by a
   * status. That it runs already, or did, is told in the stream, as in moby.
   */
  execCheck(execId: string): void;
  execStart(
    execId: string,
    options: ExecStartOptions,
  ): Promise<StartedExec & { readonly tty: boolean; readonly detachKeys: Buffer | null }>;
  execResize(execId: string, rows: number, columns: number): Promise<void>;

  changes(ref: string): Promise<readonly { readonly path: string; readonly kind: 'modified' | 'added' | 'deleted' }[]>;
  archiveStat(ref: string, path: string): Promise<PathStat>;
  archiveRead(ref: string, path: string): Promise<{ readonly stat: PathStat; readonly tar: AsyncIterable<Uint8Array> }>;
  archiveWrite(
    ref: string,
    path: string,
    tar: AsyncIterable<Uint8Array>,
    options: { readonly noOverwriteDirNonDir: boolean; readonly copyUidGid: boolean },
  ): Promise<void>;
  exportTree(ref: string): Promise<AsyncIterable<Uint8Array>>;
  commit(
    ref: string,
    options: {
      readonly reference: string | null;
      readonly author: string;
      readonly message: string;
      readonly pause: boolean;
      readonly changes: readonly string[];
      readonly config: Partial<ImageConfig> | null;
    },
    by: Request,
  ): Promise<Image>;

  connect(network: string, ref: string, endpoint: EndpointSpec, by: Request): Promise<void>;
  disconnect(network: string, ref: string, force: boolean, by: Request): Promise<void>;
  /** Containers on the network, for network inspect and its "has active endpoints" conflicts. */
  onNetwork(network: Network): readonly Container[];

  /** For image removal and prune: a container of the image, running ones first. */
  usingImage(imageId: string): { readonly containerId: string; readonly running: boolean } | null;
}

export interface Story {
  readonly id: string;
  readonly name: string;
  /** As Docker shows it: "running", "exited"; "removed" when it is gone. */
  readonly status: string;
  /** In words. */
  readonly policy: string;
  readonly entries: readonly (StoryEntry & {
    /** Position in the journal of all containers. */
    readonly sequence: number;
    /** RFC 3339 with nanoseconds. */
    readonly at: string;
    /** One line, without its time; times in it are UTC. */
    readonly text: string;
  })[];
  /** What will happen by itself, and when if that is known; null: nothing. */
  readonly next: { readonly text: string; readonly at: string | null } | null;
}

export type ApiVersion = `1.${number}`;

/** As the API's filters: name → values. Unknown names are refused with PARAMETER_INVALID "invalid filter 'x'". */
export type Filters = ReadonlyMap<string, readonly string[]>;

export interface ContainerUpdate {
  /** Fields that are not given stay as they are. */
  readonly resources: Partial<ResourceSpec>;
  readonly restartPolicy: RestartPolicySpec | null;
}

/** A snapshot and what belongs to it, for list and inspect. */
export interface ContainerDetails {
  readonly container: Container;
  /** null when the image was removed since. */
  readonly image: Image | null;
  /** The container's own or merged path and arguments. */
  readonly command: { readonly path: string; readonly arguments: readonly string[] };
  /** Keyed by network name. Of a live container what is; of any other what was asked. */
  readonly endpoints: ReadonlyMap<string, EndpointState>;
  readonly ports: Readonly<Record<string, readonly PortBinding[]>>;
  readonly sandboxKey: string;
  readonly execIds: readonly string[];
  /** Its links as they are shown: "/db:/web/alias". */
  readonly links: readonly string[] | null;
  /** In lists: what others know it as, "/web/alias". */
  readonly linkNames: readonly string[];
  readonly paths: {
    readonly log: string;
    readonly resolvConf: string;
    readonly hostname: string;
    readonly hosts: string;
  };
  readonly overlay: {
    readonly lowerDir: string;
    readonly upperDir: string;
    readonly workDir: string;
    readonly mergedDir: string;
  };
  /** Only when asked for. */
  readonly sizes: { readonly writableBytes: number; readonly rootBytes: number } | null;
  /** The OCI runtime that runs it, by its name in the daemon's table. */
  readonly runtime: string;
  readonly appArmorProfile: string;
  readonly platform: string;
}

/** Raw counters from the kernel, before api/wire makes Docker's JSON of them. */
export interface StatsSample {
  readonly containerId: string;
  readonly name: string;
  /** RFC 3339 of this sample and of the one before (ZERO_TIME for none). */
  readonly read: string;
  readonly preRead: string;
  readonly cgroupVersion: 'v1' | 'v2';
  readonly onlineCpus: number;
  readonly cpu: CpuCounters | null;
  readonly preCpu: CpuCounters | null;
  readonly memory: {
    readonly usageBytes: number;
    readonly maxUsageBytes: number;
    readonly limitBytes: number;
    readonly failCount: number;
    readonly stats: Readonly<Record<string, number>>;
  } | null;
  /** `limit`: 0 is none on v1, Infinity on v2. */
  readonly pids: { readonly current: number; readonly limit: number } | null;
  readonly blkio: { readonly serviceBytes: readonly BlkioEntry[]; readonly serviced: readonly BlkioEntry[] } | null;
  readonly networks: Readonly<
    Record<
      string,
      {
        readonly rxBytes: number;
        readonly rxPackets: number;
        readonly rxErrors: number;
        readonly rxDropped: number;
        readonly txBytes: number;
        readonly txPackets: number;
        readonly txErrors: number;
        readonly txDropped: number;
      }
    >
  > | null;
}

export interface CpuCounters {
  readonly totalNs: number;
  readonly perCpuNs: readonly number[] | null;
  readonly kernelNs: number;
  readonly userNs: number;
  readonly systemNs: number;
  readonly throttling: { readonly periods: number; readonly throttledPeriods: number; readonly throttledNs: number };
}

export interface BlkioEntry {
  readonly major: number;
  readonly minor: number;
  readonly op: string;
  readonly value: number;
}
