/**
 * Flows that connection tracking goes on sending where a published UDP port led before. Source:
 * linux/netfilter/nfnetlink_conntrack.h; moby daemon/libnetwork/iptables/conntrack.go (v28). Worker thread only.
 */
import { ERRNO } from './kernel-error.ts';
import { parseAttributes, type Request } from './netlink.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './netlink-socket.ts';

const SUBSYSTEM = 1; // NFNL_SUBSYS_CTNETLINK
const CT = { GET: 1, DELETE: 2 } as const;
const FAMILY_BYTES = 4; // nfgenmsg
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_PROTO = { NUM: 1, DST_PORT: 3 } as const;
const NLA_F_NESTED = 0x8000;
const IPPROTO_UDP = 17;

/** Of both families, in the host's namespace: those that were sent to one of these ports. Returns how many they were. */
export function forgetUdpFlows(ports: readonly number[]): number {
  const wanted = new Set(ports);
  using socket = new NetlinkSocket(NETLINK_NETFILTER);
  const doomed: Request[] = [];
  for (const { payload } of socket.dump(request('GET', 0, []))) {
    const original = parseAttributes(payload.subarray(FAMILY_BYTES)).get(CTA_TUPLE_ORIG);
    const protocol = original === undefined ? undefined : parseAttributes(original).get(CTA_TUPLE_PROTO);
    if (original === undefined || protocol === undefined) continue;
    const fields = parseAttributes(protocol);
    if (fields.get(CTA_PROTO.NUM)?.[0] !== IPPROTO_UDP) continue;
    const port = fields.get(CTA_PROTO.DST_PORT)?.readUInt16BE(0);
    if (port === undefined || !wanted.has(port)) continue;
    doomed.push(request('DELETE', payload.readUInt8(0), [[CTA_TUPLE_ORIG | NLA_F_NESTED, original]]));
  }
  for (const one of doomed) {
    const [reply] = socket.exchange([one]);
    if (reply?.error && reply.error.errno !== ERRNO.ENOENT) throw reply.error; // gone by itself is as good
  }
  return doomed.length;
}

function request(name: keyof typeof CT, family: number, attributes: Request['attributes']): Request {
  const header = Buffer.from([family, 0, 0, 0]);
  return {
    call: `IPCTNL_MSG_CT_${name}`,
    detail: 'udp',
    type: (SUBSYSTEM << 8) | CT[name],
    flags: 0,
    header,
    attributes,
  };
}
