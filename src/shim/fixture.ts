/**
 * For tests only: real containers through a real shim, in a scratch directory, with nothing else of the engine.
 * A busybox rootfs, a bundle for each container, and `Processes` on child_process (the kernel room has the real one).
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import koffi from 'koffi';

import type { Processes } from '../kernel/port.ts';
import type { ShimLaunch, ShimSpawned } from './client.ts';
import { spawnShim } from './client.ts';
import type { ShimEvent } from './protocol.ts';

/** Longer in the virtual machine, as the deadlines of test/support/daemon.ts. */
const EVENT_MS_MAX = process.env['LSVM_BOOT'] === undefined ? 20_000 : 120_000;
export const EXEC_CONSOLE_SIZE = [33, 77] as const;
const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;

const socketpair = koffi.load('libc.so.6').func('int socketpair(int domain, int type, int protocol, _Out_ int *fds)');

const processes: Pick<Processes, 'spawn' | 'socketPair' | 'closeDescriptor' | 'reap'> = {
  spawn: ({ path, argv, env, descriptors }) => {
    const child = spawn(path, argv.slice(1), {
      argv0: argv[0]!,
      detached: true,
      env: Object.fromEntries(env.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)])),
      stdio: ['ignore', 'ignore', 'ignore', ...descriptors],
    });
    return Promise.resolve({ pid: child.pid! });
  },
  socketPair: () => {
    const fds = [-1, -1];
    if (socketpair(AF_UNIX, SOCK_STREAM_CLOEXEC, 0, fds) !== 0) throw new Error('socketpair');
    return Promise.resolve([fds[0]!, fds[1]!]);
  },
  closeDescriptor: (fd) => {
    closeSync(fd);
    return Promise.resolve();
  },
  reap: () => Promise.resolve({ exitCode: 0, signal: 0 }),
};

export const fakeProcesses = processes as Processes;

export type RuntimeName = 'crun' | 'runc';

export interface TestContainer {
  readonly id: string;
  readonly stateDir: string;
  readonly logPath: string;
  readonly events: ShimEvent[];
  /** The event, whether it came already or is still to come. */
  event<K extends ShimEvent['kind']>(kind: K, count?: number): Promise<Extract<ShimEvent, { kind: K }>>;
  start(options?: Partial<ShimLaunch>): Promise<ShimSpawned>;
  /** For events that a later connection gets. */
  readonly onEvent: (event: ShimEvent) => void;
}

export interface ContainerOptions {
  readonly args: readonly string[];
  readonly runtime?: RuntimeName;
  readonly tty?: boolean;
  readonly consoleSize?: readonly [rows: number, columns: number];
  readonly memoryBytes?: number;
  readonly cwd?: string;
  readonly hostPid?: boolean;
  readonly launch?: Partial<ShimLaunch>;
}

