/** "udp://host:port", "tcp+tls://host", "unix:///path", as drivers take them. Source: moby pkg/urlutil, daemon/logger (v28). */
import { stat } from 'node:fs/promises';

export interface Address {
  readonly scheme: string;
  /** "" for sockets with a path. */
  readonly host: string;
  /** null: none was given. */
  readonly port: number | null;
  readonly path: string;
}

const TRANSPORTS = ['tcp://', 'tcp+tls://', 'udp://', 'unix://', 'unixgram://', 'tls://'];

export function isTransportUrl(text: string): boolean {
  return TRANSPORTS.some((prefix) => text.startsWith(prefix));
}

/** null: not an address. */
export function parseAddress(text: string): Address | null {
  const match = /^([a-z+]+):\/\/(.*)$/.exec(text);
  if (match === null) return null;
  const [, scheme = '', rest = ''] = match;
  if (scheme === 'unix' || scheme === 'unixgram') return { scheme, host: '', port: null, path: rest };
  const authority = parseAuthority(rest.split('/', 1)[0] as string);
  return authority === null ? null : { scheme, ...authority, path: rest.slice(rest.split('/', 1)[0]!.length) };
}

/** "host:port", "host", "[::1]:port". */
export function parseAuthority(text: string): { readonly host: string; readonly port: number | null } | null {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(text);
  if (match === null) return null;
  const port = match[3] === undefined ? null : Number(match[3]);
  if (port !== null && port > 65_535) return null;
  return { host: match[1] ?? match[2] ?? '', port };
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
