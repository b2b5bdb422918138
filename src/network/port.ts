/** Networks as the rest of the engine sees them. */
import type { EndpointSpec, PortBinding } from '../core/container-spec.ts';

export interface Networks {
  /** By full name, ID, or unique ID prefix; names win. @throws NETWORK_NOT_FOUND "network x not found" */
  resolve(nameOrId: string): Network;
  list(): readonly Network[];
  create(spec: NetworkWish): Promise<{ readonly network: Network; readonly warning: string }>;
  remove(nameOrId: string): Promise<Network>;

  /**
   * Joins a container to its networks at start (all or nothing): namespace, interfaces, addresses, routes, ports.
   * Addresses are kept over restarts where Docker keeps them.
   */
  attach(request: AttachRequest): Promise<Attached>;
  /** Publishes `connect` for what attach() joined, once: the caller knows when (dockerd: after the mounts). */
  tellConnected(containerId: string): void;
  /** Publishes the `disconnect` events ahead of detach(), which then does not: dockerd tells them before the end. */
  tellDisconnected(containerId: string): void;
  /** Gives back what attach() took; idempotent. Addresses of a stopped container are free again, as Docker's. */
  detach(containerId: string): Promise<void>;
  /** A live container joins or leaves one more network. */
  connect(containerId: string, containerName: string, network: Network, endpoint: EndpointSpec): Promise<EndpointState>;
  disconnect(containerId: string, network: Network): Promise<void>;
  /** After a daemon restart: this container runs with these endpoints (as recorded). */
  adopt(containerId: string): Promise<void>;
  /** Endpoints of a live container, keyed by network name; empty when it has none. */
  endpoints(containerId: string): ReadonlyMap<string, EndpointState>;
  /** Live endpoints on a network. */
  members(
    networkId: string,
  ): readonly { readonly containerId: string; readonly containerName: string; readonly endpoint: EndpointState }[];
  /** Published ports of a live container, keyed "80/tcp"; exposed but unpublished ports have an empty list. */
  ports(containerId: string): Readonly<Record<string, readonly PortBinding[]>>;
  renamed(containerId: string, name: string): void;
  /** A container, live or not, no longer knows another by this name of a legacy link. */
  unlink(containerId: string, alias: string): Promise<void>;
  /** Boot: makes bridges and rules as recorded, forgets endpoints of containers that are not in `live`. */
  recover(live: ReadonlySet<string>): Promise<void>;
  /** Tables, bridges and rules go (daemon shutdown keeps them while containers run). */
  shutdown(options: { readonly keep: boolean }): Promise<void>;
}

export interface NetworkSpec {
  readonly name: string;
  readonly driver: string;
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly ingress: boolean;
  readonly enableIpv4: boolean;
  readonly enableIpv6: boolean;
  readonly ipam: {
    readonly driver: string;
    readonly options: Readonly<Record<string, string>> | null;
    readonly configs: readonly IpamConfig[];
  };
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly scope: string;
  readonly configOnly: boolean;
  readonly configFrom: string;
}

/** null: as the driver's options com.docker.network.enable_ipv4 and …_ipv6 say, else IPv4 alone. */
export interface NetworkWish extends Omit<NetworkSpec, 'enableIpv4' | 'enableIpv6'> {
  readonly enableIpv4: boolean | null;
  readonly enableIpv6: boolean | null;
}

export interface IpamConfig {
  readonly subnet: string;
  readonly ipRange: string;
  readonly gateway: string;
  readonly auxAddresses: Readonly<Record<string, string>> | null;
  /** The engine chose the subnet: containers cannot ask for addresses of it. */
  readonly chosen?: true;
}

export interface Network extends Omit<NetworkSpec, 'scope'> {
  readonly id: string;
  readonly scope: 'local';
  readonly createdAt: string;
  /** The bridge's interface name; "" for others. */
  readonly bridgeName: string;
  /** What was asked of a family that is off: shown, and addresses of it may be named, without effect. As in moby. */
  readonly idleConfigs?: readonly IpamConfig[];
}

export interface AttachRequest {
  readonly containerId: string;
  readonly containerName: string;
  /** HostSpec.networkMode. "container:ID" has been resolved to a live container. */
  readonly mode: string;
  readonly endpoints: Readonly<Record<string, EndpointSpec>>;
  readonly hostname: string;
  readonly domainname: string;
  readonly dns: readonly string[] | null;
  readonly dnsOptions: readonly string[] | null;
  readonly dnsSearch: readonly string[] | null;
  readonly extraHosts: readonly string[] | null;
  /** Legacy links, resolved: the other container's ID and names it is to be known by, its alias first. */
  readonly links: readonly { readonly containerId: string; readonly aliases: readonly string[] }[];
  readonly exposedPorts: readonly string[];
  readonly portBindings: Readonly<Record<string, readonly PortBinding[]>>;
  readonly publishAllPorts: boolean;
  /** Directory for resolv.conf, hosts and hostname. */
  readonly filesDir: string;
  readonly sysctls: Readonly<Record<string, string>>;
  /** Leads to a namespace that was made for it; left out: one is made. */
  readonly namespaceSource?: string;
}

export interface Attached {
  /** null: the host's own. For "container:" the other's. */
  readonly namespacePath: string | null;
  readonly endpoints: ReadonlyMap<string, EndpointState>;
  /** To be bind-mounted over /etc/…; null when the container shall have none. */
  readonly resolvConfPath: string | null;
  readonly hostsPath: string | null;
  readonly hostnamePath: string | null;
}

/** Docker's EndpointSettings of a live endpoint. */
export interface EndpointState {
  readonly networkId: string;
  readonly endpointId: string;
  readonly spec: EndpointSpec;
  readonly gateway: string;
  readonly ipv4Address: string;
  readonly ipv4PrefixLength: number;
  readonly ipv6Gateway: string;
  readonly ipv6Address: string;
  readonly ipv6PrefixLength: number;
  readonly macAddress: string;
  readonly dnsNames: readonly string[] | null;
  readonly interfaceName: string;
}
