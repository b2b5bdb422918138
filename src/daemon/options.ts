/**
 * The daemon's options: dockerd's own names and meanings, as flags and as keys of daemon.json. One table says
 * all about each. A flag that dockerd knows and Longshore does not honour is refused by name, never ignored.
 * Source: dockerd(8), moby cmd/dockerd/config*.go (v28).
 */
import { EngineError } from '../core/engine-error.ts';

/** `integer` may be below 0. */
type Kind = 'text' | 'flag' | 'number' | 'integer' | 'list' | 'map';

interface Option {
  /** Long flag, without dashes. */
  readonly flag: string;
  readonly short?: string;
  readonly kind: Kind;
  /** Key in daemon.json; the flag's name if not said. */
  readonly key?: string;
  /** In daemon.json the key stands in an object of this name. */
  readonly section?: string;
  readonly fallback: unknown;
  readonly help: string;
  readonly group: 'Where' | 'Running containers' | 'Network' | 'Images' | 'Access' | 'Logs';
}

/** In the order of --help. */
export const OPTIONS = [
  {
    flag: 'host',
    short: 'H',
    kind: 'list',
    key: 'hosts',
    fallback: [],
    group: 'Where',
    help: 'Listen on unix:///path or tcp://127.0.0.1:port; may be given several times',
  },
  {
    flag: 'scoped-host',
    kind: 'list',
    key: 'scoped-hosts',
    fallback: [],
    group: 'Access',
    help: 'Listen also on HOST,read-only or HOST,label=NAME[=VALUE][,group=NAME]: docs/access.md',
  },
  {
    flag: 'data-root',
    kind: 'text',
    fallback: '/var/lib/longshore',
    group: 'Where',
    help: 'Images, volumes, containers and records',
  },
  {
    flag: 'exec-root',
    kind: 'text',
    fallback: '/run/longshore',
    group: 'Where',
    help: 'What lives no longer than the host is up',
  },
  {
    flag: 'pidfile',
    short: 'p',
    kind: 'text',
    fallback: '/run/longshore.pid',
    group: 'Where',
    help: "The daemon's pid",
  },
  {
    flag: 'config-file',
    kind: 'text',
    fallback: '/etc/longshore/daemon.json',
    group: 'Where',
    help: "Options as JSON, under dockerd's names",
  },
  {
    flag: 'group',
    short: 'G',
    kind: 'text',
    fallback: 'docker',
    group: 'Access',
    help: 'Group that may use the unix socket',
  },
  {
    flag: 'metrics-addr',
    kind: 'text',
    fallback: '',
    group: 'Access',
    help: 'Serve Prometheus metrics at /metrics on HOST:PORT',
  },
  { flag: 'tls', kind: 'flag', fallback: false, group: 'Access', help: 'TLS on tcp:// hosts' },
  {
    flag: 'tlsverify',
    kind: 'flag',
    fallback: false,
    group: 'Access',
    help: 'TLS, and clients must show a certificate of the CA',
  },
  {
    flag: 'tlscacert',
    kind: 'text',
    fallback: '',
    group: 'Access',
    help: "CA of the clients' certificates (default ca.pem in $DOCKER_CERT_PATH or ~/.docker)",
  },
  {
    flag: 'tlscert',
    kind: 'text',
    fallback: '',
    group: 'Access',
    help: "The server's certificate (default cert.pem there)",
  },
  { flag: 'tlskey', kind: 'text', fallback: '', group: 'Access', help: "The server's key (default key.pem there)" },
  {
    flag: 'log-level',
    short: 'l',
    kind: 'text',
    fallback: 'info',
    group: 'Logs',
    help: 'debug, info, warn, error or fatal',
  },
  { flag: 'log-format', kind: 'text', fallback: 'text', group: 'Logs', help: 'text or json' },
  { flag: 'debug', short: 'D', kind: 'flag', fallback: false, group: 'Logs', help: 'The same as --log-level debug' },
  { flag: 'log-driver', kind: 'text', fallback: 'json-file', group: 'Logs', help: "Default for containers' output" },
  {
    flag: 'log-opt',
    kind: 'map',
    key: 'log-opts',
    fallback: {},
    group: 'Logs',
    help: 'Default options of the log driver, name=value',
  },
  {
    flag: 'live-restore',
    kind: 'flag',
    fallback: true,
    group: 'Running containers',
    help: 'Containers go on running while the daemon is down',
  },
  {
    flag: 'shutdown-timeout',
    kind: 'number',
    fallback: 15,
    group: 'Running containers',
    help: 'Seconds for containers to stop at shutdown without live-restore',
  },
  {
    flag: 'default-runtime',
    kind: 'text',
    fallback: '',
    group: 'Running containers',
    help: 'OCI runtime: crun where it works on this host, else runc',
  },
  {
    flag: 'add-runtime',
    kind: 'map',
    key: 'runtimes',
    fallback: {},
    group: 'Running containers',
    help: 'A further OCI runtime, name=/path',
  },
  {
    flag: 'cgroup-parent',
    kind: 'text',
    fallback: '',
    group: 'Running containers',
    help: 'Parent cgroup of all containers',
  },
  {
    flag: 'exec-opt',
    kind: 'list',
    key: 'exec-opts',
    fallback: [],
    group: 'Running containers',
    help: 'native.cgroupdriver=cgroupfs or systemd; if not given, systemd where it runs the host and cgroups are v2',
  },
  {
    flag: 'cpu-rt-period',
    kind: 'number',
    fallback: 0,
    group: 'Running containers',
    help: 'Period of the real-time scheduler in microseconds, for all containers together (cgroup v1)',
  },
  {
    flag: 'cpu-rt-runtime',
    kind: 'number',
    fallback: 0,
    group: 'Running containers',
    help: 'What of it real-time processes may run, in microseconds (cgroup v1)',
  },
  {
    flag: 'default-ipc-mode',
    kind: 'text',
    fallback: 'private',
    group: 'Running containers',
    help: 'IPC namespace of containers that name none: private or shareable',
  },
  {
    flag: 'default-cgroupns-mode',
    kind: 'text',
    fallback: '',
    group: 'Running containers',
    help: 'Cgroup namespace of containers that name none: private or host; if not given, private on cgroup v2',
  },
  {
    flag: 'seccomp-profile',
    kind: 'text',
    fallback: 'builtin',
    group: 'Running containers',
    help: 'System calls of containers that name no profile: a file, builtin or unconfined',
  },
  {
    flag: 'oom-score-adjust',
    kind: 'integer',
    fallback: 0,
    group: 'Running containers',
    help: "The daemon's own oom_score_adj, -1000 to 1000",
  },
  { flag: 'default-shm-size', kind: 'text', fallback: '64m', group: 'Running containers', help: 'Size of /dev/shm' },
  {
    flag: 'default-ulimit',
    kind: 'list',
    key: 'default-ulimits',
    fallback: [],
    group: 'Running containers',
    help: 'name=soft[:hard]',
  },
  {
    flag: 'no-new-privileges',
    kind: 'flag',
    fallback: false,
    group: 'Running containers',
    help: 'Set no-new-privileges for every container',
  },
  {
    flag: 'init',
    kind: 'flag',
    fallback: false,
    group: 'Running containers',
    help: 'Run an init in every container that does not say otherwise',
  },
  {
    flag: 'label',
    kind: 'list',
    key: 'labels',
    fallback: [],
    group: 'Running containers',
    help: 'name=value, shown by docker info',
  },
  {
    flag: 'bridge',
    short: 'b',
    kind: 'text',
    fallback: 'longshore0',
    group: 'Network',
    help: 'Name of the default bridge; "none" for no default network',
  },
  {
    flag: 'bip',
    kind: 'text',
    fallback: '',
    group: 'Network',
    help: "The default bridge's address, 172.17.0.1/16; chosen from what is free if not given",
  },
  {
    flag: 'fixed-cidr',
    kind: 'text',
    fallback: '',
    group: 'Network',
    help: 'Part of the bridge subnet that containers get addresses from',
  },
  {
    flag: 'default-address-pool',
    kind: 'list',
    key: 'default-address-pools',
    fallback: [],
    group: 'Network',
    help: 'Subnets of networks, base=10.10.0.0/16,size=24',
  },
  { flag: 'mtu', kind: 'number', fallback: 1500, group: 'Network', help: "MTU of containers' interfaces" },
  {
    flag: 'ip',
    kind: 'text',
    fallback: '0.0.0.0',
    group: 'Network',
    help: 'Host address of published ports that name none',
  },
  {
    flag: 'icc',
    kind: 'flag',
    fallback: true,
    group: 'Network',
    help: 'Containers on the default bridge reach each other',
  },
  {
    flag: 'ip-masq',
    kind: 'flag',
    fallback: true,
    group: 'Network',
    help: 'Containers reach outside with the host address',
  },
  {
    flag: 'iptables',
    kind: 'flag',
    fallback: true,
    group: 'Network',
    help: 'Packet filter rules (nftables); false: nothing is published, masqueraded or isolated',
  },
  {
    flag: 'userland-proxy',
    kind: 'flag',
    fallback: true,
    group: 'Network',
    help: 'Carry IPv6 connections to published ports of containers without IPv6',
  },
  { flag: 'ip-forward', kind: 'flag', fallback: true, group: 'Network', help: 'Switch on net.ipv4.ip_forward' },
  { flag: 'dns', kind: 'list', fallback: [], group: 'Network', help: 'DNS server of containers' },
  { flag: 'dns-opt', kind: 'list', key: 'dns-opts', fallback: [], group: 'Network', help: 'DNS option of containers' },
  { flag: 'dns-search', kind: 'list', fallback: [], group: 'Network', help: 'DNS search domain of containers' },
  {
    flag: 'insecure-registry',
    kind: 'list',
    key: 'insecure-registries',
    fallback: [],
    group: 'Images',
    help: 'Registry to talk to without TLS, or without checking it',
  },
  {
    flag: 'registry-mirror',
    kind: 'list',
    key: 'registry-mirrors',
    fallback: [],
    group: 'Images',
    help: "Mirror of Docker's registry",
  },
  {
    flag: 'max-concurrent-downloads',
    kind: 'number',
    fallback: 3,
    group: 'Images',
    help: 'Layers at a time in one pull',
  },
  {
    flag: 'max-concurrent-uploads',
    kind: 'number',
    fallback: 5,
    group: 'Images',
    help: 'Layers at a time in one push',
  },
  {
    flag: 'max-download-attempts',
    kind: 'number',
    fallback: 5,
    group: 'Images',
    help: 'How often a layer is asked for before a pull fails',
  },
  {
    flag: 'registry-certs-dir',
    kind: 'text',
    fallback: '/etc/docker/certs.d',
    group: 'Images',
    help: 'HOST:PORT/ has *.crt (CAs), *.cert and *.key of registries',
  },
  {
    flag: 'http-proxy',
    kind: 'text',
    section: 'proxies',
    fallback: '',
    group: 'Images',
    help: 'Proxy for registries reached by http; else HTTP_PROXY is heeded',
  },
  {
    flag: 'https-proxy',
    kind: 'text',
    section: 'proxies',
    fallback: '',
    group: 'Images',
    help: 'Proxy for registries reached by https; else HTTPS_PROXY is heeded',
  },
  {
    flag: 'no-proxy',
    kind: 'text',
    section: 'proxies',
    fallback: '',
    group: 'Images',
    help: 'Hosts, domains and networks reached without; else NO_PROXY is heeded',
  },
] as const satisfies readonly Option[];

