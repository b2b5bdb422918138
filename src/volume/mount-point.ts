/** A mount of a container as it is planned: of the same shape as lifecycle/container.ts MountPoint, which this room may not import. */
export interface MountPoint {
  readonly type: 'bind' | 'volume' | 'tmpfs' | 'image';
  readonly name: string;
  readonly source: string;
  readonly destination: string;
  readonly driver: string;
  readonly mode: string;
  readonly readWrite: boolean;
  readonly propagation: string;
  readonly anonymous: boolean;
  readonly copyUp: boolean;
  readonly subpath: string;
  readonly options: readonly string[];
  readonly createSource: boolean;
}
