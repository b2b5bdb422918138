/** A network in memory: its record, its address pools and who is on it. */
import { createHash } from 'node:crypto';

import { EngineError } from '../core/engine-error.ts';
import { shortId } from '../core/id.ts';
import { AddressPool } from './address-pool.ts';
import {
  formatAddress,
  formatSubnet,
  parseAddress,
  parseCidr,
  type Address,
  type Family,
  type Subnet,
} from './address.ts';
import { bridgeOptions, vlanOptions, type BridgeOptions, type VlanOptions } from './network-spec.ts';
import type { IpamConfig, Network } from './port.ts';
import type { FirewallNetwork } from './ruleset.ts';
import type { EndpointRecord, NetworkRecord } from './records.ts';
import { defaultPool, type Subnets } from './subnets.ts';

export interface Member {
  readonly containerId: string;
  readonly endpoint: EndpointRecord;
}

export class LiveNetwork {
  network: Network;
  /** false: the bridge was there before us and stays when the network goes. */
  readonly ownsBridge: boolean;
  readonly bridge: BridgeOptions | null;
  readonly vlan: VlanOptions | null;
  readonly members = new Map<string, Member>();
  /** Lower-case names on this network, for the resolver. */
  readonly names = new Map<string, Set<Member>>();
  #pools: readonly AddressPool[] = [];
  /** No endpoint may come any more. */
  removing = false;

  constructor(record: NetworkRecord) {
    this.network = record.network;
    this.ownsBridge = record.ownsBridge;
    const { driver, options } = record.network;
    this.bridge = driver === 'bridge' && !record.network.configOnly ? bridgeOptions(options) : null;
    this.vlan = driver === 'macvlan' || driver === 'ipvlan' ? vlanOptions(driver, options) : null;
    this.#pools = record.network.ipam.configs.map(poolOf);
  }

  /** The default bridge's subnet is known only when the host was looked at. */
  setConfigs(network: Network): void {
    this.network = network;
    this.#pools = network.ipam.configs.map(poolOf);
  }

  get isDefaultBridge(): boolean {
    return this.network.name === 'bridge';
  }

  /** With a resolver, names and the rest of what user-defined networks have. */
  get isUserDefined(): boolean {
    return !['bridge', 'host', 'none'].includes(this.network.name);
  }

  get pools(): readonly AddressPool[] {
    return this.#pools;
  }

  gateway(family: Family): Address | null {
    for (const { gateway } of this.network.ipam.configs) {
      const address = parseAddress(gateway);
      if (address?.family === family) return address;
    }
    return null;
  }

  /** `wanted` "" takes any free one; null when the network has no addresses of that family. */
  allocate(
    family: Family,
    wanted: string,
  ): { readonly address: Address; readonly prefixLength: number; readonly gateway: string } | null {
    const indexes = this.#pools.flatMap((pool, index) => (pool.subnet.family === family ? [index] : []));
    if (indexes.length === 0) return null;
    const found = (index: number, address: Address): { address: Address; prefixLength: number; gateway: string } => {
      const pool = this.#pools[index]!;
      const { gateway, auxAddresses } = this.network.ipam.configs[index]!;
      const { prefixLength } = pool.subnet;
      return { address, prefixLength, gateway: auxAddresses?.[gatewayKey(family)] ?? gateway };
    };
    if (wanted !== '') {
      const address = parseAddress(wanted);
      const index = address === null ? undefined : indexes.find((candidate) => this.#pools[candidate]!.has(address));
      if (address === null || index === undefined) {
        throw new EngineError('NETWORK_SPEC_INVALID', `no configured subnet contains IP address ${wanted}`);
      }
      this.#pools[index]!.claim(address);
      return found(index, address);
    }
    for (const index of indexes) {
      try {
        return found(index, this.#pools[index]!.allocate());
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
      }
    }
    const { name, id } = this.network;
    throw new EngineError(
      'ADDRESS_UNAVAILABLE',
      `no available IPv${family} addresses on this network's address pools: ${name} (${id})`,
    );
  }

  release(text: string): void {
    const address = parseAddress(text);
    if (address === null) return;
    this.#pools.find((pool) => pool.has(address))?.release(address);
  }

  /** After a restart: the address is in use by a container that runs. */
  adopt(text: string): void {
    const address = parseAddress(text);
    if (address === null) return;
    this.#pools.find((pool) => pool.has(address))?.claim(address);
  }

  join(member: Member): void {
    this.members.set(member.containerId, member);
    for (const name of member.endpoint.state.dnsNames ?? []) {
      const key = name.toLowerCase();
      const set = this.names.get(key);
      if (set === undefined) this.names.set(key, new Set([member]));
      else set.add(member);
    }
  }

  leave(containerId: string): void {
    const member = this.members.get(containerId);
    if (member === undefined) return;
    this.members.delete(containerId);
    for (const name of member.endpoint.state.dnsNames ?? []) {
      const key = name.toLowerCase();
      const set = this.names.get(key);
      set?.delete(member);
      if (set?.size === 0) this.names.delete(key);
    }
  }

  /** null for networks that need no rules. */
  firewall(): FirewallNetwork | null {
    if (this.bridge === null) return null;
    const { bridge, network } = this;
    return {
      bridge: network.bridgeName,
      internal: network.internal,
      icc: bridge.icc,
      trusted: bridge.trusted,
      subnets: this.#pools.map(({ subnet }) => {
        const mode = bridge.gatewayMode[subnet.family];
        return {
          subnet,
          masquerade: bridge.masquerade && (mode === 'nat' || mode === 'nat-unprotected'),
          source: bridge.sourceAddress[subnet.family],
          unprotected: mode === 'nat-unprotected',
        };
      }),
    };
  }

