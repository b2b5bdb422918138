/** Serves /metrics over plain HTTP, as dockerd's --metrics-addr does. Read-only, and about figures alone. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Metrics } from './metrics.ts';

export interface MetricsServer extends AsyncDisposable {
  /** "127.0.0.1:9323". */
  readonly address: string;
}

/** `address`: HOST:PORT, [IPV6]:PORT or :PORT for all addresses. @throws PARAMETER_INVALID, HOST_UNSUPPORTED when it cannot be listened on */
export async function openMetricsServer(
  address: string,
  metrics: Pick<Metrics, 'text' | 'contentType'>,
): Promise<MetricsServer> {
  const match = /^(?:\[([\da-f:.%]+)\]|([^:[\]]*)):(\d{1,5})$/i.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535)
    throw new EngineError('PARAMETER_INVALID', `--metrics-addr: HOST:PORT is needed: ${address}`);
  const host = match[1] ?? match[2] ?? '';
  const server = createServer((request, response) => {
    const path = request.url?.split('?', 1)[0];
    if (path !== '/metrics') return void response.writeHead(404).end('404 page not found\n');
    if (request.method !== 'GET' && request.method !== 'HEAD') return void response.writeHead(405).end();
    metrics.text().then(
      (text) => response.writeHead(200, { 'Content-Type': metrics.contentType }).end(text),
      (error: unknown) => response.writeHead(500).end(`${messageOf(error)}\n`),
    );
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ port, ...(host === '' ? {} : { host }) }, resolve);
  try {
    await promise;
  } catch (error) {
    throw new EngineError('HOST_UNSUPPORTED', `--metrics-addr: cannot listen on ${address}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  server.off('error', reject);
  server.on('error', () => {});
  const bound = server.address() as AddressInfo;
  return {
    address: `${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise<void>((done) => server.close(() => done()));
      server.closeAllConnections();
      await closed;
    },
  };
}
