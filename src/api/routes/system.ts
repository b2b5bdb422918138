/** _ping, version, info, events, disk usage, login. Source: moby api/server/router/system (v28). */
import { EngineError } from '../../core/engine-error.ts';
import type { EngineEvent } from '../../event/port.ts';
import { readText } from '../body.ts';
import { writeSlowly } from '../reply.ts';
import type { AnyRoute, Exchange, Reply } from '../route.ts';
import { formatContainerSummary } from '../wire/container-summary.ts';
import { deriveState } from '../wire/container-state.ts';
import { decodeBody } from '../wire/decode.ts';
import { eventMatcher, formatEvent } from '../wire/event.ts';
import { parseFilters } from '../wire/filters.ts';
import { formatImageSummary } from '../wire/image.ts';
import { authConfig, parseAuth } from '../wire/registry-auth.ts';
import { formatInfo, formatVersion } from '../wire/system.ts';
import { parseTime } from '../wire/time.ts';
import { formatVolume } from '../wire/volume.ts';
import { parseAuthHeader } from '../wire/registry-auth.ts';

/** Streams of /events that are open now, for info. */
let eventListeners = 0;

export const systemRoutes: readonly AnyRoute[] = [
  { method: 'GET', path: '/_ping', handle: ping },
  { method: 'HEAD', path: '/_ping', handle: ping },
  {
    method: 'GET',
    path: '/version',
    handle: ({ parts }) => ({ status: 200, json: formatVersion(parts.system.version) }),
  },
  { method: 'GET', path: '/info', handle: getInfo },
  { method: 'GET', path: '/events', handle: getEvents },
  { method: 'GET', path: '/system/df', handle: getDiskUsage },
  { method: 'POST', path: '/auth', handle: postAuth },
  { method: 'GET', path: '/distribution/{name}/json', handle: getDistribution },
];

function ping({ request, response }: Exchange): void {
  response.setHeader('Cache-Control', 'no-cache, no-store, must-revalidate');
  response.setHeader('Pragma', 'no-cache');
  response.setHeader('Builder-Version', '1'); // the classic builder: BuildKit's sessions are not served
  response.setHeader('Swarm', 'inactive');
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  const isHead = request.method === 'HEAD';
  response.setHeader('Content-Length', isHead ? '0' : '2');
  response.writeHead(200).end(isHead ? undefined : 'OK');
}

async function getInfo({ parts, minor }: Exchange): Promise<Reply> {
  const [facts, containers] = await Promise.all([
    parts.system.info(),
    parts.containers.list({ all: true, limit: null, size: false, filters: new Map() }),
  ]);
  const counts = { running: 0, paused: 0, stopped: 0, images: parts.images.list().length, eventListeners };
  for (const { container } of containers) {
    const state = deriveState(container);
    if (state.Paused) counts.paused++;
    else if (state.Running) counts.running++;
    else counts.stopped++;
  }
  return { status: 200, json: formatInfo(facts, parts.system.version, counts, minor) };
}

async function getEvents({ parts, query, minor, response, signal }: Exchange): Promise<void> {
  const nowNs = parts.clock.wallNs();
  const time = (name: string): bigint | null => (query.text(name) === '' ? null : parseTime(query.text(name), nowNs));
  const untilNs = time('until');
  // An end without a beginning is about the past, too; with neither only what comes is told.
  const sinceNs = time('since') ?? (untilNs === null ? null : 0n);
  if (untilNs !== null && sinceNs !== null && untilNs < sinceNs) {
    throw new EngineError(
      'PARAMETER_INVALID',
      `\`since\` time (${query.text('since')}) cannot be after \`until\` time (${query.text('until')})`,
    );
  }
  const matches = eventMatcher(parseFilters(query.text('filters')), minor);
  const events = parts.events.subscribe({ sinceNs, untilNs, matches, signal })[Symbol.asyncIterator]();
  // The first next() subscribes: only then the client is told that nothing will be missed.
  let next = events.next();
  response.setHeader('Content-Type', 'application/json');
  response.writeHead(200);
  response.flushHeaders();
  eventListeners++;
  try {
    for (let result: IteratorResult<EngineEvent>; !(result = await next).done; next = events.next()) {
      await writeSlowly(response, formatEvent(result.value), signal);
    }
  } finally {
    eventListeners--;
    await events.return?.();
    response.end();
  }
}

