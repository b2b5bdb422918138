/**
 * The rtnetlink requests of the engine, as values. Source: rtnetlink(7), linux/if_link.h, linux/if_addr.h,
 * linux/rtnetlink.h.
 */
import { AF_INET6, broadcastOf, parseAddress, parseMac, parsePrefix } from './address.ts';
import { ERRNO, KernelError, quoted } from './kernel-error.ts';
import { encodeAttributes, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, type Attribute, type Request } from './netlink.ts';
import type { InterfaceAddress } from './port.ts';

export const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  NEWADDR: 20,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
} as const;
export const IFLA = { ADDRESS: 1, IFNAME: 3, MTU: 4, LINK: 5, MASTER: 10, LINKINFO: 18, NET_NS_FD: 28 } as const;
export const IFLA_INFO = { KIND: 1, DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 } as const;
export const IFA = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4 } as const;
export const RTA = { DST: 1, OIF: 4, GATEWAY: 5, TABLE: 15 } as const;
export const RT_TABLE = { MAIN: 254, LOCAL: 255 } as const;
export const RTN_UNICAST = 1;
export const IF_INFO_BYTES = 16;
export const IF_ADDR_BYTES = 8;
export const ROUTE_BYTES = 12;
const IFF_UP = 1;
const VETH_INFO_PEER = 1;
const IFLA_BR_MCAST_SNOOPING = 23;
const IFLA_BRPORT = { MODE: 4, ISOLATED: 33 } as const;
const IFLA_MACVLAN_MODE = 1;
const IFLA_IPVLAN_MODE = 1;
const IFLA_VLAN_ID = 1;
const IFA_F_NODAD = 2;
const RTPROT_BOOT = 3;
const RT_SCOPE = { UNIVERSE: 0, LINK: 253 } as const;
const INTERFACE_NAME_BYTES_MAX = 15;
const MTU_MAX = 65_535;
const MACVLAN_MODES: Readonly<Record<string, number>> = { private: 1, vepa: 2, bridge: 4, passthru: 8 };
const IPVLAN_MODES: Readonly<Record<string, number>> = { l2: 0, l3: 1, l3s: 2 };

/**
 * An interface name that the kernel takes as it is ("%d" would be a template).
 * @throws {KernelError} EINVAL
 */
export function interfaceName(name: string): string {
  const bytes = Buffer.byteLength(name);
  const bad = name === '.' || name === '..' || /[\s/:%\0]/.test(name);
  if (bytes === 0 || bytes > INTERFACE_NAME_BYTES_MAX || bad) {
    throw new KernelError(
      'interface',
      ERRNO.EINVAL,
      quoted(name),
      `not an interface name (1 to ${INTERFACE_NAME_BYTES_MAX} bytes, no space, "/", ":" or "%")`,
    );
  }
  return name;
}

function mtuOf(mtu: number): number {
  if (!Number.isInteger(mtu) || mtu < 68 || mtu > MTU_MAX)
    throw new KernelError('interface', ERRNO.EINVAL, `mtu=${mtu}`, 'not an MTU');
  return mtu;
}

/** By index, or by name when the index is 0. */
export interface LinkReference {
  readonly index: number;
  readonly name: string;
}

export function getLink(name: string): Request {
  return linkRequest('GETLINK', 0, `name=${name}`, linkHeader(0, false), [[IFLA.IFNAME, interfaceName(name)]]);
}

export function dumpLinks(): Request {
  return linkRequest('GETLINK', 0, 'all', linkHeader(0, false), []);
}

export function deleteLink(name: string): Request {
  return linkRequest('DELLINK', 0, `name=${name}`, linkHeader(0, false), [[IFLA.IFNAME, interfaceName(name)]]);
}

export function createBridge(name: string, mac: string): Request {
  const macBytes = parseMac(mac);
  return linkRequest('NEWLINK', NLM_F_CREATE | NLM_F_EXCL, `bridge name=${name}`, linkHeader(0, false), [
    [IFLA.IFNAME, interfaceName(name)],
    ...(macBytes === null ? [] : ([[IFLA.ADDRESS, macBytes]] as const)),
    [
      IFLA.LINKINFO,
      [
        [IFLA_INFO.KIND, 'bridge'],
        // Nobody asks who listens to what, so all is flooded anyway; each new port would start a timer of every other.
        [IFLA_INFO.DATA, [[IFLA_BR_MCAST_SNOOPING, Buffer.of(0)]]],
      ],
    ],
  ]);
}

