/**
 * The text of our nftables tables: one `ip` and, when a network has IPv6, one `ip6` table of the same shape.
 * Pure. All that varies lives in sets and maps, so a start or stop is one element and not one rule.
 *
 * What the chains hold:
 * - guard: `route_localnet` is on for our bridges (published ports answer on 127.0.0.1 without a proxy process), so
 *   packets from a bridge that name a loopback address are dropped before anything looks at them. A port that is
 *   published on a loopback address is for this host alone, also where another program has opened the way there.
 * - prerouting/output: a published port of any address of this host is sent to its container.
 * - postrouting: leaving a network is masqueraded (or has the source that was asked for); so is a published port that is used from its own network or from
 *   127.0.0.1, or the answer would not come back this way.
 * - forward: into a bridge goes what is established, comes from the same network or was published. All else is dropped.
 *   Where containers of a network are kept apart, a legacy link opens the ports of the one to the other.
 */
import {
  formatAddress,
  formatSubnet,
  isLoopback,
  isUnspecified,
  type Address,
  type Family,
  type Subnet,
} from './address.ts';

export type Protocol = 'tcp' | 'udp' | 'sctp';

export interface FirewallNetwork {
  readonly bridge: string;
  readonly subnets: readonly FirewallSubnet[];
  readonly internal: boolean;
  /** Inter-container communication. */
  readonly icc: boolean;
  /** Interfaces of the host from which published ports are also reached at the container's own address. */
  readonly trusted: readonly string[];
}

export interface FirewallSubnet {
  readonly subnet: Subnet;
  readonly masquerade: boolean;
  /** Instead of the address of the interface by which it leaves. */
  readonly source: Address | null;
  /** gateway_mode nat-unprotected: every port can be reached from outside. */
  readonly unprotected: boolean;
}

/**
 * One published port. `nat` false (gateway_mode routed): the container's own address and port are let through.
 * `direct`: that too, for everybody (--allow-direct-routing) or from the network's trusted interfaces.
 */
export interface PortMapping {
  readonly direct?: 'everybody' | 'trusted';
  readonly protocol: Protocol;
  readonly hostAddress: Address;
  readonly hostPort: number;
  readonly containerAddress: Address;
  readonly containerPort: number;
  readonly nat: boolean;
}

/** A legacy link's way to an exposed port, on a bridge whose containers do not reach each other otherwise. */
export interface LinkedPort {
  readonly bridge: string;
  readonly from: string;
  readonly to: string;
  readonly protocol: Protocol;
  readonly port: number;
}

/** From this many ports in a row (the same inside and outside) on, one interval replaces the elements. */
const RUN_LENGTH_MIN = 16;

const FAMILY_WORD: Readonly<Record<Family, string>> = { 4: 'ip', 6: 'ip6' };
const LOOPBACK: Readonly<Record<Family, string>> = { 4: '127.0.0.0/8', 6: '::1' };

/** nft takes letters, digits and "_" in a table's name: other characters of a bridge's name are written as hex. */
export function tableName(bridgeName: string): string {
  if (bridgeName === 'longshore0') return 'longshore';
  return `longshore_${bridgeName.replaceAll(/[^A-Za-z0-9]/g, (character) => `_${character.codePointAt(0)!.toString(16)}`)}`;
}

export function deleteTable(table: string, family: Family): string {
  // "add" first, so that the deletion of what is not there is no error.
  return `add table ${FAMILY_WORD[family]} ${table}\ndelete table ${FAMILY_WORD[family]} ${table}\n`;
}

export function emptyTable(table: string, family: Family): string {
  const ip = FAMILY_WORD[family];
  const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  return `table ${ip} ${table} {
  set bridges { type ifname; }
  set peers { type ifname . ifname; }
  set linked { type ifname . ${address} . ${address} . inet_proto . inet_service; }
  set internal { type ifname; }
  set unprotected { type ifname; }
  set own { type ${address} . ifname; flags interval; }
  set masqueraded { type ${address}; flags interval; }
  map sources { type ${address} : ${address}; flags interval; }
  set local { type ${address} . inet_proto . inet_service; }
  set trusted { type ifname . ifname; }
  set direct { type ${address} . inet_proto . inet_service; }
  set open { type ${address} . inet_proto . inet_service; }
  map anywhere { type inet_proto . inet_service : ${address} . inet_service; }
  map at { type ${address} . inet_proto . inet_service : ${address} . inet_service; }
  map ranges { type inet_proto . inet_service : ${address}; flags interval; }
  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ${ip} daddr ${LOOPBACK[family]} drop
    iifname @bridges ${ip} saddr ${LOOPBACK[family]} drop
    iifname != "lo" ${ip} daddr . meta l4proto . th dport @local drop
  }
  chain published {
    dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @at
    dnat ${ip} to meta l4proto . th dport map @anywhere
    dnat ${ip} to meta l4proto . th dport map @ranges
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump published
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ${family === 6 ? 'ip6 daddr != ::1 ' : ''}fib daddr type local jump published
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ${ip} saddr ${LOOPBACK[family]} oifname @bridges masquerade
    ct status dnat ${ip} saddr . oifname @own masquerade
    ${ip} saddr . oifname @own accept
    snat ${ip} to ${ip} saddr map @sources
    ${ip} saddr @masqueraded masquerade
  }
  chain towards {
    ct state established,related accept
    iifname . oifname @peers accept
    iifname . ${ip} saddr . ${ip} daddr . meta l4proto . th dport @linked accept
    iifname @internal drop
    oifname @internal drop
    ct status dnat accept
    ${ip} daddr . meta l4proto . th dport @open accept
    iifname . oifname @trusted ${ip} daddr . meta l4proto . th dport @direct accept
    oifname @unprotected accept
    ${family === 6 ? 'meta l4proto ipv6-icmp icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n    ' : ''}drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    oifname @bridges jump towards
    iifname @internal drop
  }
}
`;
}