const SECTIONS: ReadonlySet<string> = new Set((OPTIONS as readonly Option[]).flatMap(({ section = [] }) => section));

/** By flag; what was not given is not in it. */
export type Values = Record<string, unknown>;

const invalid = (message: string): EngineError => new EngineError('PARAMETER_INVALID', message);

/**
 * Reads flags in dockerd's manner: --name value, --name=value, -n value, -nvalue; a switch may be --name or
 * --name=false. (node:util's parseArgs knows no --switch=false, which dockerd's users write.)
 * @throws {EngineError} PARAMETER_INVALID naming the flag
 */
export function parseFlags(argv: readonly string[]): Values {
  const values: Values = {};
  const rest = [...argv];
  for (let word; (word = rest.shift()) !== undefined;) {
    const match = /^--([^=]+)(?:=(.*))?$/s.exec(word) ?? /^-(\w)=?(.+)?$/s.exec(word);
    if (match === null) throw invalid(`unexpected argument: ${word}`);
    const [, name, attached] = match;
    const option: Option | undefined = OPTIONS.find(
      (option: Option) => option.flag === name || (!word.startsWith('--') && option.short === name),
    );
    if (option === undefined)
      throw invalid(`unknown flag: ${word.replace(/=.*/s, '')} (longshore daemon --help lists what is honoured)`);
    const text = attached ?? (option.kind === 'flag' ? 'true' : rest.shift());
    if (text === undefined) throw invalid(`flag needs an argument: --${option.flag}`);
    addValue(values, option, text);
  }
  return values;
}

