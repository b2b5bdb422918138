/**
 * Mounts what a volume's options say, and tells a failure in Docker's words.
 * Source: moby volume/local/local_unix.go, github.com/moby/sys/mount mount_unix.go and mount_errors.go (v28).
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';

import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Mounts } from '../kernel/port.ts';
import { MS_BIND, withoutPassword, type VolumeMount } from './volume-options.ts';

const MS_RDONLY = 1;
const MS_REMOUNT = 0x20;
const MS_REC = 0x4000;
const NETWORK_TYPES = new Set(['nfs', 'nfs4', 'cifs', 'smb3']);

const ERRNO_WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  ENODEV: 'no such device',
  EINVAL: 'invalid argument',
  EPERM: 'operation not permitted',
  EACCES: 'permission denied',
  ENOTDIR: 'not a directory',
  EBUSY: 'device or resource busy',
  ENOTBLK: 'block device required',
  ENXIO: 'no such device or address',
  ECONNREFUSED: 'connection refused',
  ETIMEDOUT: 'connection timed out',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network is unreachable',
};

/** All or nothing. @throws HOST_UNSUPPORTED "error while mounting volume '/x': failed to mount local volume: mount …" */
export async function mountLocal(
  mounts: Pick<Mounts, 'mount' | 'unmount'>,
  wanted: VolumeMount,
  target: string,
): Promise<void> {
  try {
    if (wanted.device === '') throw new Error('missing device in volume options');
    await mountAll(mounts, await withAddresses(wanted), target);
  } catch (error) {
    const message = `error while mounting volume '${target}': ${describe(error, wanted, target)}`;
    throw new EngineError('HOST_UNSUPPORTED', withoutPassword(message), { cause: error });
  }
}

/** What one mount(2) cannot do is done by further ones: propagation, and a bind that is read-only. */
async function mountAll(
  mounts: Pick<Mounts, 'mount' | 'unmount'>,
  { device, type, flags, propagation, data }: VolumeMount,
  target: string,
): Promise<void> {
  await mounts.mount({ source: device, target, type, flags, data });
  try {
    if (propagation !== 0) await mounts.mount({ source: '', target, type: '', flags: propagation, data: '' });
    if ((flags & MS_BIND) !== 0 && (flags & MS_RDONLY) !== 0) {
      await mounts.mount({ source: '', target, type: '', flags: (flags & ~MS_REC) | MS_REMOUNT, data: '' });
    }
  } catch (error) {
    await mounts.unmount(target);
    throw error;
  }
}

/** mount(2) wants addresses where mount(8) takes names. */
async function withAddresses(wanted: VolumeMount): Promise<VolumeMount> {
  if (!NETWORK_TYPES.has(wanted.type)) return wanted;
  const [, name] = /(?:^|,)addr=([^,]+)/.exec(wanted.data) ?? [];
  if (name !== undefined) {
    return isIP(name) !== 0
      ? wanted
      : { ...wanted, data: wanted.data.replace(`addr=${name}`, `addr=${await addressOf(name)}`) };
  }
  const [, host] = /^(?:\w+:)?\/\/([^/]+)/.exec(wanted.device) ?? [];
  if (!wanted.type.startsWith('cifs') || host === undefined || isIP(host) !== 0) return wanted;
  return { ...wanted, device: wanted.device.replace(`//${host}`, `//${await addressOf(host)}`) };
}

async function addressOf(name: string): Promise<string> {
  try {
    return (await lookup(name)).address;
  } catch (cause) {
    throw new Error(`error resolving passed in network volume address: lookup ${name}: no such host`, { cause });
  }
}

function describe(error: unknown, { device, type, flags, data }: VolumeMount, target: string): string {
  const { code } = error as { readonly code?: unknown };
  if (typeof code !== 'string') return messageOf(error);
  const words = ERRNO_WORDS[code] ?? messageOf(error);
  const options = (flags === 0 ? '' : `, flags: 0x${flags.toString(16)}`) + (data === '' ? '' : `, data: ${data}`);
  const hint = code === 'ENODEV' && NETWORK_TYPES.has(type) ? ` (this host cannot mount ${type})` : '';
  return `failed to mount local volume: mount ${device}:${target}${options}: ${words}${hint}`;
}
