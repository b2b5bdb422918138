/** Volumes. Source: moby api/server/router/volume, volume/service (v28). */
import { EngineError } from '../../core/engine-error.ts';
import type { Volumes } from '../../volume/port.ts';
import { readJsonBody } from '../body.ts';
import { param, type AnyRoute, type Exchange, type Reply } from '../route.ts';
import { decodeBody } from '../wire/decode.ts';
import { parseFilters } from '../wire/filters.ts';
import { filterVolumes, formatVolume, volumeCreateRequest, volumesToPrune } from '../wire/volume.ts';

export const volumeRoutes: readonly AnyRoute[] = [
  { method: 'GET', path: '/volumes', handle: listVolumes },
  { method: 'GET', path: '/volumes/{name}', handle: inspectVolume },
  { method: 'POST', path: '/volumes/create', handle: createVolume },
  { method: 'POST', path: '/volumes/prune', handle: pruneVolumes },
  { method: 'PUT', path: '/volumes/{name}', handle: updateVolume },
  { method: 'DELETE', path: '/volumes/{name}', handle: removeVolume },
];

function listVolumes({ parts, query }: Exchange): Reply {
  const volumes = filterVolumes(parts.volumes, parseFilters(query.text('filters')));
  return { status: 200, json: { Volumes: volumes.map((volume) => formatVolume(volume, null)), Warnings: null } };
}

function inspectVolume(exchange: Exchange): Reply {
  return { status: 200, json: formatVolume(exchange.parts.volumes.get(param(exchange, 'name')), null) };
}

async function createVolume({ parts, request, minor }: Exchange): Promise<Reply> {
  const body = await readJsonBody(request);
  const asked = body.absent ? volumeCreateRequest.zero : decodeBody(body.text, volumeCreateRequest);
  if (asked.ClusterVolumeSpec !== null && minor >= 42) {
    throw new EngineError(
      'NOT_A_SWARM_MANAGER',
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    );
  }
  const volume = await parts.volumes.create({
    name: asked.Name,
    driver: asked.Driver || 'local',
    options: asked.DriverOpts,
    labels: asked.Labels,
  });
  return { status: 201, json: formatVolume(volume, null) };
}

async function removeVolume(exchange: Exchange): Promise<Reply> {
  await exchange.parts.volumes.remove(param(exchange, 'name'), { force: exchange.query.flag('force') });
  return { status: 204 };
}

function updateVolume(): never {
  throw new EngineError(
    'NOT_A_SWARM_MANAGER',
    'volume update only valid for cluster volumes, but swarm is unavailable',
  );
}

/** One at a time in each engine. */
const underWay = new WeakSet<Volumes>();

async function pruneVolumes({ parts, query, minor }: Exchange): Promise<Reply> {
  const { volumes } = parts;
  if (underWay.has(volumes)) throw new EngineError('VOLUME_IN_USE', 'a prune operation is already running');
  const chosen = volumesToPrune(volumes, parseFilters(query.text('filters')), minor);
  const deleted: string[] = [];
  let reclaimedBytes = 0;
  underWay.add(volumes);
  try {
    for (const { name } of chosen) {
      try {
        const sizeBytes = await volumes.sizeBytes(name);
        await volumes.remove(name, { force: false });
        deleted.push(name);
        reclaimedBytes += Math.max(0, sizeBytes);
      } catch (error) {
        parts.logger.warn({ error, volume: name }, 'could not prune a volume');
      }
    }
  } finally {
    underWay.delete(volumes);
  }
  parts.events.publish({
    type: 'volume',
    action: 'prune',
    actor: { id: '', attributes: { reclaimed: String(reclaimedBytes) } },
  });
  return { status: 200, json: { VolumesDeleted: deleted, SpaceReclaimed: reclaimedBytes } };
}
