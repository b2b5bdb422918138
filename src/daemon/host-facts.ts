/** What /info and /version say of the host: read from /proc and /etc once asked, never by running a program. */
import { readdir, readFile, statfs } from 'node:fs/promises';
import { hostname, machine, release } from 'node:os';

import type { InfoFacts } from '../api/port.ts';

export interface HostFacts extends Pick<
  InfoFacts,
  | 'name'
  | 'kernelVersion'
  | 'operatingSystem'
  | 'osVersion'
  | 'osType'
  | 'architecture'
  | 'cpus'
  | 'memoryBytes'
  | 'ipv4Forwarding'
  | 'openDescriptors'
  | 'storageBackingFilesystem'
> {}

export async function readHostFacts(dataRoot: string): Promise<HostFacts> {
  const [osRelease, memory, forwarding, descriptors, backing] = await Promise.all([
    text('/etc/os-release'),
    text('/proc/meminfo'),
    text('/proc/sys/net/ipv4/ip_forward'),
    readdir('/proc/self/fd').catch(() => []),
    statfs(dataRoot).catch(() => null),
  ]);
  const field = (name: string): string => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(osRelease)?.[1] ?? '';
  return {
    name: hostname(),
    kernelVersion: release(),
    operatingSystem: field('PRETTY_NAME') || 'Linux',
    osVersion: field('VERSION_ID'),
    osType: 'linux',
    architecture: machine(),
    cpus: onlineCpus(await text('/sys/devices/system/cpu/online')),
    memoryBytes: Number(/^MemTotal:\s+(\d+) kB/m.exec(memory)?.[1] ?? 0) * 1024,
    ipv4Forwarding: forwarding.trim() === '1',
    openDescriptors: descriptors.length,
    storageBackingFilesystem: FILE_SYSTEMS[backing?.type ?? 0] ?? 'unknown',
  };
}

/** "0-3,6" is five. */
export function onlineCpus(list: string): number {
  let count = 0;
  for (const part of list.trim().split(',')) {
    const [first, last = first] = part.split('-').map(Number);
    if (first !== undefined && last !== undefined && last >= first) count += last - first + 1;
  }
  return Math.max(count, 1);
}

/** f_type to Docker's name of the backing file system. Source: statfs(2), moby graphdriver. */
const FILE_SYSTEMS: Record<number, string> = {
  0xef53: 'extfs',
  0x58465342: 'xfs',
  0x9123683e: 'btrfs',
  0x01021994: 'tmpfs',
  0x794c7630: 'overlayfs',
  0x2fc12fc1: 'zfs',
  0xf2f52010: 'f2fs',
};

async function text(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
