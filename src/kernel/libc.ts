/**
 * The C library: each function bound once and typed. Worker thread only.
 *
 * SAFETY rules (koffi has no memory safety, a wrong size takes the daemon down):
 * - every string goes through `text()`: C would cut it at a NUL and act on another name;
 * - every output buffer is allocated here, next to the length that is passed with it;
 * - errno is read by `check()` before anything else runs.
 * System calls younger than glibc 2.28 go through syscall(2); their numbers are the same on all
 * architectures from 424 on.
 */
import koffi, { type KoffiFunc } from 'koffi';

import { encodeFileName } from '../core/file-name.ts';

import { ERRNO, KernelError, quoted } from './kernel-error.ts';

type Native = (...values: never[]) => number | bigint;
export type Text = string | Buffer;

/** null: the symbols that Node itself is linked with, be it glibc or musl. */
const library = koffi.load(null);

function bind<F extends Native>(definition: string): KoffiFunc<F> {
  return library.func(definition) as unknown as KoffiFunc<F>;
}
/** null where this C library has no such function. */
function bindOptional<F extends Native>(definition: string): KoffiFunc<F> | null {
  try {
    return bind<F>(definition);
  } catch {
    return null;
  }
}

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const CLONE_NEWNET = 0x40000000;
export const MS_BIND = 0x1000;
export const MNT_DETACH = 2;
export const UMOUNT_NOFOLLOW = 8;
export const SOCK_CLOEXEC = 0o2000000;
export const SOCK_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;

/** A message without data of its own. */
export interface MessageHeader {
  readonly name: Buffer;
  readonly nameSize: number;
  readonly data: null;
  readonly dataCount: 0;
  readonly control: Buffer;
  readonly controlSize: number;
  readonly flags: 0;
}
koffi.struct('msghdr', {
  name: 'void *',
  nameSize: 'uint32_t',
  data: 'void *',
  dataCount: 'size_t',
  control: 'void *',
  controlSize: 'size_t',
  flags: 'int',
});

/** Throws for a result below 0. `detail` is only called then. */
export function check(result: number | bigint, syscall: string, detail: () => string): number {
  // SAFETY: nothing may run before errno is read; any system call that Node makes overwrites it.
  if (result < 0) {
    const errno = koffi.errno();
    throw new KernelError(syscall, errno, detail());
  }
  return Number(result);
}

/** The same for a call that runs on a thread of libuv's pool. */
export function checkAsync(
  syscall: string,
  detail: () => string,
  start: (done: (error: unknown, result: number | bigint) => void) => void,
): Promise<number> {
  return new Promise((resolve, reject) => {
    start((error, result) => {
      // SAFETY: koffi sets errno to the call's for the length of this callback; read it first.
      const errno = koffi.errno();
      if (error !== null && error !== undefined)
        reject(error instanceof Error ? error : new Error('koffi call failed', { cause: error }));
      else if (result < 0) reject(new KernelError(syscall, errno, detail()));
      else resolve(Number(result));
    });
  });
}

/** A string that C sees whole. @throws {KernelError} EINVAL when it holds a NUL. */
export function text(value: string, syscall: string): string {
  // SAFETY: C ends a string at NUL, so "a\0b" would name another file than was checked.
  if (value.includes('\0')) throw new KernelError(syscall, ERRNO.EINVAL, quoted(value), 'a NUL in a string');
  return value;
}

/** A path that C sees whole: names that are not UTF-8 (core/file-name.ts) as bytes. @throws {KernelError} EINVAL */
export function pathText(path: string, syscall: string): Text {
  text(path, syscall);
  // SAFETY: C reads up to the NUL, which a Buffer does not have by itself.
  return path.isWellFormed() ? path : Buffer.concat([encodeFileName(path), Buffer.alloc(1)]);
}

/** An argument that C takes as an int. */
export function int(value: number, syscall: string): number {
  if (!Number.isInteger(value) || value < -0x80000000 || value > 0xffffffff) {
    throw new KernelError(syscall, ERRNO.EINVAL, String(value), 'not a 32-bit integer');
  }
  return value | 0;
}