function addValue(values: Values, option: Option, text: string): void {
  const { flag, kind } = option;
  switch (kind) {
    case 'text':
      values[flag] = text;
      return;
    case 'flag':
      if (!/^(true|false|1|0|t|f)$/i.test(text))
        throw invalid(`invalid argument "${text}" for "--${flag}" flag: true or false is needed`);
      values[flag] = /^(true|1|t)$/i.test(text);
      return;
    case 'number':
      if (!/^\d+$/.test(text)) throw invalid(`invalid argument "${text}" for "--${flag}" flag: a number is needed`);
      values[flag] = Number(text);
      return;
    case 'integer':
      if (!/^-?\d+$/.test(text)) throw invalid(`invalid argument "${text}" for "--${flag}" flag: an integer is needed`);
      values[flag] = Number(text);
      return;
    case 'list':
      values[flag] = [...((values[flag] as string[] | undefined) ?? []), text];
      return;
    case 'map': {
      const at = text.indexOf('=');
      if (at < 1) throw invalid(`invalid argument "${text}" for "--${flag}" flag: name=value is needed`);
      values[flag] = { ...(values[flag] as object | undefined), [text.slice(0, at)]: text.slice(at + 1) };
    }
  }
}

/** Checks daemon.json's content; keys that are not known are refused, as dockerd does. */
export function parseConfig(config: unknown, path: string): Values {
  if (typeof config !== 'object' || config === null || Array.isArray(config))
    throw invalid(`${path}: an object is needed`);
  const values: Values = {};
  const unknown: string[] = [];
  const read = (entries: object, section: string | undefined): void => {
    for (const [key, value] of Object.entries(entries)) {
      if (section === undefined && SECTIONS.has(key) && fits('map', value)) {
        read(value as object, key);
        continue;
      }
      const option: Option | undefined = OPTIONS.find(
        (option: Option) =>
          option.section === section && (option.key ?? option.flag) === key && option.flag !== 'config-file',
      );
      const shown = section === undefined ? key : `${section}.${key}`;
      if (option === undefined) unknown.push(shown);
      else if (!fits(option.kind, value))
        throw invalid(`${path}: "${shown}" must be a ${option.kind === 'flag' ? 'boolean' : option.kind}`);
      else values[option.flag] = value;
    }
  };
  read(config, undefined);
  if (unknown.length > 0)
    throw invalid(`the following directives don't match any configuration option: ${unknown.join(', ')} (in ${path})`);
  return values;
}

