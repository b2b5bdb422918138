/**
 * Which subnets are in use by networks, and which one a network without a wish gets. Pure.
 * Source: moby daemon/libnetwork/ipamutils, ipams/defaultipam/address_space.go (v28).
 */
import { EngineError } from '../core/engine-error.ts';
import { BITS, overlaps, parseCidr, type Family, type Subnet } from './address.ts';

/** "base" cut into subnets of `sizeBits`; --default-address-pool. */
export interface DefaultPool {
  readonly base: Subnet;
  readonly prefixLength: number;
}

/** Docker's: 172.17.0.0/16 .. 172.31.0.0/16, then 192.168.0.0/16 in pieces of /20. */
export const DEFAULT_POOLS: readonly DefaultPool[] = [
  ...Array.from({ length: 15 }, (_, index) => defaultPool(`172.${17 + index}.0.0/16`, 16)),
  defaultPool('192.168.0.0/16', 20),
];

export function defaultPool(base: string, prefixLength: number): DefaultPool {
  const parsed = parseCidr(base);
  if (parsed === null || prefixLength < parsed.subnet.prefixLength || prefixLength > BITS[parsed.subnet.family]) {
    throw new EngineError('OPTION_UNSUPPORTED', `invalid default address pool: base=${base},size=${prefixLength}`);
  }
  return { base: parsed.subnet, prefixLength };
}

export class Subnets {
  readonly #pools: readonly DefaultPool[];
  readonly #used: Subnet[] = [];

  constructor(pools: readonly DefaultPool[]) {
    this.#pools = pools;
  }

  /** @throws ADDRESS_UNAVAILABLE "invalid pool request: Pool overlaps with other one on this address space" */
  claim(subnet: Subnet): void {
    if (this.#used.some((other) => overlaps(other, subnet))) {
      throw new EngineError(
        'ADDRESS_UNAVAILABLE',
        'invalid pool request: Pool overlaps with other one on this address space',
      );
    }
    this.#used.push(subnet);
  }

  /** The first of the default pools (then of `more`) that overlaps no network and none of `avoid` (what the host routes). */
  allocate(family: Family, avoid: readonly Subnet[], more: readonly DefaultPool[] = []): Subnet {
    for (const pool of [...this.#pools, ...more]) {
      if (pool.base.family !== family) continue;
      const step = 1n << BigInt(BITS[family] - pool.prefixLength);
      const end = pool.base.base + (1n << BigInt(BITS[family] - pool.base.prefixLength));
      for (let base = pool.base.base; base < end;) {
        const candidate: Subnet = { family, base, prefixLength: pool.prefixLength };
        const obstacle = [...this.#used, ...avoid].find((other) => overlaps(other, candidate));
        if (obstacle === undefined) {
          this.#used.push(candidate);
          return candidate;
        }
        base = afterObstacle(obstacle, base, step);
      }
    }
    throw new EngineError('ADDRESS_UNAVAILABLE', 'all predefined address pools have been fully subnetted');
  }

  release(subnet: Subnet): void {
    const index = this.#used.findIndex(
      (other) =>
        other.family === subnet.family && other.base === subnet.base && other.prefixLength === subnet.prefixLength,
    );
    if (index >= 0) this.#used.splice(index, 1);
  }
}

/** The next aligned base behind an obstacle: one large obstacle must not cost a step per small subnet in it. */
function afterObstacle(obstacle: Subnet, base: bigint, step: bigint): bigint {
  const end = obstacle.base + (1n << BigInt(BITS[obstacle.family] - obstacle.prefixLength));
  const steps = (end - base + step - 1n) / step;
  return base + (steps > 0n ? steps : 1n) * step;
}
