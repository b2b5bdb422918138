/** Images as the rest of the engine sees them. */
import type { HealthcheckSpec } from '../core/container-spec.ts';

/** "sha256:" and 64 hexadecimal digits. */
export type Digest = string;

export interface Images {
  /** By reference (normalised: "busybox" is docker.io/library/busybox:latest), digest reference, ID or unique ID prefix.
   * @throws IMAGE_NOT_FOUND "No such image: x" */
  resolve(nameOrId: string, platform?: Platform): Image;
  /** Newest first. */
  list(): readonly Image[];
  tag(nameOrId: string, reference: string): Promise<void>;
  /** In Docker's order; `force` as Docker's. `inUse` names a container of the image: {id, running}. */
  remove(
    nameOrId: string,
    options: { readonly force: boolean; readonly prune: boolean; readonly platforms?: readonly Platform[] },
    inUse: (imageId: Digest) => { readonly containerId: string; readonly running: boolean } | null,
  ): Promise<readonly RemovedImage[]>;
  history(nameOrId: string, platform?: Platform): readonly HistoryEntry[];
  /**
   * A new image with the layers of `parentId` ("" for none: FROM scratch) and another config: a build step that changes
   * no file. It adds an empty-layer line to the history.
   */
  derive(
    parentId: Digest,
    options: {
      readonly config: ImageConfig;
      /** Its cmd, as one line, is what the history says. */
      readonly containerConfig: ImageConfig;
      readonly author: string;
      readonly platform: Platform | null;
    },
  ): Promise<Image>;

  /**
   * For --cache-from, where an image came from elsewhere and has no parents here: `sourceId` as it was right after
   * `parentId`, if it was built on that and its next step was `createdBy`; else null. Source: moby v28 image/cache.
   */
  retrace(
    parentId: Digest,
    sourceId: Digest,
    step: { readonly createdBy: string; readonly config: ImageConfig },
  ): Promise<Image | null>;

  /** A tar stream (plain, gzip, zstd, bzip2, xz where the host can) becomes a one-layer image. */
  importTar(options: {
    readonly source: AsyncIterable<Uint8Array>;
    readonly reference: string | null;
    readonly message: string;
    readonly changes: readonly string[];
    readonly platform: Platform | null;
  }): Promise<Image>;
  /** docker-archive or OCI layout. Yields progress; the last one says what was loaded. */
  load(
    source: AsyncIterable<Uint8Array>,
    options: { readonly quiet: boolean; readonly platform: Platform | null },
  ): AsyncIterable<Progress>;
  /** A docker-archive that is an OCI layout too, as docker save writes since 25. */
  save(names: readonly string[], options: { readonly platform: Platform | null }): AsyncIterable<Uint8Array>;
  pull(options: {
    readonly reference: string;
    readonly allTags: boolean;
    readonly platform: Platform | null;
    readonly auth: RegistryAuth | null;
    readonly signal: AbortSignal;
  }): AsyncIterable<Progress>;
  push(options: {
    readonly reference: string;
    readonly allTags: boolean;
    readonly platform: Platform | null;
    readonly auth: RegistryAuth | null;
    readonly signal: AbortSignal;
  }): AsyncIterable<Progress>;
  prune(
    options: { readonly matches: (image: Image) => boolean; readonly danglingOnly: boolean },
    inUse: (imageId: Digest) => { readonly containerId: string; readonly running: boolean } | null,
  ): Promise<{ readonly removed: readonly RemovedImage[]; readonly reclaimedBytes: number }>;
  /** Where its layers are unpacked, the top first; for inspect's GraphDriver.Data. */
  layerDirectories(imageId: Digest): readonly string[];
  diskUsage(): Promise<{ readonly layersBytes: number; readonly sharedBytesById: ReadonlyMap<Digest, number> }>;

  /** Reads everything that is kept and names what is damaged or missing; empty when all is well. For `longshore doctor`. */
  verify?(): Promise<readonly string[]>;

  readonly snapshots: Snapshots;
}

/** The writable top of each container over its image's layers. */
export interface Snapshots {
  /** Makes the top for a new container. */
  create(
    containerId: string,
    imageId: Digest,
    /** Without the mount points that a container's root has (/dev, /etc/hosts ...), as a build copies. */
    options?: { readonly init: boolean },
  ): Promise<void>;
  /** Mounts the rootfs; returns its path. Idempotent and counted: mount() and unmount() calls pair up. */
  mount(containerId: string, options: { readonly readOnly: boolean; readonly volatile: boolean }): Promise<string>;
  unmount(containerId: string): Promise<void>;
  /** The mount point, whether mounted or not. */
  path(containerId: string): string;
  /** Unmounts whatever the count says and deletes the top. Idempotent. */
  remove(containerId: string): Promise<void>;
  /** Bytes in the writable top; and of the whole rootfs. */
  sizes(containerId: string): Promise<{ readonly writableBytes: number; readonly rootBytes: number }>;
  /** What changed against the image; paths absolute in the container, sorted. */
  changes(
    containerId: string,
  ): Promise<readonly { readonly path: string; readonly kind: 'modified' | 'added' | 'deleted' }[]>;
  /** The writable top becomes a layer of a new image. */
  commit(
    containerId: string,
    options: {
      readonly config: ImageConfig;
      /** Its cmd, as one line, is what the history says. */
      readonly containerConfig: ImageConfig;
      readonly reference: string | null;
      readonly author: string;
      readonly message: string;
      readonly parentId: Digest;
    },
  ): Promise<Image>;
  /** After a crash: forgets what belongs to no container of `known`. */
  sweep(known: ReadonlySet<string>): Promise<void>;
  /** Overlay directories, for inspect's GraphDriver.Data. */
  describe(containerId: string): {
    readonly lowerDir: string;
    readonly upperDir: string;
    readonly workDir: string;
    readonly mergedDir: string;
  };
}

