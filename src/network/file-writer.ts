/** Writes resolv.conf, hosts and hostname of a container. The files are bind-mounted: always written in place. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';

import {
  extraHost,
  hostResolvConf,
  hostsFile,
  internalResolvConf,
  legacyResolvConf,
  parseResolvConf,
  type HostsLine,
  type ResolvConf,
  type Upstream,
} from './container-files.ts';
import type { SandboxRecord } from './records.ts';

export interface FilePlan {
  readonly resolvConf: string;
  readonly hosts: string;
  readonly hostname: string;
  readonly upstreams: readonly Upstream[];
}

const MODE = 0o644;
/** systemd-resolved's stub is useless in a container; its real servers stand here. */
const RESOLVED_STUB = '127.0.0.53';
const RESOLVED_CONF = '/run/systemd/resolve/resolv.conf';

export class FileWriter {
  #host: ResolvConf = { servers: [], search: [], options: [], other: [] };
  #hostHosts = '';
  #readAtMs = -Infinity;
  readonly #nowMs: () => number;
  readonly #hostGateway: () => string;
  /** What was written last, to tell whether a user has changed it since. */
  readonly #written = new Map<string, FilePlan>();

  constructor(options: { readonly nowMs: () => number; readonly hostGateway: () => string }) {
    this.#nowMs = options.nowMs;
    this.#hostGateway = options.hostGateway;
  }

  plan(
    sandbox: SandboxRecord,
    { internal, links }: { readonly internal: boolean; readonly links: readonly HostsLine[] },
  ): FilePlan {
    const ipv6 = sandbox.endpoints.some(({ state }) => state.ipv6Address !== '');
    const hostname = `${sandbox.hostname}\n`;
    const hosts = this.#hosts(sandbox, links);
    if (sandbox.kind === 'host')
      return { resolvConf: hostResolvConf(this.#host, sandbox.dns), hosts, hostname, upstreams: [] };
    if (!internal)
      return { resolvConf: legacyResolvConf(this.#host, sandbox.dns, ipv6), hosts, hostname, upstreams: [] };
    const { text, upstreams } = internalResolvConf(this.#host, sandbox.dns, ipv6);
    return { resolvConf: text, hosts, hostname, upstreams };
  }

  /** Reads the host's files when they were last read a while ago. */
  async refresh(): Promise<void> {
    if (this.#nowMs() - this.#readAtMs < 1000) return;
    this.#readAtMs = this.#nowMs();
    const [resolv, hosts] = await Promise.all([read('/etc/resolv.conf'), read('/etc/hosts')]);
    let conf = parseResolvConf(resolv);
    if (conf.servers.length > 0 && conf.servers.every((server) => server === RESOLVED_STUB)) {
      const real = parseResolvConf(await read(RESOLVED_CONF));
      if (real.servers.length > 0) conf = real;
    }
    this.#host = conf;
    this.#hostHosts = hosts;
  }

  async write(directory: string, plan: FilePlan): Promise<void> {
    await mkdir(directory, { recursive: true, mode: 0o710 });
    await Promise.all([
      writeFile(`${directory}/resolv.conf`, plan.resolvConf, { mode: MODE }),
      writeFile(`${directory}/hosts`, plan.hosts, { mode: MODE }),
      writeFile(`${directory}/hostname`, plan.hostname, { mode: MODE }),
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
      if (last !== undefined && (await read(path)) !== last) continue;
      await writeFile(path, text, { mode: MODE });
    }
    this.#written.set(directory, { ...plan, hostname: before?.hostname ?? plan.hostname });
  }

  forget(directory: string): void {
    this.#written.delete(directory);
  }

  #hosts(sandbox: SandboxRecord, links: readonly HostsLine[]): string {
    const extra = sandbox.extraHosts.map((text) => extraHost(text, this.#hostGateway()));
    if (sandbox.kind === 'host') {
      const base = this.#hostHosts === '' || this.#hostHosts.endsWith('\n') ? this.#hostHosts : `${this.#hostHosts}\n`;
      return base + extra.map(({ address, names }) => `${address}\t${names}\n`).join('');
    }
    const names =
      sandbox.domainname === '' ? sandbox.hostname : `${sandbox.hostname}.${sandbox.domainname} ${sandbox.hostname}`;
    const own = sandbox.endpoints
      .flatMap(({ state }) => [state.ipv4Address, state.ipv6Address])
      .filter((address) => address !== '')
      .map((address) => ({ address, names }));
    return hostsFile([...extra, ...links], own);
  }
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return ''; // a host without the file: as if it were empty
  }
}
