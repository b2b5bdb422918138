/** Flags and file to settings: defaults, checks, and units. Nothing here is read from the host. */
import { isIP } from 'node:net';
import { parse as parsePath } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import { parseScopedHost } from '../api/scope.ts';
import { proxiesOf, type Proxies } from '../image/registry/proxy.ts';
import { networkSettings, type NetworkSettings } from './network-options.ts';
import { OPTIONS, type Values } from './options.ts';

export interface DaemonOptions {
  readonly hosts: readonly string[];
  /** Look at the options and start nothing. */
  readonly validate: boolean;
  /** Further ones, as --scoped-host has them: "unix:///run/ro.sock,read-only". */
  readonly scopedHosts: readonly string[];
  /** Said with --tls=false or --tlsverify=false: whoever reaches a tcp:// host may do everything. */
  readonly openToAll: boolean;
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly pidfile: string;
  readonly network: NetworkSettings;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'fatal';
  readonly logFormat: 'text' | 'json';
  readonly liveRestore: boolean;
  readonly shutdownTimeoutS: number;
  readonly group: string;
  readonly defaultRuntime: string;
  readonly runtimes: Readonly<Record<string, { readonly path: string; readonly args: readonly string[] }>>;
  readonly cgroupParent: string;
  /** "": cgroupfs. */
  readonly cgroupDriver: '' | 'cgroupfs' | 'systemd';
  /** Of all containers together; 0: as the kernel has it. */
  readonly cpuRealtime: { readonly periodUs: number; readonly runtimeUs: number };
  readonly defaultIpcMode: 'private' | 'shareable';
  /** "": private on cgroup v2, host on v1. */
  readonly defaultCgroupnsMode: '' | 'private' | 'host';
  /** "builtin", "unconfined" or a file. */
  readonly seccompProfile: string;
  /** 0: as it is. */
  readonly oomScoreAdjust: number;
  readonly defaultShmSizeBytes: number;
  readonly defaultUlimits: readonly { readonly name: string; readonly soft: number; readonly hard: number }[];
  readonly noNewPrivileges: boolean;
  readonly usernsRemap: string;
  readonly cdiSpecDirs: readonly string[];
  /** "": whatever is found. */
  readonly initPath: string;
  readonly init: boolean;
  readonly logDriver: string;
  readonly logOptions: Readonly<Record<string, string>>;
  readonly labels: readonly string[];
  readonly insecureRegistries: readonly string[];
  readonly registryMirrors: readonly string[];
  readonly maxConcurrentDownloads: number;
  readonly maxConcurrentUploads: number;
  /** HOST:PORT; "" for none. */
  readonly metricsAddress: string;
  readonly maxDownloadAttempts: number;
  readonly registryCertsDir: string;
  /** As asked for or as the environment says; "" for none. */
  readonly proxies: Proxies;
  readonly tls: boolean;
  readonly tlsVerify: boolean;
  readonly tlsCaCert: string;
  readonly tlsCert: string;
  readonly tlsKey: string;
}

const invalid = (message: string): EngineError => new EngineError('PARAMETER_INVALID', message);