function fits(kind: Kind, value: unknown): boolean {
  switch (kind) {
    case 'text':
      return typeof value === 'string';
    case 'flag':
      return typeof value === 'boolean';
    case 'number':
      return Number.isSafeInteger(value) && (value as number) >= 0;
    case 'integer':
      return Number.isSafeInteger(value);
    case 'list':
      return Array.isArray(value);
    case 'map':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
  }
}

/** The text of `longshore daemon --help`. */
export function optionsHelp(): string {
  const lines: string[] = [];
  for (const group of ['Where', 'Access', 'Running containers', 'Network', 'Images', 'Logs'] as const) {
    lines.push('', `${group}:`);
    for (const option of OPTIONS as readonly Option[]) {
      if (option.group !== group) continue;
      const value = option.kind === 'flag' ? '' : ` ${option.kind}`;
      const name = `  ${option.short === undefined ? '   ' : `-${option.short},`} --${option.flag}${value}`;
      const shown =
        typeof option.fallback === 'string' || typeof option.fallback === 'number' || option.fallback === true
          ? String(option.fallback)
          : '';
      const fallback = shown === '' ? '' : ` (default ${shown})`;
      lines.push(`${name.padEnd(38)}${option.help}${fallback}`);
    }
  }
  return lines.join('\n');
}
