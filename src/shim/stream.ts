/**
 * One attach or exec connection to the shim as a Duplex. What is read is the shim's bytes, untouched (Docker's
 * multiplexed frames; raw for a tty), so an attach is a splice. What is written becomes stdin frames.
 *
 * end() tells the shim that stdin ended and goes on reading; destroy() detaches; the output's end ends the stream.
 */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

import { encodeFrame, encodeStdinHeader } from './protocol.ts';

/** A write is cut into pieces of this size, so that a huge one does not hold up a resize that follows. */
const PIECE_BYTES = 1024 * 1024;

export class ShimStream extends Duplex {
  readonly #socket: Socket;
  #ended = false;

  /** Takes the socket over. `first` are output bytes that were read already. */
  constructor(socket: Socket, first?: Buffer) {
    super({ allowHalfOpen: false, readableHighWaterMark: 256 * 1024, writableHighWaterMark: 256 * 1024 });
    this.#socket = socket;
    if (first !== undefined && first.length > 0) this.push(first);
    socket.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) socket.pause();
    });
    socket.on('end', () => this.#finish());
    socket.on('close', () => this.#finish());
    // A reset means that the shim is gone: for a reader that is the end of the output, not a failure of its own.
    socket.on('error', () => this.#finish());
    socket.pause();
  }

  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.push(null);
    this.#socket.destroy();
  }

  override _read(): void {
    this.#socket.resume();
  }

  /** What is written after the container is gone is dropped, as a pipe without a reader would. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    if (this.#ended || !this.#socket.writable) {
      callback();
      return;
    }
    const done = (): void => {
      callback();
    };
    for (let from = 0; from < chunk.length; from += PIECE_BYTES) {
      const piece = chunk.subarray(from, from + PIECE_BYTES);
      this.#socket.cork();
      this.#socket.write(encodeStdinHeader(piece.length));
      this.#socket.write(piece, from + PIECE_BYTES >= chunk.length ? done : undefined);
      this.#socket.uncork();
    }
    if (chunk.length === 0) callback();
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (this.#ended || !this.#socket.writable) callback();
    else this.#socket.write(encodeFrame('stdin-eof'), () => callback());
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#ended = true;
    this.#socket.destroy();
    callback(error);
  }
}
