/** Networks in Docker's spelling. Source: moby api/types/network, daemon/network.go, daemon/network/filter.go (v28). */
import type { EngineParts } from '../port.ts';
import type { Filters } from '../../container/port.ts';
import { EngineError } from '../../core/engine-error.ts';
import type { IpamConfig, Network, Networks, NetworkWish } from '../../network/port.ts';
import { flag, list, map, optional, struct, text, type Decoded } from './decode.ts';
import { endpointSettings } from './endpoint.ts';
import { checkFilterNames, matchesExactly, matchesLabels, matchesPattern } from './filters.ts';

const PREDEFINED: ReadonlySet<string> = new Set(['bridge', 'host', 'none', 'default']);

export const networkCreateRequest = struct('network.CreateRequest', {
  Name: text,
  Driver: text,
  Scope: text,
  EnableIPv4: optional(flag),
  EnableIPv6: optional(flag),
  IPAM: optional(
    struct('network.IPAM', {
      Driver: text,
      Options: map(text),
      Config: list(
        struct('network.IPAMConfig', { Subnet: text, IPRange: text, Gateway: text, AuxiliaryAddresses: map(text) }),
      ),
    }),
  ),
  Internal: flag,
  Attachable: flag,
  Ingress: flag,
  ConfigOnly: flag,
  ConfigFrom: optional(struct('network.ConfigReference', { Network: text })),
  Options: map(text),
  Labels: map(text),
  // Names are unique whatever it says; clients older than 1.44 send it.
  CheckDuplicate: flag,
});

export const networkConnectRequest = struct('network.ConnectOptions', {
  Container: text,
  EndpointConfig: optional(endpointSettings),
});
export const networkDisconnectRequest = struct('network.DisconnectOptions', { Container: text, Force: flag });

export function parseNetworkCreate(asked: Decoded<typeof networkCreateRequest>, minor: number): NetworkWish {
  return {
    name: asked.Name,
    driver: asked.Driver || 'bridge',
    internal: asked.Internal,
    attachable: asked.Attachable,
    ingress: asked.Ingress,
    enableIpv4: minor < 48 ? null : asked.EnableIPv4,
    enableIpv6: asked.EnableIPv6,
    ipam: {
      driver: asked.IPAM?.Driver ?? '',
      options: asked.IPAM?.Options ?? null,
      configs: (asked.IPAM?.Config ?? []).map((config) => ({
        subnet: config.Subnet,
        ipRange: config.IPRange,
        gateway: config.Gateway,
        auxAddresses: config.AuxiliaryAddresses,
      })),
    },
    options: asked.Options ?? {},
    labels: asked.Labels ?? {},
    scope: asked.Scope,
    configOnly: asked.ConfigOnly,
    configFrom: asked.ConfigFrom?.Network ?? '',
  };
}

export function formatNetwork(network: Network, members: ReturnType<Networks['members']>): object {
  return {
    Name: network.name,
    Id: network.id,
    Created: network.createdAt,
    Scope: network.scope,
    Driver: network.driver,
    EnableIPv4: network.enableIpv4,
    EnableIPv6: network.enableIpv6,
    IPAM: {
      Driver: network.ipam.driver || 'default',
      Options: network.ipam.options,
      Config: formatIpamConfigs(network),
    },
    Internal: network.internal,
    Attachable: network.attachable,
    Ingress: network.ingress,
    ConfigFrom: { Network: network.configFrom },
    ConfigOnly: network.configOnly,
    Containers: Object.fromEntries(
      members.map(({ containerId, containerName, endpoint }) => [
        containerId,
        {
          Name: containerName,
          EndpointID: endpoint.endpointId,
          MacAddress: endpoint.macAddress,
          IPv4Address: endpoint.ipv4Address === '' ? '' : `${endpoint.ipv4Address}/${endpoint.ipv4PrefixLength}`,
          IPv6Address: endpoint.ipv6Address === '' ? '' : `${endpoint.ipv6Address}/${endpoint.ipv6PrefixLength}`,
        },
      ]),
    ),
    Options: network.options,
    Labels: network.labels,
  };
}

/** moby shows the pool of its IPAM driver "null", which gives no addresses. */
function formatIpamConfigs({ ipam, idleConfigs = [], enableIpv4, configOnly }: Network): object[] | null {
  if (ipam.driver === 'null' && enableIpv4 && !configOnly) return [{ Subnet: '0.0.0.0/0' }];
  const configs = [...ipam.configs, ...idleConfigs];
  return configs.length === 0 ? null : configs.map(formatIpamConfig);
}

function formatIpamConfig(config: IpamConfig): object {
  return {
    Subnet: config.subnet || undefined,
    IPRange: config.ipRange || undefined,
    Gateway: config.gateway || undefined,
    AuxiliaryAddresses:
      config.auxAddresses !== null && Object.keys(config.auxAddresses).length > 0 ? config.auxAddresses : undefined,
  };
}

/** @throws PARAMETER_INVALID */
export function filterNetworks(parts: Pick<EngineParts, 'networks' | 'containers'>, filters: Filters): Network[] {
  checkFilterNames(filters, ['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type']);
  const dangling = parseDangling(filters.get('dangling'));
  for (const type of filters.get('type') ?? []) {
    if (type !== 'builtin' && type !== 'custom')
      throw new EngineError('PARAMETER_INVALID', `invalid filter: 'type'='${type}'`);
  }
  return parts.networks.list().filter((network) => {
    if (!matchesExactly(filters, 'driver', network.driver) || !matchesExactly(filters, 'scope', network.scope))
      return false;
    if (!matchesPattern(filters, 'name', network.name) || !matchesPattern(filters, 'id', network.id)) return false;
    if (!matchesLabels(filters, 'label', network.labels)) return false;
    if (!matchesExactly(filters, 'type', isPredefined(network) ? 'builtin' : 'custom')) return false;
    if (dangling === null) return true;
    // The engine's own networks are neither used nor unused.
    return !isPredefined(network) && (parts.networks.members(network.id).length === 0) === dangling;
  });
}

export function isPredefined(network: Network): boolean {
  return PREDEFINED.has(network.name);
}

function parseDangling(values: readonly string[] | undefined): boolean | null {
  if (values === undefined) return null;
  if (values.length > 1)
    throw new EngineError('PARAMETER_INVALID', 'got more than one value for filter key "dangling"');
  if (values[0] === '1' || values[0] === 'true') return true;
  if (values[0] === '0' || values[0] === 'false') return false;
  throw new EngineError(
    'PARAMETER_INVALID',
    'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")',
  );
}
