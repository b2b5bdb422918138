/** What a container's names mean: its own networks, links and aliases. Pure. Source: moby daemon/libnetwork/sandbox.go (v28). */
import { formatAddress, parseAddress } from '../address.ts';
import type { LiveNetwork } from '../live-network.ts';
import type { EndpointState } from '../port.ts';
import type { SandboxRecord } from '../records.ts';
import { reverseAddress } from './message.ts';

export interface LookupSources {
  readonly byId: (networkId: string) => LiveNetwork | undefined;
  readonly sandbox: (containerId: string) => SandboxRecord | undefined;
}

/** Endpoints with that name, or null when the name is not ours (and may be asked elsewhere). */
export function lookupName(
  sandbox: SandboxRecord,
  name: string,
  sources: LookupSources,
): readonly EndpointState[] | null {
  const networks = networksOf(sandbox, sources);
  const found = lookupIn(sandbox, networks, name, sources);
  if (found.length > 0) return found;
  // "web.mynet": a name on one network.
  for (let dot = name.indexOf('.'); dot > 0; dot = name.indexOf('.', dot + 1)) {
    const suffix = name.slice(dot + 1);
    const inNetwork = networks.filter(({ network }) => network.network.name.toLowerCase() === suffix);
    const members = lookupIn(sandbox, inNetwork, name.slice(0, dot), sources);
    if (members.length > 0) return members;
  }
  return null;
}

/** "name.network" of a reverse query about a container on one of the networks; null when it is not ours. */
export function lookupReverse(sandbox: SandboxRecord, name: string, sources: LookupSources): string | null {
  const text = reverseAddress(name);
  const address = text === null ? null : parseAddress(text);
  if (address === null) return null;
  const wanted = formatAddress(address);
  for (const { network } of networksOf(sandbox, sources)) {
    for (const { endpoint } of network.members.values()) {
      const { ipv4Address, ipv6Address, dnsNames } = endpoint.state;
      if ((ipv4Address === wanted || ipv6Address === wanted) && dnsNames?.[0] !== undefined)
        return `${dnsNames[0]}.${network.network.name}`;
    }
  }
  return null;
}

interface Joined {
  readonly network: LiveNetwork;
  readonly endpoint: EndpointState;
}

function networksOf(sandbox: SandboxRecord, sources: LookupSources): Joined[] {
  return sandbox.endpoints.flatMap(({ state }) => {
    const network = sources.byId(state.networkId);
    return network?.isUserDefined === true ? [{ network, endpoint: state }] : [];
  });
}

function lookupIn(
  sandbox: SandboxRecord,
  networks: readonly Joined[],
  name: string,
  sources: LookupSources,
): EndpointState[] {
  const found: EndpointState[] = [];
  for (const { network, endpoint } of networks) {
    const linked = linkTarget(endpoint, name);
    for (const { endpoint: other } of network.names.get(linked ?? name) ?? []) found.push(other.state);
  }
  if (found.length > 0) return found;
  for (const { containerId, aliases } of sandbox.links) {
    if (!aliases.some((alias) => alias.toLowerCase() === name)) continue;
    for (const { network } of networks) {
      const member = network.members.get(containerId);
      if (member !== undefined && sources.sandbox(containerId) !== undefined) found.push(member.endpoint.state);
    }
  }
  return found;
}

/** "container:alias" of the asking endpoint. */
function linkTarget(endpoint: EndpointState, name: string): string | null {
  for (const link of endpoint.spec.links ?? []) {
    const [target, alias] = link.split(':', 2);
    if ((alias ?? target)?.toLowerCase() === name) return target!.toLowerCase();
  }
  return null;
}
