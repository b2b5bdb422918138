/**
 * Starting and waiting for processes. posix_spawn shares the parent's memory until exec, so it costs the same
 * whatever the daemon's size. Source: posix_spawn(3), pidfd_open(2) (Linux 5.3). Worker thread only.
 */
import koffi from 'koffi';

import { check, closeFile, native, SOCK_CLOEXEC, SOCK_NONBLOCK, SYSCALL, text } from './libc.ts';
import { ERRNO, isErrno, KernelError, quoted } from './kernel-error.ts';
import type { Processes } from './port.ts';

const POSIX_SPAWN_SETSIGDEF = 4;
const POSIX_SPAWN_SETSIGMASK = 8;
const POSIX_SPAWN_SETSID = 0x80;
const O_RDWR = 2;
const WNOHANG = 1;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const FIRST_DESCRIPTOR = 3; // in the child, after stdin, stdout, stderr
const DESCRIPTOR_MAX = 0x0fff_ffff;
/** SAFETY: glibc's posix_spawnattr_t has 336 bytes, the actions 80; musl's are no larger. */
const OPAQUE_BYTES = 1024;
/** sigset_t in glibc and musl. */
const SIGNAL_SET_BYTES = 128;

const ALL_SIGNALS = Buffer.alloc(SIGNAL_SET_BYTES, 0xff);
const NO_SIGNALS = Buffer.alloc(SIGNAL_SET_BYTES);

/** Children of spawn() that nobody reaped yet. SAFETY: waitpid on any other pid would steal Node's own children. */
const unreaped = new Set<number>();
/** What ended() waits for, by the caller's token. */
const watches = new Map<number, Watch>();

interface Watch {
  /** Stops waiting; `ended` is what the wait answers. */
  finish(ended: boolean): void;
}

export function spawn(options: Parameters<Processes['spawn']>[0]): { pid: number } {
  const path = text(options.path, 'posix_spawn');
  const argv = options.argv.map((argument) => text(argument, 'posix_spawn'));
  const env = options.env.map((variable) => text(variable, 'posix_spawn'));
  const detail = (): string =>
    `${quoted(path)}, argv=${JSON.stringify(argv)}, descriptors=[${options.descriptors.join(',')}]`;
  for (const fd of options.descriptors) {
    if (!Number.isInteger(fd) || fd < 0 || fd > DESCRIPTOR_MAX)
      throw new KernelError('posix_spawn', ERRNO.EBADF, detail());
  }
  const actions = Buffer.alloc(OPAQUE_BYTES);
  const attributes = Buffer.alloc(OPAQUE_BYTES);
  const pid = Buffer.alloc(4);
  succeed(native.actionsInit(actions), detail);
  try {
    succeed(native.attributesInit(attributes), detail);
    try {
      arrange(actions, options.descriptors, detail);
      succeed(
        native.attributesFlags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK),
        detail,
      );
      succeed(native.attributesDefaults(attributes, ALL_SIGNALS), detail);
      succeed(native.attributesMask(attributes, NO_SIGNALS), detail);
      succeed(native.posixSpawn(pid, path, actions, attributes, [...argv, null], [...env, null]), detail);
    } finally {
      native.attributesDestroy(attributes);
    }
  } finally {
    native.actionsDestroy(actions);
  }
  const started = pid.readInt32LE(0);
  unreaped.add(started);
  return { pid: started };
}

export function socketPair(): readonly [number, number] {
  const pair = Buffer.alloc(8);
  check(native.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 'socketpair', () => 'AF_UNIX');
  return [pair.readInt32LE(0), pair.readInt32LE(4)];
}

export function closeDescriptor(fd: number): void {
  // SAFETY: 0 to 2 are the daemon's own, whoever asks.
  if (!Number.isInteger(fd) || fd < FIRST_DESCRIPTOR || fd > DESCRIPTOR_MAX)
    throw new KernelError('close', ERRNO.EBADF, String(fd));
  check(native.close(fd), 'close', () => String(fd));
}

