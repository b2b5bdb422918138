/** Small operations on files, alone and in batches. Nothing follows a link in the last component. Worker thread only. */
import {
  AT_SYMLINK_NOFOLLOW,
  check,
  checkAsync,
  closeFile,
  native,
  O_CLOEXEC,
  O_PATH,
  openFile,
  pathText,
  SYSCALL,
  type Text,
} from './libc.ts';
import { ERRNO, isErrno, KernelError, quoted } from './kernel-error.ts';
import { Lane } from './lane.ts';
import { BENEATH, IN_ROOT, OPEN_TRIES_MAX, openHow, Places } from './place.ts';
import type { FileOperation } from './port.ts';
import { setXattr } from './xattr.ts';

const O_WRONLY = 1;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_NOCTTY = 0o400;
const O_NONBLOCK = 0o4000;
const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const S_IFMT = 0o170000;
const NS_PER_S = 1_000_000_000n;
const MAJOR_MAX = 0xfff;
const MINOR_MAX = 0xfffff;
const ID_MAX = 0xffff_fffe; // 2^32-1 means "leave it"
/** A batch lets other calls through after this long. */
const TURN_MS_MAX = 4;

/** A file system that a container brought (FUSE) may never answer. */
const OPEN_MS_MAX = 30_000;
const openLane = new Lane({ name: 'openat2', width: 2, waitMsMax: OPEN_MS_MAX });

export function makeNode(path: string, mode: number, major: number, minor: number): void {
  applyOne({ kind: 'node', path, mode, major, minor });
}

export function setTimes(path: string, accessNs: bigint, modifyNs: bigint): void {
  applyOne({ kind: 'times', path, accessNs, modifyNs });
}

/** SAFETY: never blocks on a FIFO that a container made (O_NONBLOCK), never takes a terminal (O_NOCTTY). */
export async function openInRoot(
  root: string,
  path: string,
  flags: number,
  mode: number,
  escapes: 'clamped' | 'refused' = 'clamped',
): Promise<number> {
  const detail = (): string => `${quoted(root)}, ${quoted(path)}, 0o${flags.toString(8)}`;
  const name = pathText(path === '' ? '/' : path, 'openat2');
  if (!Number.isInteger(flags) || flags < 0 || flags > 0x7fffffff)
    throw new KernelError('openat2', ERRNO.EINVAL, detail(), 'flags out of range');
  // O_PATH refuses every flag but its own few.
  const all = (flags & O_PATH) === 0 ? flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK : flags | O_CLOEXEC;
  const how = openHow(all, mode, escapes === 'refused' ? BENEATH : IN_ROOT);
  const rootFd = openFile(root, O_PATH | O_DIRECTORY);
  const start = (): Promise<number> =>
    checkAsync('openat2', detail, (done) => native.openat2.async(SYSCALL.openat2, rootFd, name, how, how.length, done));
  const opened = openLane.run(() => retrying(start)).finally(() => closeFile(rootFd));
  return withinTime(opened, detail);
}

/** A rename on the way makes openat2 give up; again then. */
async function retrying(start: () => Promise<number>): Promise<number> {
  for (let tries = 1; ; tries++) {
    try {
      return await start();
    } catch (error) {
      if (!isErrno(error, ERRNO.EAGAIN) || tries === OPEN_TRIES_MAX) throw error;
    }
  }
}

/** The descriptor, or an error once it took too long; a descriptor that comes later is closed. */
function withinTime(opened: Promise<number>, detail: () => string): Promise<number> {
  return new Promise((resolve, reject) => {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      reject(new KernelError('openat2', ERRNO.ETIMEDOUT, detail(), 'the file system does not answer'));
    }, OPEN_MS_MAX);
    opened
      .then(
        (fd) => (isLate ? closeFile(fd) : resolve(fd)),
        (error: unknown) => reject(error instanceof Error ? error : new Error(String(error))),
      )
      .finally(() => clearTimeout(timer));
  });
}

/** In order; the first failure ends it. `root` null: paths are the host's. */
export async function applyBatch(operations: readonly FileOperation[], root: string | null): Promise<void> {
  using places = new Places(root);
  let turnStartedMs = performance.now();
  try {
    for (const operation of operations) {
      apply(operation, places);
      if (performance.now() - turnStartedMs < TURN_MS_MAX) continue;
      await new Promise((resolve) => setImmediate(resolve));
      turnStartedMs = performance.now();
    }
  } finally {
    for (const operation of operations) if (operation.kind === 'file') letGo(operation.content);
  }
}

/** Given back now: the worker makes so little else that its collector would let tens of megabytes gather. */
function letGo({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0);
}

