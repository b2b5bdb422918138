/** Named volumes, and the mounts of a container. */

export interface Volumes {
  /** @throws VOLUME_NOT_FOUND "get x: no such volume" */
  get(name: string): Volume;
  list(): readonly Volume[];
  /** Idempotent for the same name and driver, as Docker's. "" makes an anonymous one with a 64 digit name. */
  create(spec: {
    readonly name: string;
    readonly driver: string;
    readonly options: Readonly<Record<string, string>>;
    readonly labels: Readonly<Record<string, string>>;
    readonly anonymous?: boolean;
  }): Promise<Volume>;
  /** @throws VOLUME_IN_USE "remove x: volume is in use - [ids]" */
  remove(name: string, options: { readonly force: boolean }): Promise<void>;
  /** Makes the volume's directory usable on the host (mounts type/o/device volumes); counted by container. */
  acquire(name: string, containerId: string, as?: MountedAs): Promise<string>;
  release(name: string, containerId: string): Promise<void>;
  /** Publishes `unmount` ahead of release(), which then does not: dockerd tells it before the container's end. */
  tellReleased(name: string, containerId: string): void;
  /** Which containers refer to it, running or not; container/ keeps this told. */
  refer(name: string, containerId: string): void;
  unrefer(name: string, containerId: string): void;
  references(name: string): readonly string[];
  /** Copies the tree at `source` into an empty volume, with owners, modes, links and xattrs. */
  copyUp(name: string, source: string): Promise<void>;
  sizeBytes(name: string): Promise<number>;
  recover(live: ReadonlySet<string>): Promise<void>;
}

/** For the event of a mount. */
export interface MountedAs {
  readonly destination: string;
  readonly readWrite: boolean;
  readonly propagation: string;
}

export interface Volume {
  readonly name: string;
  readonly driver: string;
  readonly mountpoint: string;
  readonly createdAt: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly anonymous: boolean;
}
