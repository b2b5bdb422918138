/** Small services of the kinds that log drivers speak to, on loopback or a unix socket, and lines to send to them. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingHttpHeaders } from 'node:http';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';

import type { Destination, DriverHost } from '../../src/log/drivers/driver.ts';
import { JsonLineParser } from '../../src/log/json-line.ts';
import type { LogSubject } from '../../src/log/log-attributes.ts';
import { tendedLog } from '../../src/log/log-options.ts';
import type { LogEntry } from '../../src/log/port.ts';

export const ID = 'abcdef0123456789'.repeat(4);
export const SUBJECT: LogSubject = {
  containerId: ID,
  containerName: 'web',
  imageId: 'sha256:1',
  imageName: 'bb:1',
  createdAt: '2026-11-22T00:00:00Z',
  labels: { team: 'a' },
  env: ['STAGE=test', 'SECRET=1'],
  command: ['sh', '-c', 'x'],
};
export const HOST: DriverHost = {
  hostname: 'host1',
  env: {},
  sendDatagrams: () => Promise.reject(new Error('no such socket')),
};
export const NEVER = new AbortController().signal;

export function entries(...lines: readonly string[]): LogEntry[] {
  const text = lines
    .map(
      (log, i) =>
        `${JSON.stringify({ log, stream: i % 2 ? 'stderr' : 'stdout', time: `2026-11-22T01:02:03.00400500${i}Z` })}\n`,
    )
    .join('');
  const found: LogEntry[] = [];
  new JsonLineParser().parse(Buffer.from(text), found);
  return found;
}

export function open(
  t: TestContext,
  driver: string,
  options: Record<string, string>,
  host: Partial<DriverHost> = {},
): Destination {
  const log = tendedLog({ driver, options }, SUBJECT, '/x');
  assert(log?.service);
  const destination = log.service.driver.open(log.service.source, { ...HOST, ...host });
  t.after(() => destination[Symbol.dispose]());
  return destination;
}

export function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'lsdriver-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A stream service that keeps what it gets: on a port of loopback, or at `path`, or by TLS. */
export async function streamService(
  t: TestContext,
  { path, tls }: { readonly path?: string; readonly tls?: TlsOptions } = {},
): Promise<{ port: number; got: () => Buffer; until: (bytes: number) => Promise<void>; sockets: Socket[] }> {
  let bytes = Buffer.alloc(0);
  let wake = (): void => {};
  const sockets: Socket[] = [];
  const serve = (socket: Socket): void => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      wake();
    });
  };
  const server = tls === undefined ? createServer(serve) : createTlsServer(tls, serve);
  server.on('tlsClientError', () => {}); // who does not trust us says so
  await new Promise<void>((resolve) =>
    path === undefined ? server.listen(0, '127.0.0.1', resolve) : server.listen(path, resolve),
  );
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    port: path === undefined ? (server.address() as AddressInfo).port : 0,
    got: () => bytes,
    sockets,
    async until(count) {
      while (bytes.length < count) await new Promise<void>((resolve) => (wake = resolve));
    },
  };
}

export async function udpService(t: TestContext): Promise<{ port: number; next: () => Promise<Buffer> }> {
  const socket = createSocket('udp4');
  const queue: Buffer[] = [];
  let wake = (): void => {};
  socket.on('message', (message) => {
    queue.push(message);
    wake();
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  t.after(() => socket.close());
  return {
    port: socket.address().port,
    async next() {
      while (queue.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      return queue.shift() as Buffer;
    },
  };
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** Status 0: the connection breaks instead of an answer. */
export async function httpService(
  t: TestContext,
  answer: (asked: Asked) => { status: number; body?: unknown },
): Promise<{ url: string; asked: Asked[] }> {
  const asked: Asked[] = [];
  const server = createHttpServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const one = {
        method: request.method ?? '',
        path: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks),
      };
      asked.push(one);
      const { status, body = {} } = answer(one);
      if (status === 0) return void request.destroy();
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}
