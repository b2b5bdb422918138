/** Images that are here. Source: moby api/server/router/image (v28). */
import { EngineError, messageOf } from '../../core/engine-error.ts';
import { param, type AnyRoute, type Exchange, type Reply } from '../route.ts';
import { checkFilterNames, flagFilter, parseFilters } from '../wire/filters.ts';
import {
  filterImages,
  formatHistory,
  formatImageInspect,
  formatImageSummary,
  formatRemoved,
  parseImagePrune,
} from '../wire/image.ts';
import { parsePlatformJson } from '../wire/platform.ts';
import { joinRepoTag, withoutTag } from '../wire/reference.ts';
import { parseAuthHeader } from '../wire/registry-auth.ts';

export const imageRoutes: readonly AnyRoute[] = [
  { method: 'GET', path: '/images/json', handle: listImages },
  { method: 'GET', path: '/images/search', handle: searchImages },
  { method: 'GET', path: '/images/{name}/history', handle: imageHistory },
  { method: 'GET', path: '/images/{name}/json', handle: inspectImage },
  { method: 'POST', path: '/images/{name}/tag', handle: tagImage },
  { method: 'POST', path: '/images/prune', handle: pruneImages },
  { method: 'DELETE', path: '/images/{name}', handle: removeImage },
];

async function listImages({ parts, query, minor }: Exchange): Promise<Reply> {
  const filters = new Map(parseFilters(query.text('filters')));
  // "filter" is a name glob of before 1.25.
  if (minor < 41 && query.text('filter') !== '') filters.set('reference', [query.text('filter')]);
  const entries = filterImages(parts.images, filters, { all: query.flag('all'), nowNs: parts.clock.wallNs() });
  const shared = minor >= 42 && query.flag('shared-size') ? (await parts.images.diskUsage()).sharedBytesById : null;
  const containers =
    minor >= 51 ? await parts.containers.list({ all: true, limit: null, size: false, filters: new Map() }) : [];
  const containersOf = Map.groupBy(containers, ({ container }) => container.imageId);
  return {
    status: 200,
    json: entries.map((entry) =>
      formatImageSummary(
        entry,
        {
          containers: minor < 51 ? -1 : (containersOf.get(entry.image.id)?.length ?? 0),
          sharedBytes: shared === null ? -1 : (shared.get(entry.image.id) ?? 0),
        },
        minor,
      ),
    ),
  };
}

function inspectImage(exchange: Exchange): Reply {
  const { parts, query, minor } = exchange;
  const platform = minor >= 49 ? parsePlatformJson(query.text('platform')) : null;
  if (platform !== null && minor >= 48 && query.flag('manifests')) {
    throw new EngineError(
      'PARAMETER_INVALID',
      'conflicting options: manifests and platform options cannot both be set',
    );
  }
  const image =
    platform === null
      ? parts.images.resolve(param(exchange, 'name'))
      : parts.images.resolve(param(exchange, 'name'), platform);
  return { status: 200, json: formatImageInspect(image, parts.images.layerDirectories(image.id), minor) };
}

function imageHistory(exchange: Exchange): Reply {
  const { parts, query, minor } = exchange;
  const platform = minor < 48 ? null : parsePlatformJson(query.text('platform'));
  return { status: 200, json: parts.images.history(param(exchange, 'name'), platform ?? undefined).map(formatHistory) };
}

async function tagImage(exchange: Exchange): Promise<Reply> {
  const { parts, query } = exchange;
  const reference = joinRepoTag(query.text('repo'), query.text('tag'));
  if (reference === null) throw new EngineError('IMAGE_REFERENCE_INVALID', 'invalid reference format');
  if (withoutTag(reference).replace(/^(?:docker\.io\/)?(?:library\/)?/, '') === 'sha256') {
    const message = 'refusing to create an ambiguous tag using digest algorithm as name';
    throw new EngineError('IMAGE_REFERENCE_INVALID', message);
  }
  await parts.images.tag(param(exchange, 'name'), reference);
  return { status: 201 };
}

async function removeImage(exchange: Exchange): Promise<Reply> {
  const { parts, query, minor } = exchange;
  const name = param(exchange, 'name');
  if (name.trim() === '') throw new EngineError('PARAMETER_INVALID', 'image name cannot be blank');
  const platforms =
    minor < 50
      ? []
      : query
          .all('platforms')
          .map(parsePlatformJson)
          .filter((platform) => platform !== null);
  const removed = await parts.images.remove(
    name,
    { force: query.flag('force'), prune: !query.flag('noprune'), ...(platforms.length === 0 ? {} : { platforms }) },
    (imageId) => parts.containers.usingImage(imageId),
  );
  return { status: 200, json: removed.map(formatRemoved) };
}

async function pruneImages({ parts, query }: Exchange): Promise<Reply> {
  const what = parseImagePrune(parseFilters(query.text('filters')), parts.clock.wallNs());
  const { removed, reclaimedBytes } = await parts.images.prune(what, (imageId) => parts.containers.usingImage(imageId));
  parts.events.publish({
    type: 'image',
    action: 'prune',
    actor: { id: '', attributes: { reclaimed: String(reclaimedBytes) } },
  });
  return {
    status: 200,
    json: { ImagesDeleted: removed.length === 0 ? null : removed.map(formatRemoved), SpaceReclaimed: reclaimedBytes },
  };
}

async function searchImages({ parts, query, request }: Exchange): Promise<Reply> {
  const limit = query.text('limit') === '' ? null : searchLimit(query);
  const filters = parseFilters(query.text('filters'));
  checkFilterNames(filters, ['is-automated', 'is-official', 'stars']);
  // Nobody builds them automatically any more.
  if (flagFilter(filters, 'is-automated') === true) return { status: 200, json: [] };
  const official = flagFilter(filters, 'is-official');
  const stars = Math.max(0, ...(filters.get('stars') ?? []).map(parseStars));
  if (parts.registry === undefined)
    throw new EngineError('FEATURE_UNSUPPORTED', 'searching registries is not supported');
  const found = await parts.registry.search({
    term: query.text('term'),
    limit,
    auth: parseAuthHeader(request.headers['x-registry-auth']),
  });
  const kept = found.filter((result) => (official === null || result.official === official) && result.stars >= stars);
  return {
    status: 200,
    json: kept.map((result) => ({
      star_count: result.stars,
      is_official: result.official,
      name: result.name,
      is_automated: false,
      description: result.description,
    })),
  };
}

function searchLimit(query: Exchange['query']): number {
  let limit: number | null;
  try {
    limit = query.integer('limit');
  } catch (error) {
    throw new EngineError('PARAMETER_INVALID', `invalid limit specified: ${messageOf(error)}`);
  }
  if (limit === null || limit < 0) throw new EngineError('PARAMETER_INVALID', 'invalid limit specified');
  return limit;
}

function parseStars(text: string): number {
  if (/^[-+]?\d+$/.test(text)) return Number(text);
  const message = `invalid filter 'stars=${text}': strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`;
  throw new EngineError('PARAMETER_INVALID', message);
}
