/**
 * Mounts. overlayfs through the new mount API, layer by layer ("lowerdir+", Linux 6.7): mount(2) cuts its
 * options at 4 KiB. Source: mount(2), fsopen(2), linux Documentation/filesystems/overlayfs.rst. Worker thread only.
 */
import { readFileSync } from 'node:fs';

import {
  AT_FDCWD,
  check,
  checkAsync,
  closeFile,
  MNT_DETACH,
  native,
  O_PATH,
  openFile,
  SYSCALL,
  text,
  UMOUNT_NOFOLLOW,
} from './libc.ts';
import { ERRNO, isErrno, KernelError, quoted } from './kernel-error.ts';
import { Lane } from './lane.ts';
import { mountPointsBelow, parseMountinfo } from './mountinfo.ts';
import type { Mounts } from './port.ts';

type OverlayOptions = Parameters<Mounts['overlay']>[0];

const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOUNT_ATTR_RDONLY = 1;
const MS_RDONLY = 1;
/** fsconfig(2) takes strings of at most 256 bytes with their NUL. */
const FSCONFIG_STRING_BYTES_MAX = 255;
/** mount(2) reads one page. */
const MOUNT_DATA_BYTES_MAX = 4095;
const LOG_BYTES_MAX = 4096;
const O_DIRECTORY = 0o200000;
/** A file server that hangs keeps a thread each; never all of them. */
const mountLane = new Lane({ name: 'mount', width: 2, waitMsMax: 60_000 });
/** Writing back an overlay's upper file system may take its time. */
const unmountLane = new Lane({ name: 'umount2', width: 2, waitMsMax: 600_000 });

/** Found out by the first overlay: null until then. */
let hasLowerdirPlus: boolean | null = null;

export function overlay(options: OverlayOptions): void {
  if (options.lowerDirs.length === 0)
    throw new KernelError('fsconfig', ERRNO.EINVAL, `overlay ${quoted(options.target)}`, 'no lower directory');
  text(options.target, 'move_mount');
  if (hasLowerdirPlus !== false) {
    try {
      if (hasLowerdirPlus === null) checkReadsOptionsAtOnce();
      overlayByLayer(options);
      hasLowerdirPlus = true;
      return;
    } catch (error) {
      if (hasLowerdirPlus === true || !isMissingFeature(error)) throw error;
      hasLowerdirPlus = false;
    }
  }
  overlayByPage(options);
}

/** @throws {KernelError} E2BIG when the options would be cut. */
export async function mount(options: Parameters<Mounts['mount']>[0]): Promise<void> {
  const source = text(options.source, 'mount');
  const target = text(options.target, 'mount');
  const type = text(options.type, 'mount');
  const data = text(options.data, 'mount');
  const { flags } = options;
  const detail = (): string =>
    `${quoted(source)}, ${quoted(target)}, ${quoted(type)}, 0x${flags.toString(16)}, ${quoted(data)}`;
  if (!Number.isInteger(flags) || flags < 0 || flags > 0xffffffff)
    throw new KernelError('mount', ERRNO.EINVAL, detail(), 'flags out of range');
  if (Buffer.byteLength(data) > MOUNT_DATA_BYTES_MAX)
    throw new KernelError('mount', ERRNO.E2BIG, detail(), `more than ${MOUNT_DATA_BYTES_MAX} bytes of options`);
  // On a pool thread: also a bind looks up a path, which may be on a file server that does not answer.
  await mountLane.run(() =>
    checkAsync('mount', detail, (done) =>
      native.mount.async(source, target, type, flags, data === '' ? null : data, done),
    ),
  );
}

/** On a pool thread: an overlay's last unmount writes back its whole upper file system. */
export async function unmount(target: string): Promise<boolean> {
  text(target, 'umount2');
  const flags = MNT_DETACH | UMOUNT_NOFOLLOW;
  try {
    await unmountLane.run(() =>
      checkAsync(
        'umount2',
        () => `${quoted(target)}, MNT_DETACH`,
        (done) => native.umount2.async(target, flags, done),
      ),
    );
    return true;
  } catch (error) {
    if (isErrno(error, ERRNO.EINVAL, ERRNO.ENOENT)) return false;
    throw error;
  }
}

