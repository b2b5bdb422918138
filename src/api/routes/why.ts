/** The story of a container over HTTP: our own route, with and without a version in the path. */
import { param, type AnyRoute, type Exchange, type Reply } from '../route.ts';
import { formatStory } from '../wire/story.ts';

export const whyRoutes: readonly AnyRoute[] = [
  { method: 'GET', path: '/containers/{name}/why', handle: containerStory },
];

function containerStory(exchange: Exchange): Reply {
  return { status: 200, json: formatStory(exchange.parts.containers.why(param(exchange, 'name'))) };
}