export function networkElements(
  verb: 'add' | 'delete',
  table: string,
  family: Family,
  network: FirewallNetwork,
): string {
  const subnets = network.subnets.filter(({ subnet }) => subnet.family === family);
  const name = `"${network.bridge}"`;
  const elements: [set: string, element: string][] = [['bridges', name]];
  if (network.icc) elements.push(['peers', `${name} . ${name}`]);
  if (network.internal) elements.push(['internal', name]);
  if (subnets.some(({ unprotected }) => unprotected)) elements.push(['unprotected', name]);
  for (const trusted of network.trusted) elements.push(['trusted', `"${trusted}" . ${name}`]);
  for (const { subnet, masquerade, source } of subnets) {
    elements.push(['own', `${formatSubnet(subnet)} . ${name}`]);
    if (!masquerade || network.internal) continue;
    if (source === null) elements.push(['masqueraded', formatSubnet(subnet)]);
    else elements.push(['sources', `${formatSubnet(subnet)} : ${formatAddress(source)}`]);
  }
  return formatElements(verb, table, family, elements);
}

export function mappingElements(
  verb: 'add' | 'delete',
  table: string,
  family: Family,
  mappings: readonly PortMapping[],
): string {
  const ours = mappings.filter(
    ({ containerAddress, hostAddress }) => containerAddress.family === family && hostAddress.family === family,
  );
  const { runs, single } = findRuns(ours);
  const elements: [set: string, element: string][] = runs.map(({ first, last }) => [
    'ranges',
    `${first.protocol} . ${first.hostPort}-${last.hostPort} : ${formatAddress(first.containerAddress)}`,
  ]);
  // Two host ports may lead to one of the container's.
  const direct = new Map<string, string>();
  for (const { direct: from, containerAddress, protocol, containerPort } of ours)
    if (from !== undefined)
      direct.set(
        `${formatAddress(containerAddress)} . ${protocol} . ${containerPort}`,
        from === 'trusted' ? 'direct' : 'open',
      );
  for (const [inside, set] of direct) elements.push([set, inside]);
  for (const mapping of single) {
    const { protocol, hostAddress, hostPort, containerPort } = mapping;
    const inside = formatAddress(mapping.containerAddress);
    if (!mapping.nat) elements.push(['open', `${inside} . ${protocol} . ${containerPort}`]);
    else if (isUnspecified(hostAddress))
      elements.push(['anywhere', `${protocol} . ${hostPort} : ${inside} . ${containerPort}`]);
    else {
      const outside = `${formatAddress(hostAddress)} . ${protocol} . ${hostPort}`;
      elements.push(['at', `${outside} : ${inside} . ${containerPort}`]);
      if (isLoopback(hostAddress)) elements.push(['local', outside]);
    }
  }
  return formatElements(verb, table, family, elements);
}

/** Links are IPv4's alone, as Docker's. */
export function linkElements(
  verb: 'add' | 'delete',
  table: string,
  family: Family,
  links: readonly LinkedPort[],
): string {
  if (family === 6) return '';
  const elements = links.map(
    ({ bridge, from, to, protocol, port }) => `"${bridge}" . ${from} . ${to} . ${protocol} . ${port}`,
  );
  return formatElements(
    verb,
    table,
    family,
    [...new Set(elements)].map((element) => ['linked', element] as const),
  );
}

/** Ports in a row of one container that keep their number and listen on every address. */
function findRuns(mappings: readonly PortMapping[]): {
  runs: { first: PortMapping; last: PortMapping }[];
  single: PortMapping[];
} {
  const kept = (mapping: PortMapping): boolean =>
    mapping.nat && isUnspecified(mapping.hostAddress) && mapping.hostPort === mapping.containerPort;
  const single = mappings.filter((mapping) => !kept(mapping));
  const runs: { first: PortMapping; last: PortMapping }[] = [];
  const sorted = mappings
    .filter(kept)
    .toSorted(
      (a, b) =>
        a.protocol.localeCompare(b.protocol) ||
        Number(a.containerAddress.value - b.containerAddress.value) ||
        a.hostPort - b.hostPort,
    );
  for (let start = 0; start < sorted.length;) {
    let end = start + 1;
    while (end < sorted.length && follows(sorted[end - 1]!, sorted[end]!)) end++;
    const run = sorted.slice(start, end);
    if (run.length >= RUN_LENGTH_MIN) runs.push({ first: run[0]!, last: run.at(-1)! });
    else single.push(...run);
    start = end;
  }
  return { runs, single };
}

function follows(a: PortMapping, b: PortMapping): boolean {
  return (
    a.protocol === b.protocol && a.containerAddress.value === b.containerAddress.value && b.hostPort === a.hostPort + 1
  );
}

function formatElements(
  verb: 'add' | 'delete',
  table: string,
  family: Family,
  elements: readonly (readonly [string, string])[],
): string {
  const bySet = new Map<string, string[]>();
  for (const [set, element] of elements) {
    // A map's element is deleted by its key.
    const text = verb === 'delete' ? element.replace(/ : .*$/, '') : element;
    const list = bySet.get(set);
    if (list === undefined) bySet.set(set, [text]);
    else list.push(text);
  }
  return [...bySet]
    .map(([set, list]) => `${verb} element ${FAMILY_WORD[family]} ${table} ${set} { ${list.join(', ')} }\n`)
    .join('');
}
