/**
 * Bridges, veth pairs, macvlan/ipvlan, addresses and routes. One socket of the host's namespace stays open;
 * each container's is opened for one call. Worker thread only.
 */
import { AF_INET, AF_INET6, formatAddress, parseAddress } from './address.ts';
import { closeFile, openFile, randomBytes } from './libc.ts';
import { ERRNO, isErrno, KernelError, quoted } from './kernel-error.ts';
import {
  addAddress,
  createBridge,
  createVeth,
  createVlan,
  createVlanLink,
  deleteDefaultRoute,
  deleteLink,
  dumpAddresses,
  dumpLinks,
  dumpRoutes,
  getLink,
  IF_ADDR_BYTES,
  IF_INFO_BYTES,
  IFA,
  IFLA,
  IFLA_INFO,
  interfaceName,
  replaceDefaultRoute,
  replaceDefaultRouteByDevice,
  ROUTE_BYTES,
  RT_TABLE,
  RTA,
  RTN_UNICAST,
  setBridgePortUp,
  setLinkUp,
  type LinkReference,
} from './link-message.ts';
import { parseAttributes, parseString, type Message, type Request } from './netlink.ts';
import { NetlinkSocket } from './netlink-socket.ts';
import { bindNamespaceAt, createNamespaceAt, insideNamespace, removeNamespaceAt } from './netns.ts';
import type { InterfaceAddress, LinkLayer } from './port.ts';
import { writeSysctlHere } from './namespace-socket.ts';

type Options<Method extends keyof LinkLayer> = Parameters<LinkLayer[Method]>[0];
type Link = Awaited<ReturnType<LinkLayer['links']>>[number] & { readonly mac: string };

const LOOPBACK_INDEX = 1; // in every namespace

let hostSocket: NetlinkSocket | null = null;
function host(): NetlinkSocket {
  return (hostSocket ??= new NetlinkSocket());
}

export function closeLinkLayer(): void {
  hostSocket?.[Symbol.dispose]();
  hostSocket = null;
}

export function createNamespace(path: string, source?: string): void {
  const setUp = (): void => {
    using socket = new NetlinkSocket();
    socket.run([setLinkUp({ index: LOOPBACK_INDEX, name: 'lo' })]);
  };
  if (source === undefined) createNamespaceAt(path, setUp);
  else bindNamespaceAt(path, source, setUp);
}

export const removeNamespace = removeNamespaceAt;

export function ensureBridge(options: Options<'ensureBridge'>): void {
  const existing = findLink(host(), options.name);
  if (existing === null) {
    // Without an address of its own a bridge takes the lowest of its ports', and changes it as they come and go.
    const mac = options.mac ?? '';
    const [reply] = host().exchange([createBridge(options.name, mac === '' ? randomMac() : mac)]);
    if (reply?.error && reply.error.errno !== ERRNO.EEXIST) throw reply.error;
  }
  const link = existing ?? needLink(host(), options.name);
  if (link.kind !== 'bridge')
    throw new KernelError(
      'RTM_NEWLINK',
      ERRNO.EEXIST,
      `bridge name=${options.name}`,
      `an interface of kind ${quoted(link.kind)} has that name`,
    );
  const macDiffers = options.mac !== undefined && options.mac !== '' && options.mac.toLowerCase() !== link.mac;
  const changes = {
    ...(options.mtu === null || link.mtu === options.mtu ? {} : { mtu: options.mtu }),
    ...(macDiffers ? { mac: options.mac } : {}),
  };
  host().run([setLinkUp(link, changes)]);
  addAddresses(host(), link, options.addresses);
}

export function ensureVlanLink(options: Options<'ensureVlanLink'>): void {
  if (findLink(host(), options.name) === null) {
    const parentIndex = needLink(host(), options.parent).index;
    const { name, vlanId } = options;
    const [reply] = host().exchange([createVlanLink({ name, parentIndex, vlanId })]);
    if (reply?.error && reply.error.errno !== ERRNO.EEXIST) throw reply.error;
  }
  host().run([setLinkUp(needLink(host(), options.name))]);
}

export function connectVeth(options: Options<'connectVeth'>): void {
  withNamespaceSocket(options.namespace, (inside, namespaceFd) => {
    const bridge = needLink(host(), options.bridge);
    host().run([
      createVeth({
        hostName: options.hostName,
        bridgeIndex: bridge.index,
        peerName: options.containerName,
        peerNamespaceFd: namespaceFd,
        mac: options.mac,
        mtu: options.mtu,
      }),
    ]);
    undoing(
      () => host().exchange([deleteLink(options.hostName)]),
      () => {
        const { isolated = false, hairpin = false } = options;
        // A port of a bridge needs no addresses; each new one would flood its neighbour discovery to all others.
        disableIpv6(options.hostName);
        host().run([setBridgePortUp(options.hostName, { isolated, hairpin })]);
        const link = needLink(inside, options.containerName);
        allowIpv6(namespaceFd, options);
        bringUp(inside, link, options);
      },
    );
  });
}