/** The host's end is in the bridge at once; the peer is born in its namespace. Both are down. */
export function createVeth(options: {
  readonly hostName: string;
  readonly bridgeIndex: number;
  readonly peerName: string;
  readonly peerNamespaceFd: number;
  readonly mac: string;
  readonly mtu: number;
}): Request {
  const mac = parseMac(options.mac);
  const mtu = mtuOf(options.mtu);
  const peerAttributes: Attribute[] = [
    [IFLA.IFNAME, interfaceName(options.peerName)],
    [IFLA.MTU, mtu],
    [IFLA.NET_NS_FD, options.peerNamespaceFd],
    ...(mac === null ? [] : ([[IFLA.ADDRESS, mac]] as const)),
  ];
  return linkRequest(
    'NEWLINK',
    NLM_F_CREATE | NLM_F_EXCL,
    `veth name=${options.hostName} peer=${options.peerName} mtu=${mtu}`,
    linkHeader(0, false),
    [
      [IFLA.IFNAME, interfaceName(options.hostName)],
      [IFLA.MTU, mtu],
      [IFLA.MASTER, options.bridgeIndex],
      [
        IFLA.LINKINFO,
        [
          [IFLA_INFO.KIND, 'veth'],
          [IFLA_INFO.DATA, [[VETH_INFO_PEER, withHeader(linkHeader(0, false), peerAttributes)]]],
        ],
      ],
    ],
  );
}

export function createVlan(options: {
  readonly kind: 'macvlan' | 'ipvlan';
  readonly mode: string;
  readonly name: string;
  readonly parentIndex: number;
  readonly namespaceFd: number;
  readonly mac: string;
  readonly mtu: number | null;
}): Request {
  const modes = options.kind === 'macvlan' ? MACVLAN_MODES : IPVLAN_MODES;
  const mode = Object.hasOwn(modes, options.mode) ? modes[options.mode] : undefined;
  if (mode === undefined)
    throw new KernelError('RTM_NEWLINK', ERRNO.EINVAL, `${options.kind} mode=${quoted(options.mode)}`, 'no such mode');
  const mac = parseMac(options.mac);
  const data: Attribute =
    options.kind === 'macvlan' ? [IFLA_MACVLAN_MODE, mode] : [IFLA_IPVLAN_MODE, Buffer.from([mode, 0])];
  return linkRequest(
    'NEWLINK',
    NLM_F_CREATE | NLM_F_EXCL,
    `${options.kind} name=${options.name} mode=${options.mode}`,
    linkHeader(0, false),
    [
      [IFLA.IFNAME, interfaceName(options.name)],
      [IFLA.LINK, options.parentIndex],
      ...(options.mtu === null ? [] : ([[IFLA.MTU, mtuOf(options.mtu)]] as const)),
      [IFLA.NET_NS_FD, options.namespaceFd],
      ...(mac === null ? [] : ([[IFLA.ADDRESS, mac]] as const)),
      [
        IFLA.LINKINFO,
        [
          [IFLA_INFO.KIND, options.kind],
          [IFLA_INFO.DATA, [data]],
        ],
      ],
    ],
  );
}

/** An 802.1Q sub-interface of the host. */
export function createVlanLink(options: {
  readonly name: string;
  readonly parentIndex: number;
  readonly vlanId: number;
}): Request {
  const id = Buffer.alloc(2);
  id.writeUInt16LE(options.vlanId);
  return linkRequest(
    'NEWLINK',
    NLM_F_CREATE | NLM_F_EXCL,
    `vlan name=${options.name} id=${options.vlanId}`,
    linkHeader(0, false),
    [
      [IFLA.IFNAME, interfaceName(options.name)],
      [IFLA.LINK, options.parentIndex],
      [
        IFLA.LINKINFO,
        [
          [IFLA_INFO.KIND, 'vlan'],
          [IFLA_INFO.DATA, [[IFLA_VLAN_ID, id]]],
        ],
      ],
    ],
  );
}

/** Up, and what else is given. A name is only changed when `rename` is. */
export function setLinkUp(
  link: LinkReference,
  changes: { readonly mtu?: number; readonly mac?: string; readonly rename?: string } = {},
): Request {
  const mac = parseMac(changes.mac ?? '');
  const attributes: Attribute[] = [];
  if (changes.rename !== undefined) attributes.push([IFLA.IFNAME, interfaceName(changes.rename)]);
  else if (link.index === 0) attributes.push([IFLA.IFNAME, interfaceName(link.name)]);
  if (changes.mtu !== undefined) attributes.push([IFLA.MTU, mtuOf(changes.mtu)]);
  if (mac !== null) attributes.push([IFLA.ADDRESS, mac]);
  return linkRequest('NEWLINK', 0, `name=${link.name} up`, linkHeader(link.index, true), attributes);
}

