/** Device nodes of the host, for `--device`, `--privileged` and block I/O limits. Source: moby oci/devices_linux.go (v28), containerd pkg/oci HostDevices. */
import type { Stats } from 'node:fs';
import { lstat, readdir, realpath, stat } from 'node:fs/promises';

import type { DeviceSpec, ResourceSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { DeviceNode, DeviceNumber, MappedDevice } from './spec/input.ts';

/** Of the daemon's own /dev; containers get their own. */
const NOT_FOR_CONTAINERS = new Set(['pts', 'shm', 'fd', 'mqueue', '.lxc', '.lxd-mounts', '.udev']);
const DEPTH_MAX = 16;

/**
 * A mapping of a directory maps every node in it.
 * @throws {EngineError} RUNTIME_START_FAILED `error gathering device information while adding custom device "/dev/x": …`
 */
export async function readMappedDevices(mappings: readonly DeviceSpec[] | null): Promise<MappedDevice[]> {
  const found = await Promise.all((mappings ?? []).map(readMapping));
  return found.flat();
}

async function readMapping(mapping: DeviceSpec): Promise<MappedDevice[]> {
  const pathInContainer = mapping.pathInContainer || mapping.pathOnHost;
  const permissions = mapping.cgroupPermissions || 'rwm';
  const refuse = (why: string): never => {
    throw new EngineError(
      'RUNTIME_START_FAILED',
      `error gathering device information while adding custom device ${JSON.stringify(mapping.pathOnHost)}: ${why}`,
    );
  };
  const target = await realpath(mapping.pathOnHost).catch(() => refuse('no such file or directory'));
  const stats = await lstat(target).catch(() => refuse('no such file or directory'));
  const { pathOnHost } = mapping;
  const node = nodeOf(target, stats);
  if (node !== null) return [{ ...node, path: pathInContainer, pathOnHost, permissions }];
  if (!stats.isDirectory()) return refuse('not a device node');
  const nodes = await readDevices(target, 0);
  if (nodes.length === 0) return refuse('not a device node');
  return nodes.map((inner) => ({
    ...inner,
    path: `${pathInContainer}${inner.path.slice(target.length)}`,
    pathOnHost: `${pathOnHost}${inner.path.slice(target.length)}`,
    permissions,
  }));
}

/** Every node below /dev, for privileged containers. */
export async function readHostDevices(): Promise<DeviceNode[]> {
  const nodes = await readDevices('/dev', 0);
  // The container's console is its own.
  return nodes.filter((node) => node.path !== '/dev/console');
}

/** Numbers of the block devices that limits name. @throws {EngineError} RUNTIME_START_FAILED "stat /dev/x: no such file or directory" */
export async function readBlockDevices(resources: ResourceSpec): Promise<Map<string, DeviceNumber>> {
  const limits = [
    resources.blkioWeightDevice,
    resources.blkioDeviceReadBps,
    resources.blkioDeviceWriteBps,
    resources.blkioDeviceReadIops,
    resources.blkioDeviceWriteIops,
  ];
  const paths = new Set(limits.flatMap((list) => (list ?? []).map((limit) => limit.path)));
  const numbers = new Map<string, DeviceNumber>();
  for (const path of paths) {
    const stats = await stat(path).catch(() => {
      throw new EngineError('RUNTIME_START_FAILED', `stat ${path}: no such file or directory`);
    });
    numbers.set(path, numberOf(stats.rdev));
  }
  return numbers;
}

async function readDevices(directory: string, depth: number): Promise<DeviceNode[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const found = await Promise.all(
    entries.map(async (entry): Promise<DeviceNode[]> => {
      const path = `${directory}/${entry.name}`;
      if (entry.isDirectory()) {
        return NOT_FOR_CONTAINERS.has(entry.name) || depth >= DEPTH_MAX ? [] : readDevices(path, depth + 1);
      }
      if (!entry.isCharacterDevice() && !entry.isBlockDevice()) return [];
      const stats = await lstat(path).catch(() => null); // unplugged meanwhile
      const node = stats === null ? null : nodeOf(path, stats);
      return node === null ? [] : [node];
    }),
  );
  return found.flat();
}

/** null: not a device. */
export async function readNode(path: string): Promise<DeviceNode | null> {
  return nodeOf(path, await stat(path));
}

/** null: not a device. */
function nodeOf(path: string, stats: Stats): DeviceNode | null {
  const type = stats.isCharacterDevice() ? 'c' : stats.isBlockDevice() ? 'b' : null;
  if (type === null) return null;
  return { path, type, ...numberOf(stats.rdev), mode: stats.mode & 0o777, uid: stats.uid, gid: stats.gid };
}

/** gnu_dev_major and gnu_dev_minor of glibc. */
function numberOf(rdev: number): DeviceNumber {
  const device = BigInt(rdev);
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn & 0xffffffffn);
  return { major: Number(major), minor: Number(minor) };
}
