/** For this room's tests: a container as creation makes it, and parts of which a test gives only what it uses. */
import type { ContainerSpec, HostSpec, ProcessSpec } from '../core/container-spec.ts';
import { silent } from '../core/log.ts';
import type { NewEvent } from '../event/port.ts';
import type { Image } from '../image/port.ts';
import type { Container } from '../lifecycle/container.ts';
import { created } from '../lifecycle/created.ts';
import type { HostFacts } from '../runtime/spec/input.ts';
import { Names } from './names.ts';
import type { Parts } from './parts.ts';
import { Resolver } from './resolve.ts';
import { NO_RESOURCES } from './update.ts';

export const PROCESS: ProcessSpec = {
  image: 'busybox', hostname: '', domainname: '', user: '', attachStdin: false, attachStdout: false, attachStderr: false,
  tty: false, openStdin: false, stdinOnce: false, env: null, cmd: ['true'], entrypoint: null, argsEscaped: false,
  workingDir: '', labels: {}, exposedPorts: null, volumes: null, healthcheck: null, onBuild: null, shell: null,
  stopSignal: null, stopTimeoutS: null, networkDisabled: false, macAddress: null,
}; // prettier-ignore

export const HOST: HostSpec = {
  binds: null, mounts: null, tmpfs: null, volumesFrom: null, volumeDriver: '', containerIdFile: '',
  log: { driver: '', options: {} }, networkMode: 'bridge', portBindings: {}, publishAllPorts: false,
  restartPolicy: { name: 'no', maximumRetryCount: 0 }, autoRemove: false, consoleSize: [0, 0], annotations: null,
  capAdd: null, capDrop: null, cgroupnsMode: '', dns: null, dnsOptions: null, dnsSearch: null, extraHosts: null,
  groupAdd: null, ipcMode: '', cgroup: '', links: null, oomScoreAdj: 0, pidMode: '', privileged: false,
  readonlyRootfs: false, securityOpt: null, storageOpt: null, utsMode: '', usernsMode: '', shmSizeBytes: 0,
  sysctls: null, runtime: '', isolation: '', maskedPaths: null, readonlyPaths: null, init: null, resources: NO_RESOURCES,
}; // prettier-ignore

export const IMAGE: Image = {
  id: 'sha256:1', tags: ['busybox:latest'], digests: [], parentId: '', createdAt: '', taggedAt: '', author: '', comment: '',
  architecture: 'amd64', variant: '', os: 'linux', osVersion: '', sizeBytes: 1, layers: [], dockerVersion: '',
  manifestDigest: '',
  config: {
    user: '', env: ['PATH=/bin'], entrypoint: null, cmd: ['sh'], workingDir: '', labels: null, exposedPorts: null,
    volumes: null, stopSignal: '', healthcheck: null, onBuild: null, shell: null, argsEscaped: false,
  },
}; // prettier-ignore

/** A host that can do everything. */
export const HOST_FACTS: HostFacts = {
  architecture: 'amd64', kernelVersion: [6, 1], cpuCount: 2, cpusAvailable: '0-1', memsAvailable: '0', cgroupVersion: 'v2',
  capabilities: [], seccomp: true, apparmorProfiles: null, thermalThrottleCpus: [], ipv4Forwarding: true,
  cgroupNamespaces: true, pingGroupRange: true, unprivilegedPortStart: true,
  limits: {
    memory: true, swap: true, memoryReservation: true, memorySwappiness: true, oomKillDisable: true, kernelMemoryTcp: true,
    cpuShares: true, cpuCfs: true, cpuRealtime: true, cpuset: true, pids: true, blkioWeight: true, blkioWeightDevice: true,
    blkioReadBps: true, blkioWriteBps: true, blkioReadIops: true, blkioWriteIops: true,
  },
}; // prettier-ignore

export function specOf(
  change: { process?: Partial<ProcessSpec>; host?: Partial<HostSpec>; endpoints?: ContainerSpec['endpoints'] } = {},
): ContainerSpec {
  return {
    process: { ...PROCESS, ...change.process },
    host: { ...HOST, ...change.host },
    endpoints: change.endpoints ?? {},
  };
}

export function containerOf(change: Partial<Container> = {}): Container {
  const made = created({
    id: 'a'.repeat(64), name: 'web', createdAt: '2026-01-01T00:00:00Z', spec: specOf(), imageId: 'sha256:1', mounts: [],
    cause: { actor: 'api', detail: 'test' },
  }); // prettier-ignore
  return { ...made, ...change };
}

/** What was published is in `published`. Whatever is not in `given` throws when it is used. */
export function partsWith(
  containers: Container[],
  given: Partial<Parts> = {},
): Parts & { readonly published: NewEvent[] } {
  const published: NewEvent[] = [];
  const lookup = { get: (id: string) => containers.find((one) => one.id === id), list: () => containers };
  const names = new Names(lookup);
  const parts = {
    published,
    supervisor: { ...lookup, execs: () => [] },
    networks: { endpoints: () => new Map(), ports: () => ({}), list: () => [] },
    images: {
      list: () => [],
      snapshots: { describe: () => ({ lowerDir: '', upperDir: '', workDir: '', mergedDir: '' }) },
    },
    names,
    resolver: new Resolver(lookup, names),
    events: { publish: (event: NewEvent) => published.push(event) },
    logger: silent,
    logTending: { begin: () => {}, end: () => {}, remove: async () => {}, status: () => null },
    namespacePaths: new Map(),
    settings: { dataRoot: '/data' },
    host: { apparmorProfiles: null },
    imageOf: () => null,
    networkOf: () => null,
    ...given,
  };
  return parts as unknown as Parts & { readonly published: NewEvent[] };
}
