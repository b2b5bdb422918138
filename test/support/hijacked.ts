/** Connections that the API hands over (attach, exec), byte by byte as they come. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';

import { PATIENCE, type TestDaemon } from './daemon.ts';

/** A connection that was taken over: what the daemon answered, and the raw bytes after it. */
export class Hijacked {
  readonly socket: Socket;
  status = 0;
  head = '';
  #bytes = Buffer.alloc(0);
  #wake = (): void => {};
  isEnded = false;

  private constructor(socket: Socket) {
    this.socket = socket;
  }

  static async open(
    daemon: TestDaemon,
    path: string,
    body: object | null,
    form: 'upgrade' | 'plain',
    { early = '', version = '1.47' }: { readonly early?: string; readonly version?: string } = {},
  ): Promise<Hijacked> {
    const text = body === null ? '' : JSON.stringify(body);
    const upgrade = form === 'upgrade' ? 'Connection: Upgrade\r\nUpgrade: tcp\r\n' : '';
    const type = body === null ? '' : 'Content-Type: application/json\r\n';
    const socket = connect(daemon.socket);
    const one = new Hijacked(socket);
    socket.on('error', () => {});
    socket.on('close', () => one.#wake());
    socket.on('data', (chunk: Buffer) => {
      one.#bytes = Buffer.concat([one.#bytes, chunk]);
      one.#wake();
    });
    socket.on('end', () => {
      one.isEnded = true;
      one.#wake();
    });
    socket.write(
      `POST /v${version}${path} HTTP/1.1\r\nHost: x\r\n${upgrade}${type}Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}${early}`,
    );
    await one.until(() => one.#bytes.includes('\r\n\r\n'));
    const at = one.#bytes.indexOf('\r\n\r\n');
    one.head = one.#bytes.toString('latin1', 0, at);
    one.status = Number(one.head.split(' ')[1]);
    one.#bytes = one.#bytes.subarray(at + 4);
    return one;
  }

  get raw(): string {
    return this.#bytes.toString();
  }

  /** As docker-modem's demuxStream and stdcopy take it apart. */
  demuxed(): { stdout: string; stderr: string } {
    const out = ['', '', ''];
    for (let at = 0; at + 8 <= this.#bytes.length;) {
      const length = this.#bytes.readUInt32BE(at + 4);
      out[this.#bytes[at] as number] += this.#bytes.toString('utf8', at + 8, at + 8 + length);
      at += 8 + length;
    }
    return { stdout: out[1] as string, stderr: out[2] as string };
  }

  async until(probe: () => boolean, timeoutMs = 20_000): Promise<void> {
    const timer = setTimeout(() => this.socket.destroy(new Error('timeout')), timeoutMs * PATIENCE);
    while (!probe()) {
      if (this.isEnded || this.socket.destroyed) break;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    clearTimeout(timer);
    assert(probe(), `the connection ended after ${JSON.stringify(this.raw.slice(-300))}`);
  }

  async end(): Promise<void> {
    await this.until(() => this.isEnded);
    this.socket.destroy();
  }
}
