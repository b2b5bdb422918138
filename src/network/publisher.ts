/** Publishes the ports of containers: takes host ports, then lets the firewall redirect them. */
import { EngineError } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import { formatAddress, isLoopback, isUnspecified, parseAddress, type Address, type Family } from './address.ts';
import type { Firewall } from './firewall.ts';
import { hostPortText, type HostPorts, type PortLease } from './host-ports.ts';
import type { GatewayMode } from './network-spec.ts';
import { portWishes, type PortWish } from './port-spec.ts';
import type { RelayTarget } from './relay.ts';
import type { MappingRecord, SandboxRecord } from './records.ts';
import type { PortMapping } from './ruleset.ts';

export interface PublishTarget {
  readonly addresses: readonly Address[];
  readonly hostBinding: Address;
  readonly gatewayMode: Readonly<Record<Family, GatewayMode>>;
  /** The host has IPv6, and a container without it is to be reached by it. */
  readonly relayIpv6: boolean;
  /** See PortMapping. */
  readonly direct: PortMapping['direct'];
}

/** Who brings packets to containers. */
export interface Carriage {
  /** By family: the kernel's tables do (--iptables, --ip6tables). */
  readonly redirected: Readonly<Record<Family, boolean>>;
  /** This process does where they do not (--userland-proxy). */
  readonly relays: boolean;
}

/** Host ports that containers had in their last run, for this many of them. */
const REMEMBERED_MAX = 4096;
const WISHES_AT_ONCE = 64;
const ANY_V4: Address = { family: 4, value: 0n };
const ANY_V6: Address = { family: 6, value: 0n };

export class Publisher {
  readonly #ports: HostPorts;
  readonly #firewall: Firewall;
  readonly #logger: Logger;
  readonly #carriage: Carriage;
  readonly #leases = new Map<string, PortLease[]>();
  /** "containerId 80/tcp" → host port. */
  readonly #remembered = new Map<string, number>();

  constructor(ports: HostPorts, firewall: Firewall, logger: Logger, carriage: Carriage) {
    this.#carriage = carriage;
    this.#ports = ports;
    this.#firewall = firewall;
    this.#logger = logger;
  }

