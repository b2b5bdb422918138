/** Writes resolv.conf, hosts and hostname of a container. The files are bind-mounted: always written in place. */
import { chown, mkdir, writeFile } from 'node:fs/promises';

import type { Owner } from '../core/id-map.ts';

import {
  extraHost,
  hostResolvConf,
  hostsFile,
  internalResolvConf,
  legacyResolvConf,
  type HostsLine,
  type Upstream,
} from './container-files.ts';
import { readText, type HostFacts } from './host-facts.ts';
import type { SandboxRecord } from './records.ts';

export interface FilePlan {
  readonly resolvConf: string;
  readonly hosts: string;
  readonly hostname: string;
  readonly upstreams: readonly Upstream[];
}

const MODE = 0o644;
export class FileWriter {
  readonly #facts: HostFacts;
  readonly #hostGateways: () => readonly string[];
  readonly #owner: Owner;
  /** What was written last, to tell whether a user has changed it since. */
  readonly #written = new Map<string, FilePlan>();

  /** `owner`: the root of containers, who may write to them. */
  constructor(facts: HostFacts, hostGateways: () => readonly string[], owner: Owner) {
    this.#facts = facts;
    this.#hostGateways = hostGateways;
    this.#owner = owner;
  }

  plan(
    sandbox: SandboxRecord,
    { internal, links }: { readonly internal: boolean; readonly links: readonly HostsLine[] },
  ): FilePlan {
    const ipv6 = sandbox.endpoints.some(({ state }) => state.ipv6Address !== '');
    const hostname = `${sandbox.hostname}\n`;
    const hosts = this.#hosts(sandbox, links);
    if (sandbox.kind === 'host')
      return { resolvConf: hostResolvConf(this.#facts.resolvConf, sandbox.dns), hosts, hostname, upstreams: [] };
    if (!internal)
      return {
        resolvConf: legacyResolvConf(this.#facts.resolvConf, sandbox.dns, ipv6),
        hosts,
        hostname,
        upstreams: [],
      };
    const { text, upstreams } = internalResolvConf(this.#facts.resolvConf, sandbox.dns, ipv6);
    return { resolvConf: text, hosts, hostname, upstreams };
  }

  async write(directory: string, plan: FilePlan): Promise<void> {
    await mkdir(directory, { recursive: true, mode: 0o710 });
    const write = async (name: string, text: string): Promise<void> => {
      await writeFile(`${directory}/${name}`, text, { mode: MODE });
      if (this.#owner.uid !== 0) await chown(`${directory}/${name}`, this.#owner.uid, this.#owner.gid);
    };
    await Promise.all([
      write('resolv.conf', plan.resolvConf),
      write('hosts', plan.hosts),
      write('hostname', plan.hostname),
    ]);
    this.#written.set(directory, plan);
  }

  /** For a live container: each file only if nobody else has changed it. */
  async rewrite(directory: string, plan: FilePlan): Promise<void> {
    const before = this.#written.get(directory);
    const files: [name: string, text: string, last: string | undefined][] = [
      ['resolv.conf', plan.resolvConf, before?.resolvConf],
      ['hosts', plan.hosts, before?.hosts],
    ];
    for (const [name, text, last] of files) {
      if (text === last) continue;
      const path = `${directory}/${name}`;
      if (last !== undefined && (await readText(path)) !== last) continue;
      await writeFile(path, text, { mode: MODE });
    }
    this.#written.set(directory, { ...plan, hostname: before?.hostname ?? plan.hostname });
  }

  /** After a restart of the daemon: what the one before us wrote, unless the host's own files have changed since. */
  assume(directory: string, plan: FilePlan): void {
    this.#written.set(directory, plan);
  }

  forget(directory: string): void {
    this.#written.delete(directory);
  }

  #hosts(sandbox: SandboxRecord, links: readonly HostsLine[]): string {
    const extra = sandbox.extraHosts.flatMap((text) => extraHost(text, this.#hostGateways()));
    if (sandbox.kind === 'host') {
      const { hosts } = this.#facts;
      const base = hosts === '' || hosts.endsWith('\n') ? hosts : `${hosts}\n`;
      return base + extra.map(({ address, names }) => `${address}\t${names}\n`).join('');
    }
    // The whole name, then its first part, in whichever of the two settings the dot is.
    const full = sandbox.domainname === '' ? sandbox.hostname : `${sandbox.hostname}.${sandbox.domainname}`;
    const [first] = full.split('.', 1);
    const names = first === full ? full : `${full} ${first}`;
    const own = sandbox.endpoints
      .flatMap(({ state }) => [state.ipv4Address, state.ipv6Address])
      .filter((address) => address !== '')
      .map((address) => ({ address, names }));
    return hostsFile([...extra, ...links], own);
  }
}
