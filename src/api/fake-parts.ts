/** An engine for the tests of this room: canned values, and whatever a test overrides. Anything else called is a bug. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';

import type { ContainerDetails, Containers } from '../container/port.ts';
import { systemClock } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';
import { silent } from '../core/log.ts';
import type { Image } from '../image/port.ts';
import type { EngineParts, VersionFacts } from './port.ts';
import { openApi, type Api } from './open-api.ts';
import type { Scope } from './scope.ts';
import { createRequest, parseCreateRequest } from './wire/container-create.ts';
import { decodeBody } from './wire/decode.ts';

export const ID = 'a1'.repeat(32);
export const IMAGE_ID = `sha256:${'b2'.repeat(32)}`;

export const version: VersionFacts = {
  version: '0.1.0',
  gitCommit: 'abc',
  buildTime: '2026-01-01T00:00:00Z',
  nodeVersion: 'v24',
  os: 'linux',
  arch: 'amd64',
  kernelVersion: '6.1',
  components: [],
};

export const image: Image = {
  id: IMAGE_ID,
  tags: ['busybox:latest'],
  digests: [],
  parentId: '',
  createdAt: '2026-01-02T03:04:05.5Z',
  taggedAt: '',
  author: '',
  comment: '',
  architecture: 'amd64',
  variant: '',
  os: 'linux',
  osVersion: '',
  config: {
    user: '',
    env: ['PATH=/bin'],
    entrypoint: null,
    cmd: ['sh'],
    workingDir: '',
    labels: null,
    exposedPorts: null,
    volumes: null,
    stopSignal: '',
    healthcheck: null,
    onBuild: null,
    shell: null,
    argsEscaped: false,
  },
  sizeBytes: 1234,
  layers: [`sha256:${'c3'.repeat(32)}`],
  dockerVersion: '',
  manifestDigest: '',
};

/** Details of a container that was created by `body`. */
export function details(
  body: object,
  state: ContainerDetails['container']['state'] = { at: 'created' },
): ContainerDetails {
  const { spec } = parseCreateRequest(decodeBody(JSON.stringify(body), createRequest), 51, '2');
  return {
    container: {
      id: ID,
      name: 'web',
      createdAt: '2026-01-02T03:04:05.123456789Z',
      spec,
      imageId: IMAGE_ID,
      mounts: [],
      intent: { wanted: 'stop', stoppedByUser: false },
      state,
      run: 0,
      restartCount: 0,
      lastDelayMs: 0,
      health: null,
      cause: { actor: 'api', detail: '' },
    },
    image,
    command: { path: 'sh', arguments: ['-c', 'sleep 1'] },
    endpoints: new Map(),
    ports: {},
    sandboxKey: '',
    execIds: [],
    links: null,
    linkNames: [],
    paths: { log: '', resolvConf: '', hostname: '', hosts: '' },
    overlay: { lowerDir: '/l', upperDir: '/u', workDir: '/w', mergedDir: '/m' },
    sizes: null,
    runtime: 'crun',
    appArmorProfile: '',
    platform: 'linux',
  };
}

type Overrides = { readonly [K in keyof EngineParts]?: Partial<EngineParts[K]> };

export function fakeParts(overrides: Overrides = {}): EngineParts {
  const containers: Partial<Containers> = {
    resolve: (ref) => {
      throw new EngineError('CONTAINER_NOT_FOUND', `No such container: ${ref}`);
    },
    inspect: async (ref) => {
      throw new EngineError('CONTAINER_NOT_FOUND', `No such container: ${ref}`);
    },
    execCheck: () => {},
    execInspect: (id) => {
      throw new EngineError('EXEC_NOT_FOUND', `No such exec instance: ${id}`);
    },
    list: async () => [],
    ...overrides.containers,
  };
  const part = <T extends object>(name: string, value: Partial<T> | undefined): T =>
    new Proxy((value ?? {}) as T, {
      get: (target, key) => {
        const found: unknown = Reflect.get(target, key);
        if (found === undefined && typeof key === 'string') throw new Error(`the fake has no ${name}.${key}`);
        return found;
      },
    });
  return {
    containers: part<Containers>('containers', containers),
    images: part('images', { list: () => [image], ...overrides.images }),
    networks: part('networks', overrides.networks),
    volumes: part('volumes', overrides.volumes),
    events: part('events', { publish: () => {}, ...overrides.events }),
    treeArchive: part('treeArchive', overrides.treeArchive),
    system: part('system', { version, ...overrides.system }),
    clock: systemClock,
    logger: silent,
  };
}

export interface TestApi extends AsyncDisposable {
  readonly path: string;
  readonly api: Api;
  ask(method: string, path: string, body?: string | object, headers?: Record<string, string>): Promise<Answer>;
  /** A raw connection on which `text` was written. */
  raw(text: string): Promise<Socket>;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** Parsed; undefined when it is no JSON. */
  readonly json: unknown;
}

/** Serves `overrides` on a unix socket of its own, within `scope`. */
export async function openTestApi(overrides: Overrides = {}, scope: Scope | null = null): Promise<TestApi> {
  const directory = await mkdtemp(join(tmpdir(), 'longshore-api-'));
  const path = join(directory, 'api.sock');
  const api = await openApi(fakeParts(overrides), { listeners: [{ kind: 'unix', path, group: null, scope }] });
  return {
    path,
    api,
    async ask(method, url, body, headers = {}) {
      const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
      const type = typeof body === 'object' ? { 'Content-Type': 'application/json' } : {};
      const { promise, resolve, reject } = Promise.withResolvers<Answer>();
      const request = httpRequest(
        {
          socketPath: path,
          method,
          path: url,
          agent: false,
          headers: {
            ...type,
            ...headers,
            ...(text === undefined ? {} : { 'Content-Length': Buffer.byteLength(text) }),
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            const answer = Buffer.concat(chunks).toString('latin1');
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              text: answer,
              json: tryJson(answer),
            });
          });
        },
      );
      request.on('error', reject);
      request.end(text);
      return promise;
    },
    async raw(text) {
      const socket = connect({ path, allowHalfOpen: true });
      await once(socket, 'connect');
      socket.write(text);
      return socket;
    },
    async [Symbol.asyncDispose]() {
      await api.close(0);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Collects what a socket brings until `until` is in it, or it ends. */
export async function readUntil(socket: Socket, until: string | null): Promise<string> {
  let text = '';
  for (;;) {
    if (until !== null && text.includes(until)) return text;
    const chunk = socket.read() as Buffer | null;
    if (chunk !== null) {
      text += chunk.toString('latin1');
      continue;
    }
    if (socket.readableEnded || socket.destroyed) return text;
    await Promise.race([once(socket, 'readable'), once(socket, 'end'), once(socket, 'close')]);
  }
}
