/**
 * Legacy links (`--link db:alias` on the default bridge): the linked container's address in /etc/hosts is network/'s;
 * the variables that tell of it are made here. Source: moby daemon/links/links.go, daemon/container_operations_unix.go (v28).
 */
import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import { parseLink } from './check-spec.ts';
import type { Parts } from './parts.ts';
import { liveOf } from './status.ts';

const DEFAULT_NETWORK = 'bridge';

export interface ResolvedLink {
  readonly child: Container;
  readonly alias: string;
}

/** At creation: what is linked must exist. Names become IDs of nothing: they are looked up again at each start. */
export function checkLinks(parts: Parts, links: readonly string[] | null): void {
  for (const link of links ?? []) {
    const { name } = parseLink(link);
    const child = parts.resolver.tryResolve(name);
    if (child === undefined) {
      throw new EngineError(
        'CONTAINER_SPEC_INVALID',
        `could not get container for ${name}: No such container: ${name}`,
      );
    }
    if (child.spec.host.networkMode === 'host') {
      const message =
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior";
      throw new EngineError('CONTAINER_SPEC_INVALID', message);
    }
  }
}

/** At start, for a container on the default bridge; on other networks links are aliases of the endpoint. */
export function resolveLinks(parts: Parts, container: Container): ResolvedLink[] {
  const { host, endpoints } = container.spec;
  if (!Object.hasOwn(endpoints, DEFAULT_NETWORK)) return [];
  return (host.links ?? []).map((link) => {
    const { name, alias } = parseLink(link);
    const child = parts.resolver.resolve(name);
    if (liveOf(child) === null) {
      const path = `/${container.name}/${alias}`;
      throw new EngineError(
        'CONTAINER_NOT_RUNNING',
        `Cannot link to a non running container: /${child.name} AS ${path}`,
      );
    }
    if (!parts.networks.endpoints(child.id).has(DEFAULT_NETWORK)) {
      const message = `Cannot link to /${child.name}, as it does not belong to the default network`;
      throw new EngineError('CONTAINER_SPEC_INVALID', message);
    }
    return { child, alias };
  });
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
