/**
 * What a user asked for when creating a container: desired, durable, in our own words. `api/wire/` maps
 * Docker's Config, HostConfig and NetworkingConfig to and from it; no other room knows that spelling.
 *
 * `null` is "not given", which Docker shows as null (or leaves out) and often treats unlike an empty list.
 * Source: moby api/types/container (v28, API 1.51).
 */

export interface ContainerSpec {
  readonly process: ProcessSpec;
  readonly host: HostSpec;
  /** Keyed by the network's name or ID as asked; "default" has become "bridge". The first is host.networkMode's. */
  readonly endpoints: Readonly<Record<string, EndpointSpec>>;
}

/** Docker's Config, after the image's config was merged in (what inspect shows). */
export interface ProcessSpec {
  /** As asked: a reference or an ID. */
  readonly image: string;
  readonly hostname: string;
  readonly domainname: string;
  /** "", "name", "uid", "name:group", "uid:gid". */
  readonly user: string;
  readonly attachStdin: boolean;
  readonly attachStdout: boolean;
  readonly attachStderr: boolean;
  readonly tty: boolean;
  readonly openStdin: boolean;
  readonly stdinOnce: boolean;
  /** "NAME=value", in order; "NAME" alone removes. */
  readonly env: readonly string[] | null;
  readonly cmd: readonly string[] | null;
  readonly entrypoint: readonly string[] | null;
  readonly argsEscaped: boolean;
  readonly workingDir: string;
  readonly labels: Readonly<Record<string, string>>;
  /** "80/tcp", "53/udp" */
  readonly exposedPorts: readonly string[] | null;
  /** Paths of anonymous volumes. */
  readonly volumes: readonly string[] | null;
  readonly healthcheck: HealthcheckSpec | null;
  readonly onBuild: readonly string[] | null;
  readonly shell: readonly string[] | null;
  /** As asked; null: SIGTERM. */
  readonly stopSignal: string | null;
  readonly stopTimeoutS: number | null;
  readonly networkDisabled: boolean;
  /** Deprecated by API 1.44 in favour of the endpoint's. */
  readonly macAddress: string | null;
}

/** Durations in nanoseconds; 0 inherits or takes the default. test: ["NONE"], ["CMD", …], ["CMD-SHELL", x], [] inherits. */
export interface HealthcheckSpec {
  readonly test: readonly string[] | null;
  readonly intervalNs: number;
  readonly timeoutNs: number;
  readonly startPeriodNs: number;
  readonly startIntervalNs: number;
  readonly retries: number;
}

/** Docker's HostConfig. */
export interface HostSpec {
  /** "src:dst[:options]" as asked. */
  readonly binds: readonly string[] | null;
  readonly mounts: readonly MountSpec[] | null;
  readonly tmpfs: Readonly<Record<string, string>> | null;
  readonly volumesFrom: readonly string[] | null;
  readonly volumeDriver: string;
  readonly containerIdFile: string;
  readonly log: LogSpec;
  /** "bridge", "host", "none", "container:ID" (the full ID), or a network's name or ID. */
  readonly networkMode: string;
  /** Keyed "80/tcp". */
  readonly portBindings: Readonly<Record<string, readonly PortBinding[]>> | null;
  readonly publishAllPorts: boolean;
  readonly restartPolicy: RestartPolicySpec;
  readonly autoRemove: boolean;
  /** [rows, columns] */
  readonly consoleSize: readonly [number, number];
  readonly annotations: Readonly<Record<string, string>> | null;
  readonly capAdd: readonly string[] | null;
  readonly capDrop: readonly string[] | null;
  readonly cgroupnsMode: '' | 'private' | 'host';
  readonly dns: readonly string[] | null;
  readonly dnsOptions: readonly string[] | null;
  readonly dnsSearch: readonly string[] | null;
  readonly extraHosts: readonly string[] | null;
  readonly groupAdd: readonly string[] | null;
  /** "", "none", "private", "shareable", "host", "container:ID" */
  readonly ipcMode: string;
  readonly cgroup: string;
  readonly links: readonly string[] | null;
  readonly oomScoreAdj: number;
  /** "", "host", "container:ID" */
  readonly pidMode: string;
  readonly privileged: boolean;
  readonly readonlyRootfs: boolean;
  readonly securityOpt: readonly string[] | null;
  readonly storageOpt: Readonly<Record<string, string>> | null;
  readonly utsMode: string;
  readonly usernsMode: string;
  /** Bytes of /dev/shm. */
  readonly shmSizeBytes: number;
  readonly sysctls: Readonly<Record<string, string>> | null;
  /** "" takes the daemon's default. */
  readonly runtime: string;
  readonly isolation: string;
  readonly maskedPaths: readonly string[] | null;
  readonly readonlyPaths: readonly string[] | null;
  readonly init: boolean | null;
  readonly resources: ResourceSpec;
}

