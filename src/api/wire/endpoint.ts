/** Docker's EndpointSettings: a container's place on a network. Source: moby api/types/network/endpoint.go (v28). */
import type { EndpointSpec } from '../../core/container-spec.ts';
import type { EndpointState } from '../../network/port.ts';
import { integer, list, map, optional, struct, text, type Decoded } from './decode.ts';

export const endpointSettings = struct('network.EndpointSettings', {
  IPAMConfig: optional(
    struct('network.EndpointIPAMConfig', { IPv4Address: text, IPv6Address: text, LinkLocalIPs: list(text) }),
  ),
  Links: list(text),
  Aliases: list(text),
  MacAddress: text,
  DriverOpts: map(text),
  GwPriority: integer('int'),
  // What is observed may be sent back by clients that copy an inspect; it is checked for its type and otherwise unused.
  NetworkID: text,
  EndpointID: text,
  Gateway: text,
  IPAddress: text,
  IPPrefixLen: integer('int'),
  IPv6Gateway: text,
  GlobalIPv6Address: text,
  GlobalIPv6PrefixLen: integer('int'),
  DNSNames: list(text),
});
export type EndpointSettings = Decoded<typeof endpointSettings>;

export const NO_ENDPOINT_SETTINGS: EndpointSettings = endpointSettings.zero;

export function parseEndpoint(settings: EndpointSettings): EndpointSpec {
  return {
    ipv4Address: settings.IPAMConfig?.IPv4Address ?? '',
    ipv6Address: settings.IPAMConfig?.IPv6Address ?? '',
    linkLocalIps: settings.IPAMConfig?.LinkLocalIPs ?? null,
    links: settings.Links,
    aliases: settings.Aliases,
    macAddress: settings.MacAddress,
    driverOpts: settings.DriverOpts,
    gwPriority: settings.GwPriority,
  };
}

/** `summary`: as the list shows it, where the lists of names are null. */
export function formatEndpoint(
  state: EndpointState,
  options: { readonly summary: boolean; readonly extraAliases?: readonly string[] },
): object {
  const { spec } = state;
  return {
    IPAMConfig: formatIpam(spec, options.summary),
    Links: options.summary ? null : spec.links,
    Aliases: options.summary ? null : formatAliases(spec.aliases, options.extraAliases ?? []),
    MacAddress: state.macAddress,
    DriverOpts: options.summary ? null : spec.driverOpts,
    GwPriority: spec.gwPriority,
    NetworkID: state.networkId,
    EndpointID: state.endpointId,
    Gateway: state.gateway,
    IPAddress: state.ipv4Address,
    IPPrefixLen: state.ipv4PrefixLength,
    IPv6Gateway: state.ipv6Gateway,
    GlobalIPv6Address: state.ipv6Address,
    GlobalIPv6PrefixLen: state.ipv6PrefixLength,
    DNSNames: options.summary ? null : state.dnsNames,
  };
}

function formatAliases(aliases: readonly string[] | null, extra: readonly string[]): readonly string[] | null {
  return extra.length === 0 ? aliases : [...new Set([...(aliases ?? []), ...extra])];
}

function formatIpam(spec: EndpointSpec, summary: boolean): object | null {
  const localIps = summary ? [] : (spec.linkLocalIps ?? []);
  if (spec.ipv4Address === '' && spec.ipv6Address === '' && localIps.length === 0) return null;
  return {
    IPv4Address: spec.ipv4Address || undefined,
    IPv6Address: spec.ipv6Address || undefined,
    LinkLocalIPs: localIps.length === 0 ? undefined : localIps,
  };
}
