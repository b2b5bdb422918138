/** One connection (tcp, tls, unix) that is made when it is first needed, and again after it broke. */
import { connect as connectPlain, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';

const CONNECT_MS_MAX = 10_000;

export type StreamTarget =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tls'; readonly options: () => Promise<ConnectionOptions> };

export class StreamConnection implements Disposable {
  readonly #target: StreamTarget;
  readonly #renewMs: number | null;
  #socket: Socket | null = null;
  #sinceMs = 0;
  #isBroken = false;
  /** What the peer says; nobody listens: thrown away. */
  onData: (chunk: Buffer) => void = () => {};

  /** `renewMs`: a connection that is as old is ended, in order, and another made: its name may mean another host by now. */
  constructor(target: StreamTarget, renewMs: number | null = null) {
    this.#target = target;
    this.#renewMs = renewMs;
  }

  /** The last connection ended, and none was made since. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** Resolves when the kernel has all of it. */
  async write(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const socket = await this.open(signal);
    await new Promise<void>((resolve, reject) => {
      const fail = (): void => reject(new Error('the connection was closed'));
      const abort = (): void => {
        socket.destroy();
        reject(signal.reason as Error);
      };
      socket.once('close', fail);
      signal.addEventListener('abort', abort, { once: true });
      socket.write(bytes, (error) => {
        socket.off('close', fail);
        signal.removeEventListener('abort', abort);
        if (error) reject(error);
        else resolve();
      });
    });
  }

  async open(signal: AbortSignal): Promise<Socket> {
    if (this.#renewMs !== null && performance.now() - this.#sinceMs >= this.#renewMs) this.#finish();
    if (this.#socket !== null) return this.#socket;
    const socket = await this.#connect(AbortSignal.any([signal, AbortSignal.timeout(CONNECT_MS_MAX)]));
    this.#isBroken = false;
    this.#socket = socket;
    this.#sinceMs = performance.now();
    socket.on('data', (chunk: Buffer) => this.onData(chunk));
    socket.on('end', () => socket.destroy());
    socket.on('close', () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#isBroken = true;
    });
    return socket;
  }

  /** Breaks the connection: the next write makes another. */
  reset(): void {
    this.#socket?.destroy();
    this.#socket = null;
    this.#isBroken = true;
  }

  [Symbol.dispose](): void {
    this.#finish();
  }

  #finish(): void {
    const socket = this.#socket;
    this.#socket = null;
    // What was written still goes out; a peer that does not take it is not waited for.
    socket?.end();
    socket?.unref();
  }

  async #connect(signal: AbortSignal): Promise<Socket> {
    signal.throwIfAborted();
    const target = this.#target;
    const secure = target.kind === 'tls';
    const socket = secure ? connectTls(await target.options()) : connectPlain(target);
    socket.on('error', () => {}); // 'close' follows; those who wait hear it by their own listener
    await new Promise<void>((resolve, reject) => {
      const settle = (error: Error | null): void => {
        signal.removeEventListener('abort', abort);
        socket.off('error', settle);
        if (error === null) return resolve();
        socket.destroy();
        reject(error);
      };
      const abort = (): void => settle(new Error('the service does not answer'));
      signal.addEventListener('abort', abort, { once: true });
      socket.once('error', settle);
      socket.once(secure ? 'secureConnect' : 'connect', () => settle(null));
    });
    socket.setKeepAlive(true, 30_000);
    return socket;
  }
}