/** Flags and file together; the same thing in both is refused, as dockerd does. */
export function daemonOptions(flags: Values, file: Values): DaemonOptions {
  const both = Object.keys(flags).filter((name) => name in file && name !== 'config-file');
  if (both.length > 0) {
    const places = both.map((name) => `${name}: (from flag: ${shown(flags[name])}, from file: ${shown(file[name])})`);
    throw invalid(
      `the following directives are specified both as a flag and in the configuration file: ${places.join(', ')}`,
    );
  }
  const fallback: Values = Object.fromEntries(OPTIONS.map((option) => [option.flag, option.fallback]));
  const v = { ...fallback, ...file, ...flags } as Record<(typeof OPTIONS)[number]['flag'], never>;
  // For config files of dockerd: what they ask for is what there is, or is refused.
  if (v['storage-driver'] !== '') oneOf('storage-driver', v['storage-driver'], ['overlay2']);
  if (v['selinux-enabled']) throw invalid('--selinux-enabled is not supported: containers get no SELinux labels');
  const hosts = (v['host'] as string[]).length > 0 ? (v['host'] as string[]) : ['unix:///run/longshore.sock'];
  const options: DaemonOptions = {
    hosts: hosts.map(parseHost),
    validate: v['validate'],
    scopedHosts: (v['scoped-host'] as string[]).map(
      (text) => `${parseHost(parseScopedHost(text).host)}${text.slice(text.indexOf(','))}`,
    ),
    openToAll: [flags, file].some((given) => given['tls'] === false || given['tlsverify'] === false),
    dataRoot: absolute('data-root', v['data-root']),
    execRoot: absolute('exec-root', v['exec-root']),
    pidfile: v['pidfile'],
    network: networkSettings(v),
    logLevel: v['debug'] ? 'debug' : oneOf('log-level', v['log-level'], ['debug', 'info', 'warn', 'error', 'fatal']),
    logFormat: oneOf('log-format', v['log-format'], ['text', 'json']),
    liveRestore: v['live-restore'],
    shutdownTimeoutS: v['shutdown-timeout'],
    group: v['group'],
    defaultRuntime: v['default-runtime'],
    runtimes: parseRuntimes(v['add-runtime']),
    cgroupParent: v['cgroup-parent'],
    cgroupDriver: parseExecOptions(v['exec-opt']),
    cpuRealtime: { periodUs: v['cpu-rt-period'], runtimeUs: v['cpu-rt-runtime'] },
    defaultIpcMode: modeOf('IPC', v['default-ipc-mode'], ['shareable', 'private']),
    defaultCgroupnsMode:
      v['default-cgroupns-mode'] === ''
        ? ''
        : modeOf('cgroup namespace', v['default-cgroupns-mode'], ['host', 'private']),
    seccompProfile: v['seccomp-profile'] || 'builtin',
    oomScoreAdjust: oomScore(v['oom-score-adjust']),
    defaultShmSizeBytes: parseSize('default-shm-size', v['default-shm-size']),
    defaultUlimits: (v['default-ulimit'] as string[]).map(parseUlimit),
    noNewPrivileges: v['no-new-privileges'],
    usernsRemap: v['userns-remap'],
    cdiSpecDirs: (v['cdi-spec-dir'] as string[]).filter((directory) => directory !== ''),
    initPath: v['init-path'],
    init: v['init'],
    logDriver: v['log-driver'],
    logOptions: v['log-opt'],
    labels: v['label'],
    insecureRegistries: v['insecure-registry'],
    metricsAddress: v['metrics-addr'],
    registryMirrors: (v['registry-mirror'] as string[]).map(parseMirror),
    maxConcurrentDownloads: atLeastOne('max-concurrent-downloads', v['max-concurrent-downloads']),
    maxConcurrentUploads: atLeastOne('max-concurrent-uploads', v['max-concurrent-uploads']),
    maxDownloadAttempts: atLeastOne('max-download-attempts', v['max-download-attempts']),
    registryCertsDir: absolute('registry-certs-dir', v['registry-certs-dir']),
    proxies: proxiesOf(process.env, { http: v['http-proxy'], https: v['https-proxy'], no: v['no-proxy'] }),
    tls: v['tls'] || v['tlsverify'],
    tlsVerify: v['tlsverify'],
    tlsCaCert: v['tlscacert'],
    tlsCert: v['tlscert'],
    tlsKey: v['tlskey'],
  };
  checkTls(options);
  return options;
}

/** In a message; what may be the URL of a proxy without its password. */
function shown(value: unknown): string {
  return typeof value === 'string' ? withoutPassword(value) : JSON.stringify(value);
}

/** Source: moby v28 daemon/config MaskCredentials() */
export function withoutPassword(proxy: string): string {
  return proxy.replace(/^([a-z0-9+.-]+:\/\/)[^/@]*@/i, '$1xxxxx:xxxxx@');
}

/** What /info warns of. Source: moby daemon/info.go fillAPIInfo() (v26; v28 tells also what will come of it). */
export function apiWarnings({ hosts, tls, tlsVerify }: Pick<DaemonOptions, 'hosts' | 'tls' | 'tlsVerify'>): string[] {
  if (tlsVerify) return [];
  const [scheme, lack] = tls ? ['https', 'TLS client verification'] : ['http', 'encryption'];
  return hosts
    .filter((host) => host.startsWith('tcp://'))
    .map(
      (host) =>
        `WARNING: API is accessible on ${scheme}://${host.slice('tcp://'.length)} without ${lack}.
         Access to the remote API is equivalent to root access on the host. Refer
         to the 'Docker daemon attack surface' section in the documentation for
         more information: https://docs.docker.com/go/attack-surface/`,
    );
}

function checkTls(options: DaemonOptions): void {
  for (const text of [...options.hosts, ...options.scopedHosts]) {
    const host = text.split(',', 1)[0]!;
    if (!host.startsWith('tcp://') || options.tls || options.openToAll || isLoopback(host)) continue;
    throw invalid(
      `${host}: anybody who reaches this address would be root on this host. Listen on 127.0.0.1, use --tlsverify, or say --tls=false to open it to all`,
    );
  }
}

/** By number, or as "localhost": another name may become any address. */
export function isLoopback(tcpHost: string): boolean {
  const host = /^tcp:\/\/(?:\[([^\]]*)\]|([^:/]*))(?::\d+)?\/?$/.exec(tcpHost);
  const name = host?.[1] ?? host?.[2];
  if (name === undefined) return false;
  return name === '' || name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'));
}

