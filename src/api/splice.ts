/**
 * Joins a client's raw connection with the stream of a process, without looking into either but for the detach keys
 * of a terminal. Each direction has its own end: the client may close its side (stdin ends) and read on.
 */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';

import { DetachScanner } from './detach-keys.ts';

/** How much a client may send before there is a process to read it. */
const PENDING_BYTES_MAX = 256 * 1024;
/** After the last output the client gets this long to close its side, so that it surely reads all. */
const LINGER_MS = 10_000;

export type SpliceEnd = 'ended' | 'detached' | 'gone';

/** Reads from the client from the start on, so that its leaving is noticed while nothing runs yet. */
export class ClientSide {
  readonly socket: Duplex;
  #pending: Buffer[];
  #pendingBytes: number;
  #ended = false;
  #onData: ((chunk: Buffer) => void) | null = null;
  #onEnd: (() => void) | null = null;

  constructor(socket: Duplex, early: Buffer) {
    this.socket = socket;
    this.#pending = early.length > 0 ? [early] : [];
    this.#pendingBytes = early.length;
    socket.on('error', () => {}); // 'close' follows, and is what counts
    socket.on('data', (chunk: Buffer) => {
      if (this.#onData !== null) return this.#onData(chunk);
      this.#pending.push(chunk);
      this.#pendingBytes += chunk.length;
      if (this.#pendingBytes > PENDING_BYTES_MAX) socket.pause();
    });
    socket.on('end', () => {
      this.#ended = true;
      this.#onEnd?.();
    });
  }

  /** Hands over what came so far and what comes. */
  read(onData: (chunk: Buffer) => void, onEnd: () => void): void {
    this.#onData = onData;
    this.#onEnd = onEnd;
    const pending = this.#pending;
    this.#pending = [];
    this.#pendingBytes = 0;
    for (const chunk of pending) onData(chunk);
    if (this.#ended) onEnd();
    else this.socket.resume();
  }

  /** Writes and waits while the client is slow. */
  async write(chunk: Buffer): Promise<void> {
    if (chunk.length === 0 || this.socket.destroyed || this.socket.write(chunk)) return;
    await Promise.race([once(this.socket, 'drain'), once(this.socket, 'close')]).catch(() => {});
  }

  /**
   * Sends the last bytes, and closes for good once the client has. Without `linger` at once: who asked to be detached
   * does not wait for output, and takes the connection for open as long as it can write to it.
   */
  finish({ linger = true }: { readonly linger?: boolean } = {}): void {
    const { socket } = this;
    if (socket.destroyed) return;
    if (!linger) return void socket.end(() => socket.destroy());
    this.read(
      () => {},
      () => {},
    );
    socket.end();
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    timer.unref();
    socket.once('close', () => clearTimeout(timer));
    if (this.#ended) socket.once('finish', () => socket.destroy());
    else
      this.#onEnd = () =>
        socket.writableFinished ? void socket.destroy() : void socket.once('finish', () => socket.destroy());
  }
}

/** `stdin` false: what the client sends is read and dropped. Resolves when the process's output or the client has ended. */
export function splice(
  client: ClientSide,
  stream: Duplex,
  options: {
    readonly stdin: boolean;
    readonly detachKeys: Buffer | null;
    /** Where the client wants other framing than the process has; else the bytes are passed on as they are. */
    readonly convert?: ((chunk: Buffer) => Buffer) | null;
  },
): Promise<SpliceEnd> {
  const { socket } = client;
  const { promise, resolve } = Promise.withResolvers<SpliceEnd>();
  const scanner =
    options.detachKeys === null || options.detachKeys.length === 0 ? null : new DetachScanner(options.detachKeys);
  const leave = (end: SpliceEnd): void => {
    stream.destroy();
    resolve(end);
  };

  stream.on('data', (chunk: Buffer) => {
    if (socket.destroyed || socket.write(options.convert?.(chunk) ?? chunk)) return;
    stream.pause();
    socket.once('drain', () => stream.resume());
  });
  stream.once('end', () => resolve('ended'));
  stream.once('error', () => resolve('ended'));
  stream.once('close', () => resolve('ended'));
  if (socket.destroyed) leave('gone');
  else socket.once('close', () => leave('gone'));

  client.read(
    (chunk) => {
      if (!options.stdin || stream.destroyed || stream.writableEnded) return;
      const { pass, detached } = scanner === null ? { pass: chunk, detached: false } : scanner.push(chunk);
      if (pass.length > 0 && !stream.write(pass) && !detached) {
        socket.pause();
        stream.once('drain', () => socket.resume());
      }
      if (detached) leave('detached');
    },
    () => {
      if (options.stdin && !stream.destroyed) stream.end();
    },
  );
  return promise;
}