/** Limits; 0 (or null) is "none asked". What `update` may change later. */
export interface ResourceSpec {
  readonly cpuShares: number;
  readonly nanoCpus: number;
  readonly cpuPeriodUs: number;
  readonly cpuQuotaUs: number;
  readonly cpuRealtimePeriodUs: number;
  readonly cpuRealtimeRuntimeUs: number;
  readonly cpusetCpus: string;
  readonly cpusetMems: string;
  readonly memoryBytes: number;
  /** Memory and swap together; -1 is unlimited swap. */
  readonly memorySwapBytes: number;
  readonly memoryReservationBytes: number;
  readonly memorySwappiness: number | null;
  readonly kernelMemoryBytes: number;
  readonly kernelMemoryTcpBytes: number;
  readonly oomKillDisable: boolean | null;
  /** null and 0: none asked; -1: unlimited. */
  readonly pidsLimit: number | null;
  readonly blkioWeight: number;
  readonly blkioWeightDevice: readonly { readonly path: string; readonly weight: number }[] | null;
  readonly blkioDeviceReadBps: readonly ThrottleSpec[] | null;
  readonly blkioDeviceWriteBps: readonly ThrottleSpec[] | null;
  readonly blkioDeviceReadIops: readonly ThrottleSpec[] | null;
  readonly blkioDeviceWriteIops: readonly ThrottleSpec[] | null;
  readonly cgroupParent: string;
  readonly devices: readonly DeviceSpec[] | null;
  readonly deviceCgroupRules: readonly string[] | null;
  readonly deviceRequests: readonly DeviceRequestSpec[] | null;
  readonly ulimits: readonly UlimitSpec[] | null;
  /** Limits of Windows alone: shown as they were asked, without effect, as in moby. Missing: 0. */
  readonly cpuCount?: number;
  readonly cpuPercent?: number;
}

/** No limit is asked. */
export const NO_RESOURCES: ResourceSpec = {
  cpuShares: 0,
  nanoCpus: 0,
  cpuPeriodUs: 0,
  cpuQuotaUs: 0,
  cpuRealtimePeriodUs: 0,
  cpuRealtimeRuntimeUs: 0,
  cpusetCpus: '',
  cpusetMems: '',
  memoryBytes: 0,
  memorySwapBytes: 0,
  memoryReservationBytes: 0,
  memorySwappiness: null,
  kernelMemoryBytes: 0,
  kernelMemoryTcpBytes: 0,
  oomKillDisable: null,
  pidsLimit: null,
  blkioWeight: 0,
  blkioWeightDevice: null,
  blkioDeviceReadBps: null,
  blkioDeviceWriteBps: null,
  blkioDeviceReadIops: null,
  blkioDeviceWriteIops: null,
  cgroupParent: '',
  devices: null,
  deviceCgroupRules: null,
  deviceRequests: null,
  ulimits: null,
};

/** Nothing is asked of a process. */
export const PLAIN_PROCESS: ProcessSpec = {
  image: '',
  hostname: '',
  domainname: '',
  user: '',
  attachStdin: false,
  attachStdout: false,
  attachStderr: false,
  tty: false,
  openStdin: false,
  stdinOnce: false,
  env: null,
  cmd: null,
  entrypoint: null,
  argsEscaped: false,
  workingDir: '',
  labels: {},
  exposedPorts: null,
  volumes: null,
  healthcheck: null,
  onBuild: null,
  shell: null,
  stopSignal: null,
  stopTimeoutS: null,
  networkDisabled: false,
  macAddress: null,
};