function applyOne(operation: FileOperation): void {
  using places = new Places(null);
  apply(operation, places);
}

function apply(operation: FileOperation, places: Places): void {
  const at = places.find(operation.path);
  const name = quoted(operation.path);
  switch (operation.kind) {
    case 'chown': {
      const { uid, gid } = operation;
      if (!isId(uid) || !isId(gid)) throw new KernelError('fchownat', ERRNO.EINVAL, `${name}, ${uid}, ${gid}`);
      check(
        native.fchownat(at.directoryFd, at.name, uid, gid, AT_SYMLINK_NOFOLLOW),
        'fchownat',
        () => `${name}, ${uid}, ${gid}`,
      );
      return;
    }
    case 'chmod':
      return changeMode(at.directoryFd, at.name, operation.mode, name);
    case 'times': {
      const times = Buffer.alloc(32);
      writeTimespec(times, 0, operation.accessNs);
      writeTimespec(times, 16, operation.modifyNs);
      check(native.utimensat(at.directoryFd, at.name, times, AT_SYMLINK_NOFOLLOW), 'utimensat', () => name);
      return;
    }
    case 'xattr':
      return setXattr(at.path, operation.name, operation.value);
    case 'node':
      return makeNodeAt(at.directoryFd, at.name, operation, name);
    case 'mkdir':
      check(native.mkdirat(at.directoryFd, at.name, permissions(operation.mode)), 'mkdirat', () => name);
      return changeMode(at.directoryFd, at.name, operation.mode, name);
    case 'symlink':
      check(
        native.symlinkat(pathText(operation.target, 'symlinkat'), at.directoryFd, at.name),
        'symlinkat',
        () => `${quoted(operation.target)}, ${name}`,
      );
      return;
    case 'link':
      places.findApart(operation.target, (target) =>
        check(
          native.linkat(target.directoryFd, target.name, at.directoryFd, at.name, 0),
          'linkat',
          () => `${quoted(operation.target)}, ${name}`,
        ),
      );
      return;
    case 'file':
      return makeFile(at.directoryFd, at.name, operation.mode, operation.content, name);
    default:
      throw new Error(`no such file operation: ${JSON.stringify(operation satisfies never)}`);
  }
}

/** There is no fchmodat that does not follow before Linux 6.6: open the file itself, then go through the descriptor. */
function changeMode(directoryFd: number, name: Text, mode: number, detail: string): void {
  const fd = check(native.openat(directoryFd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0), 'openat', () => detail);
  try {
    check(native.chmod(`/proc/self/fd/${fd}`, permissions(mode)), 'chmod', () => `${detail}, 0o${mode.toString(8)}`);
  } finally {
    closeFile(fd);
  }
}

function makeNodeAt(
  directoryFd: number,
  name: Text,
  operation: { readonly mode: number; readonly major: number; readonly minor: number },
  detail: string,
): void {
  const { mode, major, minor } = operation;
  const whole = (): string => `${detail}, 0o${mode.toString(8)}, ${major}:${minor}`;
  if (!isWithin(major, MAJOR_MAX) || !isWithin(minor, MINOR_MAX))
    throw new KernelError('mknodat', ERRNO.EINVAL, whole(), 'device number out of range');
  // The system call's encoding (new_encode_dev), not the C library's dev_t.
  const device = ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
  check(native.mknodat(SYSCALL.mknodat, directoryFd, name, mode & (S_IFMT | 0o7777), device), 'mknodat', whole);
  changeMode(directoryFd, name, mode, detail); // past the umask
}

function makeFile(directoryFd: number, name: Text, mode: number, content: Uint8Array, detail: string): void {
  const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  const fd = check(
    native.openat(directoryFd, name, flags, permissions(mode)),
    'openat',
    () => `${detail}, O_CREAT|O_EXCL`,
  );
  try {
    for (let at = 0; at < content.length;) {
      const rest = content.subarray(at);
      at += check(native.write(fd, rest, rest.length), 'write', () => detail);
    }
    check(native.fchmod(fd, permissions(mode)), 'fchmod', () => detail); // past the umask
  } finally {
    closeFile(fd);
  }
}

function writeTimespec(times: Buffer, offset: number, ns: bigint): void {
  const remainder = ((ns % NS_PER_S) + NS_PER_S) % NS_PER_S; // before 1970 too
  times.writeBigInt64LE((ns - remainder) / NS_PER_S, offset);
  times.writeBigInt64LE(remainder, offset + 8);
}

function permissions(mode: number): number {
  return mode & 0o7777;
}

function isId(id: number): boolean {
  return isWithin(id, ID_MAX);
}

function isWithin(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= max;
}
