/**
 * The shim's protocol, version 1: frames to it, JSON lines from it. Pure. docs/shim-protocol.md is the
 * specification, native/frame.h and native/shim.c the other side. Lines are parsed as if hostile: what does not
 * fit is null, never a throw, so that a shim of a later version cannot take the daemon down.
 */

export const SHIM_PROTOCOL_VERSION = 1;

export const SHIM_STDIN = 1;
export const SHIM_STDOUT = 2;
export const SHIM_STDERR = 4;

const FRAME_HEADER_BYTES = 8;
const LINE_BYTES_MAX = 1024 * 1024;

const FRAME_TYPES = {
  stdin: 0,
  'stdin-eof': 1,
  resize: 2,
  signal: 3,
  'hello-attach': 4,
  'hello-control': 5,
  'hello-exec': 6,
  'log-compressed': 7,
} as const;

export type FrameKind = keyof typeof FRAME_TYPES;

export interface ShimExit {
  /** 0..255, 128 + signal. */
  readonly code: number;
  readonly signal: number;
  readonly oomKilled: boolean;
  /** RFC 3339, nanoseconds: when the shim reaped it. */
  readonly at: string;
}

export interface ShimState {
  readonly id: string;
  readonly run: number;
  /** 0: the runtime has not started it yet. */
  readonly pid: number;
  /** "" while pid is 0. */
  readonly startedAt: string;
  readonly oomKilled: boolean;
  readonly execs: readonly { readonly execId: string; readonly pid: number }[];
  /** It was given the program that starts execs without the runtime. */
  readonly directExec: boolean;
  /** The last 64. */
  readonly endedExecs: readonly { readonly execId: string; readonly exitCode: number }[];
}

export type ShimEvent =
  | { readonly kind: 'state'; readonly version: number; readonly state: ShimState }
  | { readonly kind: 'started'; readonly pid: number; readonly at: string }
  | { readonly kind: 'failed'; readonly error: string; readonly status: number }
  /** Once for each increase of the kernel's count of kills. */
  | { readonly kind: 'oom' }
  | { readonly kind: 'exec-exited'; readonly execId: string; readonly exitCode: number }
  /** `recorded`: exit.json is on disk. */
  | { readonly kind: 'exited'; readonly pid: number; readonly exit: ShimExit; readonly recorded: boolean }
  /** The disk was full; output went on without being logged. */
  | { readonly kind: 'log-dropped'; readonly bytes: number }
  /** The runtime deleted the container (status 0), or could not; the shim ends. */
  | { readonly kind: 'released'; readonly status: number; readonly error: string };

/** STATE/exit.json. */
export interface ShimExitRecord {
  readonly run: number;
  readonly pid: number;
  readonly startedAt: string;
  readonly exit: ShimExit;
}

export function encodeFrame(kind: FrameKind, payload?: Uint8Array): Buffer {
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + (payload?.length ?? 0));
  frame[0] = FRAME_TYPES[kind];
  frame.writeUInt32BE(payload?.length ?? 0, 4);
  if (payload !== undefined) frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/** Only the header, so that stdin need not be copied: the bytes follow in a write of their own. */
export function encodeStdinHeader(lengthBytes: number): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUInt32BE(lengthBytes, 4);
  return header;
}

/** `execId` "" means the container's first process. */
export function encodeResize(rows: number, columns: number, execId = ''): Buffer {
  const id = Buffer.from(execId, 'latin1');
  const payload = Buffer.alloc(4 + id.length);
  payload.writeUInt16BE(clampSize(rows), 0);
  payload.writeUInt16BE(clampSize(columns), 2);
  payload.set(id, 4);
  return encodeFrame('resize', payload);
}

export function encodeSignal(signal: number, execId = ''): Buffer {
  return encodeFrame('signal', Buffer.concat([Buffer.of(signal), Buffer.from(execId, 'latin1')]));
}

/** `inode`: of the rotated file whose compressed copy is ready. */
export function encodeLogCompressed(inode: bigint): Buffer {
  const payload = Buffer.alloc(8);
  payload.writeBigUInt64BE(inode);
  return encodeFrame('log-compressed', payload);
}

export function encodeHelloAttach(mask: number): Buffer {
  return encodeFrame('hello-attach', Buffer.of(mask));
}

export function encodeHelloControl(): Buffer {
  return encodeFrame('hello-control', Buffer.of(SHIM_PROTOCOL_VERSION));
}

export function encodeHelloExec(request: {
  readonly execId: string;
  readonly processFile: string;
  readonly tty: boolean;
  readonly stdin: boolean;
  readonly mask: number;
  readonly direct?: boolean;
  readonly rows: number;
  readonly columns: number;
}): Buffer {
  const head = Buffer.alloc(6);
  head[0] = (request.tty ? 1 : 0) | (request.stdin ? 2 : 0) | (request.direct ? 4 : 0);
  head[1] = request.mask;
  head.writeUInt16BE(clampSize(request.rows), 2);
  head.writeUInt16BE(clampSize(request.columns), 4);
  return encodeFrame('hello-exec', Buffer.concat([head, Buffer.from(`${request.execId}\0${request.processFile}`)]));
}

/** A window has 16 bits a side. */
function clampSize(size: number): number {
  return Math.max(0, Math.min(0xffff, Math.trunc(size) || 0));
}