  toRecord(): NetworkRecord {
    return { network: this.network, ownsBridge: this.ownsBridge };
  }
}

/** As moby's libnetwork: an auxiliary address of this name is where containers' default routes lead. */
export function gatewayKey(family: Family): string {
  return `DefaultGatewayIPv${family}`;
}

export function bridgeNameOf(id: string): string {
  return `br-${shortId(id)}`;
}

/**
 * Completes what was asked: a subnet for each family that has none, a gateway for each subnet of a family that takes one.
 * Claims the subnets; when anything is refused they are given back.
 */
export function resolveIpam(
  asked: readonly IpamConfig[],
  families: readonly Family[],
  subnets: Subnets,
  avoid: readonly Subnet[],
  { localPool, takesGateway }: { readonly localPool: Subnet; readonly takesGateway: (family: Family) => boolean },
): IpamConfig[] {
  const complete = (config: IpamConfig, family: Family): IpamConfig => completed(config, takesGateway(family));
  const claimed: Subnet[] = [];
  try {
    return families.flatMap((family) => {
      const own = asked.filter(({ subnet }) => parseCidr(subnet)?.subnet.family === family);
      if (own.length > 0) {
        return own.map((config) => {
          const { subnet } = parseCidr(config.subnet)!;
          subnets.claim(subnet);
          claimed.push(subnet);
          return complete({ ...config, subnet: formatSubnet(subnet) }, family);
        });
      }
      const subnet = allocateSubnet(family, subnets, avoid, localPool);
      claimed.push(subnet);
      const chosen = {
        subnet: formatSubnet(subnet),
        ipRange: '',
        gateway: '',
        auxAddresses: null,
        chosen: true,
      } as const;
      return [complete(chosen, family)];
    });
  } catch (error) {
    for (const subnet of claimed) subnets.release(subnet);
    throw error;
  }
}

/** fdxx:xxxx:xxxx::/48 (RFC 4193) that belongs to this installation: networks without a wish take /64s of it. */
export function localIpv6Pool(seed: string): Subnet {
  const digest = createHash('sha256').update(`longshore ${seed}`).digest();
  const global = digest.readUIntBE(0, 5);
  return { family: 6, base: (0xfdn << 120n) | (BigInt(global) << 80n), prefixLength: 48 };
}

function allocateSubnet(family: Family, subnets: Subnets, avoid: readonly Subnet[], localPool: Subnet): Subnet {
  return subnets.allocate(family, avoid, family === 6 ? [defaultPool(formatSubnet(localPool), 64)] : []);
}

/** Takes the lowest free address as the gateway when none was asked for. @throws ADDRESS_UNAVAILABLE */
function completed(config: IpamConfig, takesGateway: boolean): IpamConfig {
  const pool = poolOf(config); // refuses auxiliary addresses that collide
  if (config.gateway !== '') return { ...config, gateway: formatAddress(parseAddress(config.gateway)!) };
  if (!takesGateway) return config;
  return { ...config, gateway: formatAddress(pool.allocate()) };
}

function poolOf(config: IpamConfig): AddressPool {
  const range = parseCidr(config.ipRange)?.subnet ?? null;
  const pool = new AddressPool(parseCidr(config.subnet)!.subnet, range);
  const gateway = parseAddress(config.gateway);
  if (gateway !== null) pool.claim(gateway);
  for (const [name, text] of Object.entries(config.auxAddresses ?? {})) {
    const address = parseAddress(text);
    if (address === null) continue;
    try {
      pool.claim(address);
    } catch (error) {
      throw new EngineError(
        'ADDRESS_UNAVAILABLE',
        `failed to allocate secondary ip address (${name}:${text}): Address already in use`,
        { cause: error },
      );
    }
  }
  return pool;
}
