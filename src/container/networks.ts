/** Joining and leaving networks. Source: moby daemon/container_operations.go (v28). */
import type { EndpointSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import { checkEndpoint } from '../network/endpoint-spec.ts';
import type { Network } from '../network/port.ts';
import { causeOf } from './control.ts';
import type { Parts } from './parts.ts';
import type { Request } from './port.ts';
import { liveOf } from './status.ts';

type Endpoints = Readonly<Record<string, EndpointSpec>>;

export async function connect(
  parts: Parts,
  ref: string,
  containerRef: string,
  endpoint: EndpointSpec,
  by: Request,
): Promise<void> {
  const container = parts.resolver.resolve(containerRef);
  const network = parts.networks.resolve(ref);
  refuseRemoved(container);
  if (container.spec.host.networkMode.startsWith('container:')) refuseShared();
  checkEndpoint(network, endpoint);
  const already = endpointOn(container, network);
  const isLive = liveOf(container) !== null;
  if (isLive && parts.networks.endpoints(container.id).has(network.name)) {
    throw new EngineError(
      'ENDPOINT_CONFLICT',
      `endpoint with name ${container.name} already exists in network ${network.name}`,
    );
  }
  checkCompatible(parts, container, network);
  if (isLive) await parts.networks.connect(container.id, container.name, network, endpoint);
  // A stopped container that is on it already keeps what it asked for first, as in Docker.
  if (already !== undefined && !isLive) return;
  try {
    await amendEndpoints(parts, container, (all) => ({ ...without(all, already), [network.name]: endpoint }), by);
  } catch (error) {
    if (isLive) await parts.networks.disconnect(container.id, network);
    throw error;
  }
}

export async function disconnect(
  parts: Parts,
  ref: string,
  containerRef: string,
  force: boolean,
  by: Request,
): Promise<void> {
  const container = parts.resolver.resolve(containerRef);
  const network = force ? parts.networkOf(ref) : parts.networks.resolve(ref);
  const isLive = liveOf(container) !== null;
  if (!isLive) refuseRemoved(container);
  const known = network === null ? ref : endpointOn(container, network);
  const isAsked = known !== undefined && Object.hasOwn(container.spec.endpoints, known);
  if (isLive && network !== null) {
    if (container.spec.host.networkMode === 'host' && network.driver === 'host') {
      const message = 'cannot disconnect container from host network - container was created in host network mode';
      throw new EngineError('ENDPOINT_CONFLICT', message);
    }
    if (!parts.networks.endpoints(container.id).has(network.name) && !isAsked)
      throw notConnected(container, `network ${network.name}`);
    await parts.networks.disconnect(container.id, network);
  } else if (!isAsked) {
    throw notConnected(container, `the network ${network?.name ?? ref}`);
  }
  if (isAsked) await amendEndpoints(parts, container, (all) => without(all, known), by);
}

/** Live containers on the network. */
export function onNetwork(parts: Parts, network: Network): readonly Container[] {
  return parts.networks.members(network.id).flatMap(({ containerId }) => parts.supervisor.get(containerId) ?? []);
}

/** The key under which the container asked for the network: its name or its ID. */
function endpointOn(container: Container, network: Network): string | undefined {
  return Object.keys(container.spec.endpoints).find((key) => key === network.name || key === network.id);
}

/** @throws {EngineError} where one of the networks does not go with any other */
function checkCompatible(parts: Parts, container: Container, network: Network): void {
  if (network.driver === 'host' && container.spec.host.networkMode !== 'host') {
    const message = 'cannot connect container to host network - container must be created in host network mode';
    throw new EngineError('PARAMETER_INVALID', message);
  }
  for (const key of Object.keys(container.spec.endpoints)) {
    const other = parts.networkOf(key);
    if (other === null || other.id === network.id) continue;
    if (other.driver === 'host' || network.driver === 'host') refuseShared();
    if (other.name === 'none' || network.name === 'none') {
      const message =
        'container cannot be connected to multiple networks with one of the networks in private (none) mode';
      throw new EngineError('PARAMETER_INVALID', message);
    }
  }
}

async function amendEndpoints(
  parts: Parts,
  container: Container,
  change: (all: Endpoints) => Endpoints,
  by: Request,
): Promise<void> {
  await parts.supervisor.amend(
    container.id,
    ({ spec, mounts }) => ({ spec: { ...spec, endpoints: change(spec.endpoints) }, mounts }),
    causeOf(by),
  );
}

function without(endpoints: Endpoints, key: string | undefined): Endpoints {
  return Object.fromEntries(Object.entries(endpoints).filter(([name]) => name !== key));
}

function refuseRemoved(container: Container): void {
  if (container.state.at !== 'removing' && container.state.at !== 'dead') return;
  const message = `Container ${container.id} is marked for removal and cannot be connected or disconnected to the network`;
  throw new EngineError('CONTAINER_REMOVING', message);
}

function refuseShared(): never {
  const message =
    'container sharing network namespace with another container or host cannot be connected to any other network';
  throw new EngineError('PARAMETER_INVALID', message);
}

function notConnected(container: Container, network: string): EngineError {
  return new EngineError('ENDPOINT_NOT_CONNECTED', `container ${container.id} is not connected to ${network}`);
}