function parseHost(text: string): string {
  if (/^unix:\/\/\/.+/.test(text) || /^tcp:\/\/[^/]+$/.test(text)) return text;
  if (text.startsWith('/')) return `unix://${text}`;
  throw invalid(`unable to parse docker host ${JSON.stringify(text)}: unix:///path or tcp://host:port is needed`);
}

function absolute(flag: string, path: string): string {
  if (!path.startsWith('/') || path.includes('\0') || parsePath(path).root === path)
    throw invalid(`--${flag}: an absolute path below / is needed: ${path}`);
  return path.replace(/\/+$/, '');
}

function oneOf<T extends string>(flag: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((value) => value === text);
  if (found === undefined) throw invalid(`--${flag}: ${text} is none of ${allowed.join(', ')}`);
  return found;
}

function atLeastOne(flag: string, count: number): number {
  if (count < 1) throw invalid(`invalid ${flag.replaceAll('-', ' ')}: ${count}`);
  return count;
}

/** Source: moby v28 daemon/pkg/registry ValidateMirror() */
function parseMirror(text: string): string {
  const refuse = (why: string): never => {
    throw invalid(`invalid mirror: ${why}`);
  };
  if (!URL.canParse(text)) return refuse(`${JSON.stringify(text)} is not a valid URI`);
  const { protocol, username, pathname, search, hash } = new URL(text);
  if (protocol !== 'http:' && protocol !== 'https:')
    return refuse(`unsupported scheme ${JSON.stringify(protocol.slice(0, -1))} in ${JSON.stringify(text)}`);
  if (search !== '' || hash !== '') return refuse(`query or fragment at end of the URI ${JSON.stringify(text)}`);
  if (username !== '') return refuse('username/password not allowed in URI');
  return pathname === '/' ? `${text.replace(/\/+$/, '')}/` : text;
}

function parseRuntimes(runtimes: Readonly<Record<string, unknown>>): DaemonOptions['runtimes'] {
  return Object.fromEntries(
    Object.entries(runtimes).map(([name, value]) => {
      const { path, runtimeArgs, ...unknown } =
        typeof value === 'string' ? { path: value } : (value as { path?: unknown; runtimeArgs?: unknown });
      if (typeof path !== 'string' || Object.keys(unknown).length > 0)
        throw invalid(`runtime ${name}: {"path": "/usr/bin/crun", "runtimeArgs": [...]} is needed`);
      return [name, { path, args: Array.isArray(runtimeArgs) ? runtimeArgs.map(String) : [] }];
    }),
  );
}

/** Source: moby daemon/daemon_unix.go verifyCgroupDriver (v28). */
function parseExecOptions(options: readonly string[]): DaemonOptions['cgroupDriver'] {
  let driver: DaemonOptions['cgroupDriver'] = '';
  for (const option of options) {
    const match = /^([^=]+)=(.*)$/s.exec(option);
    if (match === null) throw invalid(`unable to parse key/value option: ${option}`);
    if (match[1]!.trim().toLowerCase() !== 'native.cgroupdriver')
      throw invalid(`--exec-opt ${option}: native.cgroupdriver is the only option there is`);
    const value = match[2]!.trim();
    if (value !== '' && value !== 'cgroupfs' && value !== 'systemd')
      throw invalid(`native.cgroupdriver option ${value} not supported`);
    driver = value;
  }
  return driver;
}

function modeOf<T extends string>(what: string, text: string, allowed: readonly [T, T]): T {
  const found = allowed.find((mode) => mode === text);
  if (found === undefined) {
    throw invalid(`default ${what} mode setting (${text}) is invalid; use "${allowed[0]}" or "${allowed[1]}"`);
  }
  return found;
}

function oomScore(score: number): number {
  if (score < -1000 || score > 1000) throw invalid(`--oom-score-adjust: ${score} is not in [-1000, 1000]`);
  return score;
}

function parseUlimit(text: string): { name: string; soft: number; hard: number } {
  const match = /^(\w+)=(-?\d+)(?::(-?\d+))?$/.exec(text);
  if (match === null) throw invalid(`invalid ulimit argument: ${text}`);
  return { name: match[1]!, soft: Number(match[2]), hard: Number(match[3] ?? match[2]) };
}

const UNIT = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 } as const;

function parseSize(flag: string, text: string): number {
  const match = /^(\d+)([bkmg]?)b?$/i.exec(text);
  if (match === null) throw invalid(`--${flag}: invalid size: ${text}`);
  return Number(match[1]) * UNIT[match[2]!.toLowerCase() as keyof typeof UNIT];
}
