/**
 * Whether a request goes through a proxy, and which. Source: golang.org/x/net/http/httpproxy, which dockerd uses: loopback
 * never does; NO_PROXY has names (with all below them), ".names" (only those below), addresses, CIDR ranges, each with
 * an optional port, or "*".
 */
import { BlockList, isIP } from 'node:net';

export interface Proxies {
  /** For http: URLs; "" for none. */
  readonly http: string;
  /** For https: URLs; "" for none. */
  readonly https: string;
  readonly no: string;
}

/** The environment's, where `given` has none: what an option or daemon.json says comes first. */
export function proxiesOf(env: Readonly<Record<string, string | undefined>>, given: Partial<Proxies> = {}): Proxies {
  const read = (name: string): string => env[name] || env[name.toLowerCase()] || '';
  return {
    http: given.http || read('HTTP_PROXY'),
    https: given.https || read('HTTPS_PROXY'),
    no: given.no || read('NO_PROXY'),
  };
}

/** "" for none. */
export function proxyFor(url: URL, proxies: Proxies): string {
  const proxy = url.protocol === 'https:' ? proxies.https : proxies.http;
  if (proxy === '' || isExempt(url, proxies.no)) return '';
  return /^[a-z0-9+.-]+:\/\//i.test(proxy) ? proxy : `http://${proxy}`;
}

function isExempt(url: URL, no: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  const family = isIP(host);
  if (host === 'localhost' || (family !== 0 && LOOPBACK.check(host, nameOf(family)))) return true;
  return no
    .toLowerCase()
    .split(',')
    .map((entry) => entry.trim())
    .some((entry) => entry === '*' || (entry !== '' && covers(entry, host, family, port)));
}

function covers(entry: string, host: string, family: number, port: string): boolean {
  const [range = '', bits] = entry.split('/', 2);
  if (bits !== undefined) return family !== 0 && isIP(range) === family && inRange(host, range, Number(bits), family);
  const match = /^(?:\[([^\]]+)\]|([^:]+|[^:]*:[^:]*:.*?))(?::(\d+))?$/.exec(entry);
  const name = (match?.[1] ?? match?.[2] ?? entry).replace(/^\*(?=\.)/, '');
  if (match?.[3] !== undefined && match[3] !== port) return false;
  if (isIP(name) !== 0 || family !== 0) return name === host;
  return name.startsWith('.') ? host.endsWith(name) : host === name || host.endsWith(`.${name}`);
}

function inRange(host: string, range: string, bits: number, family: number): boolean {
  if (!Number.isInteger(bits) || bits < 0 || bits > (family === 4 ? 32 : 128)) return false;
  const list = new BlockList();
  list.addSubnet(range, bits, nameOf(family));
  return list.check(host, nameOf(family));
}

function nameOf(family: number): 'ipv4' | 'ipv6' {
  return family === 4 ? 'ipv4' : 'ipv6';
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');
