/** A mount as `docker inspect` shows it, and enough to make it again. */
export interface MountPoint {
  readonly type: 'bind' | 'volume' | 'tmpfs' | 'image';
  /** The volume's name; "" otherwise. */
  readonly name: string;
  /** On the host; for an image mount the image's ID. */
  readonly source: string;
  readonly destination: string;
  readonly driver: string;
  /** The mode string as asked: "ro", "z", "". */
  readonly mode: string;
  readonly readWrite: boolean;
  readonly propagation: string;
  /** Made for this container without a name: removed with it by `rm -v` and --rm. */
  readonly anonymous: boolean;
  /** The image's content at the destination is copied into the volume when it is empty. */
  readonly copyUp: boolean;
  readonly subpath: string;
  /**
   * Further options: tmpfs data ("size=64m,mode=1777"), "nonrecursive", "ro-nonrecursive", "ro-force-recursive",
   * "slave-if-shared" (nobody asked for the propagation: where the host cannot have it, the mount is private).
   */
  readonly options: readonly string[];
  /** Bind only: make the source directory when it is missing. */
  readonly createSource: boolean;
}