/** Files in and out of a directory tree as a container sees it: safe against every link and archive. */
export interface TreeArchive {
  /** @throws CONTAINER_PATH_NOT_FOUND "Could not find the file x", to which Docker adds " in container NAME" */
  stat(root: string, path: string): Promise<PathStat>;
  /** A tar of `path` whose first entry is its base name, as `docker cp` expects, or `name` where that is another. */
  read(
    root: string,
    path: string,
    options?: {
      readonly name?: string;
      /** Files and trees of the host that show in a directory instead of its own, by their path in it: "a/b". */
      readonly over?: ReadonlyMap<string, string>;
    },
  ): Promise<{ readonly stat: PathStat; readonly tar: AsyncIterable<Uint8Array> }>;
  /** Unpacks into the directory `path`. Files get the archive's owners, or `owner` where copyUidGid is set and it is given. */
  write(
    root: string,
    path: string,
    tar: AsyncIterable<Uint8Array>,
    options: {
      readonly noOverwriteDirNonDir: boolean;
      readonly copyUidGid: boolean;
      readonly owner?: { readonly uid: number; readonly gid: number };
    },
  ): Promise<void>;
  /** The whole tree, for export. */
  export(root: string): AsyncIterable<Uint8Array>;
}

export interface PathStat {
  readonly name: string;
  readonly sizeBytes: number;
  /** Go's os.FileMode bits, as X-Docker-Container-Path-Stat has them. */
  readonly goMode: number;
  readonly modifiedAt: string;
  readonly linkTarget: string;
}

export interface Image {
  readonly id: Digest;
  /** "docker.io/library/busybox:1" familiarised: "busybox:1". */
  readonly tags: readonly string[];
  /** "busybox@sha256:…" */
  readonly digests: readonly string[];
  /** "" for none. */
  readonly parentId: Digest;
  /** "" when the config does not say. */
  readonly createdAt: string;
  readonly taggedAt: string;
  readonly author: string;
  readonly comment: string;
  readonly architecture: string;
  readonly variant: string;
  readonly os: string;
  readonly osVersion: string;
  readonly config: ImageConfig;
  /** Of the container that it was made of; its cmd is the step that made it. Missing where it is not known. */
  readonly containerConfig?: ImageConfig;
  /** Uncompressed bytes of all layers. */
  readonly sizeBytes: number;
  /** diff IDs, bottom first. */
  readonly layers: readonly Digest[];
  /** Docker version that made it, as the config says. */
  readonly dockerVersion: string;
  /** Manifest descriptor when it came from or went to a registry or OCI layout. */
  readonly manifestDigest: Digest;
}

/** The image config's "config" object. */
export interface ImageConfig {
  readonly user: string;
  readonly env: readonly string[] | null;
  readonly entrypoint: readonly string[] | null;
  readonly cmd: readonly string[] | null;
  readonly workingDir: string;
  readonly labels: Readonly<Record<string, string>> | null;
  readonly exposedPorts: readonly string[] | null;
  readonly volumes: readonly string[] | null;
  readonly stopSignal: string;
  readonly healthcheck: HealthcheckSpec | null;
  readonly onBuild: readonly string[] | null;
  readonly shell: readonly string[] | null;
  readonly argsEscaped: boolean;
}

export interface HistoryEntry {
  readonly id: string;
  /** Unix seconds. */
  readonly created: number;
  readonly createdBy: string;
  readonly tags: readonly string[] | null;
  readonly sizeBytes: number;
  readonly comment: string;
}

export type RemovedImage = { readonly untagged: string } | { readonly deleted: Digest };

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

export interface RegistryAuth {
  readonly username: string;
  readonly password: string;
  readonly identityToken: string;
  readonly registryToken: string;
  readonly serverAddress: string;
}

/** One line of Docker's progress stream, before api/wire spells it. */
export type Progress =
  | {
      readonly kind: 'status';
      readonly id?: string;
      readonly text: string;
      readonly current?: number;
      readonly total?: number;
    }
  | { readonly kind: 'stream'; readonly text: string }
  /** `ofProgress`: among lines of progress, which Docker writes with an empty detail. */
  | { readonly kind: 'aux'; readonly value: object; readonly ofProgress?: true }
  | { readonly kind: 'error'; readonly message: string; readonly code?: number };
