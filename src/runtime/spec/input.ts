/**
 * What buildOciSpec() is given: the container's spec, and every fact about the host and the start that a pure function
 * cannot find out. container/ gathers them; HostFacts come from runtime/host-facts.ts once at boot.
 */
import type { ContainerSpec, HostSpec, UlimitSpec } from '../../core/container-spec.ts';
import { isRemapped, NO_REMAP, type IdMap } from '../../core/id-map.ts';
import type { CdiEdits } from '../cdi/cdi-spec.ts';

export interface OciInput {
  readonly id: string;
  readonly spec: ContainerSpec;
  /** Absolute path of the mounted rootfs. */
  readonly rootfsPath: string;
  readonly user: ResolvedUser;
  /** "NAME=value" of legacy links; before the container's own. */
  readonly linkEnv: readonly string[];
  /**
   * Volumes, binds, image mounts, resolv.conf, hostname and hosts; `source` is a path on the host. HostSpec.tmpfs is
   * added by the builder; of spec.host.binds and spec.host.mounts nothing is read.
   */
  readonly mounts: readonly SpecMount[];
  /** As Attached.namespacePath: null is the host's own. */
  readonly networkNamespacePath: string | null;
  /** Of remapped containers; null: the runtime makes one. */
  readonly userNamespacePath: string | null;
  /** Pid (on the host) of the container of pidMode and ipcMode "container:ID"; null otherwise. */
  readonly pidModePid: number | null;
  readonly ipcModePid: number | null;
  /** Host directory to bind at /dev/shm, for ipcMode "shareable" and "container:ID"; null: a private tmpfs. */
  readonly shmPath: string | null;
  /** The nodes behind HostSpec.resources.devices, from runtime/host-devices.ts; in any order. */
  readonly devices: readonly MappedDevice[];
  /** What the CDI devices of deviceRequests do; from cdi/cdi-registry.ts. */
  readonly cdiEdits: readonly CdiEdits[];
  /** Every node below /dev; only read for privileged containers. */
  readonly hostDevices: readonly DeviceNode[];
  /** "device:major:minor" of the paths that block I/O limits name. */
  readonly blockDevices: ReadonlyMap<string, DeviceNumber>;
  /** /proc/self/mountinfo, for the check that shared and slave binds need; only read when there is one. */
  readonly mountinfo?: string;
  readonly host: HostFacts;
  readonly daemon: DaemonDefaults;
}

export interface ResolvedUser {
  readonly uid: number;
  readonly gid: number;
  /** With the primary group first, as Docker has it. */
  readonly additionalGids: readonly number[];
  /** From passwd; "/" when there is no entry. */
  readonly home: string;
}

/** The part of a MountPoint that matters to the runtime (a MountPoint fits). */
export interface SpecMount {
  readonly type: 'bind' | 'volume' | 'tmpfs' | 'image';
  readonly source: string;
  readonly destination: string;
  readonly readWrite: boolean;
  /** "" is rprivate. */
  readonly propagation: string;
  /** tmpfs data ("size=64m"), "nonrecursive", "ro-nonrecursive", "ro-force-recursive", "slave-if-shared". */
  readonly options: readonly string[];
}

export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

export interface DeviceNode extends DeviceNumber {
  readonly path: string;
  readonly type: 'c' | 'b' | 'p';
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** One node of a `--device`; `path` is where the container sees it. */
export interface MappedDevice extends DeviceNode {
  /** Where the request asked for it on the host (a directory maps to many nodes). */
  readonly pathOnHost: string;
  /** Of "rwm". */
  readonly permissions: string;
}

/** What this host can do; read once at boot. */
export interface HostFacts {
  /** GOARCH words: "amd64", "arm64". */
  readonly architecture: string;
  readonly kernelVersion: readonly [major: number, minor: number];
  readonly cpuCount: number;
  /** "0-1", of the root of the cpuset hierarchy. */
  readonly cpusAvailable: string;
  readonly memsAvailable: string;
  readonly cgroupVersion: 'v1' | 'v2';
  /** "CAP_…" in the daemon's bounding and permitted sets. */
  readonly capabilities: readonly string[];
  readonly seccomp: boolean;
  /** AppArmor confines here, and profiles can be loaded. */
  readonly apparmor: boolean;
  /** CPUs that have a thermal_throttle directory in sysfs. */
  readonly thermalThrottleCpus: readonly number[];
  readonly ipv4Forwarding: boolean;
  readonly cgroupNamespaces: boolean;
  /** Default sysctls that this kernel has. */
  readonly pingGroupRange: boolean;
  readonly unprivilegedPortStart: boolean;
  readonly limits: HostLimits;
}

/** Which limits the kernel and its cgroups can enforce (moby pkg/sysinfo). */
export interface HostLimits {
  readonly memory: boolean;
  readonly swap: boolean;
  readonly memoryReservation: boolean;
  readonly memorySwappiness: boolean;
  readonly oomKillDisable: boolean;
  readonly kernelMemory: boolean;
  readonly kernelMemoryTcp: boolean;
  readonly cpuShares: boolean;
  readonly cpuCfs: boolean;
  readonly cpuRealtime: boolean;
  readonly cpuset: boolean;
  readonly pids: boolean;
  readonly blkioWeight: boolean;
  readonly blkioWeightDevice: boolean;
  readonly blkioReadBps: boolean;
  readonly blkioWriteBps: boolean;
  readonly blkioReadIops: boolean;
  readonly blkioWriteIops: boolean;
}

/** What dockerd's flags and daemon.json decide for every container. */
export interface DaemonDefaults {
  /** "" is "/longshore" (cgroupfs) or "system.slice" (systemd). */
  readonly cgroupParent: string;
  readonly cgroupDriver: 'cgroupfs' | 'systemd';
  readonly init: boolean;
  /** The init binary; null: none was found, and --init is refused. */
  readonly initPath: string | null;
  readonly noNewPrivileges: boolean;
  /** "" and "builtin": the default profile; "unconfined"; or a profile's JSON. */
  readonly seccompProfile: string;
  readonly ulimits: readonly UlimitSpec[];
  readonly ipcMode: 'private' | 'shareable';
  /** "": private on cgroup v2, host on v1. */
  readonly cgroupnsMode: '' | 'private' | 'host';
  readonly shmSizeBytes: number;
  /** Names in the table of runtimes. */
  readonly runtimes: readonly string[];
  readonly defaultRuntime: string;
  /** --userns-remap */
  readonly ids: IdMap;
  /** Where CDI devices are described; none: there is no CDI. */
  readonly cdiSpecDirs: readonly string[];
}

/** What a container's IDs are on the host. */
export function idsOf(host: Pick<HostSpec, 'usernsMode'>, daemon: Pick<DaemonDefaults, 'ids'>): IdMap {
  return host.usernsMode === 'host' ? NO_REMAP : daemon.ids;
}

export function isInUserNamespace(host: Pick<HostSpec, 'usernsMode'>, daemon: Pick<DaemonDefaults, 'ids'>): boolean {
  return isRemapped(idsOf(host, daemon));
}

export const DAEMON_DEFAULTS: DaemonDefaults = {
  cgroupParent: '',
  cgroupDriver: 'cgroupfs',
  init: false,
  initPath: null,
  noNewPrivileges: false,
  seccompProfile: '',
  ulimits: [],
  ipcMode: 'private',
  cgroupnsMode: '',
  shmSizeBytes: 64 * 1024 * 1024,
  runtimes: ['crun', 'runc'],
  defaultRuntime: 'runc',
  ids: NO_REMAP,
  cdiSpecDirs: [],
};