/** Nothing is asked of the host. */
export const PLAIN_HOST: HostSpec = {
  binds: null,
  mounts: null,
  tmpfs: null,
  volumesFrom: null,
  volumeDriver: '',
  containerIdFile: '',
  log: { driver: '', options: {} },
  networkMode: 'bridge',
  portBindings: null,
  publishAllPorts: false,
  restartPolicy: { name: 'no', maximumRetryCount: 0 },
  autoRemove: false,
  consoleSize: [0, 0],
  annotations: null,
  capAdd: null,
  capDrop: null,
  cgroupnsMode: '',
  dns: null,
  dnsOptions: null,
  dnsSearch: null,
  extraHosts: null,
  groupAdd: null,
  ipcMode: '',
  cgroup: '',
  links: null,
  oomScoreAdj: 0,
  pidMode: '',
  privileged: false,
  readonlyRootfs: false,
  securityOpt: null,
  storageOpt: null,
  utsMode: '',
  usernsMode: '',
  shmSizeBytes: 0,
  sysctls: null,
  runtime: '',
  isolation: '',
  maskedPaths: null,
  readonlyPaths: null,
  init: null,
  resources: NO_RESOURCES,
};

export interface ThrottleSpec {
  readonly path: string;
  readonly rate: number;
}
export interface DeviceSpec {
  readonly pathOnHost: string;
  readonly pathInContainer: string;
  /** Of "rwm"; "" is "rwm". */
  readonly cgroupPermissions: string;
}
export interface DeviceRequestSpec {
  readonly driver: string;
  readonly count: number;
  readonly deviceIds: readonly string[] | null;
  readonly capabilities: readonly (readonly string[])[] | null;
  readonly options: Readonly<Record<string, string>> | null;
}
export interface UlimitSpec {
  readonly name: string;
  readonly soft: number;
  readonly hard: number;
}
export interface LogSpec {
  /** "" until the daemon's default was put in at creation. */
  readonly driver: string;
  readonly options: Readonly<Record<string, string>>;
}
export interface PortBinding {
  /** "" is every address. */
  readonly hostIp: string;
  /** "", "8080" or, to choose from, "8000-8010". */
  readonly hostPort: string;
}
export interface RestartPolicySpec {
  readonly name: 'no' | 'always' | 'unless-stopped' | 'on-failure';
  /** on-failure only; 0 is unlimited. */
  readonly maximumRetryCount: number;
}

/** One `--mount`. */
export interface MountSpec {
  readonly type: 'bind' | 'volume' | 'tmpfs' | 'image' | 'npipe' | 'cluster';
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
  readonly consistency: string;
  readonly bind: {
    readonly propagation: string;
    readonly nonRecursive: boolean;
    readonly createMountpoint: boolean;
    readonly readOnlyNonRecursive: boolean;
    readonly readOnlyForceRecursive: boolean;
  } | null;
  readonly volume: {
    readonly noCopy: boolean;
    readonly labels: Readonly<Record<string, string>> | null;
    readonly driver: { readonly name: string; readonly options: Readonly<Record<string, string>> | null } | null;
    readonly subpath: string;
  } | null;
  readonly tmpfs: {
    readonly sizeBytes: number;
    readonly mode: number;
    readonly options: readonly (readonly string[])[] | null;
  } | null;
  readonly image: { readonly subpath: string } | null;
}

/** One entry of NetworkingConfig.EndpointsConfig, or of a network connect. "" and null: choose for me. */
export interface EndpointSpec {
  readonly ipv4Address: string;
  readonly ipv6Address: string;
  readonly linkLocalIps: readonly string[] | null;
  readonly links: readonly string[] | null;
  readonly aliases: readonly string[] | null;
  readonly macAddress: string;
  readonly driverOpts: Readonly<Record<string, string>> | null;
  readonly gwPriority: number;
}
