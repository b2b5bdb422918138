/** One container's resolver at 127.0.0.11: UDP and TCP sockets that live in its namespace and are read here. */
import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server, type Socket as TcpSocket } from 'node:net';

import { fitUdp, formatFailure, parseQuery, type Question } from './message.ts';

/** Answers one question; `byTcp` when the answer may be long. */
export type AnswerQuestion = (query: Buffer, question: Question, byTcp: boolean) => Promise<Buffer>;

const TCP_CONNECTIONS_MAX = 64;
const TCP_IDLE_MS = 10_000;
/** Queries of one connection that may be under way. */
const TCP_PIPELINED_MAX = 16;
const QUERY_BYTES_MAX = 4096;

export class ResolverServer {
  readonly #udp: Socket;
  readonly #tcp: Server;
  readonly #connections = new Set<TcpSocket>();
  readonly #answer: AnswerQuestion;

  /** Takes the descriptors over. */
  constructor(udpFd: number, tcpFd: number, answer: AnswerQuestion) {
    this.#answer = answer;
    this.#udp = createSocket('udp4');
    this.#udp.on('message', (message, { address, port }) => {
      void this.#reply(message, false).then((response) => {
        if (response !== null) this.#udp.send(response, port, address, () => {});
      });
    });
    this.#udp.on('error', () => {});
    this.#udp.bind({ fd: udpFd, exclusive: true });
    this.#udp.unref();
    this.#tcp = createServer((socket) => this.#serve(socket));
    this.#tcp.maxConnections = TCP_CONNECTIONS_MAX;
    this.#tcp.on('error', () => {});
    this.#tcp.listen({ fd: tcpFd, exclusive: true });
    this.#tcp.unref();
  }

  async close(): Promise<void> {
    for (const socket of this.#connections) socket.destroy();
    await Promise.all([
      new Promise<void>((resolve) => this.#udp.close(() => resolve())),
      new Promise<void>((resolve) => this.#tcp.close(() => resolve())),
    ]);
  }

  #serve(socket: TcpSocket): void {
    this.#connections.add(socket);
    socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => this.#connections.delete(socket));
    let received = Buffer.alloc(0);
    let underWay = 0;
    const take = (): void => {
      while (underWay < TCP_PIPELINED_MAX && received.length >= 2) {
        const length = received.readUInt16BE(0);
        if (length > QUERY_BYTES_MAX) return void socket.destroy();
        if (received.length < 2 + length) break;
        const query = Buffer.from(received.subarray(2, 2 + length));
        received = received.subarray(2 + length);
        underWay++;
        void this.#reply(query, true).then((response) => {
          underWay--;
          if (response !== null && !socket.destroyed) {
            const size = Buffer.alloc(2);
            size.writeUInt16BE(response.length);
            socket.write(Buffer.concat([size, response]));
          }
          take();
        });
      }
      if (underWay >= TCP_PIPELINED_MAX || socket.writableNeedDrain) socket.pause();
      else socket.resume();
    };
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      take();
    });
    socket.on('drain', take);
  }

  async #reply(message: Buffer, byTcp: boolean): Promise<Buffer | null> {
    const parsed = parseQuery(message);
    if (parsed.kind === 'ignore') return null;
    if (parsed.kind === 'refuse') return formatFailure(message, null, parsed.rcode);
    const response = await this.#answer(message, parsed.question, byTcp);
    return byTcp ? response : fitUdp(response, parsed.question);
  }
}