/** Brings a port of a bridge up. `isolated`: such ports cannot reach each other. `hairpin`: a frame may go back out of the port that it came from. */
export function setBridgePortUp(
  name: string,
  { isolated, hairpin }: { readonly isolated: boolean; readonly hairpin: boolean },
): Request {
  const flags: Attribute[] = [
    [IFLA_BRPORT.MODE, Buffer.from([Number(hairpin)])],
    [IFLA_BRPORT.ISOLATED, Buffer.from([Number(isolated)])],
  ];
  return linkRequest('NEWLINK', 0, `name=${name} bridge port up`, linkHeader(0, true), [
    [IFLA.IFNAME, interfaceName(name)],
    [
      IFLA.LINKINFO,
      [
        [IFLA_INFO.SLAVE_KIND, 'bridge'],
        [IFLA_INFO.SLAVE_DATA, flags],
      ],
    ],
  ]);
}

/** IPv6 without duplicate address detection: the engine's pool is the authority, and a tentative address cannot be bound. */
export function addAddress(link: LinkReference, address: InterfaceAddress): Request {
  const { family, bytes, prefixLength } = parsePrefix(address.address, address.prefixLength);
  const header = Buffer.from([family, prefixLength, family === AF_INET6 ? IFA_F_NODAD : 0, 0, 0, 0, 0, 0]);
  header.writeUInt32LE(link.index, 4);
  const broadcast = broadcastOf(bytes, prefixLength);
  return {
    call: 'RTM_NEWADDR',
    detail: `${address.address}/${prefixLength} dev ${link.name}`,
    type: RTM.NEWADDR,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    header,
    attributes: [
      [IFA.LOCAL, bytes],
      [IFA.ADDRESS, bytes],
      ...(broadcast === null ? [] : ([[IFA.BROADCAST, broadcast]] as const)),
    ],
  };
}

export function dumpAddresses(): Request {
  return {
    call: 'RTM_GETADDR',
    detail: 'all',
    type: RTM.GETADDR,
    flags: 0,
    header: Buffer.alloc(IF_ADDR_BYTES),
    attributes: [],
  };
}

export function dumpRoutes(): Request {
  return {
    call: 'RTM_GETROUTE',
    detail: 'all',
    type: RTM.GETROUTE,
    flags: 0,
    header: Buffer.alloc(ROUTE_BYTES),
    attributes: [],
  };
}

/** Through `gateway`; the kernel finds the interface by the connected route when `oif` is 0. */
export function replaceDefaultRoute(gateway: string, oif: number): Request {
  const { family, bytes } = parseAddress(gateway);
  return routeRequest('NEWROUTE', NLM_F_CREATE | NLM_F_REPLACE, family, RT_SCOPE.UNIVERSE, `default via ${gateway}`, [
    [RTA.GATEWAY, bytes],
    ...outgoing(oif),
  ]);
}

export function replaceDefaultRouteByDevice(family: number, link: LinkReference): Request {
  const scope = family === AF_INET6 ? RT_SCOPE.UNIVERSE : RT_SCOPE.LINK;
  return routeRequest(
    'NEWROUTE',
    NLM_F_CREATE | NLM_F_REPLACE,
    family,
    scope,
    `default dev ${link.name}`,
    outgoing(link.index),
  );
}

/** Takes away exactly this default route. */
export function deleteDefaultRoute(family: number, gateway: Buffer | null, oif: number): Request {
  const via: readonly Attribute[] = gateway === null ? [] : [[RTA.GATEWAY, gateway]];
  return routeRequest(
    'DELROUTE',
    0,
    family,
    family === AF_INET6 || gateway !== null ? RT_SCOPE.UNIVERSE : RT_SCOPE.LINK,
    'default',
    [...via, ...outgoing(oif)],
  );
}

function routeRequest(
  name: 'NEWROUTE' | 'DELROUTE',
  flags: number,
  family: number,
  scope: number,
  detail: string,
  attributes: readonly Attribute[],
): Request {
  const header = Buffer.from([family, 0, 0, 0, RT_TABLE.MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0, 0, 0, 0]);
  if (name === 'DELROUTE') header[5] = 0; // whoever made it
  return { call: `RTM_${name}`, detail, type: RTM[name], flags, header, attributes };
}

function outgoing(oif: number): readonly Attribute[] {
  return oif === 0 ? [] : [[RTA.OIF, oif]];
}

function linkRequest(
  name: 'NEWLINK' | 'GETLINK' | 'DELLINK',
  flags: number,
  detail: string,
  header: Buffer,
  attributes: readonly Attribute[],
): Request {
  return { call: `RTM_${name}`, detail, type: RTM[name], flags, header, attributes };
}

function linkHeader(index: number, up: boolean): Buffer {
  const header = Buffer.alloc(IF_INFO_BYTES);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(up ? IFF_UP : 0, 8);
  header.writeUInt32LE(up ? IFF_UP : 0, 12);
  return header;
}

/** A nested attribute that begins with a fixed header (veth's peer). */
function withHeader(header: Buffer, attributes: readonly Attribute[]): Uint8Array {
  return Buffer.concat([header, encodeAttributes(attributes)]);
}
