/**
 * Where a registry is and how much it is trusted. Source: moby v28 registry/service_v2.go, config.go, registry.go
 * (mirrors, 127.0.0.0/8, --insecure-registry, certs.d).
 */
import { lookup } from 'node:dns/promises';
import { readdir, readFile } from 'node:fs/promises';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { BlockList, isIP } from 'node:net';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';

export interface RegistryOptions {
  /** "host:port" or CIDR; 127.0.0.0/8 and ::1 always belong to them. */
  readonly insecureRegistries: readonly string[];
  /** Of docker.io, tried first. */
  readonly mirrors: readonly string[];
  /** HOST:PORT/*.crt are CAs, *.cert with *.key client certificates. */
  readonly certsDirectory: string;
  readonly concurrentDownloadsMax: number;
  readonly concurrentUploadsMax: number;
}

export interface Endpoint extends Disposable {
  /** Without a slash at the end. */
  readonly baseUrl: string;
  readonly agent: HttpAgent | HttpsAgent;
}

export const REGISTRY_DEFAULTS: RegistryOptions = {
  insecureRegistries: [],
  mirrors: [],
  certsDirectory: '/etc/docker/certs.d',
  concurrentDownloadsMax: 3,
  concurrentUploadsMax: 5,
};

const DOCKER_HUB_URL = 'https://registry-1.docker.io';
const DEFAULT_PORT = 443;
/** What the environment says about proxies is heeded, as dockerd does. */
const PROXY = { proxyEnv: process.env } as const;

/** In the order they are to be tried. */
export async function endpointsOf(
  domain: string,
  purpose: 'pull' | 'push',
  options: RegistryOptions,
): Promise<Endpoint[]> {
  if (domain === 'docker.io') {
    const mirrors = purpose === 'pull' ? options.mirrors : [];
    const urls = [...mirrors.map((url) => url.replace(/\/+$/, '')), DOCKER_HUB_URL];
    return (await Promise.all(urls.map((url) => forUrl(new URL(url), options)))).flat();
  }
  return await forUrl(new URL(`https://${domain}`), options);
}

async function forUrl(url: URL, options: RegistryOptions): Promise<Endpoint[]> {
  const baseUrl = url.href.replace(/\/+$/, '');
  if (url.protocol === 'http:') return [plain(baseUrl)];
  const certificates = await readCertificates(join(options.certsDirectory, url.host));
  if (!(await isInsecure(url.hostname, url.host, options.insecureRegistries)))
    return [secure(baseUrl, certificates, true)];
  return [secure(baseUrl, certificates, false), plain(baseUrl.replace(/^https:/, 'http:'))];
}

function plain(baseUrl: string): Endpoint {
  const agent = new HttpAgent({ keepAlive: true, ...PROXY });
  return { baseUrl, agent, [Symbol.dispose]: () => agent.destroy() };
}

function secure(baseUrl: string, certificates: Certificates, rejectUnauthorized: boolean): Endpoint {
  const agent = new HttpsAgent({ keepAlive: true, rejectUnauthorized, ...certificates, ...PROXY });
  return { baseUrl, agent, [Symbol.dispose]: () => agent.destroy() };
}

interface Certificates {
  readonly ca?: string[];
  readonly cert?: Buffer[];
  readonly key?: Buffer[];
}

async function readCertificates(directory: string): Promise<Certificates> {
  let names: string[];
  try {
    names = (await readdir(directory)).toSorted();
  } catch {
    return {}; // most registries have none
  }
  const read = async (suffix: string): Promise<Buffer[]> =>
    await Promise.all(names.filter((name) => name.endsWith(suffix)).map((name) => readFile(join(directory, name))));
  const [ca, cert, key] = await Promise.all([read('.crt'), read('.cert'), read('.key')]);
  return {
    ...(ca.length > 0 && { ca: [...rootCertificates, ...ca.map(String)] }),
    ...(cert.length > 0 && { cert, key }),
  };
}

/** A name counts when one of its addresses does. */
async function isInsecure(hostname: string, host: string, listed: readonly string[]): Promise<boolean> {
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