export const native = {
  mount: bind<(source: string, target: string, type: string, flags: number, data: string | null) => number>(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
  ),
  umount2: bind<(target: string, flags: number) => number>('int umount2(const char *target, int flags)'),
  unshare: bind<(flags: number) => number>('int unshare(int flags)'),
  setns: bind<(fd: number, flags: number) => number>('int setns(int fd, int flags)'),
  abort: bind<() => number>('void abort()'),
  getpid: bind<() => number>('int getpid()'),

  open: bind<(path: Text, flags: number, mode: number) => number>(
    'int open(const char *path, int flags, unsigned int mode)',
  ),
  openat: bind<(fd: number, path: Text, flags: number, mode: number) => number>(
    'int openat(int fd, const char *path, int flags, unsigned int mode)',
  ),
  close: bind<(fd: number) => number>('int close(int fd)'),
  read: bind<(fd: number, buffer: Buffer, size: number) => number>('intptr_t read(int fd, void *buffer, size_t size)'),
  write: bind<(fd: number, buffer: Uint8Array, size: number) => number>(
    'intptr_t write(int fd, const void *buffer, size_t size)',
  ),
  lseek: bind<(fd: number, offset: number, whence: number) => number>(
    'int64_t lseek(int fd, int64_t offset, int whence)',
  ),
  unlinkat: bind<(fd: number, name: Text, flags: number) => number>(
    'int unlinkat(int fd, const char *name, int flags)',
  ),
  renameat: bind<(fromFd: number, from: Text, toFd: number, to: Text) => number>(
    'int renameat(int fromFd, const char *from, int toFd, const char *to)',
  ),
  mkdirat: bind<(fd: number, path: Text, mode: number) => number>(
    'int mkdirat(int fd, const char *path, unsigned int mode)',
  ),
  symlinkat: bind<(target: Text, fd: number, path: Text) => number>(
    'int symlinkat(const char *target, int fd, const char *path)',
  ),
  linkat: bind<(fromFd: number, from: Text, toFd: number, to: Text, flags: number) => number>(
    'int linkat(int fromFd, const char *from, int toFd, const char *to, int flags)',
  ),
  chmod: bind<(path: string, mode: number) => number>('int chmod(const char *path, unsigned int mode)'),
  fchmod: bind<(fd: number, mode: number) => number>('int fchmod(int fd, unsigned int mode)'),
  fchownat: bind<(fd: number, path: Text, uid: number, gid: number, flags: number) => number>(
    'int fchownat(int fd, const char *path, unsigned int uid, unsigned int gid, int flags)',
  ),
  utimensat: bind<(fd: number, path: Text, times: Buffer, flags: number) => number>(
    'int utimensat(int fd, const char *path, const void *times, int flags)',
  ),
  lgetxattr: bind<(path: Text, name: string, value: Buffer, size: number) => number>(
    'intptr_t lgetxattr(const char *path, const char *name, void *value, size_t size)',
  ),
  lsetxattr: bind<(path: Text, name: string, value: Uint8Array, size: number, flags: number) => number>(
    'int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)',
  ),
  llistxattr: bind<(path: Text, list: Buffer, size: number) => number>(
    'intptr_t llistxattr(const char *path, void *list, size_t size)',
  ),
  memfdCreate: bind<(name: string, flags: number) => number>('int memfd_create(const char *name, unsigned int flags)'),

  getrandom: bind<(buffer: Buffer, size: number, flags: number) => number>(
    'intptr_t getrandom(void *buffer, size_t size, unsigned int flags)',
  ),

  socket: bind<(domain: number, type: number, protocol: number) => number>(
    'int socket(int domain, int type, int protocol)',
  ),
  socketpair: bind<(domain: number, type: number, protocol: number, pair: Buffer) => number>(
    'int socketpair(int domain, int type, int protocol, void *pair)',
  ),
  bind: bind<(fd: number, address: Buffer, size: number) => number>(
    'int bind(int fd, const void *address, uint32_t size)',
  ),
  listen: bind<(fd: number, backlog: number) => number>('int listen(int fd, int backlog)'),
  getsockname: bind<(fd: number, address: Buffer, size: Buffer) => number>(
    'int getsockname(int fd, void *address, void *size)',
  ),
  setsockopt: bind<(fd: number, level: number, name: number, value: Buffer, size: number) => number>(
    'int setsockopt(int fd, int level, int name, const void *value, uint32_t size)',
  ),
  send: bind<(fd: number, data: Buffer, size: number, flags: number) => number>(
    'intptr_t send(int fd, const void *data, size_t size, int flags)',
  ),
  sendto: bind<
    (fd: number, data: Uint8Array, size: number, flags: number, address: Buffer, addressSize: number) => number
  >('intptr_t sendto(int fd, const void *data, size_t size, int flags, const void *address, uint32_t addressSize)'),
  sendmsg: bind<(fd: number, message: MessageHeader, flags: number) => number>(
    'intptr_t sendmsg(int fd, const msghdr *message, int flags)',
  ),
  fcntl: bind<(fd: number, command: number, argument: number) => number>(
    'int fcntl(int fd, int command, int argument)',
  ),
  recv: bind<(fd: number, data: Buffer, size: number, flags: number) => number>(
    'intptr_t recv(int fd, void *data, size_t size, int flags)',
  ),

  waitpid: bind<(pid: number, status: Buffer, options: number) => number>(
    'int waitpid(int pid, void *status, int options)',
  ),
  posixSpawn: bind<
    (
      pid: Buffer,
      path: string,
      actions: Buffer,
      attributes: Buffer,
      argv: readonly (string | null)[],
      env: readonly (string | null)[],
    ) => number
  >(
    'int posix_spawn(void *pid, const char *path, void *actions, void *attributes, const char **argv, const char **env)',
  ),
  actionsInit: bind<(actions: Buffer) => number>('int posix_spawn_file_actions_init(void *actions)'),
  actionsDestroy: bind<(actions: Buffer) => number>('int posix_spawn_file_actions_destroy(void *actions)'),
  actionsDup2: bind<(actions: Buffer, from: number, to: number) => number>(
    'int posix_spawn_file_actions_adddup2(void *actions, int from, int to)',
  ),
  actionsOpen: bind<(actions: Buffer, fd: number, path: string, flags: number, mode: number) => number>(
    'int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, unsigned int mode)',
  ),
  actionsClose: bind<(actions: Buffer, fd: number) => number>(
    'int posix_spawn_file_actions_addclose(void *actions, int fd)',
  ),
  /** glibc 2.34. */
  actionsCloseFrom: bindOptional<(actions: Buffer, fd: number) => number>(
    'int posix_spawn_file_actions_addclosefrom_np(void *actions, int fd)',
  ),
  attributesInit: bind<(attributes: Buffer) => number>('int posix_spawnattr_init(void *attributes)'),
  attributesDestroy: bind<(attributes: Buffer) => number>('int posix_spawnattr_destroy(void *attributes)'),
  attributesFlags: bind<(attributes: Buffer, flags: number) => number>(
    'int posix_spawnattr_setflags(void *attributes, short flags)',
  ),
  attributesDefaults: bind<(attributes: Buffer, signals: Buffer) => number>(
    'int posix_spawnattr_setsigdefault(void *attributes, const void *signals)',
  ),
  attributesMask: bind<(attributes: Buffer, signals: Buffer) => number>(
    'int posix_spawnattr_setsigmask(void *attributes, const void *signals)',
  ),

  // SAFETY: syscall(2) is variadic in C; only integers and pointers are passed, which go the same way in registers.
  syscallNumbers: bind<(number: number, a: number, b: number, c: number) => number>(
    'long syscall(long number, long a, long b, long c)',
  ),
  fsopen: bind<(number: number, type: string, flags: number) => number>(
    'long syscall(long number, const char *type, long flags)',
  ),
  fsconfig: bind<
    (number: number, fd: number, command: number, key: string | null, value: string | null, aux: number) => number
  >('long syscall(long number, long fd, long command, const char *key, const char *value, long aux)'),
  moveMount: bind<(number: number, fromFd: number, from: string, toFd: number, to: string, flags: number) => number>(
    'long syscall(long number, long fromFd, const char *from, long toFd, const char *to, long flags)',
  ),
  openat2: bind<(number: number, fd: number, path: Text, how: Buffer, size: number) => number>(
    'long syscall(long number, long fd, const char *path, void *how, size_t size)',
  ),
  getdents64: bind<(number: number, fd: number, buffer: Buffer, size: number) => number>(
    'long syscall(long number, long fd, void *buffer, size_t size)',
  ),
  mknodat: bind<(number: number, fd: number, path: Text, mode: number, device: number) => number>(
    'long syscall(long number, long fd, const char *path, unsigned long mode, unsigned long device)',
  ),
  statx: bind<(fd: number, path: Text, flags: number, mask: number, buffer: Buffer) => number>(
    'int statx(int fd, const char *path, int flags, unsigned int mask, void *buffer)',
  ),
};

/** mknodat and getdents64 have no wrapper in every C library; older numbers differ by architecture. */
function byArchitecture(x64: number, generic: number): number {
  return process.arch === 'x64' ? x64 : generic;
}
export const SYSCALL = {
  mknodat: byArchitecture(259, 33),
  getdents64: byArchitecture(217, 61),
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  pidfd_open: 434,
  openat2: 437,
} as const;

export function openFile(path: string, flags: number, mode = 0): number {
  return check(
    native.open(pathText(path, 'open'), flags | O_CLOEXEC, mode),
    'open',
    () => `${quoted(path)}, 0o${flags.toString(8)}`,
  );
}

/** At most 256 bytes, which the kernel gives at once. Not node:crypto: that is a megabyte in the worker. */
export function randomBytes(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  if (check(native.getrandom(bytes, bytes.length, 0), 'getrandom', () => `${size}`) !== size)
    throw new Error('getrandom: too few bytes');
  return bytes;
}

/** Never throws: there is nothing to be done about it, and the descriptor is gone either way. */
export function closeFile(fd: number): void {
  if (fd >= 0) native.close(fd);
}
