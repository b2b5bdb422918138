/** Containers, but for their streams and files. Source: moby api/server/router/container (v28). */
import type { Containers } from '../../container/port.ts';
import { EngineError } from '../../core/engine-error.ts';
import { parsePlatform } from '../../image/platform-text.ts';
import { readJsonBody, readText, checkContentType } from '../body.ts';
import { formatApiVersion } from '../api-version.ts';
import { param, type AnyRoute, type Exchange, type Reply } from '../route.ts';
import { createRequest, parseCreateRequest } from '../wire/container-create.ts';
import { formatContainerInspect } from '../wire/container-inspect.ts';
import { formatContainerSummary } from '../wire/container-summary.ts';
import { decodeBody } from '../wire/decode.ts';
import { parseFilters } from '../wire/filters.ts';
import { parseUpdate, updateConfig } from '../wire/resources.ts';

export const containerRoutes: readonly AnyRoute[] = [
  { method: 'GET', path: '/containers/json', handle: listContainers },
  { method: 'POST', path: '/containers/create', handle: createContainer },
  { method: 'POST', path: '/containers/prune', handle: pruneContainers },
  { method: 'GET', path: '/containers/{name}/json', handle: inspectContainer },
  { method: 'GET', path: '/containers/{name}/top', handle: topContainer },
  { method: 'GET', path: '/containers/{name}/changes', handle: containerChanges },
  { method: 'POST', path: '/containers/{name}/start', handle: startContainer },
  { method: 'POST', path: '/containers/{name}/stop', handle: stopContainer },
  { method: 'POST', path: '/containers/{name}/restart', handle: restartContainer },
  { method: 'POST', path: '/containers/{name}/kill', handle: killContainer },
  { method: 'POST', path: '/containers/{name}/pause', handle: pauseContainer },
  { method: 'POST', path: '/containers/{name}/unpause', handle: unpauseContainer },
  { method: 'POST', path: '/containers/{name}/wait', handle: waitContainer },
  { method: 'POST', path: '/containers/{name}/resize', handle: resizeContainer },
  { method: 'POST', path: '/containers/{name}/rename', handle: renameContainer },
  { method: 'POST', path: '/containers/{name}/update', handle: updateContainer },
  { method: 'GET', path: '/containers/{name}/checkpoints', handle: refuseCheckpoint },
  { method: 'POST', path: '/containers/{name}/checkpoints', handle: refuseCheckpoint },
  { method: 'DELETE', path: '/containers/{name}/checkpoints/{checkpoint}', handle: refuseCheckpoint },
  { method: 'DELETE', path: '/containers/{name}', handle: removeContainer },
];

const NO_CONTENT: Reply = { status: 204 };

async function listContainers({ parts, query, minor }: Exchange): Promise<Reply> {
  const filters = new Map(parseFilters(query.text('filters')));
  // Parameters of before there were filters, still taken by dockerd.
  for (const name of ['since', 'before']) if (query.text(name) !== '') filters.set(name, [query.text(name)]);
  const limit = query.integer('limit');
  const containers = await parts.containers.list({
    all: query.flag('all'),
    limit: limit === null || limit <= 0 ? null : limit,
    size: query.flag('size'),
    filters,
  });
  const nowMs = Number(parts.clock.wallNs() / 1_000_000n);
  // Each becomes text at once: a thousand objects that wait for one another would outlive the young generation.
  const entries = containers.map((details) => JSON.stringify(formatContainerSummary(details, minor, nowMs)));
  return { status: 200, jsonText: `[${entries.join(',')}]` };
}

async function createContainer({ parts, query, request, minor, by }: Exchange): Promise<Reply> {
  checkContentType(request);
  const body = decodeBody(await readText(request), createRequest);
  const needsCgroup = minor < 41 && body.host.CgroupnsMode === '';
  const { spec, warnings } = parseCreateRequest(
    body,
    minor,
    needsCgroup ? (await parts.system.info()).cgroupVersion : '2',
  );
  const platform = minor < 41 ? null : parsePlatform(query.text('platform'));
  const created = await parts.containers.create(
    { name: query.text('name'), spec, platform, apiVersion: formatApiVersion(minor) },
    by,
  );
  return { status: 201, json: { Id: created.id, Warnings: [...created.warnings, ...warnings] } };
}

async function inspectContainer(exchange: Exchange): Promise<Reply> {
  const details = await exchange.parts.containers.inspect(param(exchange, 'name'), {
    size: exchange.query.flag('size'),
  });
  return { status: 200, json: formatContainerInspect(details, exchange.minor) };
}

async function topContainer(exchange: Exchange): Promise<Reply> {
  const { titles, processes } = await exchange.parts.containers.top(
    param(exchange, 'name'),
    exchange.query.text('ps_args'),
  );
  return { status: 200, json: { Processes: processes, Titles: titles } };
}

const CHANGE_KINDS = { modified: 0, added: 1, deleted: 2 } as const;

async function containerChanges(exchange: Exchange): Promise<Reply> {
  const changes = await exchange.parts.containers.changes(param(exchange, 'name'));
  return {
    status: 200,
    json:
      changes.length === 0
        ? null
        : changes.map(({ path, kind }) => ({ Path: path.toWellFormed(), Kind: CHANGE_KINDS[kind] })),
  };
}

