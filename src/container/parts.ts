/** What the use cases of this room work with, and the small ports for what it may not import: daemon/ fills them in. */
import type { Clock } from '../core/clock.ts';
import type { LogSpec } from '../core/container-spec.ts';
import type { Logger } from '../core/log.ts';
import type { EventPublisher } from '../event/port.ts';
import type { Image, Images, Platform, TreeArchive } from '../image/port.ts';
import type { LogTending, ReadLog } from '../log/port.ts';
import type { Network, Networks } from '../network/port.ts';
import type { DaemonDefaults, HostFacts } from '../runtime/spec/input.ts';
import type { UserNamespaces } from '../runtime/user-namespaces.ts';
import type { History } from '../store/port.ts';
import type { Supervisor } from '../supervisor/port.ts';
import type { Volumes } from '../volume/port.ts';
import type { Names } from './names.ts';
import type { Resolver } from './resolve.ts';
import type { RootFiles } from './root-files.ts';
import type { StatsHub } from './stats.ts';

/** What openContainers() is given. */
export interface ContainerNeeds {
  /** Made after this room's `resources`, so it is asked for when it is needed. */
  readonly supervisor: () => Supervisor;
  readonly images: Images;
  readonly networks: Networks;
  readonly volumes: Volumes;
  readonly treeArchive: TreeArchive;
  readonly events: EventPublisher;
  readonly readLog: ReadLog;
  /** What happened to each container, as the supervisor told it. */
  readonly history: Pick<History, 'read' | 'closed'>;
  readonly logTending: LogTending;
  readonly clock: Clock;
  readonly logger: Logger;
  /** kernel.files fits. */
  readonly files: HostFiles;
  /** kernel.mounts fits. */
  readonly mounts: HostMounts;
  /** kernel.cgroups fits. */
  readonly cgroups: CgroupDirectories;
  /** Asked only where the daemon remaps. */
  readonly userNamespaces: Pick<UserNamespaces, 'create' | 'join' | 'path' | 'remove'>;
  readonly host: HostFacts;
  readonly daemon: DaemonDefaults;
  readonly settings: ContainerSettings;
}

export interface ContainerSettings {
  readonly dataRoot: string;
  /** The host's name, for containers on the host's network. */
  readonly hostname: string;
  /** The log driver and options of containers that ask for none. */
  readonly defaultLog: LogSpec;
  /** For containers that ask for none. */
  readonly dns: {
    readonly servers: readonly string[];
    readonly options: readonly string[];
    readonly search: readonly string[];
  };
  /** What this host runs: to warn about images for another. */
  readonly platform: Platform;
}

/** openat2 with RESOLVE_IN_ROOT, or RESOLVE_BENEATH where escapes are refused; the descriptor is the caller's. */
export interface RootOpener {
  openInRoot(root: string, path: string, flags: number, mode: number, escapes?: 'clamped' | 'refused'): Promise<number>;
}

export interface HostFiles extends RootOpener {
  /** Never crosses a mount point. */
  removeTree(path: string): Promise<void>;
}

export interface HostMounts {
  mount(options: {
    readonly source: string;
    readonly target: string;
    readonly type: string;
    readonly flags: number;
    readonly data: string;
  }): Promise<void>;
  unmount(target: string): Promise<boolean>;
}

export interface CgroupDirectories {
  readonly version: 'v1' | 'v2';
  directory(controller: string, path: string): string;
}

export interface Parts extends Omit<ContainerNeeds, 'supervisor'> {
  readonly supervisor: Supervisor;
  readonly names: Names;
  readonly resolver: Resolver;
  readonly rootFiles: RootFiles;
  readonly stats: StatsHub;
  /** Network namespaces of live containers, for inspect's SandboxKey. */
  readonly namespacePaths: Map<string, string>;
  /** null when there is none (or not one) of that name. */
  imageOf(ref: string): Image | null;
  networkOf(ref: string): Network | null;
}
