/** Opens the API: servers on all listeners, and their orderly end. */
import { unlink } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

import { listen, type Listener } from './listen.ts';
import type { WatchRequest } from '../telemetry/port.ts';
import type { EngineParts } from './port.ts';
import { ROUTES } from './routes/all.ts';
import { ApiServer } from './server.ts';

const CLOSE_MS = 5_000;

export interface Api extends AsyncDisposable {
  /** As in --host: "unix:///run/x.sock", "tcp://127.0.0.1:2375". */
  readonly addresses: readonly string[];
  /** Takes no more connections, ends streams, and gives requests that run `deadlineMs` to end. */
  close(deadlineMs?: number): Promise<void>;
}

export async function openApi(
  parts: EngineParts,
  options: { readonly listeners: readonly Listener[]; readonly watch?: WatchRequest | undefined },
): Promise<Api> {
  const api = new ApiServer({ parts, routes: ROUTES, watch: options.watch });
  const open: { readonly server: Server; readonly sockets: Set<Socket>; readonly path: string | null }[] = [];
  const addresses: string[] = [];

  const close = async (deadlineMs = CLOSE_MS): Promise<void> => {
    const closing = open.splice(0).map(async ({ server, sockets, path }) => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      if (path !== null) await unlink(path).catch(() => {});
      api.endStreams();
      server.closeIdleConnections();
      // close() waits for hijacked connections too, which know of no request that ends.
      const deadline = setTimeout(() => sockets.forEach((socket) => socket.destroy()), deadlineMs);
      await closed;
      clearTimeout(deadline);
    });
    await Promise.all(closing);
  };

  try {
    for (const listener of options.listeners) {
      const server = api.create(listener.kind === 'tcp' ? listener.tls : null, listener.scope);
      const sockets = new Set<Socket>();
      server.on('connection', (socket: Socket) => {
        sockets.add(socket);
        socket.prependListener('close', () => sockets.delete(socket));
      });
      open.push({ server, sockets, path: listener.kind === 'unix' ? listener.path : null });
      addresses.push(await listen(server, listener));
    }
  } catch (error) {
    await close(0);
    throw error;
  }
  return { addresses, close, [Symbol.asyncDispose]: () => close() };
}