  /** All or nothing. @throws PORT_IN_USE */
  async publish(sandbox: SandboxRecord, target: PublishTarget): Promise<readonly MappingRecord[]> {
    const { containerId } = sandbox;
    const wishes = portWishes(sandbox.portBindings, sandbox.exposedPorts, sandbox.publishAllPorts);
    if (wishes.length === 0) return [];
    const leases: PortLease[] = [];
    this.#leases.set(containerId, leases);
    try {
      const mappings: PortMapping[] = [];
      for (let start = 0; start < wishes.length; start += WISHES_AT_ONCE) {
        // Each wish enters its port before it waits, so an exact one is never lost to an ephemeral one behind it.
        const some = wishes
          .slice(start, start + WISHES_AT_ONCE)
          .map((wish) => this.#take(containerId, wish, target, leases));
        const outcomes = await Promise.allSettled(some);
        const failed = outcomes.find((outcome) => outcome.status === 'rejected');
        if (failed !== undefined) throw failed.reason;
        for (const taken of some) mappings.push(...(await taken));
      }
      await this.#firewall.setMappings(containerId, mappings);
      return mappings.map(toRecord);
    } catch (error) {
      await this.withdraw(containerId);
      throw error;
    }
  }

  /** Idempotent. The rules go before the ports, or another could get a port that still leads here. */
  async withdraw(containerId: string): Promise<void> {
    const leases = this.#leases.get(containerId);
    this.#leases.delete(containerId);
    try {
      await this.#firewall.setMappings(containerId, []);
    } finally {
      await Promise.all((leases ?? []).map((lease) => lease.release()));
    }
  }

  /** After a daemon restart. The rules are loaded with all others; here the sockets are taken again. */
  async adopt(containerId: string, mappings: readonly MappingRecord[]): Promise<void> {
    if (mappings.length === 0) return;
    const leases: PortLease[] = [];
    this.#leases.set(containerId, leases);
    for (const record of mappings) {
      const mapping = fromRecord(record);
      if (!mapping.nat) continue;
      const { lease, failure } = await this.#ports.adopt(
        mapping.protocol,
        {
          address: mapping.hostAddress,
          relayTo: this.#relayOf(mapping.hostAddress, mapping.containerAddress, mapping.containerPort),
        },
        mapping.hostPort,
      );
      leases.push(lease);
      if (failure !== null) {
        const port = hostPortText(mapping.hostAddress, mapping.hostPort);
        this.#logger.warn(
          { containerId, port, err: failure },
          'a published port is also used by another program; the container keeps it',
        );
      }
    }
  }

  /** The daemon ends: rules stay, sockets go. */
  async close(): Promise<void> {
    const leases = [...this.#leases.values()].flat();
    this.#leases.clear();
    await Promise.all(leases.map((lease) => lease.release()));
  }

  async #take(containerId: string, wish: PortWish, target: PublishTarget, leases: PortLease[]): Promise<PortMapping[]> {
    const wanted = wish.addresses.flatMap((address) => hostAddresses(address, target));
    const open = wanted.filter(({ nat }) => !nat);
    const bound = wanted.filter(({ nat }) => nat);
    const { protocol, port: containerPort } = wish.container;
    let hostPort = 0;
    if (bound.length > 0) {
      const remember = `${containerId} ${wish.key}`;
      const lease = await this.#ports.reserve({
        protocol,
        addresses: bound.map(({ host, container }) => ({
          address: host,
          relayTo: this.#relayOf(host, container, containerPort),
        })),
        range: wish.range,
        preferred: this.#remembered.get(remember) ?? null,
        target: hostPortText(bound[0]!.container, containerPort),
      });
      leases.push(lease);
      hostPort = lease.port;
      if (wish.range === null) this.#remember(remember, hostPort);
    }
    return [...bound, ...open].map(({ host, container, nat }) => ({
      protocol,
      hostAddress: host,
      hostPort: nat ? hostPort : 0,
      containerAddress: container,
      containerPort,
      nat,
      ...(nat && target.direct !== undefined && { direct: target.direct }),
    }));
  }

  /** ::1 has no way out of the host that the kernel could redirect it to; without tables nothing has. */
  #relayOf(host: Address, container: Address, port: number): RelayTarget | null {
    const { redirected, relays } = this.#carriage;
    const byKernel = redirected[host.family] && container.family === host.family;
    const needed = byKernel ? host.family === 6 && (isUnspecified(host) || isLoopback(host)) : relays;
    return needed ? { address: formatAddress(container), port } : null;
  }

  #remember(key: string, port: number): void {
    this.#remembered.delete(key);
    this.#remembered.set(key, port);
    if (this.#remembered.size > REMEMBERED_MAX) this.#remembered.delete(this.#remembered.keys().next().value!);
  }
}

/** Which of the host's addresses one binding means, and which of the container's they lead to. */
function hostAddresses(
  address: Address | null,
  target: PublishTarget,
): { host: Address; container: Address; nat: boolean }[] {
  const own = target.addresses.flatMap((container) => {
    const any = container.family === 4 ? ANY_V4 : ANY_V6;
    const host = address ?? impliedAddress(container.family, target.hostBinding);
    if (host === null || host.family !== container.family) return [];
    const mode = target.gatewayMode[container.family];
    if (mode === 'isolated') return [];
    const nat = mode !== 'routed';
    return [{ host: nat ? host : any, container, nat }];
  });
  if (!target.relayIpv6 || target.addresses.some(({ family }) => family === 6)) return own;
  // IPv6 to a container without it, as Docker's proxy gives it.
  const host = address ?? impliedAddress(6, target.hostBinding);
  const [container] = target.addresses;
  if (
    host?.family !== 6 ||
    container === undefined ||
    target.gatewayMode[4] === 'isolated' ||
    target.gatewayMode[4] === 'routed'
  )
    return own;
  return [...own, { host, container, nat: true }];
}

/** A binding without an address: the network's default one; and any IPv6 one too when that is any address. */
function impliedAddress(family: Family, hostBinding: Address): Address | null {
  if (hostBinding.family === family) return hostBinding;
  return family === 6 && isUnspecified(hostBinding) ? ANY_V6 : null;
}

export function toRecord(mapping: PortMapping): MappingRecord {
  return {
    ...mapping,
    hostAddress: formatAddress(mapping.hostAddress),
    containerAddress: formatAddress(mapping.containerAddress),
  };
}

export function fromRecord(record: MappingRecord): PortMapping {
  const hostAddress = parseAddress(record.hostAddress);
  const containerAddress = parseAddress(record.containerAddress);
  if (hostAddress === null || containerAddress === null)
    throw new EngineError('STORE_FAILED', `a port mapping cannot be read: ${JSON.stringify(record)}`);
  return { ...record, hostAddress, containerAddress };
}
