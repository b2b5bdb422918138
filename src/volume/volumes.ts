/**
 * Volumes of the local driver: DATA_ROOT/volumes/NAME/_data, mounted over with what `type`, `o` and `device` say while
 * a container uses it. Source: moby volume/local, volume/service (v28).
 */
import { access, chown, mkdir, readdir, rename, stat } from 'node:fs/promises';

import { formatTime, type Clock } from '../core/clock.ts';
import { EngineError } from '../core/engine-error.ts';
import { NO_REMAP, rootOf, type IdMap } from '../core/id-map.ts';
import { newId } from '../core/id.ts';
import type { Logger } from '../core/log.ts';
import type { EventPublisher } from '../event/port.ts';
import type { Kernel } from '../kernel/port.ts';
import type { Collection, Store } from '../store/port.ts';
import { copyTree } from './copy-tree.ts';
import { mountLocal } from './mount-local.ts';
import { VOLUME_DRIVER_DEFAULT } from './mount-spec.ts';
import { ANONYMOUS_LABEL, type Volume, type Volumes, type VolumeUse } from './port.ts';
import { openDirectory } from './subpath.ts';
import { treeSizeBytes } from './tree-size.ts';
import { checkVolumeName, checkVolumeOptions, volumeMount } from './volume-options.ts';

export interface VolumesOptions {
  readonly dataRoot: string;
  readonly kernel: Kernel;
  readonly store: Store;
  readonly events: EventPublisher;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whose root a new volume belongs to. */
  readonly ids?: IdMap;
}

/** Where volumes go that are being removed, by their names; swept at boot. No volume can have such a name. */
const REMOVING = '.removing';

export async function openVolumes(options: VolumesOptions): Promise<Volumes> {
  const root = `${options.dataRoot}/volumes`;
  await mkdir(root, { recursive: true, mode: 0o701 });
  await mkdir(`${root}/${REMOVING}`, { recursive: true, mode: 0o700 });
  return new LocalVolumes(root, options, options.store.collection('volumes', decodeVolume));
}

interface Use {
  readonly containerId: string;
  /** Its `unmount` is out ahead of its release. */
  isToldReleased: boolean;
}

