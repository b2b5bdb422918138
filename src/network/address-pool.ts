/**
 * The addresses of one subnet: which are taken, and the next free one. Pure.
 * Source: moby daemon/libnetwork/ipams/defaultipam (v28).
 */
import { EngineError } from '../core/engine-error.ts';
import { BITS, contains, formatAddress, lastValue, type Address, type Subnet } from './address.ts';

export class AddressPool {
  readonly subnet: Subnet;
  readonly #taken = new Set<bigint>();
  /** Where dynamic addresses come from: the subnet, or the part of it that was asked for. */
  readonly #first: bigint;
  readonly #last: bigint;
  /** No free address lies below this one. */
  #hint: bigint;

  constructor(subnet: Subnet, range: Subnet | null) {
    this.subnet = subnet;
    const within = range ?? subnet;
    this.#first = within.base > subnet.base ? within.base : subnet.base;
    const last = lastValue(within);
    this.#last = last < lastValue(subnet) ? last : lastValue(subnet);
    this.#hint = this.#first;
    // The network's own address and IPv4's broadcast are never given; /31 and /32 (and their IPv6 kin) have neither.
    if (BITS[subnet.family] - subnet.prefixLength >= 2) {
      this.#taken.add(subnet.base);
      if (subnet.family === 4) this.#taken.add(lastValue(subnet));
    }
  }

  /** Addresses that are given out, the reserved first and last ones not counted. */
  get size(): number {
    const reserved = BITS[this.subnet.family] - this.subnet.prefixLength < 2 ? 0 : this.subnet.family === 4 ? 2 : 1;
    return this.#taken.size - reserved;
  }

  has(address: Address): boolean {
    return contains(this.subnet, address);
  }

  /** The lowest free one. @throws ADDRESS_UNAVAILABLE "no available IPv4 addresses on this network's address pools" */
  allocate(): Address {
    for (let value = this.#hint; value <= this.#last; value++) {
      if (this.#taken.has(value)) continue;
      this.#taken.add(value);
      this.#hint = value + 1n;
      return { family: this.subnet.family, value };
    }
    this.#hint = this.#last + 1n;
    throw new EngineError('ADDRESS_UNAVAILABLE', 'no available addresses on this pool');
  }

  /** A given one, in the subnet but not necessarily in the range. @throws ADDRESS_UNAVAILABLE "Address already in use" */
  claim(address: Address): void {
    if (!this.has(address)) {
      throw new EngineError('NETWORK_SPEC_INVALID', `requested address is out of range: ${formatAddress(address)}`);
    }
    if (this.#taken.has(address.value)) throw new EngineError('ADDRESS_UNAVAILABLE', 'Address already in use');
    this.#taken.add(address.value);
  }

  release(address: Address): void {
    if (!this.#taken.delete(address.value)) return;
    if (address.value < this.#hint && address.value >= this.#first) this.#hint = address.value;
  }
}
