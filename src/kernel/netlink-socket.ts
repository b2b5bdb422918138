/** One netlink socket (NETLINK_ROUTE if not said); it stays in the namespace that it was opened in. Source: netlink(7). Worker thread only. */
import { check, checkAsync, closeFile, native, SOCK_CLOEXEC } from './libc.ts';
import { KernelError } from './kernel-error.ts';
import {
  encodeRequest,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  parseAcknowledgement,
  parseMessages,
  type Message,
  type Request,
} from './netlink.ts';

const AF_NETLINK = 16;
const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
/** The kernel answers before send() returns, except dumps; this only ends a wait that a bug would make endless. */
const RECEIVE_TIMEOUT_S = 10n;
const DUMP_TRIES_MAX = 5;
const SEQUENCE_MAX = 0x7fff_0000;
/** The kernel cuts dumps to the size of the reader's buffer, 32 KiB at most. */
const receiveBuffer = Buffer.alloc(65_536);

export interface Reply {
  readonly request: Request;
  /** What came besides the acknowledgement (the answer to an RTM_GET…). */
  readonly messages: readonly Message[];
  readonly error: KernelError | null;
}

export class NetlinkSocket implements Disposable {
  #fd: number;
  #sequence = 1;

  /** Opens it in the namespace that this thread is in. */
  constructor(protocol: number = NETLINK_ROUTE) {
    this.#fd = check(native.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), 'socket', () => 'AF_NETLINK');
    const on = Buffer.from([1, 0, 0, 0]);
    const timeout = Buffer.alloc(16);
    timeout.writeBigInt64LE(RECEIVE_TIMEOUT_S, 0);
    // The kernel binds the socket at the first send. The options only make errors better; old kernels lack them.
    native.setsockopt(this.#fd, SOL_NETLINK, NETLINK_EXT_ACK, on, on.length);
    native.setsockopt(this.#fd, SOL_NETLINK, NETLINK_CAP_ACK, on, on.length);
    native.setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length);
  }

  /** All in one send; the kernel runs them in order, also those after one that failed. */
  exchange(requests: readonly Request[]): Reply[] {
    if (requests.length === 0) return []; // the kernel takes an empty send for a mistake
    const { first, data } = this.#encode(requests);
    check(native.send(this.#fd, data, data.length, 0), 'send', () => describe(requests));
    return this.#collect(requests, first);
  }

  /** exchange() that throws the first failure. */
  run(requests: readonly Request[]): Reply[] {
    const replies = this.exchange(requests);
    for (const reply of replies) if (reply.error !== null) throw reply.error;
    return replies;
  }

  /** All or nothing, between the marks of a transaction, which the kernel answers only when they fail. */
  transact(begin: Request, requests: readonly Request[], end: Request): void {
    const first = this.#takeSequences(requests.length + 2) + 1;
    const data = Buffer.concat([
      encodeRequest(begin, first - 1),
      ...requests.map((request, index) =>
        encodeRequest({ ...request, flags: request.flags | NLM_F_ACK }, first + index),
      ),
      encodeRequest(end, first + requests.length),
    ]);
    check(native.send(this.#fd, data, data.length, 0), 'send', () => describe(requests));
    for (const { error } of this.#collect(requests, first, begin)) if (error !== null) throw error;
  }

  /** One request whose send blocks long (RTM_DELLINK), without blocking this thread. Nothing else may use this socket meanwhile. */
  async exchangeSlowly(request: Request): Promise<Reply> {
    const { first, data } = this.#encode([request]);
    await checkAsync(
      'send',
      () => describe([request]),
      (done) => native.send.async(this.#fd, data, data.length, 0, done),
    );
    const [reply] = this.#collect([request], first);
    if (reply === undefined) throw new Error('netlink: no reply');
    return reply;
  }

  /** A whole table; asked again when it changed meanwhile. */
  dump(request: Request): Message[] {
    for (let tries = 1; ; tries++) {
      const { messages, interrupted } = this.#dumpOnce(request);
      if (!interrupted || tries === DUMP_TRIES_MAX) return messages;
    }
  }

  [Symbol.dispose](): void {
    const fd = this.#fd;
    this.#fd = -1;
    closeFile(fd);
  }

  #encode(requests: readonly Request[]): { first: number; data: Buffer } {
    const first = this.#takeSequences(requests.length);
    return {
      first,
      data: Buffer.concat(
        requests.map((request, index) =>
          encodeRequest({ ...request, flags: request.flags | NLM_F_ACK }, first + index),
        ),
      ),
    };
  }

  /** `before`: the request ahead of the first one, whose failure is that of all. */
  #collect(requests: readonly Request[], first: number, before: Request | null = null): Reply[] {
    const answers = requests.map((): Message[] => []);
    const replies: (Reply | undefined)[] = requests.map(() => undefined);
    let missing = requests.length;
    while (missing > 0) {
      for (const message of this.#receive(() => describe(requests))) {
        const index = message.sequence - first;
        const request = requests[index];
        if (index === -1 && before !== null && message.type === NLMSG_ERROR) {
          const { errno, text } = parseAcknowledgement(message);
          if (errno !== 0) throw new KernelError(before.call, errno, describe(requests), text);
        }
        if (request === undefined || replies[index] !== undefined) continue; // a late answer to an earlier request
        if (message.type !== NLMSG_ERROR) {
          // The buffer is used again.
          answers[index]?.push({ ...message, payload: Buffer.from(message.payload) });
          continue;
        }
        const { errno, text } = parseAcknowledgement(message);
        replies[index] = {
          request,
          messages: answers[index] ?? [],
          error: errno === 0 ? null : new KernelError(request.call, errno, request.detail, text),
        };
        missing--;
      }
    }
    return replies.filter((reply) => reply !== undefined);
  }

  #dumpOnce(request: Request): { messages: Message[]; interrupted: boolean } {
    const sequence = this.#takeSequences(1);
    const data = encodeRequest({ ...request, flags: request.flags | NLM_F_DUMP }, sequence);
    check(native.send(this.#fd, data, data.length, 0), 'send', () => describe([request]));
    const messages: Message[] = [];
    let interrupted = false;
    for (;;) {
      for (const message of this.#receive(() => describe([request]))) {
        if (message.sequence !== sequence) continue;
        interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0;
        if (message.type === NLMSG_DONE) return { messages, interrupted };
        if (message.type === NLMSG_ERROR) {
          const { errno, text } = parseAcknowledgement(message);
          throw new KernelError(request.call, errno, request.detail, text);
        }
        messages.push({ ...message, payload: Buffer.from(message.payload) });
      }
    }
  }

  #receive(detail: () => string): Message[] {
    const size = check(native.recv(this.#fd, receiveBuffer, receiveBuffer.length, 0), 'recv', detail);
    return parseMessages(receiveBuffer.subarray(0, size));
  }

  #takeSequences(count: number): number {
    if (this.#sequence > SEQUENCE_MAX) this.#sequence = 1;
    const first = this.#sequence;
    this.#sequence += count;
    return first;
  }
}

function describe(requests: readonly Request[]): string {
  return requests.map((request) => `${request.call} ${request.detail}`).join('; ');
}
