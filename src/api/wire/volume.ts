/** Volumes in Docker's spelling. Source: moby api/types/volume, volume/service (v28). */
import type { Filters } from '../../container/port.ts';
import type { Volume, Volumes } from '../../volume/port.ts';
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
    Labels: Object.keys(labels).length === 0 ? null : labels,
    Mountpoint: volume.mountpoint,
    Name: volume.name,
    Options: Object.keys(options).length === 0 ? null : options,
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

/** What a prune takes: since 1.42 anonymous ones only, unless `all`. */
export function volumesToPrune(volumes: Volumes, filters: Filters, minor: number): Volume[] {
  checkFilterNames(filters, ['label', 'label!', 'all']);
  const all = minor < 42 || flagFilter(filters, 'all') === true;
  return volumes
    .list()
    .filter(
      (volume) =>
        volume.driver === 'local' &&
        (all || volume.anonymous) &&
        matchesPruneLabels(filters, volume.labels) &&
        volumes.references(volume.name).length === 0,
    );
}
