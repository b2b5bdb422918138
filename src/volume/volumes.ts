/**
 * Volumes of the local driver: DATA_ROOT/volumes/NAME/_data, mounted over with what `type`, `o` and `device` say while
 * a container uses it. Source: moby volume/local, volume/service (v28).
 */
import { mkdir, readdir, rename, stat } from 'node:fs/promises';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';

import { formatTime, type Clock } from '../core/clock.ts';
import { EngineError, messageOf } from '../core/engine-error.ts';
import { newId } from '../core/id.ts';
import type { Logger } from '../core/log.ts';
import type { EventPublisher } from '../event/port.ts';
import type { Kernel } from '../kernel/port.ts';
import type { Collection, Store } from '../store/port.ts';
import { copyTree } from './copy-tree.ts';
import { VOLUME_DRIVER_DEFAULT } from './mount-spec.ts';
import type { MountedAs, Volume, Volumes } from './port.ts';
import { treeSizeBytes } from './tree-size.ts';
import { checkVolumeName, checkVolumeOptions, volumeMount, withoutPassword } from './volume-options.ts';

export interface VolumesOptions {
  readonly dataRoot: string;
  readonly kernel: Kernel;
  readonly store: Store;
  readonly events: EventPublisher;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What a removal that was cut short leaves; swept at boot. No volume can have such a name. */
const REMOVING = '.removing-';
const NETWORK_TYPES = new Set(['nfs', 'nfs4', 'cifs', 'smb3']);

export async function openVolumes(options: VolumesOptions): Promise<Volumes> {
  const root = `${options.dataRoot}/volumes`;
  await mkdir(root, { recursive: true, mode: 0o701 });
  return new LocalVolumes(root, options, options.store.collection('volumes', decodeVolume));
}

class LocalVolumes implements Volumes {
  readonly #root: string;
  readonly #options: VolumesOptions;
  readonly #records: Collection<Volume>;
  readonly #volumes: Map<string, Volume>;
  /** Containers that refer to a volume, running or not. */
  readonly #references = new Map<string, Set<string>>();
  /** Containers that use it now. */
  readonly #users = new Map<string, Set<string>>();
  /** "name containerId" whose `unmount` is out ahead of its release. */
  readonly #told = new Set<string>();
  /** Volumes with options that are mounted at present. */
  readonly #mounted = new Set<string>();
  readonly #tails = new Map<string, Promise<unknown>>();

  constructor(root: string, options: VolumesOptions, records: Collection<Volume>) {
    this.#root = root;
    this.#options = options;
    this.#records = records;
    this.#volumes = records.load();
  }

  get(name: string): Volume {
    const volume = this.#volumes.get(name);
    if (volume === undefined) throw new EngineError('VOLUME_NOT_FOUND', `get ${name}: no such volume`);
    return volume;
  }

  list(): readonly Volume[] {
    return [...this.#volumes.values()];
  }

  async create(spec: Parameters<Volumes['create']>[0]): Promise<Volume> {
    const driver = spec.driver === '' ? VOLUME_DRIVER_DEFAULT : spec.driver;
    const name = spec.name === '' ? newId() : spec.name;
    if (driver !== VOLUME_DRIVER_DEFAULT) {
      throw new EngineError(
        'VOLUME_DRIVER_UNKNOWN',
        `create ${name}: error looking up volume plugin ${driver}: plugin "${driver}" not found`,
      );
    }
    checkVolumeName(name);
    return await this.#queue(name, async () => {
      const existing = this.#volumes.get(name);
      if (existing !== undefined) return existing;
      checkVolumeOptions(name, spec.options);
      const mountpoint = `${this.#root}/${name}/_data`;
      await mkdir(`${this.#root}/${name}`, { recursive: true, mode: 0o701 });
      await mkdir(mountpoint, { recursive: true, mode: 0o755 });
      const volume: Volume = {
        name,
        driver,
        mountpoint,
        createdAt: formatTime(this.#options.clock.wallNs()),
        labels: spec.labels,
        options: spec.options,
        anonymous: spec.anonymous ?? spec.name === '',
      };
      this.#records.put(name, volume, { durable: true });
      this.#volumes.set(name, volume);
      this.#event(volume, 'create', {});
      return volume;
    });
  }

