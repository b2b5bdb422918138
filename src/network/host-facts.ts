/** What this host says about itself that networks depend on, read anew at most once a second. */
import { readFile } from 'node:fs/promises';

import type { Family } from './address.ts';
import { parseResolvConf, type ResolvConf } from './container-files.ts';

/** systemd-resolved's stub is useless in a container; its real servers stand in the other file. */
const RESOLVED_STUB = '127.0.0.53';
const RESOLVED_CONF = '/run/systemd/resolve/resolv.conf';
const FRESH_MS = 1000;

export class HostFacts {
  resolvConf: ResolvConf = { servers: [], search: [], options: [], other: [] };
  /** The text of /etc/hosts. */
  hosts = '';
  /** br_netfilter is on: bridged packets pass the tables of their family too. */
  isBridgeFiltered: Readonly<Record<Family, boolean>> = { 4: false, 6: false };
  /** IPv6 can be listened on. */
  hasIpv6 = false;
  readonly #nowMs: () => number;
  #readAtMs = -Infinity;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  async refresh(): Promise<void> {
    if (this.#nowMs() - this.#readAtMs < FRESH_MS) return;
    const [resolv, hosts, filtered4, filtered6, ipv6] = await Promise.all([
      readText('/etc/resolv.conf'),
      readText('/etc/hosts'),
      readText('/proc/sys/net/bridge/bridge-nf-call-iptables'),
      readText('/proc/sys/net/bridge/bridge-nf-call-ip6tables'),
      readText('/proc/net/if_inet6'),
    ]);
    let conf = parseResolvConf(resolv);
    if (conf.servers.length > 0 && conf.servers.every((server) => server === RESOLVED_STUB)) {
      const real = parseResolvConf(await readText(RESOLVED_CONF));
      if (real.servers.length > 0) conf = real;
    }
    this.resolvConf = conf;
    this.hosts = hosts;
    this.hasIpv6 = ipv6 !== '';
    this.isBridgeFiltered = { 4: filtered4.trim() === '1', 6: filtered6.trim() === '1' };
    this.#readAtMs = this.#nowMs();
  }
}

/** A host without the file: as if it were empty. */
export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return '';
  }
}