export async function reap(pid: number): Promise<{ exitCode: number; signal: number }> {
  if (!unreaped.has(pid))
    throw new KernelError('waitpid', ERRNO.ECHILD, String(pid), 'not started here, or reaped already');
  const status = Buffer.alloc(4);
  const collect = (): boolean => check(native.waitpid(pid, status, WNOHANG), 'waitpid', () => String(pid)) === pid;
  if (!collect()) {
    await new Promise<void>((resolve, reject) => whenReadable(openPidfd(pid), resolve, reject));
    // Somebody else who waited for the same may have been quicker.
    if (!unreaped.has(pid)) throw new KernelError('waitpid', ERRNO.ECHILD, String(pid), 'reaped already');
    if (!collect()) throw new Error(`waitpid(${pid}): a readable pidfd of a process that lives`);
  }
  unreaped.delete(pid);
  const word = status.readInt32LE(0);
  const signal = word & 0x7f;
  return signal === 0 ? { exitCode: (word >> 8) & 0xff, signal: 0 } : { exitCode: 128 + signal, signal };
}

/** True when it ended, false when forget() was called with the token. */
export function ended(pid: number, token: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let pidfd: number;
    try {
      pidfd = openPidfd(pid);
    } catch (error) {
      if (isErrno(error, ERRNO.ESRCH)) resolve(true);
      else reject(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    const stop = whenReadable(
      pidfd,
      () => {
        watches.delete(token);
        resolve(true);
      },
      (error) => {
        watches.delete(token);
        reject(error);
      },
    );
    watches.set(token, {
      finish(hasEnded) {
        watches.delete(token);
        stop();
        resolve(hasEnded);
      },
    });
  });
}

export function forget(token: number): void {
  watches.get(token)?.finish(false);
}

export function forgetAll(): void {
  for (const watch of watches.values()) watch.finish(false);
}

/** Owns `fd`: closes it once it is readable, or when the returned function is called. */
function whenReadable(fd: number, ready: () => void, failed: (error: Error) => void): () => void {
  let open = true;
  const stop = (handle: ReturnType<typeof koffi.node.poll>): void => {
    if (!open) return;
    open = false;
    handle.close(); // libuv leaves its epoll set here; only then may the number be used again
    closeFile(fd);
  };
  try {
    const handle = koffi.node.poll(fd, { readable: true }, () => {
      stop(handle);
      ready();
    });
    return () => stop(handle);
  } catch (error) {
    closeFile(fd);
    failed(error instanceof Error ? error : new Error(String(error)));
    return () => undefined;
  }
}

function openPidfd(pid: number): number {
  // SAFETY: 0 and negative numbers mean groups and "any" to other calls; never let one through.
  if (!Number.isInteger(pid) || pid <= 0 || pid > 0x7fffffff)
    throw new KernelError('pidfd_open', ERRNO.ESRCH, String(pid));
  return check(native.syscallNumbers(SYSCALL.pidfd_open, pid, 0, 0), 'pidfd_open', () => String(pid));
}

/** stdin, stdout and stderr on /dev/null, the descriptors from 3 on, nothing above. */
function arrange(actions: Buffer, descriptors: readonly number[], detail: () => string): void {
  for (const fd of [0, 1, 2]) succeed(native.actionsOpen(actions, fd, '/dev/null', O_RDWR, 0), detail);
  const firstFree = FIRST_DESCRIPTOR + descriptors.length;
  // First above all of them, then down: a source may stand where another has to go.
  const above = Math.max(firstFree, ...descriptors.map((fd) => fd + 1));
  descriptors.forEach((fd, index) => succeed(native.actionsDup2(actions, fd, above + index), detail));
  descriptors.forEach((_, index) =>
    succeed(native.actionsDup2(actions, above + index, FIRST_DESCRIPTOR + index), detail),
  );
  // Without closefrom (glibc < 2.34) everything else is close-on-exec: Node's descriptors and ours.
  if (native.actionsCloseFrom !== null) succeed(native.actionsCloseFrom(actions, firstFree), detail);
  else descriptors.forEach((_, index) => succeed(native.actionsClose(actions, above + index), detail));
}

/** These functions return the errno itself. */
function succeed(errno: number, detail: () => string): void {
  if (errno !== 0) throw new KernelError('posix_spawn', errno, detail());
}