  async remove(name: string, { force }: { readonly force: boolean }): Promise<void> {
    await this.#queue(name, async () => {
      const volume = this.#volumes.get(name);
      if (volume === undefined) {
        if (force) return;
        throw new EngineError('VOLUME_NOT_FOUND', `get ${name}: no such volume`);
      }
      const references = this.references(name);
      if (references.length > 0)
        throw new EngineError('VOLUME_IN_USE', `remove ${name}: volume is in use - [${references.join(', ')}]`);
      // What is mounted there is not ours to empty.
      await this.#options.kernel.mounts.unmount(volume.mountpoint);
      this.#mounted.delete(name);
      const doomed = `${this.#root}/${REMOVING}${newId()}`;
      await rename(`${this.#root}/${name}`, doomed).catch(ignoreMissing);
      this.#records.delete(name, { durable: true });
      this.#volumes.delete(name);
      await this.#options.kernel.files.removeTree(doomed);
      this.#event(volume, 'destroy', {});
    });
  }

  async acquire(name: string, containerId: string, as?: MountedAs): Promise<string> {
    return await this.#queue(name, async () => {
      const volume = this.get(name);
      await this.#mount(volume);
      const users = setOf(this.#users, name);
      const isNew = !users.has(containerId);
      users.add(containerId);
      if (isNew) {
        this.#told.delete(`${name} ${containerId}`);
        const more =
          as === undefined
            ? {}
            : { destination: as.destination, propagation: as.propagation, 'read/write': String(as.readWrite) };
        this.#event(volume, 'mount', { container: containerId, ...more });
      }
      return volume.mountpoint;
    });
  }

  async release(name: string, containerId: string): Promise<void> {
    await this.#queue(name, async () => {
      const users = this.#users.get(name);
      const volume = this.#volumes.get(name);
      if (users?.delete(containerId) !== true || volume === undefined) return;
      if (users.size === 0) {
        this.#users.delete(name);
        await this.#unmount(volume);
      }
      if (!this.#told.delete(`${name} ${containerId}`)) this.#event(volume, 'unmount', { container: containerId });
    });
  }

  tellReleased(name: string, containerId: string): void {
    const volume = this.#volumes.get(name);
    if (volume === undefined || this.#users.get(name)?.has(containerId) !== true) return;
    if (this.#told.has(`${name} ${containerId}`)) return;
    this.#told.add(`${name} ${containerId}`);
    this.#event(volume, 'unmount', { container: containerId });
  }

  refer(name: string, containerId: string): void {
    setOf(this.#references, name).add(containerId);
  }

  unrefer(name: string, containerId: string): void {
    const references = this.#references.get(name);
    references?.delete(containerId);
    if (references?.size === 0) this.#references.delete(name);
  }

  references(name: string): readonly string[] {
    return [...new Set([...(this.#references.get(name) ?? []), ...(this.#users.get(name) ?? [])])];
  }

  async copyUp(name: string, source: string): Promise<void> {
    await this.#queue(name, async () => {
      const volume = this.get(name);
      await this.#mount(volume);
      try {
        if ((await readdir(volume.mountpoint)).length > 0) return;
        if (!(await stat(source)).isDirectory()) {
          throw new EngineError('MOUNT_INVALID', `cannot mount volume over existing file, file exists ${source}`);
        }
        await copyTree(source, volume.mountpoint, this.#options.kernel.files);
      } finally {
        if ((this.#users.get(name)?.size ?? 0) === 0) await this.#unmount(volume);
      }
    });
  }

  /** −1 where it cannot be told: what a device holds is not the volume's (as Docker's). */
  async sizeBytes(name: string): Promise<number> {
    const volume = this.get(name);
    if (volumeMount(volume.options) !== null) return -1;
    return await treeSizeBytes(volume.mountpoint);
  }

  async recover(live: ReadonlySet<string>): Promise<void> {
    const { kernel, logger } = this.#options;
    const [names, mounts] = await Promise.all([readdir(this.#root), kernel.mounts.below(this.#root)]);
    const mounted = new Set(mounts);
    for (const name of names) {
      if (name.startsWith(REMOVING)) await kernel.files.removeTree(`${this.#root}/${name}`);
      else if (!this.#volumes.has(name)) await this.#adoptDirectory(name);
    }
    for (const volume of this.#volumes.values()) {
      if (!mounted.has(volume.mountpoint)) continue;
      if (this.references(volume.name).some((containerId) => live.has(containerId))) this.#mounted.add(volume.name);
      else
        await kernel.mounts
          .unmount(volume.mountpoint)
          .catch((error: unknown) =>
            logger.error({ volume: volume.name, err: error }, 'a volume could not be unmounted'),
          );
    }
  }

  /** Data without a record (the store was lost, or a creation was cut short) is a volume again, as moby has it. */
  async #adoptDirectory(name: string): Promise<void> {
    const mountpoint = `${this.#root}/${name}/_data`;
    const stats = await stat(mountpoint, { bigint: true }).catch(() => null);
    if (stats === null || !stats.isDirectory() || name.startsWith('.')) return;
    const volume: Volume = {
      name,
      driver: VOLUME_DRIVER_DEFAULT,
      mountpoint,
      createdAt: formatTime(stats.ctimeNs),
      labels: {},
      options: {},
      anonymous: false,
    };
    this.#records.put(name, volume);
    this.#volumes.set(name, volume);
    this.#options.logger.warn({ volume: name }, 'a volume without a record was taken up');
  }

  async #mount(volume: Volume): Promise<void> {
    const wanted = volumeMount(volume.options);
    if (wanted === null || this.#mounted.has(volume.name)) return;
    const { kernel } = this.#options;
    const failed = `error while mounting volume '${volume.mountpoint}': failed to mount local volume`;
    try {
      const data = NETWORK_TYPES.has(wanted.type) ? await withAddress(wanted.data) : wanted.data;
      await kernel.mounts.mount({
        source: wanted.device,
        target: volume.mountpoint,
        type: wanted.type,
        flags: wanted.flags,
        data,
      });
    } catch (error) {
      const words = errnoWords(error);
      const hint =
        words === 'no such device' && NETWORK_TYPES.has(wanted.type) ? ` (this host cannot mount ${wanted.type})` : '';
      const options = [
        `flags: 0x${wanted.flags.toString(16)}`,
        ...(wanted.data === '' ? [] : [`data: ${wanted.data}`]),
      ].join(', ');
      const message = withoutPassword(
        `${failed}: mount ${wanted.device}:${volume.mountpoint}, ${options}: ${words}${hint}`,
      );
      throw new EngineError('HOST_UNSUPPORTED', message, { cause: error });
    }
    this.#mounted.add(volume.name);
  }

  async #unmount(volume: Volume): Promise<void> {
    if (!this.#mounted.delete(volume.name)) return;
    await this.#options.kernel.mounts.unmount(volume.mountpoint);
  }

  #event({ name, driver }: Volume, action: string, more: Record<string, string>): void {
    this.#options.events.publish({ type: 'volume', action, actor: { id: name, attributes: { driver, ...more } } });
  }

  /** What is done with one volume is done one at a time. */
  #queue<T>(name: string, work: () => Promise<T>): Promise<T> {
    const result = (this.#tails.get(name) ?? Promise.resolve()).then(work);
    const tail = result
      .catch(() => {})
      .then(() => {
        if (this.#tails.get(name) === tail) this.#tails.delete(name);
      });
    this.#tails.set(name, tail);
    return result;
  }
}

/** mount(2) wants addresses where mount(8) takes names. */
async function withAddress(data: string): Promise<string> {
  const match = /(?:^|,)addr=([^,]+)/.exec(data);
  if (match === null || isIP(match[1]!) !== 0) return data;
  const { address } = await lookup(match[1]!);
  return data.replace(`addr=${match[1]!}`, `addr=${address}`);
}

const ERRNO_WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  ENODEV: 'no such device',
  EINVAL: 'invalid argument',
  EPERM: 'operation not permitted',
  EACCES: 'permission denied',
  ENOTDIR: 'not a directory',
  EBUSY: 'device or resource busy',
  ENOTBLK: 'block device required',
};

function errnoWords(error: unknown): string {
  const code = (error as { code?: unknown }).code;
  return (typeof code === 'string' ? ERRNO_WORDS[code] : undefined) ?? messageOf(error);
}

function setOf(map: Map<string, Set<string>>, key: string): Set<string> {
  let set = map.get(key);
  if (set === undefined) map.set(key, (set = new Set()));
  return set;
}

function decodeVolume(value: unknown): Volume {
  const volume = value as Partial<Volume> | null;
  if (typeof volume !== 'object' || volume === null) throw new Error('not an object');
  for (const key of ['name', 'driver', 'mountpoint', 'createdAt'] as const) {
    if (typeof volume[key] !== 'string') throw new Error(`${key} is not a text`);
  }
  for (const key of ['labels', 'options'] as const) {
    if (typeof volume[key] !== 'object' || volume[key] === null) throw new Error(`${key} is not an object`);
  }
  checkVolumeName(volume.name!);
  return value as Volume;
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