class LocalVolumes implements Volumes {
  readonly #root: string;
  readonly #options: VolumesOptions;
  readonly #records: Collection<Volume>;
  readonly #volumes: Map<string, Volume>;
  /** Containers that refer to a volume, running or not. */
  readonly #references = new Map<string, Set<string>>();
  /** Uses of a volume at present, by what tells them apart. */
  readonly #uses = new Map<string, Map<string, Use>>();
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
      if (existing !== undefined) this.#event(existing, 'create', {}); // as moby: asked for, though nothing is made
      const volume = existing ?? (await this.#make(name, driver, spec));
      if (spec.referrer !== undefined) this.refer(name, spec.referrer);
      return volume;
    });
  }

  /** The record first: a directory that is missing can be made at boot, but not its labels and options. */
  async #make(name: string, driver: string, spec: Parameters<Volumes['create']>[0]): Promise<Volume> {
    checkVolumeOptions(name, spec.options ?? {});
    const volume: Volume = {
      name,
      driver,
      mountpoint: this.#mountpoint(name),
      createdAt: formatTime(this.#options.clock.wallNs()),
      labels: spec.name === '' ? { ...spec.labels, [ANONYMOUS_LABEL]: '' } : spec.labels,
      options: spec.options,
    };
    this.#records.put(name, volume, { durable: true });
    try {
      await this.#makeDirectory(volume);
    } catch (error) {
      this.#records.delete(name, { durable: true });
      throw error;
    }
    this.#volumes.set(name, volume);
    this.#event(volume, 'create', {});
    return volume;
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
      const doomed = `${this.#root}/${REMOVING}/${name}`;
      await this.#options.kernel.files.removeTree(doomed); // of a removal that failed
      await rename(`${this.#root}/${name}`, doomed).catch(ignoreMissing);
      this.#records.delete(name, { durable: true });
      this.#volumes.delete(name);
      await this.#options.kernel.files.removeTree(doomed);
      this.#event(volume, 'destroy', {});
    });
  }

  async acquire(name: string, use: VolumeUse): Promise<string> {
    return await this.#queue(name, async () => {
      const volume = this.get(name);
      await this.#mount(volume);
      this.#note(name, use);
      const { containerId, destination, readWrite, propagation } = use;
      const attributes = { container: containerId, destination, propagation, 'read/write': String(readWrite) };
      this.#event(volume, 'mount', attributes);
      return volume.mountpoint;
    });
  }

  /** What is not mounted any more is not mounted again: the container has the mount that it had. */
  async adopt(name: string, use: VolumeUse): Promise<void> {
    await this.#queue(name, async () => this.#note(name, use));
  }

  async release(name: string, use: VolumeUse): Promise<void> {
    await this.#queue(name, async () => {
      this.tellReleased(name, use);
      const volume = this.#volumes.get(name);
      if (this.#uses.get(name)?.delete(keyOf(use)) === true && volume !== undefined) await this.#unmountUnused(volume);
    });
  }

  tellReleased(name: string, use: VolumeUse): void {
    const volume = this.#volumes.get(name);
    const known = this.#uses.get(name)?.get(keyOf(use));
    if (volume === undefined || known === undefined || known.isToldReleased) return;
    known.isToldReleased = true;
    this.#event(volume, 'unmount', { container: use.containerId });
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
    const users = [...(this.#uses.get(name)?.values() ?? [])].map(({ containerId }) => containerId);
    return [...new Set([...(this.#references.get(name) ?? []), ...users])];
  }

  async copyUp(name: string, source: string, subpath: string): Promise<void> {
    await this.#queue(name, async () => {
      const volume = this.get(name);
      await this.#mount(volume);
      try {
        await using target = await openDirectory(this.#options.kernel.files, volume.mountpoint, subpath);
        if (target === null || (await readdir(target.path)).length > 0) return;
        await copyTree(source, target.path, this.#options.kernel.files);
      } finally {
        await this.#unmountUnused(volume);
      }
    });
  }

  /** −1 where it cannot be told: what a device holds is not the volume's (as Docker's). */
  async sizeBytes(name: string): Promise<number> {
    const volume = this.get(name);
    if (volumeMount(volume.options ?? {}) !== null) return -1;
    return await treeSizeBytes(volume.mountpoint);
  }

  async recover(live: ReadonlySet<string>): Promise<void> {
    const { kernel, logger } = this.#options;
    const mounted = new Set(await kernel.mounts.below(this.#root));
    await this.#finishRemovals();
    for (const name of await readdir(this.#root)) if (!this.#volumes.has(name)) await this.#adoptDirectory(name);
    await Promise.all([...this.#volumes.values()].map((volume) => this.#ensureDirectory(volume)));
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

  /** What was renamed is removed, also if the daemon ended before the record went. */
  async #finishRemovals(): Promise<void> {
    const names = new Set(await readdir(this.#root));
    for (const name of await readdir(`${this.#root}/${REMOVING}`)) {
      if (!names.has(name) && this.#volumes.delete(name)) this.#records.delete(name, { durable: true });
      await this.#options.kernel.files.removeTree(`${this.#root}/${REMOVING}/${name}`);
    }
  }

  /** Data without a record (the store was lost, or a creation was cut short) is a volume again, as moby has it. */
  async #adoptDirectory(name: string): Promise<void> {
    const mountpoint = this.#mountpoint(name);
    const stats = await stat(mountpoint, { bigint: true }).catch(() => null);
    if (stats === null || !stats.isDirectory() || name.startsWith('.')) return;
    const volume: Volume = {
      name,
      driver: VOLUME_DRIVER_DEFAULT,
      mountpoint,
      createdAt: formatTime(stats.ctimeNs),
      labels: null,
      options: null,
    };
    this.#records.put(name, volume);
    this.#volumes.set(name, volume);
    this.#options.logger.warn({ volume: name }, 'a volume without a record was taken up');
  }

  #mountpoint(name: string): string {
    return `${this.#root}/${name}/_data`;
  }

  async #ensureDirectory(volume: Volume): Promise<void> {
    try {
      await access(volume.mountpoint);
    } catch {
      await this.#makeDirectory(volume);
    }
  }

  async #makeDirectory({ name, mountpoint }: Volume): Promise<void> {
    await mkdir(`${this.#root}/${name}`, { recursive: true, mode: 0o701 });
    if ((await mkdir(mountpoint, { recursive: true, mode: 0o755 })) === undefined) return;
    const { uid, gid } = rootOf(this.#options.ids ?? NO_REMAP);
    await chown(mountpoint, uid, gid);
  }

  async #mount(volume: Volume): Promise<void> {
    const wanted = volumeMount(volume.options ?? {});
    if (wanted === null || this.#mounted.has(volume.name)) return;
    const { kernel } = this.#options;
    await mountLocal(kernel.mounts, wanted, volume.mountpoint);
    this.#mounted.add(volume.name);
  }

  #note(name: string, use: VolumeUse): void {
    const uses = this.#uses.get(name) ?? new Map<string, Use>();
    this.#uses.set(name, uses.set(keyOf(use), { containerId: use.containerId, isToldReleased: false }));
  }

  async #unmountUnused(volume: Volume): Promise<void> {
    const { name, mountpoint } = volume;
    if ((this.#uses.get(name)?.size ?? 0) > 0) return;
    this.#uses.delete(name);
    if (this.#mounted.delete(name)) await this.#options.kernel.mounts.unmount(mountpoint);
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

function keyOf({ containerId, destination, copyId = '' }: VolumeUse): string {
  return [containerId, copyId, destination].join(' ');
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
    if (typeof volume[key] !== 'object') throw new Error(`${key} is not an object`);
  }
  checkVolumeName(volume.name!);
  return value as Volume;
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
