/**
 * The daemon's options: dockerd's own names and meanings, as flags and as keys of daemon.json. One table says
 * all about each. A flag that dockerd knows and Longshore does not honour is refused by name, never ignored.
 * Source: dockerd(8), moby cmd/dockerd/config*.go (v28).
 */
import { NETWORK_OPTIONS } from './network-options.ts';

/** `integer` may be below 0. `maps`: name=key=value, an object of objects in daemon.json. */
export type OptionKind = 'text' | 'flag' | 'number' | 'integer' | 'list' | 'map' | 'maps';

export interface Option {
  /** Long flag, without dashes. */
  readonly flag: string;
  readonly short?: string;
  readonly kind: OptionKind;
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
    flag: 'validate',
    kind: 'flag',
    fallback: false,
    group: 'Where',
    help: 'Say whether the options and the config file are right, and end',
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
    help: 'native.cgroupdriver=cgroupfs or systemd; cgroupfs if not given',
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
    flag: 'cdi-spec-dir',
    kind: 'list',
    key: 'cdi-spec-dirs',
    fallback: ['/etc/cdi', '/var/run/cdi'],
    group: 'Running containers',
    help: 'Directory of CDI device descriptions; "" for no CDI (default /etc/cdi and /var/run/cdi)',
  },
  {
    flag: 'userns-remap',
    kind: 'text',
    fallback: '',
    group: 'Running containers',
    help: 'Remap containers by the subordinate IDs of user, user:group, uid:gid, or "default" (dockremap)',
  },
  {
    flag: 'storage-driver',
    short: 's',
    kind: 'text',
    fallback: 'overlay2',
    group: 'Images',
    help: 'overlay2 is the one there is',
  },
  {
    flag: 'selinux-enabled',
    kind: 'flag',
    fallback: false,
    group: 'Running containers',
    help: 'Refused: containers get no SELinux labels',
  },
  {
    flag: 'init-path',
    kind: 'text',
    fallback: '',
    group: 'Running containers',
    help: "The init of containers; if not given the host's docker-init or tini, else our own",
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
  ...NETWORK_OPTIONS,
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

/** By flag; what was not given is not in it. */
export type Values = Record<string, unknown>;
