/**
 * Where a registry is and how much it is trusted. Source: moby v28 registry/service_v2.go, config.go, registry.go
 * (mirrors, 127.0.0.0/8, --insecure-registry, certs.d).
 */
import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { join } from 'node:path';

import { EngineError } from '../../core/engine-error.ts';

import { readCertificates } from './certificates.ts';
import { proxiesOf, type Proxies } from './proxy.ts';
import { openTransport, type Transport } from './transport.ts';

export interface RegistryOptions {
  /** "host:port" or CIDR; 127.0.0.0/8 and ::1 always belong to them. */
  readonly insecureRegistries: readonly string[];
  /** URLs of mirrors of docker.io, tried first. */
  readonly mirrors: readonly string[];
  /** Where docker.io is. */
  readonly hubUrl: string;
  /** Where images are searched for whose name has no host. */
  readonly searchHost: string;
  /** HOST:PORT/*.crt are CAs, *.cert with *.key client certificates. */
  readonly certsDirectory: string;
  readonly proxies: Proxies;
  readonly concurrentDownloadsMax: number;
  readonly concurrentUploadsMax: number;
  readonly downloadAttemptsMax: number;
}

export interface Endpoint extends Disposable {
  /** Without a slash at the end. */
  readonly baseUrl: string;
  readonly isMirror: boolean;
  readonly transport: Transport;
}

export const REGISTRY_DEFAULTS: RegistryOptions = {
  insecureRegistries: [],
  mirrors: [],
  hubUrl: 'https://registry-1.docker.io',
  searchHost: 'index.docker.io',
  certsDirectory: '/etc/docker/certs.d',
  proxies: proxiesOf(process.env),
  concurrentDownloadsMax: 3,
  concurrentUploadsMax: 5,
  downloadAttemptsMax: 5,
};

const DEFAULT_PORT = 443;

/** In the order they are to be tried. */
export async function endpointsOf(
  domain: string,
  purpose: 'pull' | 'push',
  options: RegistryOptions,
): Promise<Endpoint[]> {
  if (domain !== 'docker.io') return await forHost(`https://${domain}`, domain, false, options);
  const mirrors = purpose === 'pull' ? options.mirrors : [];
  const endpoints = await Promise.all(
    mirrors.map((text) => {
      const url = /^https?:\/\//.test(text) ? text : `https://${text}`;
      return forHost(url, hostOf(url), true, options);
    }),
  );
  return [...endpoints.flat(), ...(await forHost(options.hubUrl, hostOf(options.hubUrl), false, options))];
}

/** "host:port" as written: URL would leave out a port that goes without saying, but certs.d is named by it. */
function hostOf(url: string): string {
  return url.replace(/^https?:\/\//, '').split('/', 1)[0]!;
}

async function forHost(url: string, host: string, isMirror: boolean, options: RegistryOptions): Promise<Endpoint[]> {
  const baseUrl = url.replace(/\/+$/, '');
  if (!URL.canParse(url)) throw new EngineError('PARAMETER_INVALID', `unable to parse server address: ${url}`);
  const { hostname } = new URL(url);
  // Without TLS nothing hangs on it, and behind a proxy the name may mean nothing here.
  const isInsecure = !url.startsWith('http:') && (await isInsecureHost(hostname, host, options.insecureRegistries));
  const certificates = await readCertificates(join(options.certsDirectory, host));
  const open = (at: string): Endpoint => {
    const transport = openTransport({ proxies: options.proxies, certificates, isVerified: !isInsecure });
    return { baseUrl: at, isMirror, transport, [Symbol.dispose]: () => transport[Symbol.dispose]() };
  };
  if (!isInsecure || isMirror) return [open(baseUrl)];
  return [open(baseUrl), open(baseUrl.replace(/^https:/, 'http:'))];
}

/** A name counts when one of its addresses does. */
async function isInsecureHost(hostname: string, host: string, listed: readonly string[]): Promise<boolean> {
  const name = hostname.replace(/^\[|\]$/g, '');
  const plainNames = new Set(listed);
  if (plainNames.has(host) || plainNames.has(name) || plainNames.has(`${name}:${DEFAULT_PORT}`)) return true;
  const ranges = new BlockList();
  ranges.addSubnet('127.0.0.0', 8, 'ipv4');
  ranges.addAddress('::1', 'ipv6');
  for (const range of listed) {
    const [address = '', bits = ''] = range.split('/');
    if (isIP(address) !== 0 && /^\d+$/.test(bits))
      ranges.addSubnet(address, Number(bits), isIP(address) === 4 ? 'ipv4' : 'ipv6');
  }
  const check = (address: string): boolean => ranges.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6');
  if (isIP(name) !== 0) return check(name);
  try {
    return (await lookup(name, { all: true })).some(({ address }) => check(address));
  } catch {
    return false; // the request will say that it cannot be found
  }
}
