/**
 * Where the default bridge lives: what --bip, --fixed-cidr and --default-gateway ask (and their IPv6 kin), else the
 * address of a bridge that was there before us, else what it had in the last run, else the next free default pool. Pure
 * but for the subnets that it claims. Source: moby daemon/daemon_unix.go initBridgeDriver(), bridge.md (v28).
 */
import { EngineError } from '../core/engine-error.ts';
import {
  contains,
  formatAddress,
  formatSubnet,
  overlaps,
  parseAddress,
  parseCidr,
  type Address,
  type Family,
  type Subnet,
} from './address.ts';
import { gatewayKey, resolveIpam } from './live-network.ts';
import type { IpamConfig } from './port.ts';
import type { Subnets } from './subnets.ts';

export interface BridgeWish {
  /** "172.30.0.1/16"; "" for none. */
  readonly bip: string;
  /** Where containers get their addresses. */
  readonly fixedCidr: string;
  /** Containers' default gateway instead of the bridge. */
  readonly gateway: string;
}

export interface Placement {
  readonly families: readonly Family[];
  readonly wishes: Readonly<Record<Family, BridgeWish>>;
  readonly kept: readonly IpamConfig[];
  /** "10.0.0.1/24": what a bridge that is not ours has already. */
  readonly found: readonly string[];
  /** Containers run on it: it stays where they are. */
  readonly isUsed: boolean;
  /** What else the host uses. */
  readonly avoid: readonly Subnet[];
  readonly subnets: Subnets;
  readonly localPool: Subnet;
}

interface Place {
  readonly address: Address;
  readonly subnet: Subnet;
}

const FLAGS: Readonly<Record<Family, { readonly bip: string; readonly fixed: string; readonly gateway: string }>> = {
  4: { bip: '--bip', fixed: '--fixed-cidr', gateway: '--default-gateway' },
  6: { bip: '--bip6', fixed: '--fixed-cidr-v6', gateway: '--default-gateway-v6' },
};

/** Claims the subnets. @throws OPTION_UNSUPPORTED naming the option */
export function placeDefaultBridge(placement: Placement): IpamConfig[] {
  return placement.families.map((family) => {
    const config = placeFamily(family, placement);
    const wish = placement.wishes[family];
    const auxAddresses = wish.gateway === '' ? null : { [gatewayKey(family)]: gatewayIn(family, wish, config) };
    return { ...config, auxAddresses };
  });
}

function placeFamily(family: Family, placement: Placement): IpamConfig {
  const { wishes, kept, found, isUsed, avoid, subnets, localPool } = placement;
  const ipRange = wishes[family].fixedCidr;
  const own = kept.find(({ subnet }) => parseCidr(subnet)?.subnet.family === family);
  const before = own === undefined ? null : (parseCidr(own.subnet)?.subnet ?? null);
  if (own !== undefined && before !== null && isUsed) {
    subnets.claim(before);
    return own;
  }
  const foreign = found.map(parseCidr).find((place) => place?.subnet.family === family);
  const wanted = wantedPlace(family, wishes[family]) ?? foreign ?? null;
  if (wanted !== null) {
    subnets.claim(wanted.subnet);
    const [subnet, gateway] = [formatSubnet(wanted.subnet), formatAddress(wanted.address)];
    return { subnet, gateway, ipRange, auxAddresses: null };
  }
  if (own !== undefined && before !== null && !avoid.some((other) => overlaps(other, before))) {
    subnets.claim(before);
    return { ...own, ipRange };
  }
  const [config] = resolveIpam([], [family], subnets, avoid, { localPool, takesGateway: () => true });
  const { subnet, gateway } = config!;
  return { subnet, gateway, ipRange, auxAddresses: null };
}

/** null: any subnet. */
function wantedPlace(family: Family, { bip, fixedCidr }: BridgeWish): Place | null {
  const own = bip === '' ? null : parseCidr(bip);
  if (bip !== '' && (own?.subnet.family !== family || own.address.value === own.subnet.base))
    throw new EngineError('OPTION_UNSUPPORTED', `invalid ${FLAGS[family].bip}: ${bip}`);
  if (fixedCidr === '') return own;
  const fixed = parseCidr(fixedCidr)?.subnet;
  if (fixed?.family !== family || (own !== null && !overlaps(fixed, own.subnet)))
    throw new EngineError('OPTION_UNSUPPORTED', `invalid ${FLAGS[family].fixed}: ${fixedCidr}`);
  // As Docker's: without an address of its own the bridge takes the range as its subnet.
  return own ?? { subnet: fixed, address: { family: fixed.family, value: fixed.base + 1n } };
}

function gatewayIn(family: Family, { gateway }: BridgeWish, { subnet }: IpamConfig): string {
  const address = parseAddress(gateway);
  const within = parseCidr(subnet)!.subnet;
  if (address?.family !== family || !contains(within, address)) {
    throw new EngineError(
      'OPTION_UNSUPPORTED',
      `invalid ${FLAGS[family].gateway}: default gateway ${gateway} must be part of the network ${subnet}`,
    );
  }
  return formatAddress(address);
}
