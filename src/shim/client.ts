/**
 * The daemon's side of a shim: start one, find one again, and ask things of it. Mechanism only: what a runtime's
 * error text means to a user is decided in runtime/.
 */
import { open, readFile } from 'node:fs/promises';
import { createConnection, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Owner } from '../core/id-map.ts';
import { messageOf } from '../core/engine-error.ts';
import type { Processes } from '../kernel/port.ts';
import type { ShimEvent, ShimExitRecord, ShimState } from './protocol.ts';
import {
  encodeHelloAttach,
  encodeHelloControl,
  encodeHelloExec,
  encodeLogCompressed,
  encodeResize,
  encodeSignal,
  LineReader,
  parseControlLine,
  parseExecAnswer,
  parseExitRecord,
  runtimeMessage,
  SHIM_PROTOCOL_VERSION,
} from './protocol.ts';
import { ShimStream } from './stream.ts';

const CONTROL_FD = 3;
const CONNECT_DELAY_MS_MAX = 64;
const SOCKET_PATH_BYTES_MAX = 107; // sun_path without its NUL

/** What spawnShim needs; all paths absolute. */
export interface ShimLaunch {
  readonly shimPath: string;
  readonly id: string;
  readonly run: number;
  /** Made by the caller with mode 0700, and removed by it. */
  readonly stateDir: string;
  readonly bundleDir: string;
  /** A file in stateDir that the shim removes before it runs the runtime; where it is gone, there is no start. */
  readonly claim?: string;
  readonly runtimePath: string;
  /** What starts execs without the runtime; null: the runtime does. */
  readonly execHelperPath: string | null;
  readonly runtimeRoot: string | null;
  /** Global options of the runtime ("--systemd-cgroup"). */
  readonly runtimeOptions: readonly string[];
  /** The container's cgroup as in config.json, so that an OOM kill is known even when init died at once. */
  readonly cgroup: string | null;
  /** As LogFileOptions of log/. */
  readonly log: ShimLog | null;
  readonly tty: boolean;
  readonly consoleSize: readonly [rows: number, columns: number];
  readonly stdin: 'none' | 'open' | 'once';
  /** Whose the pipes are; left out: the daemon's user. */
  readonly stdioOwner?: Owner;
  /** A stream is attached before the first byte for each mask (SHIM_STDIN | SHIM_STDOUT | SHIM_STDERR). */
  readonly attachMasks: readonly number[];
  /** "NAME=value" for the runtime. */
  readonly env: readonly string[];
  /** Called for everything after "started", in order. */
  readonly onEvent: (event: ShimEvent) => void;
  /** For tests: how long a stalled reader may hold up the others. */
  readonly stallMs?: number;
}

export interface ShimLog {
  readonly path: string;
  readonly maxSizeBytes: number | null;
  readonly maxFiles: number;
  readonly attributes: Readonly<Record<string, string>>;
}

/** The runtime refused. `message` is its own last error; `text` all that it said; `status` its exit status (-1: the shim's own refusal). */
export class ShimRuntimeError extends Error {
  override readonly name = 'ShimRuntimeError';
  readonly text: string;
  readonly status: number;

  constructor(text: string, status: number) {
    super(runtimeMessage(text));
    this.text = text;
    this.status = status;
  }
}

/** The status of a direct exec that only the runtime can do; nothing has happened then. */
export const SHIM_EXEC_UNSUPPORTED = 75;

export interface ShimExecRequest {
  /** Letters, digits, "_", "-", "."; at most 128. */
  readonly execId: string;
  /** A file that the shim removes: an OCI "process" object, or with `direct` the request of native/exec.c. */
  readonly processFile: string;
  readonly direct?: boolean;
  readonly tty: boolean;
  readonly stdin: boolean;
  /** Streams wanted; 0 is detached. */
  readonly mask: number;
  readonly consoleSize: readonly [rows: number, columns: number];
}

