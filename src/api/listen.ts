/** Opens what the API listens on. Source: moby daemon/listeners/listeners_linux.go, docker/go-connections sockets (v28). */
import { chmod, chown, lstat, mkdir, readFile, unlink } from 'node:fs/promises';
import type { Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { dirname } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import type { Scope } from './scope.ts';
import type { TlsOptions } from './server.ts';

const SOCKET_MODE = 0o660;
const DEFAULT_GROUP = 'docker';

export type Listener = (
  | /** `group`: a name or number; null is "docker" where there is one. */
    { readonly kind: 'unix'; readonly path: string; readonly group: string | null }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly tls: TlsOptions | null }
) & {
  /** What it serves; null is everything. */
  readonly scope: Scope | null;
};

/** dockerd's --host: "unix:///run/x.sock", "tcp://127.0.0.1:2375". @throws OPTION_UNSUPPORTED, PARAMETER_INVALID */
export function parseListener(
  text: string,
  tls: TlsOptions | null,
  group: string | null,
  scope: Scope | null = null,
): Listener {
  if (text.startsWith('fd://')) {
    throw new EngineError(
      'OPTION_UNSUPPORTED',
      `invalid listen address ${text}: sockets of systemd (fd://) are not supported; use unix:// or tcp://`,
    );
  }
  if (text.startsWith('unix://'))
    return { kind: 'unix', path: text.slice('unix://'.length) || '/var/run/docker.sock', group, scope };
  const match = /^tcp:\/\/(?:\[([0-9a-fA-F:%.]+)\]|([^:/[\]]*))?(?::(\d+))?\/?$/.exec(text);
  const port = match?.[3] === undefined ? (tls === null ? 2375 : 2376) : Number(match[3]);
  if (match === null || port > 65_535)
    throw new EngineError('PARAMETER_INVALID', `invalid bind address (${text}): use unix:///path or tcp://host:port`);
  return { kind: 'tcp', host: match[1] ?? (match[2] || 'localhost'), port, tls, scope };
}

/** Resolves with the address in --host's form once connections are taken. */
export async function listen(server: Server, listener: Listener): Promise<string> {
  if (listener.kind === 'unix') {
    await mkdir(dirname(listener.path), { recursive: true });
    await removeStaleSocket(listener.path);
    // Nobody but root can connect before owner and mode are right.
    const umask = process.umask(0o777);
    try {
      await opened(server, () => server.listen(listener.path));
    } finally {
      process.umask(umask);
    }
    await chown(listener.path, 0, await groupId(listener.group));
    await chmod(listener.path, SOCKET_MODE);
    return `unix://${listener.path}`;
  }
  await opened(server, () => server.listen(listener.port, listener.host));
  const { address, family, port } = server.address() as AddressInfo;
  return `tcp://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}

async function opened(server: Server, start: () => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('listening', resolve);
  server.once('error', reject);
  start();
  try {
    await promise;
  } finally {
    server.off('listening', resolve);
    server.off('error', reject);
  }
}

/** A socket file that nobody answers on is left over from a daemon that died. */
async function removeStaleSocket(path: string): Promise<void> {
  const stat = await lstat(path).catch(() => null);
  if (stat === null) return;
  if (!stat.isSocket())
    throw new EngineError(
      'HOST_UNSUPPORTED',
      `can't create unix socket ${path}: something that is no socket is in its place`,
    );
  if (await answers(path))
    throw new EngineError('HOST_UNSUPPORTED', `can't create unix socket ${path}: another daemon answers on it`);
  await unlink(path);
}

async function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once('connect', () => resolve(true));
  socket.once('error', () => resolve(false));
  const result = await promise;
  socket.destroy();
  return result;
}

/** @throws PARAMETER_INVALID for a group that does not exist, but for the default one: many hosts have none */
async function groupId(group: string | null): Promise<number> {
  if (group !== null && /^\d+$/.test(group)) return Number(group);
  const name = group ?? DEFAULT_GROUP;
  const groups = await readFile('/etc/group', 'utf8').catch(() => '');
  for (const line of groups.split('\n')) {
    const [candidate, , id] = line.split(':');
    if (candidate === name) return Number(id);
  }
  if (name === DEFAULT_GROUP) return 0; // as dockerd, also where it was named
  throw new EngineError('PARAMETER_INVALID', `group ${group} not found`);
}