export class ShimFixture implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'shim-test-'));
  readonly shimPath: string;
  readonly #ids: string[] = [];
  readonly #runtimes: Record<RuntimeName, string>;
  #count = 0;

  constructor() {
    this.shimPath = process.env['LONGSHORE_TEST_SHIM'] ?? join(this.directory, 'shim');
    if (!existsSync(this.shimPath)) {
      execFileSync(fileURLToPath(new URL('../../native/build.sh', import.meta.url)), [this.shimPath]);
    }
    const bin = join(this.directory, 'rootfs/bin');
    mkdirSync(bin, { recursive: true });
    for (const name of ['proc', 'sys', 'dev', 'tmp', 'etc']) mkdirSync(join(this.directory, 'rootfs', name));
    cpSync('/usr/bin/busybox', join(bin, 'busybox'));
    for (const name of execFileSync('/usr/bin/busybox', ['--list'], { encoding: 'utf8' }).split('\n')) {
      if (name !== '' && name !== 'busybox') symlinkSync('busybox', join(bin, name));
    }
    writeFileSync(join(bin, 'not-executable'), 'text', { mode: 0o644 });
    this.#runtimes = { crun: join(this.directory, 'crun'), runc: '/usr/sbin/runc' };
    // crun 1.8.1 refuses hybrid cgroups; it gets a mount namespace of its own without the unified hierarchy.
    writeFileSync(
      this.#runtimes.crun,
      `#!/bin/sh\n[ -d /sys/fs/cgroup/unified ] || exec /usr/bin/crun "$@"\nexec unshare -m sh -c 'umount /sys/fs/cgroup/unified; exec /usr/bin/crun "$@"' sh "$@"\n`,
      { mode: 0o755 },
    );
  }

  container(options: ContainerOptions): TestContainer {
    const runtime = options.runtime ?? 'crun';
    const id = `shimtest-${process.pid}-${++this.#count}`;
    this.#ids.push(id);
    const base = join(this.directory, id);
    const stateDir = join(base, 'state');
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    writeFileSync(join(base, 'config.json'), JSON.stringify(ociSpec(id, join(this.directory, 'rootfs'), options)));
    const events: ShimEvent[] = [];
    const waiting = new Set<() => void>();
    const onEvent = (event: ShimEvent): void => {
      events.push(event);
      for (const wake of waiting) wake();
    };
    const logPath = join(base, 'json.log');
    return {
      id,
      stateDir,
      logPath,
      events,
      onEvent,
      event: (kind, count = 1) =>
        new Promise((resolve, reject) => {
          const timer = setTimeout(
            () => reject(new Error(`no ${kind} event; got ${JSON.stringify(events)}`)),
            EVENT_MS_MAX,
          );
          const check = (): void => {
            const found = events.filter((event) => event.kind === kind);
            if (found.length < count) return;
            waiting.delete(check);
            clearTimeout(timer);
            resolve(found[count - 1] as never);
          };
          waiting.add(check);
          check();
        }),
      start: (more) =>
        spawnShim(fakeProcesses, {
          shimPath: this.shimPath,
          execHelperPath: null,
          id,
          run: 1,
          stateDir,
          bundleDir: base,
          runtimePath: this.#runtimes[runtime],
          runtimeRoot: join(this.directory, `root-${runtime}`),
          runtimeOptions: [],
          cgroup: `/shimtest/${id}`,
          log: { path: logPath, maxSizeBytes: null, maxFiles: 1, attributes: {} },
          tty: options.tty ?? false,
          consoleSize: options.consoleSize ?? [0, 0],
          stdin: 'none',
          attachMasks: [],
          env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin', `ASAN_OPTIONS=${process.env['ASAN_OPTIONS'] ?? ''}`],
          onEvent,
          ...options.launch,
          ...more,
        }),
    };
  }

  /** A "process" object for an exec, as a file. */
  processFile(container: TestContainer, execId: string, args: readonly string[], tty = false): string {
    const consoleSize = EXEC_CONSOLE_SIZE;
    const path = join(container.stateDir, `process-${execId}.json`);
    writeFileSync(path, JSON.stringify(processSpec(args, { args, tty, ...(tty ? { consoleSize } : {}) })));
    return path;
  }

  /** What the containers of this fixture left on the host; empty when all is well. */
  leftovers(): string[] {
    const left: string[] = [];
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const text = tryRead(`/proc/${pid}/cmdline`)?.replaceAll('\0', ' ') ?? '';
      if (text.includes('longshore-shim') && this.#ids.some((id) => text.includes(`${id} `)))
        left.push(`process ${pid}: ${text}`);
    }
    for (const id of this.#ids) {
      left.push(...cgroupDirectories(id).filter((path) => existsSync(path)));
      for (const root of ['root-crun', 'root-runc']) {
        if (existsSync(join(this.directory, root, id))) left.push(join(root, id));
      }
      const state = join(this.directory, id, 'state');
      for (const name of existsSync(state) ? readdirSync(state) : []) {
        if (name !== 'exit.json') left.push(`${id}: ${name}`);
      }
    }
    return left;
  }

  /** leftovers() once the last shim had the moment that it needs to end. */
  async settledLeftovers(): Promise<string[]> {
    let left = this.leftovers();
    for (let wait = 0; left.length > 0 && wait < EVENT_MS_MAX / 500; wait++) {
      await sleep(100);
      left = this.leftovers();
    }
    return left;
  }

  /** Also ends what a test that failed left running. */
  [Symbol.dispose](): void {
    for (const id of this.#ids) {
      const pids = cgroupDirectories(id).flatMap((path) => tryRead(`${path}/cgroup.procs`)?.split('\n') ?? []);
      for (const pid of new Set(pids.filter((text) => text !== ''))) process.kill(Number(pid), 'SIGKILL');
    }
    for (const path of cgroupDirectories('')) {
      try {
        rmdir(path);
      } catch {
        // another test still has a container there
      }
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** In every hierarchy of v1, or in the one of v2. */
function cgroupDirectories(id: string): string[] {
  const root = '/sys/fs/cgroup';
  const hierarchies = existsSync(join(root, 'cgroup.procs'))
    ? [root]
    : readdirSync(root).map((name) => join(root, name));
  return hierarchies.map((hierarchy) => join(hierarchy, 'shimtest', id));
}

function rmdir(path: string): void {
  if (existsSync(path)) execFileSync('rmdir', [path], { stdio: 'ignore' });
}

function tryRead(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

function processSpec(args: readonly string[], options: ContainerOptions): object {
  return {
    terminal: options.tty ?? false,
    user: { uid: 0, gid: 0 },
    args,
    env: ['PATH=/bin', 'TERM=xterm'],
    cwd: options.cwd ?? '/',
    capabilities: { bounding: ['CAP_KILL'], effective: ['CAP_KILL'], permitted: ['CAP_KILL'] },
    oomScoreAdj: 0,
    // The shim sets the size when the terminal arrives; only the runtime can do it before the process looks.
    ...(options.consoleSize === undefined
      ? {}
      : { consoleSize: { height: options.consoleSize[0], width: options.consoleSize[1] } }),
  };
}

function ociSpec(id: string, rootfs: string, options: ContainerOptions): object {
  const namespaces = ['mount', 'uts', 'ipc', 'network', ...(options.hostPid === true ? [] : ['pid'])];
  return {
    ociVersion: '1.0.2',
    process: processSpec(options.args, options),
    root: { path: rootfs, readonly: true },
    hostname: 'test',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['newinstance', 'ptmxmode=0666', 'mode=0620'],
      },
      { destination: '/tmp', type: 'tmpfs', source: 'tmpfs' },
    ],
    linux: {
      cgroupsPath: `/shimtest/${id}`,
      namespaces: namespaces.map((type) => ({ type })),
      resources: {
        devices: [{ allow: true, access: 'rwm' }],
        ...(options.memoryBytes === undefined
          ? {}
          : { memory: { limit: options.memoryBytes, swap: options.memoryBytes } }),
      },
    },
  };
}

/** All bytes of a stream. */
export async function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Docker's multiplexed frames, taken apart. */
export function demultiplex(bytes: Buffer): { stdout: Buffer; stderr: Buffer } {
  const streams: [Buffer[], Buffer[]] = [[], []];
  let at = 0;
  while (at < bytes.length) {
    const length = bytes.readUInt32BE(at + 4);
    const stream = bytes[at];
    if ((stream !== 1 && stream !== 2) || at + 8 + length > bytes.length)
      throw new Error(`bad frame at ${at} of ${bytes.length}`);
    streams[stream - 1]!.push(bytes.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  return { stdout: Buffer.concat(streams[0]), stderr: Buffer.concat(streams[1]) };
}
