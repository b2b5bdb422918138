/** For this room's tests: a container as creation makes it, and parts of which a test gives only what it uses. */
import {
  PLAIN_HOST,
  PLAIN_PROCESS,
  type ContainerSpec,
  type HostSpec,
  type ProcessSpec,
} from '../core/container-spec.ts';
import { silent } from '../core/log.ts';
import type { NewEvent } from '../event/port.ts';
import type { Image } from '../image/port.ts';
import type { Container } from '../lifecycle/container.ts';
import { created } from '../lifecycle/created.ts';
import type { HostFacts } from '../runtime/spec/input.ts';
import { ABLE_HOST } from '../runtime/spec/spec-fixture.ts';
import { Names } from './names.ts';
import type { Parts } from './parts.ts';
import { Resolver } from './resolve.ts';

export const PROCESS: ProcessSpec = { ...PLAIN_PROCESS, image: 'busybox', cmd: ['true'] };

export const HOST: HostSpec = PLAIN_HOST;

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
export const HOST_FACTS: HostFacts = { ...ABLE_HOST, cgroupVersion: 'v2', capabilities: [] };

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
    logTending: { begin: () => {}, end: () => {}, remove: async () => {}, status: () => null, counters: () => [] },
    namespacePaths: new Map(),
    settings: { dataRoot: '/data' },
    host: { apparmor: false },
    imageOf: () => null,
    networkOf: () => null,
    ...given,
  };
  return parts as unknown as Parts & { readonly published: NewEvent[] };
}