export function connectVlan(options: Options<'connectVlan'>): void {
  withNamespaceSocket(options.namespace, (inside, namespaceFd) => {
    interfaceName(options.containerName);
    const parent = needLink(host(), options.parent);
    // Born under another name: kernels before 6.14 look for the name in the host's namespace, where eth0 is taken.
    const born = `lsv${randomBytes(5).toString('hex')}`;
    const { kind, mode, mac, mtu } = options;
    host().run([createVlan({ kind, mode, name: born, parentIndex: parent.index, namespaceFd, mac, mtu })]);
    let name = born;
    undoing(
      () => inside.exchange([deleteLink(name)]),
      () => {
        const link = needLink(inside, born);
        inside.run([setLinkUp(link, { rename: options.containerName })]);
        name = options.containerName;
        const renamed = { ...link, name };
        allowIpv6(namespaceFd, options);
        const byDevice = options.defaultByDevice === true ? familiesOf(options.addresses) : [];
        bringUp(
          inside,
          renamed,
          options,
          byDevice.map((family) => replaceDefaultRouteByDevice(family, renamed)),
        );
      },
    );
  });
}

/** False when there is none of that name. Blocks 16-32 ms in the kernel, so on a pool thread and a socket of its own. */
export async function removeLink(name: string): Promise<boolean> {
  const request = deleteLink(name);
  using socket = new NetlinkSocket();
  const { error } = await socket.exchangeSlowly(request);
  return wasRemoved(error);
}

export async function removeLinkIn(namespace: string, name: string): Promise<boolean> {
  const request = deleteLink(name);
  let opened: NetlinkSocket;
  try {
    opened = withNamespace(namespace, (fd) => insideNamespace(fd, namespace, () => new NetlinkSocket()));
  } catch (error) {
    if (isErrno(error, ERRNO.ENOENT)) return false;
    throw error;
  }
  using socket = opened;
  const { error } = await socket.exchangeSlowly(request);
  return wasRemoved(error);
}

export function setDefaultRoutes(namespace: string, gateways: readonly string[]): void {
  const wanted = gateways.map((gateway) => parseAddress(gateway));
  withNamespaceSocket(namespace, (socket) => {
    socket.run(gateways.map((gateway) => replaceDefaultRoute(gateway, 0)));
    const stale = parseRoutes(socket.dump(dumpRoutes())).filter((route) => {
      const isWanted = wanted.some(
        ({ family, bytes }) => family === route.family && route.gateway !== null && bytes.equals(route.gateway),
      );
      return route.prefixLength === 0 && route.table === RT_TABLE.MAIN && !isWanted;
    });
    // Gone meanwhile is as good.
    for (const { error } of socket.exchange(
      stale.map((route) => deleteDefaultRoute(route.family, route.gateway, route.oif)),
    )) {
      if (error !== null && error.errno !== ERRNO.ESRCH) throw error;
    }
  });
}

export function links(): Omit<Link, 'mac'>[] {
  return host()
    .dump(dumpLinks())
    .map(parseLink)
    .map(({ index, name, kind, master, mtu }) => ({ index, name, kind, master, mtu }));
}

export function addresses(): (InterfaceAddress & { readonly index: number })[] {
  return host()
    .dump(dumpAddresses())
    .flatMap(({ payload }) => {
      const attributes = parseAttributes(payload.subarray(IF_ADDR_BYTES));
      // LOCAL is missing for IPv6; on point-to-point links ADDRESS is the other side's.
      const bytes = attributes.get(IFA.LOCAL) ?? attributes.get(IFA.ADDRESS);
      if (bytes === undefined) return [];
      return [{ address: formatAddress(bytes), prefixLength: payload.readUInt8(1), index: payload.readUInt32LE(4) }];
    });
}

export function routes(): string[] {
  const destinations = parseRoutes(host().dump(dumpRoutes()))
    .filter((route) => route.table !== RT_TABLE.LOCAL && route.prefixLength > 0 && route.destination !== null)
    .map((route) => `${formatAddress(route.destination ?? Buffer.alloc(4))}/${route.prefixLength}`);
  return [...new Set(destinations)];
}

/** Up, addresses, routes: one send, in this order. */
function bringUp(
  socket: NetlinkSocket,
  link: LinkReference,
  options: { readonly addresses: readonly InterfaceAddress[]; readonly gateways: readonly string[] },
  more: readonly Request[] = [],
): void {
  socket.run([
    setLinkUp(link),
    ...options.addresses.map((address) => addAddress(link, address)),
    ...options.gateways.map((gateway) => replaceDefaultRoute(gateway, link.index)),
    ...more,
  ]);
}