export function mountsBelow(directory: string): string[] {
  return mountPointsBelow(parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8')), directory);
}

/**
 * Before 6.5 overlayfs has no context of its own: the kernel takes any option, and mount fails at the end.
 * @throws {KernelError} ENOSYS then.
 */
function checkReadsOptionsAtOnce(): void {
  using held = new Held();
  const context = held.fd(check(native.fsopen(SYSCALL.fsopen, 'overlay', FSOPEN_CLOEXEC), 'fsopen', () => 'overlay'));
  const taken = native.fsconfig(SYSCALL.fsconfig, context, FSCONFIG_SET_FLAG, 'longshore-no-such-option', null, 0);
  if (Number(taken) === 0)
    throw new KernelError('fsconfig', ERRNO.ENOSYS, 'overlay', 'options are not read one by one');
}

function overlayByLayer(options: OverlayOptions): void {
  using held = new Held();
  const context = held.fd(check(native.fsopen(SYSCALL.fsopen, 'overlay', FSOPEN_CLOEXEC), 'fsopen', () => 'overlay'));
  const configure = (command: number, key: string | null, value: string | null): void => {
    try {
      check(
        native.fsconfig(SYSCALL.fsconfig, context, command, key, value, 0),
        'fsconfig',
        () => `overlay ${quoted(options.target)}, ${key ?? 'create'}${value === null ? '' : `=${quoted(value)}`}`,
      );
    } catch (error) {
      throw error instanceof KernelError
        ? new KernelError(error.syscall, error.errno, error.detail, readLog(context))
        : error;
    }
  };
  const setPath = (key: string, path: string): void =>
    configure(FSCONFIG_SET_STRING, key, shortened(held, path, FSCONFIG_STRING_BYTES_MAX));
  configure(FSCONFIG_SET_STRING, 'source', 'overlay');
  for (const lowerDir of options.lowerDirs) setPath('lowerdir+', lowerDir);
  if (options.upper !== null) {
    setPath('upperdir', options.upper.upperDir);
    setPath('workdir', options.upper.workDir);
    if (options.volatile === true) configure(FSCONFIG_SET_FLAG, 'volatile', null);
  }
  configure(FSCONFIG_CMD_CREATE, null, null);
  const attributes = options.upper === null ? MOUNT_ATTR_RDONLY : 0;
  const made = held.fd(
    check(
      native.syscallNumbers(SYSCALL.fsmount, context, FSMOUNT_CLOEXEC, attributes),
      'fsmount',
      () => `overlay ${quoted(options.target)}`,
    ),
  );
  check(
    native.moveMount(SYSCALL.move_mount, made, '', AT_FDCWD, options.target, MOVE_MOUNT_F_EMPTY_PATH),
    'move_mount',
    () => quoted(options.target),
  );
}

/** For kernels before 6.7: all in one page of options; paths that would not fit go by descriptor. */
export function overlayByPage(options: OverlayOptions): void {
  using held = new Held();
  const total = options.lowerDirs.reduce((sum, path) => sum + Buffer.byteLength(path) + 1, 0);
  const bytesMax = total > MOUNT_DATA_BYTES_MAX / 2 ? 0 : MOUNT_DATA_BYTES_MAX;
  const path = (value: string): string => shortened(held, value, bytesMax).replace(/[\\:,]/g, '\\$&');
  const parts = [`lowerdir=${options.lowerDirs.map(path).join(':')}`];
  if (options.upper !== null) {
    parts.push(`upperdir=${path(options.upper.upperDir)}`, `workdir=${path(options.upper.workDir)}`);
    if (options.volatile === true) parts.push('volatile');
  }
  const data = parts.join(',');
  const detail = (): string => `overlay, ${quoted(options.target)}, ${quoted(data)}`;
  if (Buffer.byteLength(data) > MOUNT_DATA_BYTES_MAX)
    throw new KernelError('mount', ERRNO.E2BIG, detail(), 'too many layers for this kernel');
  check(
    native.mount('overlay', options.target, 'overlay', options.upper === null ? MS_RDONLY : 0, data),
    'mount',
    detail,
  );
}

/** The path, or when it is too long a short name of the same directory that lives as long as `held`. */
function shortened(held: Held, path: string, bytesMax: number): string {
  text(path, 'fsconfig');
  if (Buffer.byteLength(path) <= bytesMax) return path;
  return `/proc/self/fd/${held.fd(openFile(path, O_PATH | O_DIRECTORY))}`;
}

function isMissingFeature(error: unknown): boolean {
  if (!(error instanceof KernelError)) return false;
  if (error.errno === ERRNO.ENOSYS) return true;
  return (
    error.syscall === 'fsconfig' &&
    error.errno === ERRNO.EINVAL &&
    error.detail.includes(', lowerdir+=') &&
    (error.text === '' || error.text.includes('lowerdir+'))
  );
}

/** What the file system said: lines as "e overlay: …". */
function readLog(context: number): string {
  const lines: string[] = [];
  const buffer = Buffer.alloc(LOG_BYTES_MAX);
  for (;;) {
    const size = Number(native.read(context, buffer, buffer.length));
    if (size <= 0) return lines.join('; ');
    lines.push(
      buffer
        .toString('utf8', 0, size)
        .replace(/^[a-z] /, '')
        .trim(),
    );
  }
}

/** Descriptors that are closed at the end of the scope. */
class Held implements Disposable {
  readonly #fds: number[] = [];

  fd(fd: number): number {
    this.#fds.push(fd);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.toReversed()) closeFile(fd);
  }
}
