/** What the HTTP server needs besides containers, images, networks and volumes: the engine itself. daemon/ implements it. */
import type { Containers } from '../container/port.ts';
import type { Builder } from '../build/port.ts';
import type { Clock } from '../core/clock.ts';
import type { Logger } from '../core/log.ts';
import type { EventPublisher, EventSource } from '../event/port.ts';
import type { Images, TreeArchive } from '../image/port.ts';
import type { Registries } from '../image/registry/registries.ts';
import type { Networks } from '../network/port.ts';
import type { Volumes } from '../volume/port.ts';

export interface EngineParts {
  readonly containers: Containers;
  readonly images: Images;
  readonly networks: Networks;
  readonly volumes: Volumes;
  readonly events: EventSource & EventPublisher;
  readonly treeArchive: TreeArchive;
  readonly system: System;
  /** POST /build; refused where there is none. */
  readonly builder?: Builder;
  /** Login, search and manifests of registries; refused where there is none. */
  readonly registry?: Registries;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface System {
  readonly version: VersionFacts;
  /** Everything that /info shows and that only the host or the daemon's settings know. */
  info(): Promise<InfoFacts>;
}

export interface VersionFacts {
  readonly version: string; // Longshore's own
  readonly gitCommit: string;
  readonly buildTime: string;
  readonly nodeVersion: string;
  readonly os: string; // "linux"
  readonly arch: string; // Go's: "amd64", "arm64"
  readonly kernelVersion: string;
  readonly components: readonly {
    readonly name: string;
    readonly version: string;
    readonly details: Readonly<Record<string, string>>;
  }[];
}

export interface InfoFacts {
  readonly id: string;
  readonly name: string; // host name
  readonly kernelVersion: string;
  readonly operatingSystem: string;
  readonly osVersion: string;
  readonly osType: string;
  readonly architecture: string; // "x86_64"
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly dataRoot: string;
  readonly cgroupDriver: 'cgroupfs' | 'systemd';
  readonly cgroupVersion: '1' | '2';
  readonly controllers: {
    readonly memory: boolean;
    readonly swap: boolean;
    readonly cpuCfs: boolean;
    readonly cpuShares: boolean;
    readonly cpuset: boolean;
    readonly pids: boolean;
    readonly oomKillDisable: boolean;
    readonly kernelMemoryTcp: boolean;
    readonly blkio: boolean;
  };
  readonly ipv4Forwarding: boolean;
  readonly debug: boolean;
  readonly openDescriptors: number;
  readonly systemTime: string;
  readonly loggingDriver: string;
  readonly logDrivers: readonly string[];
  readonly networkDrivers: readonly string[];
  readonly volumeDrivers: readonly string[];
  readonly runtimes: Readonly<Record<string, { readonly path: string; readonly args: readonly string[] }>>;
  readonly defaultRuntime: string;
  readonly initBinary: string;
  readonly securityOptions: readonly string[];
  readonly insecureRegistries: readonly string[];
  readonly registryMirrors: readonly string[];
  readonly defaultAddressPools: readonly { readonly base: string; readonly size: number }[];
  readonly labels: readonly string[];
  readonly experimental: boolean;
  readonly liveRestore: boolean;
  readonly httpProxy: string;
  readonly httpsProxy: string;
  readonly noProxy: string;
  readonly warnings: readonly string[];
  readonly cdiSpecDirs: readonly string[];
  /** Devices of CDI files. */
  readonly discoveredDevices: readonly { readonly source: string; readonly id: string }[];
  readonly storageBackingFilesystem: string;
}
