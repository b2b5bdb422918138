/**
 * One "-v" or "--mount" → one mount, or moby's complaint about it. Pure.
 * Source: moby volume/mounts/linux_parser.go, validate.go (v28).
 */
import { posix } from 'node:path';

import type { MountSpec } from '../core/container-spec.ts';
import { EngineError, messageOf } from '../core/engine-error.ts';
import type { MountPoint } from '../core/mount-point.ts';
import { isPropagation, parseMode, PROPAGATION_DEFAULT } from './mount-mode.ts';

export interface PlannedMount {
  readonly mount: MountPoint;
  /** What the volume is made with, if it is not there yet; null for other mounts. */
  readonly volume: {
    readonly options: Readonly<Record<string, string>> | null;
    readonly labels: Readonly<Record<string, string>> | null;
  } | null;
}

export const VOLUME_DRIVER_DEFAULT = 'local';
const SIZE_UNITS: readonly (readonly [suffix: string, bytes: number])[] = [
  ['g', 2 ** 30],
  ['m', 2 ** 20],
  ['k', 2 ** 10],
];

export const EMPTY_MOUNT: MountPoint = {
  type: 'bind',
  name: '',
  source: '',
  destination: '',
  driver: '',
  mode: '',
  readWrite: true,
  propagation: '',
  anonymous: false,
  copyUp: false,
  subpath: '',
  options: [],
  createSource: false,
};

/** "source:target[:mode]". @throws MOUNT_INVALID "invalid volume specification: 'x'" */
export function parseBind(raw: string, volumeDriver: string): PlannedMount {
  const parts = raw.split(':');
  const invalidSpec = `invalid volume specification: '${raw}'`;
  const [source = '', target = '', modeText = ''] = parts.length === 1 ? ['', raw] : parts;
  // "/foo:rw" has no source: a mode alone is not enough.
  if (parts[0] === '' || parts.length > 3 || (parts.length === 2 && parseMode(target) !== null))
    throw invalid(invalidSpec);
  const mode = parseMode(modeText);
  if (mode === null) throw invalid(`invalid mode: ${modeText}`);
  const isBind = source.startsWith('/');
  try {
    checkTarget(isBind ? 'bind' : 'volume', target);
    if (!isBind && mode.propagation !== '') throw configError('volume', 'field BindOptions must not be specified');
    if (isBind && mode.noCopy) throw configError('bind', 'field VolumeOptions must not be specified');
    if (!isBind && source === '' && !mode.readWrite)
      throw configError('volume', 'must not set ReadOnly mode when using anonymous volumes');
  } catch (error) {
    throw invalid(`${invalidSpec}: ${messageOf(error)}`);
  }
  const common = { ...EMPTY_MOUNT, destination: cleanPath(target), readWrite: mode.readWrite };
  if (isBind) {
    const propagation = mode.propagation === '' ? PROPAGATION_DEFAULT : mode.propagation;
    return {
      mount: { ...common, type: 'bind', source: cleanPath(source), mode: modeText, propagation, createSource: true },
      volume: null,
    };
  }
  const driver = volumeDriver === '' ? VOLUME_DRIVER_DEFAULT : volumeDriver;
  return {
    mount: {
      ...common,
      type: 'volume',
      name: source,
      driver,
      mode: volumeMode(modeText, driver),
      anonymous: source === '',
      copyUp: !mode.noCopy,
    },
    volume: { options: null, labels: null },
  };
}

/** @throws MOUNT_INVALID `invalid mount config for type "bind": …` */
export function parseMount(spec: MountSpec): PlannedMount {
  checkTarget(spec.type, spec.target);
  const common = { ...EMPTY_MOUNT, destination: cleanPath(spec.target), readWrite: !spec.readOnly };
  switch (spec.type) {
    case 'bind':
      return { mount: { ...common, ...bindPart(spec) }, volume: null };
    case 'volume':
      return volumePart(spec, common);
    case 'tmpfs':
      if (spec.bind !== null) throw configError('tmpfs', 'field BindOptions must not be specified');
      if (spec.source !== '') throw configError('tmpfs', 'field Source must not be specified');
      return { mount: { ...common, type: 'tmpfs', options: tmpfsOptions(spec) }, volume: null };
    case 'image': {
      if (spec.bind !== null) throw configError('image', 'field BindOptions must not be specified');
      if (spec.source === '') throw configError('image', 'field Source must not be empty');
      const subpath = spec.image?.subpath ?? '';
      if (subpath !== '' && !isLocalPath(subpath))
        throw configError('image', 'subpath must be a relative path within the volume');
      return {
        mount: {
          ...common,
          type: 'image',
          source: spec.source,
          readWrite: false,
          propagation: PROPAGATION_DEFAULT,
          subpath,
        },
        volume: null,
      };
    }
    case 'npipe':
    case 'cluster':
      throw configError(spec.type, 'mount type unknown');
  }
}