/** A live control connection. Losing it changes nothing for the container. */
export class ShimConnection implements Disposable {
  readonly #stateDir: string;
  readonly #socket: Socket;
  readonly #lines = new LineReader();
  /** Everything that the shim reports, in order. */
  onEvent: (event: ShimEvent) => void = () => {};
  #onClose: () => void = () => {};
  #closed = false;
  #disposed = false;

  constructor(socket: Socket, stateDir: string) {
    this.#socket = socket;
    this.#stateDir = stateDir;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('end', () => socket.destroy());
    socket.on('error', () => {}); // 'close' follows, and says all that matters
    socket.on('close', () => {
      this.#closed = true;
      if (!this.#disposed) this.#onClose();
    });
  }

  /** Called once, when the shim has ended or the connection broke; also when that was before it was set. Not after dispose. */
  set onClose(run: () => void) {
    this.#onClose = run;
    if (this.#closed && !this.#disposed) queueMicrotask(run);
  }

  #receive(chunk: Buffer): void {
    let lines: string[];
    try {
      lines = this.#lines.push(chunk);
    } catch {
      this.#socket.destroy();
      return;
    }
    for (const line of lines) {
      const event = parseControlLine(line);
      if (event !== null && !this.#disposed) this.onEvent(event);
    }
  }

  /** The streams of the container's first process. Ends at once when that has ended. */
  async attach(mask: number): Promise<Duplex> {
    const socket = await connect(this.#stateDir);
    socket.write(encodeHelloAttach(mask));
    return new ShimStream(socket);
  }

  /** @throws {ShimRuntimeError} when the runtime could not start it. */
  async exec(request: ShimExecRequest): Promise<{ readonly pid: number; readonly stream: Duplex | null }> {
    const socket = await connect(this.#stateDir);
    const [rows, columns] = request.consoleSize;
    socket.write(encodeHelloExec({ ...request, rows, columns }));
    const { line, rest } = await readAnswer(socket);
    const answer = parseExecAnswer(line);
    if (answer === null || answer.kind === 'refused') {
      socket.destroy();
      throw answer === null
        ? new Error(`shim: not an answer to exec: ${line}`)
        : new ShimRuntimeError(answer.error, answer.status);
    }
    if (request.mask === 0) {
      socket.destroy();
      return { pid: answer.pid, stream: null };
    }
    return { pid: answer.pid, stream: new ShimStream(socket, rest) };
  }

  /** Without effect where there is no terminal. */
  resize(rows: number, columns: number, execId?: string): void {
    this.#socket.write(encodeResize(rows, columns, execId));
  }

  /** To the first process, or an exec's; never to a recycled pid. SIGKILL also ends a start that hangs. */
  signal(signal: number, execId?: string): void {
    this.#socket.write(encodeSignal(signal, execId));
  }

  /** The copy LOG.INODE.tmp takes the place of the rotated file of that inode; the shim renames, as it rotates. */
  logCompressed(inode: bigint): void {
    this.#socket.write(encodeLogCompressed(inode));
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#socket.destroy();
  }
}

export interface ShimSpawned {
  readonly connection: ShimConnection;
  readonly pid: number;
  readonly startedAt: string;
  /** One for each of attachMasks. */
  readonly streams: readonly Duplex[];
}

/**
 * Starts a shim, and through it the container. Resolves when the first process runs.
 * @throws {ShimRuntimeError} when it does not; nothing is left behind then but stateDir.
 */
export async function spawnShim(processes: Processes, launch: ShimLaunch): Promise<ShimSpawned> {
  const theirs: number[] = [];
  const ours: Socket[] = [];
  try {
    for (let i = 0; i <= launch.attachMasks.length; i++) {
      const [mine, child] = await processes.socketPair();
      theirs.push(child);
      ours.push(new Socket({ fd: mine, readable: true, writable: true, allowHalfOpen: true }));
    }
    const { pid } = await processes.spawn({
      path: launch.shimPath,
      argv: shimArguments(launch),
      env: launch.env,
      descriptors: theirs,
    });
    // The process that was started only forks the shim, and ends.
    void processes.reap(pid).catch(() => {});
  } catch (error) {
    for (const socket of ours) socket.destroy();
    throw error;
  } finally {
    for (const fd of theirs) await processes.closeDescriptor(fd);
  }
  const [control, ...attached] = ours as [Socket, ...Socket[]];
  const connection = new ShimConnection(control, launch.stateDir);
  const streams = attached.map((socket) => new ShimStream(socket));
  try {
    const started = await firstEvent(connection, launch.onEvent, (event) => (event.kind === 'started' ? event : null));
    return { connection, pid: started.pid, startedAt: started.at, streams };
  } catch (error) {
    connection[Symbol.dispose]();
    for (const stream of streams) stream.destroy();
    throw error;
  }
}

/** null: no shim lives there (any more). `onEvent` is told what happens after `state`. */
export async function connectShim(
  stateDir: string,
  onEvent: (event: ShimEvent) => void,
): Promise<{ readonly connection: ShimConnection; readonly state: ShimState } | null> {
  let socket: Socket;
  try {
    socket = await connect(stateDir);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
  const connection = new ShimConnection(socket, stateDir);
  socket.write(encodeHelloControl());
  try {
    const { state, version } = await firstEvent(connection, onEvent, (event) =>
      event.kind === 'state' ? event : null,
    );
    if (version !== SHIM_PROTOCOL_VERSION)
      throw new Error(`shim: ${stateDir} speaks version ${version} of the protocol`);
    return { connection, state };
  } catch (error) {
    connection[Symbol.dispose]();
    if (error instanceof ShimGoneError) return null;
    throw error;
  }
}

/** The record of a run that has ended; null when there is none (it still runs, or the shim was killed). */
export async function readShimExit(stateDir: string): Promise<ShimExitRecord | null> {
  const text = await readSmallFile(`${stateDir}/exit.json`);
  return text === null ? null : parseExitRecord(text);
}

/** The shim's process as it recorded itself, and whether that very process still lives. */
export async function readShimProcess(
  stateDir: string,
): Promise<{ readonly pid: number; readonly alive: boolean } | null> {
  const text = await readSmallFile(`${stateDir}/shim.pid`);
  const match = text === null ? null : /^(\d+) (\d+)\n$/.exec(text);
  if (match === null) return null;
  const pid = Number(match[1]);
  const stat = await readSmallFile(`/proc/${pid}/stat`);
  const startTime = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19]; // field 22 of proc(5)
  return { pid, alive: startTime === match[2] };
}

/** The pid of the container's first process, once there was one: tells "lost" from "never started". */
export async function readInitPid(stateDir: string): Promise<number | null> {
  const text = await readSmallFile(`${stateDir}/init.pid`);
  return text !== null && /^\d+\s*$/.test(text) ? Number(text) : null;
}

class ShimGoneError extends Error {
  override readonly name = 'ShimGoneError';
}

function shimArguments(launch: ShimLaunch): string[] {
  const argv = ['longshore-shim', '--id', launch.id, '--run', `${launch.run}`, '--state', launch.stateDir];
  argv.push('--bundle', launch.bundleDir, '--runtime', launch.runtimePath, '--stdin', launch.stdin);
  if (launch.claim !== undefined) argv.push('--claim', launch.claim);
  if (launch.runtimeRoot !== null) argv.push('--runtime-root', launch.runtimeRoot);
  if (launch.execHelperPath !== null) argv.push('--exec-helper', launch.execHelperPath);
  for (const option of launch.runtimeOptions) argv.push('--runtime-option', option);
  if (launch.cgroup !== null) argv.push('--cgroup', launch.cgroup);
  if (launch.log !== null) {
    argv.push('--log', launch.log.path, '--log-max-size', `${launch.log.maxSizeBytes ?? 0}`);
    argv.push('--log-max-files', `${launch.log.maxFiles}`, '--log-attributes', formatAttributes(launch.log.attributes));
  }
  const [rows, columns] = launch.consoleSize;
  if (launch.tty) argv.push('--tty', '--rows', `${rows}`, '--columns', `${columns}`);
  const owner = launch.stdioOwner;
  if (owner !== undefined) argv.push('--stdio-uid', `${owner.uid}`, '--stdio-gid', `${owner.gid}`);
  if (launch.stallMs !== undefined) argv.push('--stall-ms', `${launch.stallMs}`);
  launch.attachMasks.forEach((mask, index) => argv.push('--attach', `${CONTROL_FD + 1 + index}:${mask}`));
  return argv;
}

/** As Go's json.Marshal of a map: keys sorted, HTML characters escaped. */
function formatAttributes(attributes: Readonly<Record<string, string>>): string {
  const sorted = Object.entries(attributes).toSorted(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const text = JSON.stringify(Object.fromEntries(sorted));
  return text.replace(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Waits for the event that `select` takes; hands later ones (and the selected one's predecessors) to `onEvent`. */
function firstEvent<T>(
  connection: ShimConnection,
  onEvent: (event: ShimEvent) => void,
  select: (event: ShimEvent) => T | null,
): Promise<T> {
  return new Promise((resolve, reject) => {
    // Later events wait until the caller has the result in hand: an exit may be in the same chunk as the start.
    let held: ShimEvent[] | null = null;
    connection.onEvent = (event) => {
      if (held !== null) {
        held.push(event);
        return;
      }
      const selected = select(event);
      if (selected === null) {
        if (event.kind === 'failed') reject(new ShimRuntimeError(event.error, event.status));
        else onEvent(event);
        return;
      }
      held = [];
      resolve(selected);
      setImmediate(() => {
        connection.onEvent = onEvent;
        for (const later of held ?? []) onEvent(later);
      });
    };
    connection.onClose = () => reject(new ShimGoneError('shim: ended without a word'));
  });
}

/** Connects whatever the directory's length: beyond sun_path the way leads through /proc/self/fd. */
async function connect(stateDir: string): Promise<Socket> {
  const path = `${stateDir}/shim.sock`;
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return connectPath(path);
  const directory = await open(stateDir);
  try {
    return await connectPath(`/proc/self/fd/${directory.fd}/shim.sock`);
  } finally {
    await directory.close();
  }
}

/** Many at once fill the queue of those that wait to be accepted; a local connect does not wait for a place in it. */
async function connectPath(path: string): Promise<Socket> {
  for (let delayMs = 1; ; delayMs = Math.min(2 * delayMs, CONNECT_DELAY_MS_MAX)) {
    try {
      return await connectOnce(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
    await sleep(delayMs);
  }
}

function connectOnce(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path, allowHalfOpen: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

function readAnswer(socket: Socket): Promise<{ line: string; rest: Buffer }> {
  return new Promise((resolve, reject) => {
    const reader: Buffer[] = [];
    const settle = (outcome: () => void): void => {
      socket.off('data', onData).off('error', onGone).off('close', onGone).off('end', onGone);
      socket.pause();
      outcome();
    };
    const onData = (chunk: Buffer): void => {
      const newline = chunk.indexOf(10);
      reader.push(chunk);
      if (newline < 0 && Buffer.concat(reader).length < 256 * 1024) return;
      const all = Buffer.concat(reader);
      const end = all.indexOf(10);
      settle(() =>
        end < 0
          ? reject(new Error('shim: an answer without end'))
          : resolve({ line: all.toString('utf8', 0, end), rest: all.subarray(end + 1) }),
      );
    };
    const onGone = (error?: unknown): void => {
      settle(() => {
        socket.destroy();
        reject(
          new ShimGoneError(`shim: closed before it answered${error instanceof Error ? `: ${messageOf(error)}` : ''}`),
        );
      });
    };
    socket.on('data', onData).on('error', onGone).on('close', onGone).on('end', onGone);
  });
}

async function readSmallFile(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTDIR' || code === 'ESRCH';
}
