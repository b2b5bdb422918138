/** GET /version and GET /info. Source: moby api/types/system, daemon/info.go (v28). */
import { formatApiVersion, MINOR_MAX, MINOR_MIN, MOBY_VERSION } from '../api-version.ts';
import type { InfoFacts, VersionFacts } from '../port.ts';

export function formatVersion(facts: VersionFacts): object {
  const common = {
    ApiVersion: formatApiVersion(MINOR_MAX),
    Arch: facts.arch,
    BuildTime: facts.buildTime,
    GitCommit: facts.gitCommit,
    GoVersion: facts.nodeVersion,
    KernelVersion: facts.kernelVersion,
    MinAPIVersion: formatApiVersion(MINOR_MIN),
    Os: facts.os,
  };
  return {
    Platform: { Name: `Longshore ${facts.version}` },
    Components: [
      { Name: 'Engine', Version: MOBY_VERSION, Details: { ...common, Experimental: 'false' } },
      ...facts.components.map(({ name, version, details }) => ({ Name: name, Version: version, Details: details })),
    ],
    // Clients compare it with Docker's releases to know what they may use, so it is the release that we equal.
    Version: MOBY_VERSION,
    ApiVersion: common.ApiVersion,
    MinAPIVersion: common.MinAPIVersion,
    GitCommit: facts.gitCommit,
    GoVersion: facts.nodeVersion,
    Os: facts.os,
    Arch: facts.arch,
    KernelVersion: facts.kernelVersion,
    BuildTime: facts.buildTime,
  };
}

export interface Counts {
  readonly running: number;
  readonly paused: number;
  readonly stopped: number;
  readonly images: number;
  readonly eventListeners: number;
}

export function formatInfo(facts: InfoFacts, version: VersionFacts, counts: Counts, minor: number): object {
  const { controllers } = facts;
  const commit = (name: string): object => {
    const id = version.components.find((component) => component.name === name)?.version ?? '';
    return minor < 49 ? { ID: id, Expected: id } : { ID: id };
  };
  return {
    ID: facts.id,
    Containers: counts.running + counts.paused + counts.stopped,
    ContainersRunning: counts.running,
    ContainersPaused: counts.paused,
    ContainersStopped: counts.stopped,
    Images: counts.images,
    Driver: 'overlay2',
    DriverStatus: [
      ['Backing Filesystem', facts.storageBackingFilesystem],
      ['Supports d_type', 'true'],
      ['Using metacopy', 'false'],
      ['Native Overlay Diff', 'true'],
      ['userxattr', 'false'],
    ],
    Plugins: { Volume: facts.volumeDrivers, Network: facts.networkDrivers, Authorization: null, Log: facts.logDrivers },
    MemoryLimit: controllers.memory,
    SwapLimit: controllers.swap,
    KernelMemoryTCP: controllers.kernelMemoryTcp || undefined,
    CpuCfsPeriod: controllers.cpuCfs,
    CpuCfsQuota: controllers.cpuCfs,
    CPUShares: controllers.cpuShares,
    CPUSet: controllers.cpuset,
    PidsLimit: controllers.pids,
    IPv4Forwarding: facts.ipv4Forwarding,
    ...(minor < 50 ? { BridgeNfIptables: false, BridgeNfIp6tables: false } : {}),
    Debug: facts.debug,
    NFd: facts.openDescriptors,
    OomKillDisable: controllers.oomKillDisable,
    NGoroutines: 0,
    SystemTime: facts.systemTime,
    LoggingDriver: facts.loggingDriver,
    CgroupDriver: facts.cgroupDriver,
    CgroupVersion: facts.cgroupVersion,
    NEventsListener: counts.eventListeners,
    KernelVersion: facts.kernelVersion,
    OperatingSystem: facts.operatingSystem,
    OSVersion: facts.osVersion,
    OSType: facts.osType,
    Architecture: facts.architecture,
    IndexServerAddress: 'https://index.docker.io/v1/',
    RegistryConfig: formatRegistryConfig(facts, minor),
    NCPU: facts.cpus,
    MemTotal: facts.memoryBytes,
    GenericResources: null,
    DockerRootDir: facts.dataRoot,
    HttpProxy: facts.httpProxy,
    HttpsProxy: facts.httpsProxy,
    NoProxy: facts.noProxy,
    Name: facts.name,
    Labels: facts.labels,
    ExperimentalBuild: facts.experimental,
    ServerVersion: MOBY_VERSION,
    Runtimes: Object.fromEntries(
      Object.entries(facts.runtimes).map(([name, { path, args }]) => [
        name,
        { path, ...(args.length > 0 ? { runtimeArgs: args } : {}) },
      ]),
    ),
    DefaultRuntime: facts.defaultRuntime,
    Swarm: {
      NodeID: '',
      NodeAddr: '',
      LocalNodeState: 'inactive',
      ControlAvailable: false,
      Error: '',
      RemoteManagers: null,
    },
    LiveRestoreEnabled: facts.liveRestore,
    Isolation: '',
    InitBinary: facts.initBinary,
    ContainerdCommit: commit('containerd'),
    RuncCommit: commit(facts.defaultRuntime),
    InitCommit: commit(facts.initBinary),
    SecurityOptions: facts.securityOptions,
    DefaultAddressPools:
      facts.defaultAddressPools.length === 0
        ? undefined
        : facts.defaultAddressPools.map(({ base, size }) => ({ Base: base, Size: size })),
    FirewallBackend: minor < 49 ? undefined : { Driver: 'nftables' },
    CDISpecDirs: facts.cdiSpecDirs,
    DiscoveredDevices:
      minor < 50 || facts.discoveredDevices.length === 0
        ? undefined
        : facts.discoveredDevices.map(({ source, id }) => ({ Source: source, ID: id })),
    Warnings: facts.warnings.length === 0 ? null : facts.warnings,
  };
}

function formatRegistryConfig(facts: InfoFacts, minor: number): object {
  const isNetwork = (registry: string): boolean => /^[\d.]+\/\d+$|:.*\/\d+$/.test(registry);
  const docker = { Name: 'docker.io', Mirrors: facts.registryMirrors, Secure: true, Official: true };
  const insecure = facts.insecureRegistries.filter((registry) => !isNetwork(registry));
  return {
    ...(minor < 47 ? { AllowNondistributableArtifactsCIDRs: null, AllowNondistributableArtifactsHostnames: null } : {}),
    InsecureRegistryCIDRs: [...facts.insecureRegistries.filter(isNetwork), '::1/128', '127.0.0.0/8'],
    IndexConfigs: Object.fromEntries([
      ['docker.io', docker],
      ...insecure.map((name) => [name, { Name: name, Mirrors: [], Secure: false, Official: false }]),
    ]),
    Mirrors: facts.registryMirrors,
  };
}
