/** For tests only: a container spec in which nothing was asked, a host that can do all, and an input of both. */
import {
  PLAIN_HOST,
  PLAIN_PROCESS,
  type ContainerSpec,
  type HostSpec,
  type ProcessSpec,
} from '../../core/container-spec.ts';
import { CAPABILITIES } from './capabilities.ts';
import { DAEMON_DEFAULTS, type HostFacts, type OciInput } from './input.ts';

export const ABLE_HOST: HostFacts = {
  architecture: 'amd64',
  kernelVersion: [6, 1],
  cpuCount: 2,
  cpusAvailable: '0-1',
  memsAvailable: '0',
  cgroupVersion: 'v1',
  capabilities: CAPABILITIES,
  seccomp: true,
  apparmor: false,
  thermalThrottleCpus: [],
  ipv4Forwarding: true,
  cgroupNamespaces: true,
  pingGroupRange: true,
  unprivilegedPortStart: true,
  limits: {
    memory: true,
    swap: true,
    memoryReservation: true,
    memorySwappiness: true,
    oomKillDisable: true,
    kernelMemory: true,
    kernelMemoryTcp: true,
    cpuShares: true,
    cpuCfs: true,
    cpuRealtime: true,
    cpuset: true,
    pids: true,
    blkioWeight: true,
    blkioWeightDevice: true,
    blkioReadBps: true,
    blkioWriteBps: true,
    blkioReadIops: true,
    blkioWriteIops: true,
  },
};

export function plainSpec(process: Partial<ProcessSpec> = {}, host: Partial<HostSpec> = {}): ContainerSpec {
  return {
    process: { ...PLAIN_PROCESS, image: 'busybox', hostname: 'host1', cmd: ['sh'], ...process },
    host: { ...PLAIN_HOST, shmSizeBytes: 64 << 20, ...host },
    endpoints: {},
  };
}

export function plainInput(spec: ContainerSpec = plainSpec(), more: Partial<OciInput> = {}): OciInput {
  return {
    id: 'c1',
    spec,
    rootfsPath: '/rootfs',
    user: { uid: 0, gid: 0, additionalGids: [0], home: '/root' },
    linkEnv: [],
    mounts: [],
    userNamespacePath: null,
    cdiEdits: [],
    networkNamespacePath: '/run/netns/c1',
    pidModePid: null,
    ipcModePid: null,
    shmPath: null,
    devices: [],
    hostDevices: [],
    blockDevices: new Map(),
    host: ABLE_HOST,
    daemon: DAEMON_DEFAULTS,
    ...more,
  };
}
