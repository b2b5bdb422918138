/** The classic builder; BuildKit's sessions are refused. Source: moby api/server/router/build, session, grpc (v28). */
import type { Builder } from '../../build/port.ts';
import { EngineError, messageOf } from '../../core/engine-error.ts';
import { parsePlatform } from '../../image/platform-text.ts';
import { bodyChunks } from '../body.ts';
import type { AnyRoute, Exchange, Reply } from '../route.ts';
import type { Query } from '../query.ts';
import { isObject } from '../wire/decode.ts';
import { parseFilters } from '../wire/filters.ts';
import { parseConfigHeader } from '../wire/registry-auth.ts';
import { sendProgress } from './image-transfer.ts';

type BuildRequest = Parameters<Builder['build']>[0];

export const buildRoutes: readonly AnyRoute[] = [
  { method: 'POST', path: '/build', handle: postBuild },
  { method: 'POST', path: '/build/prune', handle: pruneBuildCache },
  { method: 'POST', path: '/build/cancel', handle: cancelBuild },
  { method: 'POST', path: '/session', handle: refuseBuildKit },
  { method: 'POST', path: '/grpc', handle: refuseBuildKit },
];

async function postBuild(exchange: Exchange): Promise<void> {
  const { parts, query, request, minor, signal } = exchange;
  if (query.text('version') === '2') return refuseBuildKit();
  if (parts.builder === undefined)
    throw new EngineError('FEATURE_UNSUPPORTED', 'building images is not supported by this daemon');
  const context = bodyChunks(request);
  const build = parseBuild(query, context, minor, parseConfigHeader(request.headers['x-registry-config']));
  await sendProgress(exchange, parts.builder.build(build, signal));
}

function parseBuild(
  query: Query,
  context: AsyncIterable<Uint8Array>,
  minor: number,
  auths: BuildRequest['auths'],
): BuildRequest {
  const ulimits = jsonParameter(query, 'ulimits');
  if (ulimits !== null && !Array.isArray(ulimits)) throw wrong('ulimits', 'not a list');
  return {
    context,
    remote: query.text('remote'),
    dockerfile: query.text('dockerfile'),
    tags: query.all('t'),
    target: query.text('target'),
    buildArgs: textRecord(query, 'buildargs', true),
    labels: textRecord(query, 'labels', false) as Record<string, string>,
    quiet: query.flag('q'),
    noCache: query.flag('nocache'),
    cacheFrom: textList(query, 'cachefrom'),
    pull: query.flag('pull'),
    remove: query.flag('rm', true),
    forceRemove: query.flag('forcerm'),
    squash: query.flag('squash'),
    platform: minor < 32 ? null : parsePlatform(query.text('platform')),
    networkMode: query.text('networkmode') || 'default',
    extraHosts: query.has('extrahosts') ? query.all('extrahosts').flatMap((hosts) => hosts.split(',')) : null,
    memoryBytes: query.integer('memory') ?? 0,
    memorySwapBytes: query.integer('memswap') ?? 0,
    cpuShares: query.integer('cpushares') ?? 0,
    cpuPeriodUs: query.integer('cpuperiod') ?? 0,
    cpuQuotaUs: query.integer('cpuquota') ?? 0,
    cpusetCpus: query.text('cpusetcpus'),
    cpusetMems: query.text('cpusetmems'),
    cgroupParent: query.text('cgroupparent'),
    shmSizeBytes: query.integer('shmsize') ?? 0,
    ulimits: ulimits?.map(parseUlimit) ?? null,
    securityOpt: query.has('securityopt') ? query.all('securityopt') : null,
    auths,
  };
}

function parseUlimit(value: unknown): { name: string; soft: number; hard: number } {
  const { Name: name, Soft: soft = 0, Hard: hard = 0 } = isObject(value) ? value : {};
  if (typeof name !== 'string' || typeof soft !== 'number' || typeof hard !== 'number') {
    throw wrong('ulimits', 'not a list of limits');
  }
  return { name, soft, hard };
}

function jsonParameter(query: Query, name: string): unknown {
  const text = query.text(name);
  if (text === '') return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw wrong(name, messageOf(error));
  }
}

function textRecord(query: Query, name: string, nullable: boolean): Record<string, string | null> {
  const value = jsonParameter(query, name);
  if (value === null) return {};
  if (!isObject(value)) throw wrong(name, 'not an object');
  const entries = Object.entries(value);
  if (entries.some(([, text]) => typeof text !== 'string' && !(nullable && text === null)))
    throw wrong(name, 'values must be strings');
  return Object.fromEntries(entries) as Record<string, string | null>;
}

function textList(query: Query, name: string): string[] {
  const value = jsonParameter(query, name) ?? [];
  if (!Array.isArray(value) || value.some((item) => typeof item !== 'string'))
    throw wrong(name, 'not a list of strings');
  return value;
}

function wrong(name: string, why: string): EngineError {
  return new EngineError('PARAMETER_INVALID', `error reading ${name}: ${why}`);
}

/** The classic builder keeps no cache beside its images. */
function pruneBuildCache({ parts, query, minor }: Exchange): Reply {
  parseFilters(query.text('filters'));
  for (const name of minor < 48 ? ['keep-storage'] : ['reserved-space', 'max-used-space', 'min-free-space'])
    checkBytes(name, query.text(name));
  parts.events.publish({ type: 'builder', action: 'prune', actor: { id: '', attributes: { reclaimed: '0' } } });
  return { status: 200, json: { CachesDeleted: null, SpaceReclaimed: 0 } };
}

function checkBytes(name: string, text: string): void {
  if (/^([-+]?\d+)?$/.test(text)) return;
  const cause = `strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`;
  throw new EngineError('PARAMETER_INVALID', `${name} is in bytes and expects an integer, got ${text}: ${cause}`);
}

function cancelBuild({ query }: Exchange): never {
  if (query.text('id') === '') throw new EngineError('PARAMETER_INVALID', 'build ID not provided');
  throw new EngineError('FEATURE_UNSUPPORTED', 'builds are cancelled by closing their connection');
}

function refuseBuildKit(): never {
  throw new EngineError(
    'FEATURE_UNSUPPORTED',
    'BuildKit is not supported by this daemon: use the classic builder (DOCKER_BUILDKIT=0) or a buildx builder in a container',
  );
}
