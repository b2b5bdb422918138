/** There are no plugins: lists are empty, names are not found. Source: moby api/server/router/plugin, plugin/errors.go (v28). */
import { EngineError } from '../../core/engine-error.ts';
import { param, type AnyRoute, type Exchange, type Method } from '../route.ts';
import { checkFilterNames, parseFilters } from '../wire/filters.ts';

function notFound(method: Method, path: string): AnyRoute {
  return {
    method,
    path,
    handle: (exchange: Exchange) => {
      throw new EngineError('PLUGIN_NOT_FOUND', `plugin ${JSON.stringify(param(exchange, 'name'))} not found`);
    },
  };
}

function unsupported(method: Method, path: string): AnyRoute {
  return {
    method,
    path,
    handle: () => {
      throw new EngineError('FEATURE_UNSUPPORTED', 'plugins are not supported by this daemon');
    },
  };
}

export const pluginRoutes: readonly AnyRoute[] = [
  {
    method: 'GET',
    path: '/plugins',
    handle: ({ query }) => {
      checkFilterNames(parseFilters(query.text('filters')), ['enabled', 'capability']);
      return { status: 200, json: [] };
    },
  },
  unsupported('GET', '/plugins/privileges'),
  unsupported('POST', '/plugins/pull'),
  unsupported('POST', '/plugins/create'),
  notFound('GET', '/plugins/{name}/json'),
  notFound('POST', '/plugins/{name}/enable'),
  notFound('POST', '/plugins/{name}/disable'),
  notFound('POST', '/plugins/{name}/push'),
  notFound('POST', '/plugins/{name}/upgrade'),
  notFound('POST', '/plugins/{name}/set'),
  notFound('DELETE', '/plugins/{name}'),
];
