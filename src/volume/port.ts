/** Named volumes, and the mounts of a container. */

export interface Volumes {
  /** @throws VOLUME_NOT_FOUND "get x: no such volume" */
  get(name: string): Volume;
  list(): readonly Volume[];
  /**
   * Idempotent for the same name and driver, as Docker's. "" makes an anonymous one: with a 64 digit name and
   * ANONYMOUS_LABEL.
   */
  create(spec: {
    readonly name: string;
    readonly driver: string;
    readonly options: Readonly<Record<string, string>> | null;
    readonly labels: Readonly<Record<string, string>> | null;
    /** The container that it is for, which refers to it from then on. */
    readonly referrer?: string;
  }): Promise<Volume>;
  /** @throws VOLUME_IN_USE "remove x: volume is in use - [ids]" */
  remove(name: string, options: { readonly force: boolean }): Promise<void>;
  /** Makes the volume's directory usable on the host (mounts type/o/device volumes), for one use; again is the same use. */
  acquire(name: string, use: VolumeUse): Promise<string>;
  /** What a container has used since before the daemon started: as acquire(), but nothing new happens. */
  adopt(name: string, use: VolumeUse): Promise<void>;
  /** Idempotent. */
  release(name: string, use: VolumeUse): Promise<void>;
  /** Publishes `unmount` ahead of release(), which then does not: dockerd tells it before the container's end. */
  tellReleased(name: string, use: VolumeUse): void;
  /** Which containers refer to it, running or not; container/ keeps this told. */
  refer(name: string, containerId: string): void;
  unrefer(name: string, containerId: string): void;
  references(name: string): readonly string[];
  /**
   * Copies the tree at `source` into an empty volume, with owners, modes, links and xattrs; with a `subpath` into that
   * directory of it, if there is one.
   */
  copyUp(name: string, source: string, subpath: string): Promise<void>;
  sizeBytes(name: string): Promise<number>;
  recover(live: ReadonlySet<string>): Promise<void>;
}

/** One mount of a container, or a copy from it. */
export interface VolumeUse {
  readonly containerId: string;
  readonly destination: string;
  /** Tells a copy from other uses of the same mount; absent: the container's run. */
  readonly copyId?: string;
  readonly readWrite: boolean;
  readonly propagation: string;
}

/** What Docker marks anonymous volumes with; what has it is pruned by default. */
export const ANONYMOUS_LABEL = 'com.docker.volume.anonymous';

export interface Volume {
  readonly name: string;
  readonly driver: string;
  readonly mountpoint: string;
  readonly createdAt: string;
  /** null: none were given, which Docker shows unlike an empty set. */
  readonly labels: Readonly<Record<string, string>> | null;
  readonly options: Readonly<Record<string, string>> | null;
}
