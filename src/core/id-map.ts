/**
 * User and group IDs of containers in a user namespace, and what they are on the host. Files of remapped containers lie on
 * disk with the host's IDs; archives that come in or go out have the container's. Source: user_namespaces(7), subuid(5).
 */
import { EngineError } from './engine-error.ts';

export interface IdRange {
  readonly containerId: number;
  readonly hostId: number;
  readonly count: number;
}

/** Both lists empty: containers have the host's IDs. */
export interface IdMap {
  readonly uids: readonly IdRange[];
  readonly gids: readonly IdRange[];
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export const NO_REMAP: IdMap = { uids: [], gids: [] };

export function isRemapped(map: IdMap): boolean {
  return map.uids.length > 0;
}

/** @throws {EngineError} ID_NOT_MAPPED "Container ID 70000 cannot be mapped to a host ID" */
export function toHost(map: IdMap, { uid, gid }: Owner): Owner {
  return isRemapped(map) ? { uid: hostIdOf(map.uids, uid), gid: hostIdOf(map.gids, gid) } : { uid, gid };
}

/** What no container of the map could own (a file of the host in a bind mount) keeps its IDs. */
export function toContainer(map: IdMap, { uid, gid }: Owner): Owner {
  return { uid: containerIdOf(map.uids, uid), gid: containerIdOf(map.gids, gid) };
}

/** The host's IDs of a container's root. */
export function rootOf(map: IdMap): Owner {
  return toHost(map, { uid: 0, gid: 0 });
}

function hostIdOf(ranges: readonly IdRange[], id: number): number {
  const range = ranges.find(({ containerId, count }) => id >= containerId && id < containerId + count);
  if (range !== undefined) return range.hostId + id - range.containerId;
  throw new EngineError('ID_NOT_MAPPED', `Container ID ${id} cannot be mapped to a host ID`);
}

function containerIdOf(ranges: readonly IdRange[], id: number): number {
  const range = ranges.find(({ hostId, count }) => id >= hostId && id < hostId + count);
  return range === undefined ? id : range.containerId + id - range.hostId;
}