const USAGE_TYPES = ['container', 'image', 'volume', 'build-cache'];

async function getDiskUsage({ parts, query, minor }: Exchange): Promise<Reply> {
  const asked = minor < 42 || !query.has('type') ? USAGE_TYPES : query.all('type');
  const unknown = asked.find((type) => !USAGE_TYPES.includes(type));
  if (unknown !== undefined) throw new EngineError('PARAMETER_INVALID', `unknown object type: ${unknown}`);
  const nowMs = Number(parts.clock.wallNs() / 1_000_000n);
  const wanted = (type: string): boolean => asked.includes(type);
  const counted = wanted('container') || wanted('image');
  const [containers, images, volumes] = await Promise.all([
    counted ? parts.containers.list({ all: true, limit: null, size: wanted('container'), filters: new Map() }) : [],
    wanted('image') ? parts.images.diskUsage() : null,
    wanted('volume')
      ? Promise.all(
          parts.volumes
            .list()
            .filter(({ options }) => Object.keys(options ?? {}).length === 0) // what a device holds is not the volume's
            .map(async (volume) => ({ volume, sizeBytes: await parts.volumes.sizeBytes(volume.name) })),
        )
      : [],
  ]);
  const containersOf = Map.groupBy(containers, ({ container }) => container.imageId);
  return {
    status: 200,
    json: {
      LayersSize: images === null ? undefined : images.layersBytes,
      Images:
        images === null
          ? undefined
          : parts.images.list().map((image) =>
              formatImageSummary(
                { image, tags: image.tags, digests: image.digests },
                {
                  containers: containersOf.get(image.id)?.length ?? 0,
                  sharedBytes: images.sharedBytesById.get(image.id) ?? 0,
                },
                minor,
              ),
            ),
      Containers: wanted('container')
        ? containers.map((details) => formatContainerSummary(details, minor, nowMs))
        : undefined,
      Volumes: wanted('volume')
        ? volumes.map(({ volume, sizeBytes }) =>
            formatVolume(volume, { sizeBytes, references: parts.volumes.references(volume.name).length }),
          )
        : undefined,
      BuildCache: wanted('build-cache') ? [] : undefined,
      BuilderSize: minor < 42 ? 0 : undefined,
    },
  };
}

async function postAuth({ parts, request }: Exchange): Promise<Reply> {
  const auth = parseAuth(decodeBody(await readText(request), authConfig));
  if (parts.registry === undefined)
    throw new EngineError('FEATURE_UNSUPPORTED', 'login to registries is not supported');
  return { status: 200, json: { Status: 'Login Succeeded', IdentityToken: await parts.registry.authenticate(auth) } };
}

async function getDistribution({ parts, params, request }: Exchange): Promise<Reply> {
  if (parts.registry === undefined)
    throw new EngineError('FEATURE_UNSUPPORTED', 'reading manifests from registries is not supported');
  const { descriptor, platforms } = await parts.registry.distribution(
    params['name']!,
    parseAuthHeader(request.headers['x-registry-auth']),
  );
  return {
    status: 200,
    json: {
      Descriptor: { mediaType: descriptor.mediaType, digest: descriptor.digest, size: descriptor.sizeBytes },
      Platforms: platforms.map(({ os, architecture, variant, osVersion }) => ({
        architecture,
        os,
        'os.version': osVersion || undefined,
        variant: variant || undefined,
      })),
    },
  };
}