/** Cuts a byte stream into lines; a line beyond the bound is a broken peer, and the reader says so by throwing. */
export class LineReader {
  #pieces: Buffer[] = [];
  #bytes = 0;

  /** The whole lines that `chunk` completes, without their newline. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      this.#pieces.push(chunk.subarray(from, at));
      lines.push(Buffer.concat(this.#pieces).toString('utf8'));
      this.#pieces = [];
      this.#bytes = 0;
      from = at + 1;
    }
    if (from < chunk.length) {
      this.#pieces.push(chunk.subarray(from));
      this.#bytes += chunk.length - from;
    }
    if (this.#bytes > LINE_BYTES_MAX) throw new Error('shim: a control line has no end');
    return lines;
  }
}

type Fields = Readonly<Record<string, unknown>>;

/** null: not a line of this protocol, or an event that a later version added. */
export function parseControlLine(line: string): ShimEvent | null {
  const fields = parseObject(line);
  if (fields === null) return null;
  switch (fields['event']) {
    case 'state':
      return parseState(fields);
    case 'started':
      return isNumber(fields['pid']) && isString(fields['at'])
        ? { kind: 'started', pid: fields['pid'], at: fields['at'] }
        : null;
    case 'failed':
      return isString(fields['error']) && isNumber(fields['status'])
        ? { kind: 'failed', error: fields['error'], status: fields['status'] }
        : null;
    case 'oom':
      return { kind: 'oom' };
    case 'exec-exited':
      return isString(fields['id']) && isNumber(fields['code'])
        ? { kind: 'exec-exited', execId: fields['id'], exitCode: fields['code'] }
        : null;
    case 'exited': {
      const exit = parseExit(fields);
      if (exit === null || !isNumber(fields['pid'])) return null;
      return { kind: 'exited', pid: fields['pid'], exit, recorded: fields['recorded'] === true };
    }
    case 'log-dropped':
      return isNumber(fields['bytes']) ? { kind: 'log-dropped', bytes: fields['bytes'] } : null;
    case 'released':
      return isString(fields['error']) && isNumber(fields['status'])
        ? { kind: 'released', status: fields['status'], error: fields['error'] }
        : null;
    default:
      return null;
  }
}

/** null: not a whole record (a foreign or damaged file). */
export function parseExitRecord(text: string): ShimExitRecord | null {
  const fields = parseObject(text);
  const exit = fields === null ? null : parseExit(fields);
  if (fields === null || exit === null || !isNumber(fields['run']) || !isNumber(fields['pid'])) return null;
  if (!isString(fields['started_at'])) return null;
  return { run: fields['run'], pid: fields['pid'], startedAt: fields['started_at'], exit };
}

/** The first line on an exec connection. */
export type ExecAnswer =
  | { readonly kind: 'started'; readonly pid: number }
  | { readonly kind: 'refused'; readonly error: string; readonly status: number };

export function parseExecAnswer(line: string): ExecAnswer | null {
  const fields = parseObject(line);
  if (fields === null) return null;
  if (isNumber(fields['pid'])) return { kind: 'started', pid: fields['pid'] };
  if (isString(fields['error']) && isNumber(fields['status']))
    return { kind: 'refused', error: fields['error'], status: fields['status'] };
  return null;
}

/**
 * The runtime's own words out of what it logged: crun and runc write JSON lines with "level" and "msg"; the last
 * error is the one that ended it. Text that is not such a log (stderr, our own words) comes back as it is.
 */
export function runtimeMessage(text: string): string {
  let last: string | null = null;
  for (const line of text.split('\n')) {
    const fields = parseObject(line);
    if (fields === null || !isString(fields['msg'])) continue;
    if (fields['level'] === 'error' || fields['level'] === 'fatal' || last === null) last = fields['msg'];
  }
  return (last ?? text).trim();
}

function parseState(fields: Fields): ShimEvent | null {
  const { version, id, run, pid, started_at: startedAt, oom, execs, ended_execs: ended } = fields;
  if (!isNumber(version) || !isString(id) || !isNumber(run) || !isNumber(pid) || !isString(startedAt)) return null;
  if (!Array.isArray(execs) || !Array.isArray(ended)) return null;
  return {
    kind: 'state',
    version,
    state: {
      id,
      run,
      pid,
      startedAt,
      oomKilled: oom === true,
      directExec: fields['direct_exec'] === true,
      execs: execs
        .filter(isObject)
        .flatMap((exec) =>
          isString(exec['id']) && isNumber(exec['pid']) ? [{ execId: exec['id'], pid: exec['pid'] }] : [],
        ),
      endedExecs: ended
        .filter(isObject)
        .flatMap((exec) =>
          isString(exec['id']) && isNumber(exec['code']) ? [{ execId: exec['id'], exitCode: exec['code'] }] : [],
        ),
    },
  };
}

function parseExit(fields: Fields): ShimExit | null {
  const { code, signal, oom, at } = fields;
  if (!isNumber(code) || !isNumber(signal) || typeof oom !== 'boolean' || !isString(at)) return null;
  return { code, signal, oomKilled: oom, at };
}

function parseObject(text: string): Fields | null {
  if (!text.trimStart().startsWith('{')) return null;
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value);
}

function isString(value: unknown): value is string {
  return typeof value === 'string';
}
