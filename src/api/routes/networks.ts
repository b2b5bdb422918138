/** Networks. Source: moby api/server/router/network, daemon/prune.go (v28). */
import { parseTime } from '../../core/clock.ts';
import { EngineError } from '../../core/engine-error.ts';
import { readJsonBody } from '../body.ts';
import { param, type AnyRoute, type Exchange, type Reply } from '../route.ts';
import { decodeBody, type Decoder } from '../wire/decode.ts';
import { NO_ENDPOINT_SETTINGS, parseEndpoint } from '../wire/endpoint.ts';
import { checkFilterNames, matchesPruneLabels, parseFilters } from '../wire/filters.ts';
import { untilOf } from '../wire/image.ts';
import {
  filterNetworks,
  formatNetwork,
  isPredefined,
  networkConnectRequest,
  networkCreateRequest,
  networkDisconnectRequest,
  parseNetworkCreate,
} from '../wire/network.ts';

export const networkRoutes: readonly AnyRoute[] = [
  { method: 'GET', path: '/networks', handle: listNetworks },
  { method: 'GET', path: '/networks/', handle: listNetworks },
  { method: 'GET', path: '/networks/{id}', handle: inspectNetwork },
  { method: 'POST', path: '/networks/create', handle: createNetwork },
  { method: 'POST', path: '/networks/{id}/connect', handle: connectNetwork },
  { method: 'POST', path: '/networks/{id}/disconnect', handle: disconnectNetwork },
  { method: 'POST', path: '/networks/prune', handle: pruneNetworks },
  { method: 'DELETE', path: '/networks/{id}', handle: removeNetwork },
];

async function readBody<T>({ request }: Exchange, decoder: Decoder<T>): Promise<T> {
  const body = await readJsonBody(request);
  return body.absent ? decoder.zero : decodeBody(body.text, decoder);
}

function listNetworks({ parts, query, minor }: Exchange): Reply {
  const networks = filterNetworks(parts, parseFilters(query.text('filters')));
  // Since 1.28 a list does not say which containers are connected.
  return {
    status: 200,
    json: networks.map((network) => formatNetwork(network, minor < 28 ? parts.networks.members(network.id) : [])),
  };
}

function inspectNetwork(exchange: Exchange): Reply {
  const { parts, query } = exchange;
  const verbose = query.text('verbose');
  if (verbose !== '' && !/^(?:1|t|T|true|TRUE|True|0|f|F|false|FALSE|False)$/.test(verbose)) {
    throw new EngineError(
      'PARAMETER_INVALID',
      `invalid value for verbose: ${verbose}: strconv.ParseBool: parsing ${JSON.stringify(verbose)}: invalid syntax`,
    );
  }
  const network = parts.networks.resolve(param(exchange, 'id'));
  const scope = query.text('scope');
  if (scope !== '' && scope !== network.scope)
    throw new EngineError('NETWORK_NOT_FOUND', `network ${param(exchange, 'id')} not found`);
  return { status: 200, json: formatNetwork(network, parts.networks.members(network.id)) };
}

async function createNetwork(exchange: Exchange): Promise<Reply> {
  const asked = await readBody(exchange, networkCreateRequest);
  const { network, warning } = await exchange.parts.networks.create(parseNetworkCreate(asked, exchange.minor));
  return { status: 201, json: { Id: network.id, Warning: warning } };
}

async function connectNetwork(exchange: Exchange): Promise<Reply> {
  const asked = await readBody(exchange, networkConnectRequest);
  const endpoint = parseEndpoint(asked.EndpointConfig ?? NO_ENDPOINT_SETTINGS);
  await exchange.parts.containers.connect(param(exchange, 'id'), asked.Container, endpoint, exchange.by);
  return { status: 200 };
}

async function disconnectNetwork(exchange: Exchange): Promise<Reply> {
  const asked = await readBody(exchange, networkDisconnectRequest);
  await exchange.parts.containers.disconnect(param(exchange, 'id'), asked.Container, asked.Force, exchange.by);
  return { status: 200 };
}

async function removeNetwork(exchange: Exchange): Promise<Reply> {
  await exchange.parts.networks.remove(param(exchange, 'id'));
  return { status: 204 };
}

async function pruneNetworks({ parts, query }: Exchange): Promise<Reply> {
  const filters = parseFilters(query.text('filters'));
  checkFilterNames(filters, ['label', 'label!', 'until']);
  const untilNs = untilOf(filters, parts.clock.wallNs());
  const deleted: string[] = [];
  for (const network of parts.networks.list()) {
    if (isPredefined(network) || !matchesPruneLabels(filters, network.labels)) continue;
    if (untilNs !== null && parseTime(network.createdAt) > untilNs) continue;
    if (parts.networks.members(network.id).length > 0) continue;
    try {
      await parts.networks.remove(network.id);
      deleted.push(network.name);
    } catch (error) {
      parts.logger.warn({ error, network: network.name }, 'could not prune a network');
    }
  }
  parts.events.publish({ type: 'network', action: 'prune', actor: { id: '', attributes: { reclaimed: '0' } } });
  return { status: 200, json: { NetworksDeleted: deleted.length === 0 ? null : deleted } };
}
