/**
 * Asks other servers for names that are not ours: from the container's namespace, or from the host's where the
 * server's address means something there alone. One socket per container and family, made when it is needed.
 */
import { randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { connect } from 'node:net';

import type { Clock } from '../../core/clock.ts';
import type { Kernel } from '../../kernel/port.ts';
import type { Upstream } from '../container-files.ts';
import { isAnswerTo, isTruncated, RCODE, rcodeOf, type Question } from './message.ts';

/** As Docker's resolver: per server. */
const TIMEOUT_MS = 4000;
const SERVERS_MAX = 3;
const PENDING_MAX = 256;
/** An unused socket is closed after this long, and with it the port that strangers could guess. */
const IDLE_MS = 10_000;
const TCP_BYTES_MAX = 65_535;

interface Pending {
  readonly query: Buffer;
  readonly question: Question;
  readonly server: string;
  readonly settle: (response: Buffer | null) => void;
}

interface Channel {
  readonly socket: Socket;
  readonly pending: Map<number, Pending>;
  idle: Disposable | null;
}

export class Forwarder {
  readonly #kernel: Kernel;
  readonly #clock: Clock;
  readonly #namespace: string;
  /** Keyed "host 4", "container 6". */
  readonly #channels = new Map<string, Promise<Channel>>();
  #pending = 0;
  #closed = false;

  constructor(options: { readonly kernel: Kernel; readonly clock: Clock; readonly namespace: string }) {
    this.#kernel = options.kernel;
    this.#clock = options.clock;
    this.#namespace = options.namespace;
  }

  /** null when no server gave an answer. */
  async ask(query: Buffer, question: Question, upstreams: readonly Upstream[], byTcp: boolean): Promise<Buffer | null> {
    if (this.#closed || this.#pending >= PENDING_MAX) return null;
    this.#pending++;
    try {
      let refused: Buffer | null = null;
      for (const upstream of upstreams.slice(0, SERVERS_MAX)) {
        const response = await this.#askOne(query, question, upstream, byTcp);
        if (response === null) continue;
        const rcode = rcodeOf(response);
        if (rcode !== RCODE.SERVER_FAILURE && rcode !== RCODE.REFUSED) return response;
        refused = response;
      }
      return refused;
    } finally {
      this.#pending--;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const opening of this.#channels.values()) {
      const channel = await opening.catch(() => null);
      if (channel !== null) closeChannel(channel);
    }
    this.#channels.clear();
  }

  async #askOne(query: Buffer, question: Question, upstream: Upstream, byTcp: boolean): Promise<Buffer | null> {
    const response = await this.#askUdp(query, question, upstream);
    if (response === null || !byTcp || !isTruncated(response)) return response;
    return (await askTcp(query, question, upstream.address)) ?? response;
  }

  async #askUdp(query: Buffer, question: Question, upstream: Upstream): Promise<Buffer | null> {
    let channel: Channel;
    try {
      channel = await this.#channel(upstream);
    } catch {
      return null; // no socket, no answer: the client gets SERVFAIL
    }
    const { socket, pending } = channel;
    let id = randomInt(0x10000);
    while (pending.has(id)) id = randomInt(0x10000);
    const renumbered = Buffer.from(query);
    renumbered.writeUInt16BE(id, 0);
    return await new Promise((resolve) => {
      const settle = (response: Buffer | null): void => {
        if (!pending.delete(id)) return;
        timer[Symbol.dispose]();
        this.#rest(upstream, channel);
        if (response === null) return resolve(null);
        const answer = Buffer.from(response);
        answer.writeUInt16BE(question.id, 0);
        resolve(answer);
      };
      const timer = this.#clock.setTimer(TIMEOUT_MS, () => settle(null));
      channel.idle?.[Symbol.dispose]();
      channel.idle = null;
      pending.set(id, { query, question, server: upstream.address, settle });
      socket.send(renumbered, 53, upstream.address, (error) => {
        if (error !== null) settle(null);
      });
    });
  }

  #channel(upstream: Upstream): Promise<Channel> {
    const key = channelKey(upstream);
    let channel = this.#channels.get(key);
    if (channel === undefined) {
      channel = this.#open(upstream, key);
      this.#channels.set(key, channel);
      channel.catch(() => this.#channels.delete(key));
    }
    return channel;
  }

  async #open(upstream: Upstream, key: string): Promise<Channel> {
    const family = upstream.address.includes(':') ? 6 : 4;
    const socket = createSocket({ type: family === 4 ? 'udp4' : 'udp6' });
    const channel: Channel = { socket, pending: new Map(), idle: null };
    socket.on('message', (message, { address, port }) => {
      if (message.length < 12) return;
      const waiting = channel.pending.get(message.readUInt16BE(0));
      if (
        waiting === undefined ||
        port !== 53 ||
        address !== waiting.server ||
        !isAnswerTo(message, waiting.query, waiting.question)
      )
        return;
      waiting.settle(message);
    });
    socket.on('error', () => {
      this.#channels.delete(key);
      closeChannel(channel);
    });
    const any = family === 4 ? '0.0.0.0' : '::';
    if (upstream.fromHost) {
      await new Promise<void>((resolve) => socket.bind({ port: 0, address: any, exclusive: true }, resolve));
    } else {
      const { fd } = await this.#kernel.network.bindSocket({
        namespace: this.#namespace,
        type: 'udp',
        address: any,
        port: 0,
      });
      socket.bind({ fd, exclusive: true });
    }
    socket.unref();
    if (this.#closed) closeChannel(channel);
    return channel;
  }

  #rest(upstream: Upstream, channel: Channel): void {
    if (channel.pending.size > 0 || this.#closed) return;
    channel.idle = this.#clock.setTimer(IDLE_MS, () => {
      this.#channels.delete(channelKey(upstream));
      closeChannel(channel);
    });
  }
}

function channelKey(upstream: Upstream): string {
  return `${upstream.fromHost ? 'host' : 'container'} ${upstream.address.includes(':') ? 6 : 4}`;
}

function closeChannel(channel: Channel): void {
  channel.idle?.[Symbol.dispose]();
  for (const waiting of channel.pending.values()) waiting.settle(null);
  try {
    channel.socket.close();
  } catch {
    // closed already, by its own error
  }
}

/** From the host's namespace: the kernel port connects no sockets elsewhere. For answers that UDP cannot hold. */
async function askTcp(query: Buffer, question: Question, server: string): Promise<Buffer | null> {
  return await new Promise((resolve) => {
    const socket = connect({ host: server, port: 53, timeout: TIMEOUT_MS });
    let received = Buffer.alloc(0);
    const end = (response: Buffer | null): void => {
      socket.destroy();
      resolve(response);
    };
    socket.on('connect', () => {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(query.length);
      socket.write(Buffer.concat([length, query]));
    });
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      const response = received.subarray(2, 2 + received.readUInt16BE(0));
      end(isAnswerTo(response, query, question) ? response : null);
    });
    socket.on('timeout', () => end(null));
    socket.on('error', () => end(null));
    socket.on('close', () => end(null));
    setTimeout(() => end(null), TIMEOUT_MS).unref();
    if (query.length > TCP_BYTES_MAX) end(null);
  });
}