/** @throws MOUNT_INVALID; for HostSpec.tmpfs, where there is no mount config to name. */
export function checkTmpfsDestination(path: string): void {
  const error = destinationError(path);
  if (error !== null) throw invalid(error);
}

export function configError(type: string, detail: string): EngineError {
  return invalid(`invalid mount config for type "${type}": ${detail}`);
}

/** path.Clean of Go. */
export function cleanPath(path: string): string {
  const clean = posix.normalize(path);
  return clean.length > 1 ? clean.replace(/\/$/, '') : clean;
}

function bindPart({ source, readOnly, bind, volume, tmpfs, image }: MountSpec): Partial<MountPoint> {
  if (source === '') throw configError('bind', 'field Source must not be empty');
  if (bind !== null && bind.propagation !== '' && !isPropagation(bind.propagation)) {
    throw configError('bind', `invalid propagation mode: ${bind.propagation}`);
  }
  if (volume !== null) throw configError('bind', 'field VolumeOptions must not be specified');
  if (tmpfs !== null) throw configError('bind', 'field TmpfsOptions must not be specified');
  if (image !== null) throw configError('bind', 'field ImageOptions must not be specified');
  if (!source.startsWith('/')) throw configError('bind', `invalid mount path: '${source}' mount path must be absolute`);
  const options: string[] = [];
  if (bind?.nonRecursive === true) options.push('nonrecursive');
  if (bind?.readOnlyNonRecursive === true) {
    if (!readOnly) throw configError('bind', 'mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive');
    options.push('ro-nonrecursive');
  }
  if (bind?.readOnlyForceRecursive === true) {
    if (!readOnly) throw configError('bind', 'mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive');
    if (bind.readOnlyNonRecursive)
      throw configError('bind', 'mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive');
    options.push('ro-force-recursive');
  }
  return {
    type: 'bind',
    source: cleanPath(source),
    propagation: bind?.propagation || PROPAGATION_DEFAULT,
    options,
    createSource: bind?.createMountpoint === true,
  };
}

function volumePart({ source, readOnly, bind, volume }: MountSpec, common: MountPoint): PlannedMount {
  if (bind !== null) throw configError('volume', 'field BindOptions must not be specified');
  const subpath = volume?.subpath ?? '';
  if (subpath !== '' && source === '') throw configError('volume', 'must not set Subpath when using anonymous volumes');
  if (subpath !== '' && !isLocalPath(subpath))
    throw configError('volume', 'subpath must be a relative path within the volume');
  if (readOnly && source === '') throw configError('volume', 'must not set ReadOnly mode when using anonymous volumes');
  const driver = volume?.driver?.name || VOLUME_DRIVER_DEFAULT;
  return {
    mount: {
      ...common,
      type: 'volume',
      name: source,
      driver,
      mode: volumeMode('', driver),
      anonymous: source === '',
      copyUp: volume?.noCopy !== true,
      subpath,
    },
    volume: { options: volume?.driver?.options ?? null, labels: volume?.labels ?? null },
  };
}

/** Docker shows a local volume without a mode as "z". */
function volumeMode(mode: string, driver: string): string {
  return mode === '' && driver === VOLUME_DRIVER_DEFAULT ? 'z' : mode;
}

function tmpfsOptions({ readOnly, tmpfs }: MountSpec): string[] {
  const options: string[] = readOnly ? ['ro'] : [];
  if (tmpfs === null) return options;
  if (tmpfs.mode !== 0) options.push(`mode=${tmpfs.mode.toString(8)}`);
  if (tmpfs.sizeBytes < 0) throw configError('tmpfs', `invalid tmpfs size: ${tmpfs.sizeBytes}`);
  if (tmpfs.sizeBytes !== 0) {
    const [suffix, bytes] = SIZE_UNITS.find(([, unit]) => tmpfs.sizeBytes % unit === 0) ?? ['', 1];
    options.push(`size=${tmpfs.sizeBytes / bytes}${suffix}`);
  }
  for (const option of tmpfs.options ?? []) {
    if (option.length < 1 || option.length > 2) throw configError('tmpfs', 'invalid option array length');
    if (option[0] !== 'exec' && option[0] !== 'noexec') throw configError('tmpfs', `invalid option: ${option[0]}`);
    options.push(option.join('='));
  }
  return options;
}

function checkTarget(type: string, target: string): void {
  if (target === '') throw configError(type, 'field Target must not be empty');
  const error = destinationError(target);
  if (error !== null) throw configError(type, error);
}

function destinationError(path: string): string | null {
  if (cleanPath(path) === '/') return "invalid specification: destination can't be '/'";
  return path.startsWith('/') ? null : `invalid mount path: '${path}' mount path must be absolute`;
}

/** Go's filepath.IsLocal: stays below where it starts. */
function isLocalPath(path: string): boolean {
  if (path.startsWith('/') || path === '') return false;
  const clean = posix.normalize(path);
  return clean !== '..' && !clean.startsWith('../');
}

function invalid(message: string): EngineError {
  return new EngineError('MOUNT_INVALID', message);
}