async function startContainer(exchange: Exchange): Promise<Reply> {
  const { request, query } = exchange;
  // Its length alone decides, as in moby: "{}" and "null" are what clients send for nothing.
  if (Number(request.headers['content-length'] ?? 0) > 7 || request.headers['transfer-encoding'] !== undefined) {
    throw new EngineError(
      'BODY_INVALID',
      'starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24',
    );
  }
  if (query.text('checkpoint') !== '')
    throw new EngineError('PARAMETER_INVALID', 'checkpoint is only supported in experimental mode');
  const outcome = await exchange.parts.containers.start(param(exchange, 'name'), exchange.by);
  return { status: outcome === 'started' ? 204 : 304 };
}

function stopOptions({ query, minor }: Exchange): Parameters<Containers['stop']>[1] {
  return { signal: minor < 42 ? null : query.text('signal') || null, timeoutS: query.integer('t') };
}

async function stopContainer(exchange: Exchange): Promise<Reply> {
  const outcome = await exchange.parts.containers.stop(param(exchange, 'name'), stopOptions(exchange), exchange.by);
  return { status: outcome === 'stopped' ? 204 : 304 };
}

async function restartContainer(exchange: Exchange): Promise<Reply> {
  await exchange.parts.containers.restart(param(exchange, 'name'), stopOptions(exchange), exchange.by);
  return NO_CONTENT;
}

async function killContainer(exchange: Exchange): Promise<Reply> {
  const name = param(exchange, 'name');
  try {
    await exchange.parts.containers.kill(name, exchange.query.text('signal'), exchange.by);
  } catch (error) {
    if (!(error instanceof EngineError) || error.message.startsWith('cannot kill container: ')) throw error;
    throw new EngineError(error.code, `cannot kill container: ${name}: ${error.message}`, { cause: error });
  }
  return NO_CONTENT;
}

async function pauseContainer(exchange: Exchange): Promise<Reply> {
  await exchange.parts.containers.pause(param(exchange, 'name'), exchange.by);
  return NO_CONTENT;
}

async function unpauseContainer(exchange: Exchange): Promise<Reply> {
  await exchange.parts.containers.unpause(param(exchange, 'name'), exchange.by);
  return NO_CONTENT;
}

const CONDITIONS = ['not-running', 'next-exit', 'removed'] as const;

/** The headers go out before the wait: the CLI starts the container once it has them. */
async function waitContainer(exchange: Exchange): Promise<void> {
  const { query, minor, response, signal } = exchange;
  const asked = minor < 30 ? '' : query.text('condition');
  const condition = CONDITIONS.find((known) => known === (asked || 'not-running'));
  if (condition === undefined)
    throw new EngineError('PARAMETER_INVALID', `invalid condition: ${JSON.stringify(asked)}`);
  const { result } = exchange.parts.containers.wait(param(exchange, 'name'), condition, signal);
  if (minor >= 30) {
    response.setHeader('Content-Type', 'application/json');
    response.writeHead(200);
    response.flushHeaders();
  }
  const { exitCode, error } = await result;
  if (signal.aborted) return void response.destroy();
  if (!response.headersSent) response.setHeader('Content-Type', 'application/json');
  response.end(`${JSON.stringify({ StatusCode: exitCode, ...(error === '' ? {} : { Error: { Message: error } }) })}\n`);
}

async function resizeContainer(exchange: Exchange): Promise<Reply> {
  const rows = exchange.query.size('h', 'height');
  const columns = exchange.query.size('w', 'width');
  await exchange.parts.containers.resize(param(exchange, 'name'), rows, columns);
  return { status: 200 };
}

async function renameContainer(exchange: Exchange): Promise<Reply> {
  await exchange.parts.containers.rename(param(exchange, 'name'), exchange.query.text('name'), exchange.by);
  return NO_CONTENT;
}

async function updateContainer(exchange: Exchange): Promise<Reply> {
  const body = await readJsonBody(exchange.request);
  const asked = body.absent ? updateConfig.zero : decodeBody(body.text, updateConfig);
  const { warnings } = await exchange.parts.containers.update(
    param(exchange, 'name'),
    parseUpdate(asked, exchange.minor),
    exchange.by,
  );
  return { status: 200, json: { Warnings: warnings.length === 0 ? null : warnings } };
}

async function removeContainer(exchange: Exchange): Promise<Reply> {
  const { query } = exchange;
  await exchange.parts.containers.remove(
    param(exchange, 'name'),
    { force: query.flag('force'), volumes: query.flag('v'), link: query.flag('link') },
    exchange.by,
  );
  return NO_CONTENT;
}

async function pruneContainers({ parts, query, by }: Exchange): Promise<Reply> {
  const { deleted, reclaimedBytes } = await parts.containers.prune(parseFilters(query.text('filters')), by);
  return {
    status: 200,
    json: { ContainersDeleted: deleted.length === 0 ? null : deleted, SpaceReclaimed: reclaimedBytes },
  };
}

/** As a dockerd without --experimental. */
function refuseCheckpoint(): never {
  throw new EngineError(
    'FEATURE_UNSUPPORTED',
    'This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.',
  );
}
