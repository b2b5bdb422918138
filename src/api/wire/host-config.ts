/** Docker's HostConfig: how a container meets the host. Source: moby api/types/container/hostconfig.go (v28). */
import type { HostSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import { flag, integer, list, map, optional, pair, struct, text, type Decoded } from './decode.ts';
import { formatMount, mount, parseMount } from './mount.ts';
import { formatPortMap, parsePortBindings, portMap } from './port-map.ts';
import { formatResources, parseResources, parseRestartPolicy, resourceFields, restartPolicy } from './resources.ts';

export const hostConfig = struct('container.HostConfig', {
  Binds: list(text),
  ContainerIDFile: text,
  LogConfig: struct('container.LogConfig', { Type: text, Config: map(text) }),
  NetworkMode: text,
  PortBindings: portMap,
  RestartPolicy: restartPolicy,
  AutoRemove: flag,
  VolumeDriver: text,
  VolumesFrom: list(text),
  ConsoleSize: pair(integer('uint')),
  Annotations: map(text),
  CapAdd: list(text),
  CapDrop: list(text),
  CgroupnsMode: text,
  Dns: list(text),
  DnsOptions: list(text),
  DnsSearch: list(text),
  ExtraHosts: list(text),
  GroupAdd: list(text),
  IpcMode: text,
  Cgroup: text,
  Links: list(text),
  OomScoreAdj: integer('int'),
  PidMode: text,
  Privileged: flag,
  PublishAllPorts: flag,
  ReadonlyRootfs: flag,
  SecurityOpt: list(text),
  StorageOpt: map(text),
  Tmpfs: map(text),
  UTSMode: text,
  UsernsMode: text,
  ShmSize: integer('int64'),
  Sysctls: map(text),
  Runtime: text,
  Isolation: text,
  ...resourceFields,
  Mounts: list(mount),
  MaskedPaths: list(text),
  ReadonlyPaths: list(text),
  Init: optional(flag),
});
export type HostConfig = Decoded<typeof hostConfig>;

/** `asked` has been through the version's adaptions. @throws CONTAINER_SPEC_INVALID */
export function parseHostConfig(asked: HostConfig): HostSpec {
  checkModes(asked);
  const policy = parseRestartPolicy(asked.RestartPolicy);
  if (asked.AutoRemove && policy.name !== 'no')
    throw invalid("can't create 'AutoRemove' container with restart policy");
  for (const host of asked.ExtraHosts ?? []) checkExtraHost(host);
  if (Object.hasOwn(asked.Annotations ?? {}, ''))
    throw invalid('invalid Annotations: the empty string is not permitted as an annotation key');
  if (asked.OomScoreAdj < -1000 || asked.OomScoreAdj > 1000)
    throw invalid(`Invalid value ${asked.OomScoreAdj}, range for oom score adj is [-1000, 1000]`);
  if (asked.ShmSize < 0) throw invalid('SHM size can not be less than 0');
  return {
    binds: asked.Binds,
    mounts: asked.Mounts?.map(parseMount) ?? null,
    tmpfs: asked.Tmpfs,
    volumesFrom: asked.VolumesFrom,
    volumeDriver: asked.VolumeDriver,
    containerIdFile: asked.ContainerIDFile,
    log: { driver: asked.LogConfig.Type, options: asked.LogConfig.Config ?? {} },
    networkMode: asked.NetworkMode,
    portBindings: asked.PortBindings && parsePortBindings(asked.PortBindings),
    publishAllPorts: asked.PublishAllPorts,
    restartPolicy: policy,
    autoRemove: asked.AutoRemove,
    consoleSize: asked.ConsoleSize,
    annotations: asked.Annotations,
    capAdd: asked.CapAdd,
    capDrop: asked.CapDrop,
    cgroupnsMode: asked.CgroupnsMode as HostSpec['cgroupnsMode'],
    dns: asked.Dns,
    dnsOptions: asked.DnsOptions,
    dnsSearch: asked.DnsSearch,
    extraHosts: asked.ExtraHosts,
    groupAdd: asked.GroupAdd,
    ipcMode: asked.IpcMode,
    cgroup: asked.Cgroup,
    links: asked.Links,
    oomScoreAdj: asked.OomScoreAdj,
    pidMode: asked.PidMode,
    privileged: asked.Privileged,
    readonlyRootfs: asked.ReadonlyRootfs,
    securityOpt: asked.SecurityOpt,
    storageOpt: asked.StorageOpt,
    utsMode: asked.UTSMode,
    usernsMode: asked.UsernsMode,
    shmSizeBytes: asked.ShmSize,
    sysctls: asked.Sysctls,
    runtime: asked.Runtime,
    isolation: asked.Isolation,
    maskedPaths: asked.MaskedPaths,
    readonlyPaths: asked.ReadonlyPaths,
    init: asked.Init,
    resources: parseResources(asked),
  };
}

/** Words that moby accepts for each namespace mode. */
function checkModes(asked: HostConfig): void {
  const container = /^container:/;
  const ok = {
    'IPC mode': ['', 'none', 'private', 'host', 'shareable'].includes(asked.IpcMode) || container.test(asked.IpcMode),
    'PID mode': ['', 'host'].includes(asked.PidMode) || /^container:./.test(asked.PidMode),
    'UTS mode': ['', 'host'].includes(asked.UTSMode),
    'userns mode': ['', 'host'].includes(asked.UsernsMode),
    'cgroup namespace mode': ['', 'private', 'host'].includes(asked.CgroupnsMode),
    'Cgroup mode': asked.Cgroup === '' || container.test(asked.Cgroup),
  };
  const values = [asked.IpcMode, asked.PidMode, asked.UTSMode, asked.UsernsMode, asked.CgroupnsMode, asked.Cgroup];
  Object.entries(ok).forEach(([what, valid], index) => {
    if (!valid) throw invalid(`invalid ${what}: ${values[index]}`);
  });
  if (!['', 'default'].includes(asked.Isolation.toLowerCase()))
    throw invalid(
      `invalid isolation (${asked.Isolation}): linux does not support isolation modes other than 'default'`,
    );
}

function checkExtraHost(host: string): void {
  const at = host.search(/[:=]/);
  if (at <= 0) throw invalid(`bad format for add-host: ${JSON.stringify(host)}`);
  const address = host.slice(at + 1).replace(/^\[(.*)\]$/, '$1');
  if (address !== 'host-gateway' && !/^[\d.]+$|^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(%.*)?$/.test(address))
    throw invalid(`invalid IP address in add-host: ${JSON.stringify(address)}`);
}

export function formatHostConfig(host: HostSpec): object {
  return {
    Binds: host.binds,
    ContainerIDFile: host.containerIdFile,
    LogConfig: { Type: host.log.driver, Config: host.log.options },
    NetworkMode: host.networkMode,
    PortBindings: host.portBindings && formatPortMap(host.portBindings),
    RestartPolicy: { Name: host.restartPolicy.name, MaximumRetryCount: host.restartPolicy.maximumRetryCount },
    AutoRemove: host.autoRemove,
    VolumeDriver: host.volumeDriver,
    VolumesFrom: host.volumesFrom,
    ConsoleSize: host.consoleSize,
    Annotations: nonEmpty(host.annotations),
    CapAdd: host.capAdd,
    CapDrop: host.capDrop,
    CgroupnsMode: host.cgroupnsMode,
    Dns: host.dns,
    DnsOptions: host.dnsOptions,
    DnsSearch: host.dnsSearch,
    ExtraHosts: host.extraHosts,
    GroupAdd: host.groupAdd,
    IpcMode: host.ipcMode,
    Cgroup: host.cgroup,
    Links: host.links,
    OomScoreAdj: host.oomScoreAdj,
    PidMode: host.pidMode,
    Privileged: host.privileged,
    PublishAllPorts: host.publishAllPorts,
    ReadonlyRootfs: host.readonlyRootfs,
    SecurityOpt: host.securityOpt,
    StorageOpt: nonEmpty(host.storageOpt),
    Tmpfs: nonEmpty(host.tmpfs),
    UTSMode: host.utsMode,
    UsernsMode: host.usernsMode,
    ShmSize: host.shmSizeBytes,
    Sysctls: nonEmpty(host.sysctls),
    Runtime: host.runtime || undefined,
    Isolation: host.isolation,
    ...formatResources(host.resources),
    Mounts: host.mounts === null || host.mounts.length === 0 ? undefined : host.mounts.map(formatMount),
    MaskedPaths: host.maskedPaths,
    ReadonlyPaths: host.readonlyPaths,
    Init: host.init ?? undefined,
  };
}

function nonEmpty(record: Readonly<Record<string, string>> | null): Readonly<Record<string, string>> | undefined {
  return record === null || Object.keys(record).length === 0 ? undefined : record;
}

function invalid(message: string): EngineError {
  return new EngineError('CONTAINER_SPEC_INVALID', message);
}
