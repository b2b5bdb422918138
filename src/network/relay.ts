/**
 * Carries what comes in on a bound socket to a container, where the kernel cannot redirect: from IPv6 to a container
 * without it, and from ::1. Docker has a proxy process per port for this; here it is this process, so such connections
 * end with the daemon. Source: moby cmd/docker-proxy (v28).
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, createServer, type Socket } from 'node:net';

import type { Clock } from '../core/clock.ts';
import type { Family } from './address.ts';

export interface RelayTarget {
  readonly address: string;
  readonly port: number;
}

export interface Relay {
  close(): Promise<void>;
}

const CONNECTIONS_MAX = 1024;
const CLIENTS_MAX = 1024;
/** A UDP client that says nothing for so long is forgotten, as docker-proxy does. */
const UDP_IDLE_MS = 90_000;

/** Takes the listening descriptor over. Half-closed connections stay half open. */
export function relayTcp(fd: number, target: RelayTarget): Promise<Relay> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    const container = connect({ host: target.address, port: target.port, allowHalfOpen: true });
    for (const [socket, other] of [
      [client, container],
      [container, client],
    ] as const) {
      open.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        open.delete(socket);
        // An end that was said has been piped; an abort is passed on.
        if (!socket.readableEnded) other.destroy();
      });
    }
    container.on('connect', () => {
      client.pipe(container);
      container.pipe(client);
    });
  });
  server.maxConnections = CONNECTIONS_MAX;
  const close = async (): Promise<void> => {
    for (const socket of open) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  };
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd, exclusive: true }, () => {
      server.unref();
      resolve({ close });
    });
  });
}

/** Takes the bound descriptor over. */
export async function relayUdp(fd: number, family: Family, target: RelayTarget, clock: Clock): Promise<Relay> {
  const clients = new Map<string, { readonly socket: UdpSocket; idle: Disposable }>();
  const server = createSocket(family === 4 ? 'udp4' : 'udp6');
  const forget = (key: string): void => {
    const client = clients.get(key);
    if (client === undefined) return;
    clients.delete(key);
    client.idle[Symbol.dispose]();
    client.socket.close();
  };
  const admit = (
    key: string,
    address: string,
    port: number,
  ): { readonly socket: UdpSocket; idle: Disposable } | null => {
    if (clients.size >= CLIENTS_MAX) return null;
    const socket = createSocket(target.address.includes(':') ? 'udp6' : 'udp4');
    socket.unref();
    socket.on('error', () => forget(key));
    socket.on('message', (message, from) => {
      if (from.address === target.address && from.port === target.port) server.send(message, port, address, () => {});
    });
    const client = { socket, idle: clock.setTimer(UDP_IDLE_MS, () => forget(key)) };
    clients.set(key, client);
    return client;
  };
  server.on('error', () => {});
  server.on('message', (message, { address, port }) => {
    const key = `${address} ${port}`;
    const client = clients.get(key) ?? admit(key, address, port);
    if (client === null) return;
    client.idle[Symbol.dispose]();
    client.idle = clock.setTimer(UDP_IDLE_MS, () => forget(key));
    client.socket.send(message, target.port, target.address, () => {});
  });
  server.bind({ fd, exclusive: true });
  server.unref();
  return {
    close: async () => {
      for (const key of clients.keys()) forget(key);
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
