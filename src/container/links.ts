/**
 * Legacy links (`--link db:alias` on the default bridge): the linked container's address in /etc/hosts is network/'s;
 * the variables that tell of it are made here. Source: moby daemon/links/links.go, daemon/container_operations_unix.go (v28).
 */
import type { HostSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import { parseLink } from './check-spec.ts';
import type { ContainerLookup } from './names.ts';
import type { Parts } from './parts.ts';
import { liveOf } from './status.ts';

const DEFAULT_NETWORK = 'bridge';
const NOT_USER_DEFINED = /^(?:bridge|host|none|container:.*)$/;

export interface ResolvedLink {
  readonly child: Container;
  readonly alias: string;
}

/**
 * At creation: what is linked must exist, and is kept by its ID ("ID:alias"), so that it may be renamed. On networks of
 * users links are the endpoints' matter, and stay as they were asked. @throws {EngineError} CONTAINER_SPEC_INVALID
 */
export function identifyLinks(parts: Parts, { links, networkMode }: HostSpec): readonly string[] | null {
  if (links === null || !NOT_USER_DEFINED.test(networkMode)) return links;
  return links.map((link) => {
    const { name, alias } = parseLink(link);
    const child = ownerOfNetwork(parts, name, name);
    if (child.spec.host.networkMode === 'host') {
      const message =
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior";
      throw new EngineError('CONTAINER_SPEC_INVALID', message);
    }
    return `${child.id}:${alias}`;
  });
}

/** Who joined another's network is reached there. */
function ownerOfNetwork(parts: Parts, ref: string, asked: string): Container {
  const child = parts.resolver.tryResolve(ref);
  if (child === undefined) {
    const message = `could not get container for ${asked}: No such container: ${ref}`;
    throw new EngineError('CONTAINER_SPEC_INVALID', message);
  }
  const { networkMode } = child.spec.host;
  return networkMode.startsWith('container:')
    ? ownerOfNetwork(parts, networkMode.slice('container:'.length), asked)
    : child;
}

/** Its links to containers that are still there. */
export function linksOf(lookup: ContainerLookup, container: Container): ResolvedLink[] {
  const { links, networkMode } = container.spec.host;
  if (links === null || !NOT_USER_DEFINED.test(networkMode)) return [];
  return links.flatMap((link) => {
    const { name, alias } = parseLink(link);
    const child = lookup.get(name);
    return child === undefined ? [] : { child, alias };
  });
}

/** As inspect shows them: "/db:/web/alias"; on a network of users as they were asked. */
export function shownLinks(lookup: ContainerLookup, container: Container): readonly string[] | null {
  const { links, networkMode } = container.spec.host;
  if (links === null || links.length === 0) return null;
  if (!NOT_USER_DEFINED.test(networkMode)) return links;
  const shown = linksOf(lookup, container).map(({ child, alias }) => `/${child.name}:/${container.name}/${alias}`);
  return shown.length === 0 ? null : shown;
}

/** The names that others know containers by: "/web/alias", by the container's ID. */
export function linkNames(lookup: ContainerLookup): ReadonlyMap<string, readonly string[]> {
  const names = new Map<string, string[]>();
  for (const parent of lookup.list()) {
    for (const { child, alias } of linksOf(lookup, parent)) {
      const known = names.get(child.id) ?? [];
      names.set(child.id, [...known, `/${parent.name}/${alias}`]);
    }
  }
  return names;
}

/** At start, for a container on the default bridge; on other networks links are aliases of the endpoint. */
export function resolveLinks(parts: Parts, container: Container): ResolvedLink[] {
  if (!Object.hasOwn(container.spec.endpoints, DEFAULT_NETWORK)) return [];
  const links = linksOf(parts.supervisor, container);
  for (const { child, alias } of links) {
    if (liveOf(child) === null) {
      const path = `/${container.name}/${alias}`;
      throw new EngineError(
        'RUNTIME_START_FAILED',
        `Cannot link to a non running container: /${child.name} AS ${path}`,
      );
    }
    if (!parts.networks.endpoints(child.id).has(DEFAULT_NETWORK)) {
      const message = `Cannot link to /${child.name}, as it does not belong to the default network`;
      throw new EngineError('RUNTIME_START_FAILED', message);
    }
  }
  return links;
}

/** DB_PORT=tcp://172.17.0.3:5432, DB_NAME=/web/db, DB_ENV_USER=me … */
export function linkEnv(parts: Parts, container: Container, links: readonly ResolvedLink[]): string[] {
  return links.flatMap(({ child, alias }) => {
    const address = parts.networks.endpoints(child.id).get(DEFAULT_NETWORK)?.ipv4Address ?? '';
    const prefix = alias.toUpperCase().replaceAll('-', '_');
    const ports = sortPorts(child.spec.process.exposedPorts ?? []);
    const env: string[] = [];
    const [first] = ports;
    if (first !== undefined) env.push(`${prefix}_PORT=${first.protocol}://${address}:${first.port}`);
    for (const { port, protocol } of ports) {
      const name = `${prefix}_PORT_${port}_${protocol.toUpperCase()}`;
      env.push(
        `${name}=${protocol}://${address}:${port}`,
        `${name}_ADDR=${address}`,
        `${name}_PORT=${port}`,
        `${name}_PROTO=${protocol}`,
      );
    }
    env.push(`${prefix}_NAME=/${container.name}/${alias}`);
    for (const entry of child.spec.process.env ?? []) {
      if (!entry.includes('=') || /^(HOME|PATH)=/.test(entry)) continue;
      env.push(`${prefix}_ENV_${entry}`);
    }
    return env;
  });
}

function sortPorts(keys: readonly string[]): { port: number; protocol: string }[] {
  return keys
    .map((key) => ({ port: Number(key.split('/')[0]), protocol: key.split('/')[1] ?? 'tcp' }))
    .toSorted((a, b) => Number(b.protocol === 'tcp') - Number(a.protocol === 'tcp') || a.port - b.port);
}
