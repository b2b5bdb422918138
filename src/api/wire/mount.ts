/** One `--mount`, and a mount as inspect shows it. Source: moby api/types/mount/mount.go (v28). */
import type { MountSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import type { ContainerDetails } from '../../container/port.ts';
import { flag, integer, list, map, optional, struct, text, type Decoded } from './decode.ts';

export const mount = struct('mount.Mount', {
  Type: text,
  Source: text,
  Target: text,
  ReadOnly: flag,
  Consistency: text,
  BindOptions: optional(
    struct('mount.BindOptions', {
      Propagation: text,
      NonRecursive: flag,
      CreateMountpoint: flag,
      ReadOnlyNonRecursive: flag,
      ReadOnlyForceRecursive: flag,
    }),
  ),
  VolumeOptions: optional(
    struct('mount.VolumeOptions', {
      NoCopy: flag,
      Labels: map(text),
      Subpath: text,
      DriverConfig: optional(struct('mount.Driver', { Name: text, Options: map(text) })),
    }),
  ),
  ImageOptions: optional(struct('mount.ImageOptions', { Subpath: text })),
  TmpfsOptions: optional(
    struct('mount.TmpfsOptions', {
      SizeBytes: integer('int64'),
      Mode: integer('fs.FileMode'),
      Options: list(list(text)),
    }),
  ),
  ClusterOptions: optional(struct('mount.ClusterOptions', {})),
});
export type Mount = Decoded<typeof mount>;

const TYPES: readonly string[] = ['bind', 'volume', 'tmpfs', 'image', 'npipe', 'cluster'] satisfies MountSpec['type'][];

/** What older clients meant: options that their API did not have are dropped or refused. Source: moby postContainersCreate. */
export function adaptMount(asked: Mount, minor: number): Mount {
  let { BindOptions: bind, VolumeOptions: volume, TmpfsOptions: tmpfs } = asked;
  if (minor < 40 && bind !== null) bind = { ...bind, NonRecursive: false };
  if (minor < 42) {
    if (bind !== null) bind = { ...bind, CreateMountpoint: false };
    if (asked.Type !== 'volume') volume = null;
    if (asked.Type !== 'tmpfs') tmpfs = null;
  } else {
    const options = {
      VolumeOptions: [volume, 'volume'],
      BindOptions: [bind, 'bind'],
      TmpfsOptions: [tmpfs, 'tmpfs'],
      ImageOptions: [asked.ImageOptions, 'image'],
    } as const;
    for (const [name, [value, type]] of Object.entries(options)) {
      if (value !== null && asked.Type !== type)
        throw invalid(`${name} must not be specified on mount type ${JSON.stringify(asked.Type)}`);
    }
  }
  if (minor < 44 && asked.Type === 'bind' && bind?.ReadOnlyForceRecursive === true)
    throw invalid('BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer');
  if (minor < 45 && volume !== null && volume.Subpath !== '')
    throw invalid('VolumeOptions.Subpath needs API v1.45 or newer');
  if (minor < 48 && asked.Type === 'image') throw invalid('Mount type "Image" needs API v1.48 or newer');
  return { ...asked, BindOptions: bind, VolumeOptions: volume, TmpfsOptions: tmpfs };
}

export function parseMount(asked: Mount): MountSpec {
  if (!TYPES.includes(asked.Type)) {
    throw invalid(
      asked.Type === ''
        ? 'invalid mount config for type "": mount type unknown: ""'
        : `invalid mount config for type ${JSON.stringify(asked.Type)}: mount type unknown: ${JSON.stringify(asked.Type)}`,
    );
  }
  const { BindOptions: bind, VolumeOptions: volume, TmpfsOptions: tmpfs, ImageOptions: image } = asked;
  return {
    type: asked.Type as MountSpec['type'],
    source: asked.Source,
    target: asked.Target,
    readOnly: asked.ReadOnly,
    consistency: asked.Consistency,
    bind: bind && {
      propagation: bind.Propagation,
      nonRecursive: bind.NonRecursive,
      createMountpoint: bind.CreateMountpoint,
      readOnlyNonRecursive: bind.ReadOnlyNonRecursive,
      readOnlyForceRecursive: bind.ReadOnlyForceRecursive,
    },
    volume: volume && {
      noCopy: volume.NoCopy,
      labels: volume.Labels,
      driver: volume.DriverConfig && { name: volume.DriverConfig.Name, options: volume.DriverConfig.Options },
      subpath: volume.Subpath,
    },
    tmpfs: tmpfs && {
      sizeBytes: tmpfs.SizeBytes,
      mode: tmpfs.Mode,
      options: tmpfs.Options?.map((option) => option ?? []) ?? null,
    },
    image: image && { subpath: image.Subpath },
  };
}

/** Everything in it is left out when empty. */
export function formatMount(spec: MountSpec): object {
  return {
    Type: spec.type,
    Source: spec.source || undefined,
    Target: spec.target || undefined,
    ReadOnly: spec.readOnly || undefined,
    Consistency: spec.consistency || undefined,
    BindOptions:
      spec.bind === null
        ? undefined
        : {
            Propagation: spec.bind.propagation || undefined,
            NonRecursive: spec.bind.nonRecursive || undefined,
            CreateMountpoint: spec.bind.createMountpoint || undefined,
            ReadOnlyNonRecursive: spec.bind.readOnlyNonRecursive || undefined,
            ReadOnlyForceRecursive: spec.bind.readOnlyForceRecursive || undefined,
          },
    VolumeOptions:
      spec.volume === null
        ? undefined
        : {
            NoCopy: spec.volume.noCopy || undefined,
            Labels: nonEmpty(spec.volume.labels),
            Subpath: spec.volume.subpath || undefined,
            DriverConfig:
              spec.volume.driver === null
                ? undefined
                : { Name: spec.volume.driver.name || undefined, Options: nonEmpty(spec.volume.driver.options) },
          },
    ImageOptions: spec.image === null ? undefined : { Subpath: spec.image.subpath || undefined },
    TmpfsOptions:
      spec.tmpfs === null
        ? undefined
        : {
            SizeBytes: spec.tmpfs.sizeBytes || undefined,
            Mode: spec.tmpfs.mode || undefined,
            Options: spec.tmpfs.options === null || spec.tmpfs.options.length === 0 ? undefined : spec.tmpfs.options,
          },
  };
}

type MountPoint = ContainerDetails['container']['mounts'][number];

/** A mount of a container, in list and inspect. */
export function formatMountPoint(point: MountPoint): object {
  return {
    Type: point.type,
    Name: point.name || undefined,
    Source: point.type === 'tmpfs' ? '' : point.source,
    Destination: point.destination,
    Driver: point.driver || undefined,
    Mode: point.mode,
    RW: point.readWrite,
    Propagation: point.propagation,
  };
}

function nonEmpty(record: Readonly<Record<string, string>> | null): Readonly<Record<string, string>> | undefined {
  return record === null || Object.keys(record).length === 0 ? undefined : record;
}

function invalid(message: string): EngineError {
  return new EngineError('MOUNT_INVALID', message);
}
