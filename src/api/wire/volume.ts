/** Volumes in Docker's spelling. Source: moby api/types/volume, volume/service (v28). */
import type { Filters } from '../../container/port.ts';
import { EngineError } from '../../core/engine-error.ts';
import { ANONYMOUS_LABEL, type Volume, type Volumes } from '../../volume/port.ts';
import { map, optional, struct, text } from './decode.ts';
import {
  checkFilterNames,
  flagFilter,
  matchesExactly,
  matchesLabels,
  matchesPattern,
  matchesPruneLabels,
} from './filters.ts';

export const volumeCreateRequest = struct('volume.CreateOptions', {
  ClusterVolumeSpec: optional(struct('volume.ClusterVolumeSpec', {})),
  Driver: text,
  DriverOpts: map(text),
  Labels: map(text),
  Name: text,
});

export interface VolumeUsage {
  readonly sizeBytes: number;
  readonly references: number;
}

export function formatVolume(volume: Volume, usage: VolumeUsage | null): object {
  const { labels, options } = volume;
  return {
    // moby shows whole seconds here.
    CreatedAt: volume.createdAt === '' ? undefined : volume.createdAt.replace(/\.\d+Z$/, 'Z'),
    Driver: volume.driver,
    Labels: labels,
    Mountpoint: volume.mountpoint,
    Name: volume.name,
    Options: options,
    Scope: 'local',
    UsageData: usage === null ? undefined : { RefCount: usage.references, Size: usage.sizeBytes },
  };
}

/** @throws PARAMETER_INVALID */
export function filterVolumes(volumes: Volumes, filters: Filters): Volume[] {
  checkFilterNames(filters, ['dangling', 'driver', 'label', 'name']);
  const dangling = flagFilter(filters, 'dangling');
  return volumes
    .list()
    .filter(
      (volume) =>
        matchesExactly(filters, 'driver', volume.driver) &&
        matchesPattern(filters, 'name', volume.name) &&
        matchesLabels(filters, 'label', volume.labels) &&
        (dangling === null || (volumes.references(volume.name).length === 0) === dangling),
    );
}

/**
 * What a prune takes: since 1.42 anonymous ones only, unless `all`. Never what has options: there is nothing to gain.
 * @throws PARAMETER_INVALID
 */
export function volumesToPrune(volumes: Volumes, filters: Filters, minor: number): Volume[] {
  checkFilterNames(filters, ['label', 'label!', 'all']);
  const all = isAllAsked(filters, minor);
  return volumes
    .list()
    .filter(
      ({ name, driver, labels, options }) =>
        driver === 'local' &&
        Object.keys(options ?? {}).length === 0 &&
        (all || Object.hasOwn(labels ?? {}, ANONYMOUS_LABEL)) &&
        matchesPruneLabels(filters, labels) &&
        volumes.references(name).length === 0,
    );
}

/** Before 1.42 it is as if "true" was given, beside what was. */
function isAllAsked(filters: Filters, minor: number): boolean {
  const values = [...new Set([...(filters.get('all') ?? []), ...(minor < 42 ? ['true'] : [])])];
  const [value] = values;
  if (value === undefined) return false;
  if (values.length > 1)
    throw new EngineError(
      'PARAMETER_INVALID',
      `invalid filter 'all=[${values.join(' ')}]': only one value is expected`,
    );
  if (!BOOLEAN.test(value)) {
    const why = `strconv.ParseBool: parsing ${JSON.stringify(value)}: invalid syntax`;
    throw new EngineError('PARAMETER_INVALID', `invalid filter 'all': ${why}`);
  }
  return /^[1t]/i.test(value);
}

/** What Go's strconv.ParseBool takes. */
const BOOLEAN = /^(?:[01tTfF]|true|TRUE|True|false|FALSE|False)$/;