/** A socket inside; `action` itself runs outside. */
function withNamespaceSocket(path: string, action: (socket: NetlinkSocket, namespaceFd: number) => void): void {
  withNamespace(path, (fd) => {
    using socket = insideNamespace(fd, path, () => new NetlinkSocket());
    action(socket, fd);
  });
}

function disableIpv6(name: string): void {
  try {
    writeSysctlHere(`net/ipv6/conf/${name}/disable_ipv6`, '1');
  } catch (error) {
    if (!isErrno(error, ERRNO.ENOENT)) throw error; // a kernel without IPv6
  }
}

/** An address was asked for, so this interface has IPv6 whatever the namespace's default is. */
function allowIpv6(
  namespaceFd: number,
  options: {
    readonly namespace: string;
    readonly containerName: string;
    readonly addresses: readonly InterfaceAddress[];
  },
): void {
  if (!familiesOf(options.addresses).includes(AF_INET6)) return;
  insideNamespace(namespaceFd, options.namespace, () => {
    // The engine's pool is the authority on addresses: a second of duplicate detection would only delay neighbours.
    writeSysctlHere(`net/ipv6/conf/${options.containerName}/accept_dad`, '0');
    writeSysctlHere(`net/ipv6/conf/${options.containerName}/disable_ipv6`, '0');
  });
}

function withNamespace<T>(path: string, action: (fd: number) => T): T {
  const fd = openFile(path, 0);
  try {
    return action(fd);
  } finally {
    closeFile(fd);
  }
}

/** Runs `action`; when it fails, `undo`, and the first error stands. */
function undoing(undo: () => unknown, action: () => void): void {
  try {
    action();
  } catch (error) {
    try {
      undo();
    } catch {
      // The first error is the one to see.
    }
    throw error;
  }
}

function addAddresses(socket: NetlinkSocket, link: LinkReference, list: readonly InterfaceAddress[]): void {
  for (const { error } of socket.exchange(list.map((address) => addAddress(link, address)))) {
    if (error !== null && error.errno !== ERRNO.EEXIST) throw error;
  }
}

function findLink(socket: NetlinkSocket, name: string): Link | null {
  const [reply] = socket.exchange([getLink(name)]);
  if (reply === undefined || reply.error?.errno === ERRNO.ENODEV) return null;
  if (reply.error !== null) throw reply.error;
  const [message] = reply.messages;
  return message === undefined ? null : parseLink(message);
}

function needLink(socket: NetlinkSocket, name: string): Link {
  const link = findLink(socket, name);
  if (link === null) throw new KernelError('RTM_GETLINK', ERRNO.ENODEV, `name=${name}`);
  return link;
}

function parseLink({ payload }: Message): Link {
  const attributes = parseAttributes(payload.subarray(IF_INFO_BYTES));
  const info = attributes.get(IFLA.LINKINFO);
  return {
    index: payload.readInt32LE(4),
    name: parseString(attributes.get(IFLA.IFNAME)),
    kind: info === undefined ? '' : parseString(parseAttributes(info).get(IFLA_INFO.KIND)),
    master: attributes.get(IFLA.MASTER)?.readUInt32LE(0) ?? 0,
    mtu: attributes.get(IFLA.MTU)?.readUInt32LE(0) ?? 0,
    mac:
      attributes
        .get(IFLA.ADDRESS)
        ?.toString('hex')
        .replace(/(..)(?=.)/g, '$1:') ?? '',
  };
}

interface Route {
  readonly family: number;
  readonly prefixLength: number;
  readonly table: number;
  readonly destination: Buffer | null;
  readonly gateway: Buffer | null;
  readonly oif: number;
}

/** Unicast routes alone. */
function parseRoutes(messages: readonly Message[]): Route[] {
  return messages.flatMap(({ payload }) => {
    const family = payload.readUInt8(0);
    if (payload.readUInt8(7) !== RTN_UNICAST || (family !== AF_INET && family !== AF_INET6)) return [];
    const attributes = parseAttributes(payload.subarray(ROUTE_BYTES));
    const table = attributes.get(RTA.TABLE)?.readUInt32LE(0) ?? payload.readUInt8(4);
    const destination = attributes.get(RTA.DST) ?? null;
    return [
      {
        family,
        prefixLength: payload.readUInt8(1),
        table,
        destination,
        gateway: attributes.get(RTA.GATEWAY) ?? null,
        oif: attributes.get(RTA.OIF)?.readUInt32LE(0) ?? 0,
      },
    ];
  });
}

function familiesOf(list: readonly InterfaceAddress[]): number[] {
  return [...new Set(list.map(({ address }) => parseAddress(address).family))];
}

/** Locally administered, not multicast. */
function randomMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = 0x02;
  bytes[1] = 0x42;
  return bytes.toString('hex').replace(/(..)(?=.)/g, '$1:');
}

function wasRemoved(error: KernelError | null): boolean {
  if (error === null) return true;
  if (error.errno === ERRNO.ENODEV) return false;
  throw error;
}
