/**
 * Ports of the host that are given to containers. A port is held by a bound socket (listening, for TCP), so that
 * another program can neither take it nor lose it unseen; the kernel redirects packets before they reach it.
 * Source: moby daemon/libnetwork/portallocator, drivers/bridge/port_mapping_linux.go (v28).
 */
import { EngineError } from '../core/engine-error.ts';
import { formatAddress, isUnspecified, type Address } from './address.ts';
import type { PortRange } from './port-spec.ts';
import type { RelayTarget } from './relay.ts';
import type { Protocol } from './ruleset.ts';

export interface HostAddress {
  readonly address: Address;
  /** Where this process carries what comes in, if the kernel cannot; null: nothing ever comes in. */
  readonly relayTo: RelayTarget | null;
}

export interface PortRequest {
  readonly protocol: Protocol;
  /** All get the same number. */
  readonly addresses: readonly HostAddress[];
  readonly range: PortRange;
  /** Tried first when any port will do: what the container had before. */
  readonly preferred: number | null;
  /** Where it leads, for the error's text: "172.17.0.2:80". */
  readonly target: string;
}

/** Takes the socket; rejects with an error whose `code` is the errno's name. `close` gives it back. */
export type BindPort = (
  protocol: Protocol,
  address: HostAddress,
  port: number,
) => Promise<{ readonly close: () => Promise<void> }>;

/** The words that Go has for an errno, as Docker shows them. */
const ERRNO_TEXT: Readonly<Record<string, string>> = {
  EADDRINUSE: 'address already in use',
  EADDRNOTAVAIL: 'cannot assign requested address',
  EACCES: 'permission denied',
  EAFNOSUPPORT: 'address family not supported by protocol',
};

interface Held {
  readonly address: Address;
  readonly close: () => Promise<void>;
}

export interface PortLease {
  readonly port: number;
  release(): Promise<void>;
}

export class HostPorts {
  readonly #bind: BindPort;
  readonly #ephemeral: { readonly first: number; readonly last: number };
  /** Keyed "tcp:80". */
  readonly #held = new Map<string, Held[]>();
  /** Ephemeral ports go round, so that a port that was just given back rests a while. */
  #next: number;

  constructor(bind: BindPort, ephemeral: { readonly first: number; readonly last: number }) {
    this.#bind = bind;
    this.#ephemeral = ephemeral;
    this.#next = ephemeral.first;
  }

  /** @throws PORT_IN_USE with Docker's words for a conflict with a container or with another program. */
  async reserve(request: PortRequest): Promise<PortLease> {
    const { range } = request;
    if (range !== null && range.first === range.last) return await this.#take(request, range.first);
    for (const port of this.#candidates(request)) {
      try {
        return await this.#take(request, port);
      } catch (error) {
        if (!(error instanceof EngineError) || !/already allocated$|already in use$/.test(error.message)) throw error;
      }
    }
    throw new EngineError('PORT_IN_USE', 'all ports are allocated');
  }

  /** After a daemon restart: the container has the port, whether its socket can be had again or not. */
  async adopt(
    protocol: Protocol,
    address: HostAddress,
    port: number,
  ): Promise<{ readonly lease: PortLease; readonly failure: unknown }> {
    let held: Held = { address: address.address, close: async () => {} };
    let failure: unknown = null;
    try {
      held = { address: address.address, close: (await this.#bind(protocol, address, port)).close };
    } catch (error) {
      failure = error;
    }
    this.#list(protocol, port).push(held);
    return { lease: { port, release: () => this.#release(protocol, port, [held]) }, failure };
  }

  *#candidates({ range, preferred }: PortRequest): Iterable<number> {
    if (range !== null) {
      for (let port = range.first; port <= range.last; port++) yield port;
      return;
    }
    if (preferred !== null) yield preferred;
    const { first, last } = this.#ephemeral;
    for (let tried = 0; tried <= last - first; tried++) {
      const port = this.#next;
      this.#next = port >= last ? first : port + 1;
      yield port;
    }
  }

  async #take({ protocol, addresses, target }: PortRequest, port: number): Promise<PortLease> {
    const taken: Held[] = [];
    try {
      for (const address of addresses) {
        const text = hostPortText(address.address, port);
        const list = this.#list(protocol, port); // looked up anew: a release meanwhile replaces it
        if (list.some((other) => collide(other.address, address.address))) {
          throw new EngineError('PORT_IN_USE', `Bind for ${text} failed: port is already allocated`);
        }
        // Entered before the wait, so that a second request meanwhile finds it taken.
        let close: () => Promise<void> = async () => {};
        const held: Held = { address: address.address, close: () => close() };
        list.push(held);
        taken.push(held);
        close = (await this.#bindOr(protocol, address, port, `${text}:${target}/${protocol}`)).close;
      }
    } catch (error) {
      await this.#release(protocol, port, taken);
      throw error;
    }
    return { port, release: () => this.#release(protocol, port, taken) };
  }

  async #bindOr(
    protocol: Protocol,
    address: HostAddress,
    port: number,
    what: string,
  ): Promise<{ readonly close: () => Promise<void> }> {
    try {
      return await this.#bind(protocol, address, port);
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      const words = typeof code === 'string' ? ERRNO_TEXT[code] : undefined;
      if (words === undefined) throw error;
      throw new EngineError('PORT_IN_USE', `failed to bind host port for ${what}: ${words}`, { cause: error });
    }
  }

  async #release(protocol: Protocol, port: number, taken: Held[]): Promise<void> {
    const key = `${protocol}:${port}`;
    const left = (this.#held.get(key) ?? []).filter((held) => !taken.includes(held));
    if (left.length === 0) this.#held.delete(key);
    else this.#held.set(key, left);
    await Promise.all(taken.splice(0).map((held) => held.close()));
  }

  #list(protocol: Protocol, port: number): Held[] {
    const key = `${protocol}:${port}`;
    let list = this.#held.get(key);
    if (list === undefined) this.#held.set(key, (list = []));
    return list;
  }
}

/** "0.0.0.0:80", "[::]:80" */
export function hostPortText(address: Address, port: number): string {
  return address.family === 4 ? `${formatAddress(address)}:${port}` : `[${formatAddress(address)}]:${port}`;
}

function collide(a: Address, b: Address): boolean {
  return a.family === b.family && (isUnspecified(a) || isUnspecified(b) || a.value === b.value);
}
