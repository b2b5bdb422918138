/** UDP to one address. What is lost on the way is lost: that is what was asked for. */
import { createSocket, type Socket } from 'node:dgram';
import { lookup } from 'node:dns/promises';

export class UdpSender implements Disposable {
  readonly #host: string;
  readonly #port: number;
  #socket: Socket | null = null;

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  async send(message: Uint8Array): Promise<void> {
    const socket = await this.#open();
    await new Promise<void>((resolve, reject) => {
      socket.send(message, (error) => (error === null ? resolve() : reject(error)));
    }).catch((error: NodeJS.ErrnoException) => {
      // Nobody listens there: as with any loss on the way, UDP goes on. What else fails is worth another try.
      if (error.code !== 'ECONNREFUSED') throw error;
    });
  }

  async #open(): Promise<Socket> {
    if (this.#socket !== null) return this.#socket;
    const { address, family } = await lookup(this.#host === '' ? 'localhost' : this.#host);
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    socket.on('error', () => {});
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.connect(this.#port, address, () => {
        socket.off('error', reject);
        resolve();
      });
    });
    socket.unref();
    return (this.#socket = socket);
  }

  [Symbol.dispose](): void {
    this.#socket?.close();
    this.#socket = null;
  }
}
