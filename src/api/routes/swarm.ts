/** Swarm as a dockerd that is no part of one answers it. Source: moby api/server/router/swarm, daemon/cluster/errors.go (v28). */
import { EngineError } from '../../core/engine-error.ts';
import type { AnyRoute, Method } from '../route.ts';

const NO_MANAGER =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
const NO_SWARM = 'This node is not part of a swarm';

function refuse(method: Method, path: string, message = NO_MANAGER): AnyRoute {
  return {
    method,
    path,
    handle: () => {
      throw new EngineError('NOT_A_SWARM_MANAGER', message);
    },
  };
}

function unsupported(path: string): AnyRoute {
  return {
    method: 'POST',
    path,
    handle: () => {
      throw new EngineError('FEATURE_UNSUPPORTED', 'swarm mode is not supported by this daemon');
    },
  };
}

/** Things that a manager keeps: list, create, inspect, update, delete. */
function collection(name: string): AnyRoute[] {
  return [
    refuse('GET', `/${name}`),
    refuse('POST', `/${name}/create`),
    refuse('GET', `/${name}/{id}`),
    refuse('POST', `/${name}/{id}/update`),
    refuse('DELETE', `/${name}/{id}`),
  ];
}

export const swarmRoutes: readonly AnyRoute[] = [
  unsupported('/swarm/init'),
  unsupported('/swarm/join'),
  refuse('POST', '/swarm/leave', NO_SWARM),
  refuse('GET', '/swarm'),
  refuse('GET', '/swarm/unlockkey'),
  refuse('POST', '/swarm/update'),
  refuse('POST', '/swarm/unlock', NO_SWARM),
  refuse('GET', '/services/{id}/logs'),
  ...collection('services'),
  refuse('GET', '/nodes'),
  refuse('GET', '/nodes/{id}'),
  refuse('DELETE', '/nodes/{id}'),
  refuse('POST', '/nodes/{id}/update'),
  refuse('GET', '/tasks/{id}/logs'),
  refuse('GET', '/tasks'),
  refuse('GET', '/tasks/{id}'),
  ...collection('secrets'),
  ...collection('configs'),
];
