/**
 * The one nftables change that is made in containers' namespaces, as netlink requests: a port of one address leads to
 * others. libnftables cannot do it: it waits by select(2), which ends the whole process where a descriptor's number
 * is 1024 or more, and needs a context for each namespace. Source: linux/netfilter/nf_tables.h, nfnetlink.h.
 */
import { AF_INET, parseAddress } from './address.ts';
import { ERRNO, KernelError, quoted } from './kernel-error.ts';
import { NLM_F_CREATE, NLM_F_EXCL, type Attribute, type Request } from './netlink.ts';

const SUBSYSTEM = 10; // NFNL_SUBSYS_NFTABLES
const MSG = { NEWTABLE: 0, DELTABLE: 2, NEWCHAIN: 3, NEWRULE: 6 } as const;
const BATCH = { BEGIN: 0x10, END: 0x11 } as const;
const NLM_F_APPEND = 0x800;
const TABLE_NAME = 1;
const CHAIN = { TABLE: 1, NAME: 3, HOOK: 4, POLICY: 5, TYPE: 7 } as const;
const HOOK = { NUMBER: 1, PRIORITY: 2 } as const;
const RULE = { TABLE: 1, CHAIN: 2, EXPRESSIONS: 4 } as const;
const LIST_ELEMENT = 1;
const EXPRESSION = { NAME: 1, DATA: 2 } as const;
const DATA_VALUE = 1;
const NF_INET_LOCAL_OUT = 3;
const PRIORITY_DSTNAT = -100;
const NF_ACCEPT = 1;
const HEADER = { NETWORK: 1, TRANSPORT: 2 } as const;
const META_L4PROTO = 16;
const NAT_DNAT = 1;
const REGISTER = { ADDRESS: 1, PORT: 2 } as const;
const PROTOCOLS = { tcp: 6, udp: 17 } as const;
const CHAIN_NAME = 'output';

/** What comes before and after the requests of one transaction; the kernel acknowledges neither. */
export function batchEdge(edge: 'begin' | 'end'): Request {
  const type = edge === 'begin' ? BATCH.BEGIN : BATCH.END;
  return {
    call: 'NFNL_MSG_BATCH',
    detail: edge,
    type,
    flags: 0,
    header: Buffer.from([0, 0, 0, SUBSYSTEM]),
    attributes: [],
  };
}

/**
 * A table that holds nothing but: `address`:`port`, asked from the namespace itself, leads to `address`:`to`. A deletion
 * costs 7 ms, so it is in the transaction only where it `replaces` an earlier one; else EEXIST tells of that.
 */
export function redirectRequests(options: {
  readonly replaces: boolean;
  readonly table: string;
  readonly address: string;
  readonly port: number;
  readonly to: number;
}): Request[] {
  const { table, port, to } = options;
  const { family, bytes: address } = parseAddress(options.address);
  if (family !== AF_INET) throw new KernelError('NFT_MSG_NEWRULE', ERRNO.EINVAL, quoted(options.address), 'not IPv4');
  const named: Attribute = [TABLE_NAME, table];
  const hook: Attribute[] = [
    [HOOK.NUMBER, be32(NF_INET_LOCAL_OUT)],
    [HOOK.PRIORITY, be32(PRIORITY_DSTNAT)],
  ];
  return [
    ...(options.replaces
      ? [request('NEWTABLE', NLM_F_CREATE, table, [named]), request('DELTABLE', 0, table, [named])]
      : []),
    request('NEWTABLE', NLM_F_CREATE | NLM_F_EXCL, table, [named]),
    request('NEWCHAIN', NLM_F_CREATE, CHAIN_NAME, [
      [CHAIN.TABLE, table],
      [CHAIN.NAME, CHAIN_NAME],
      [CHAIN.HOOK, hook],
      [CHAIN.POLICY, be32(NF_ACCEPT)],
      [CHAIN.TYPE, 'nat'],
    ]),
    ...Object.values(PROTOCOLS).map((protocol) =>
      request('NEWRULE', NLM_F_CREATE | NLM_F_APPEND, `protocol ${protocol} port ${port} to ${to}`, [
        [RULE.TABLE, table],
        [RULE.CHAIN, CHAIN_NAME],
        [RULE.EXPRESSIONS, redirection(address, protocol, port, to)],
      ]),
    ),
  ];
}

/** `ip daddr ADDRESS PROTOCOL dport PORT dnat to ADDRESS:TO` */
function redirection(address: Buffer, protocol: number, port: number, to: number): Attribute[] {
  const { ADDRESS, PORT } = REGISTER;
  const load = (base: number, offset: number, length: number): Attribute =>
    expression('payload', [
      [1, be32(ADDRESS)],
      [2, be32(base)],
      [3, be32(offset)],
      [4, be32(length)],
    ]);
  const isEqual = (value: Buffer): Attribute =>
    expression('cmp', [
      [1, be32(ADDRESS)],
      [2, be32(0)],
      [3, [[DATA_VALUE, value]]],
    ]);
  const set = (register: number, value: Buffer): Attribute =>
    expression('immediate', [
      [1, be32(register)],
      [2, [[DATA_VALUE, value]]],
    ]);
  return [
    load(HEADER.NETWORK, 16, 4),
    isEqual(address),
    expression('meta', [
      [1, be32(ADDRESS)],
      [2, be32(META_L4PROTO)],
    ]),
    isEqual(Buffer.of(protocol)),
    load(HEADER.TRANSPORT, 2, 2),
    isEqual(be16(port)),
    set(ADDRESS, address),
    set(PORT, be16(to)),
    expression('nat', [
      [1, be32(NAT_DNAT)],
      [2, be32(AF_INET)],
      [3, be32(ADDRESS)],
      [5, be32(PORT)],
    ]),
  ];
}

function request(name: keyof typeof MSG, flags: number, detail: string, attributes: readonly Attribute[]): Request {
  const header = Buffer.from([AF_INET, 0, 0, 0]);
  return { call: `NFT_MSG_${name}`, detail, type: (SUBSYSTEM << 8) | MSG[name], flags, header, attributes };
}

function expression(name: string, data: readonly Attribute[]): Attribute {
  return [
    LIST_ELEMENT,
    [
      [EXPRESSION.NAME, name],
      [EXPRESSION.DATA, data],
    ],
  ];
}

/** nf_tables has its numbers in network order. */
function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function be16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
