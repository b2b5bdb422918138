/**
 * syslog: udp, tcp, tcp+tls, unix, unixgram; the formats of RFC 3164 and RFC 5424. Messages have the time at which the
 * container wrote them. Source: moby daemon/logger/syslog, RackSec/srslog (v28).
 */
import { accessSync, constants, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { isIP } from 'node:net';
import type { ConnectionOptions } from 'node:tls';

import { isMissing } from '../missing.ts';
import { refuse, refuseAtStart, type Options } from '../option-values.ts';
import type { LogEntry } from '../port.ts';
import { isTransportUrl, parseAddress } from './address.ts';
import { UdpSender } from './datagram.ts';
import { textOf, type Destination, type DriverHost, type LogDriver, type MessageSource } from './driver.ts';
import { StreamConnection, type StreamTarget } from './stream-connection.ts';
import { UnixDatagrams } from './unix-datagrams.ts';

const PORT = 514;
/** Where a host's own syslog listens, when no address is given. */
const LOCAL_SOCKETS = ['/dev/log', '/var/run/syslog', '/var/run/log'];
const FACILITIES = [
  'kern', 'user', 'mail', 'daemon', 'auth', 'syslog', 'lpr', 'news', 'uucp', 'cron', 'authpriv', 'ftp',
  '', '', '', '', 'local0', 'local1', 'local2', 'local3', 'local4', 'local5', 'local6', 'local7',
]; // prettier-ignore
const FACILITY_DAEMON = 3;
const SEVERITY_ERROR = 3;
const SEVERITY_INFO = 6;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const FORMATS = ['', 'rfc3164', 'rfc5424', 'rfc5424micro'];

export const syslog: LogDriver = {
  name: 'syslog',
  options: [
    'env', 'env-regex', 'labels', 'labels-regex', 'syslog-address', 'syslog-facility', 'syslog-tls-ca-cert',
    'syslog-tls-cert', 'syslog-tls-key', 'syslog-tls-skip-verify', 'tag', 'syslog-format',
  ], // prettier-ignore
  unknown: (option) => `unknown log opt '${option}' for syslog log driver`,
  check(options) {
    checkAddress(options['syslog-address'] ?? '');
    checkTlsFiles(options);
    facilityOf(options);
    if (!FORMATS.includes(options['syslog-format'] ?? '')) refuse('Invalid syslog format');
  },
  open: (source, host) => openSyslog(source, host),
};

function checkAddress(text: string): void {
  if (text === '') return;
  if (!isTransportUrl(text) || text.startsWith('tls://'))
    refuse(`syslog-address should be in form proto://address, got ${text}`);
  const address = parseAddress(text);
  if (address === null) {
    const port = /:[^:\]]*$/.exec(text.replace(/^[^:]*:\/\//, '').split('/', 1)[0] ?? '')?.[0] ?? '';
    refuse(`parse ${JSON.stringify(text)}: invalid port ${JSON.stringify(port)} after host`);
  }
  if (!address.scheme.startsWith('unix')) return;
  try {
    statSync(address.path); // as Docker: the socket is there when the container is made
  } catch {
    refuse(`stat ${address.path}: no such file or directory`);
  }
}

/** What Docker finds out at the start. */
function checkTlsFiles(options: Options): void {
  if (!(options['syslog-address'] ?? '').startsWith('tcp+tls://')) return;
  const read = (name: string, context: string): void => {
    const path = options[`syslog-tls-${name}`] ?? '';
    try {
      if (path !== '') accessSync(path, constants.R_OK);
    } catch (error) {
      const because = isMissing(error) ? 'no such file or directory' : 'permission denied';
      refuseAtStart(`${context.replace('%', JSON.stringify(path))}: open ${path}: ${because}`);
    }
  };
  read('ca-cert', 'could not read CA certificate %');
  read('cert', 'could not load X509 key pair');
  read('key', 'could not load X509 key pair');
}

function facilityOf(options: Options): number {
  const text = options['syslog-facility'] ?? '';
  if (text === '') return FACILITY_DAEMON;
  const named = FACILITIES.indexOf(text);
  if (named >= 0) return named;
  if (!/^\d{1,2}$/.test(text) || Number(text) > 23) refuse('invalid syslog facility');
  return Number(text);
}

function openSyslog(source: MessageSource, host: DriverHost): Destination {
  const { options } = source;
  const format = formatter(source, host.hostname, facilityOf(options));
  const address = parseAddress(options['syslog-address'] ?? '');
  switch (address?.scheme) {
    case undefined:
      return new LocalSyslog(format, host.sendDatagrams);
    case 'udp':
      return new SyslogOverUdp(format, new UdpSender(address!.host, address!.port ?? PORT));
    case 'unixgram':
      return new LocalSyslog(format, host.sendDatagrams, address!.path);
    case 'unix':
      return new SyslogOverStream(format, { kind: 'unix', path: address!.path }, false);
    case 'tcp+tls': {
      const target = { host: address!.host, port: address!.port ?? PORT };
      const counted = (options['syslog-format'] ?? '').startsWith('rfc5424'); // RFC 5425 framing
      return new SyslogOverStream(format, { kind: 'tls', options: () => tlsOptions(options, target) }, counted);
    }
    default:
      return new SyslogOverStream(format, { kind: 'tcp', host: address!.host, port: address!.port ?? PORT }, false);
  }
}

async function tlsOptions(
  options: Options,
  target: { readonly host: string; readonly port: number },
): Promise<ConnectionOptions> {
  const file = async (name: string): Promise<Buffer | undefined> => {
    const path = options[name] ?? '';
    return path === '' ? undefined : readFile(path);
  };
  const [ca, cert, key] = await Promise.all([
    file('syslog-tls-ca-cert'),
    file('syslog-tls-cert'),
    file('syslog-tls-key'),
  ]);
  return {
    ...target,
    servername: isIP(target.host) === 0 ? target.host : '',
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    // moby: the option's presence counts, whatever its value.
    rejectUnauthorized: options['syslog-tls-skip-verify'] === undefined,
  };
}

type Format = (entry: LogEntry) => Buffer;

function formatter({ options, tag }: MessageSource, hostname: string, facility: number): Format {
  const { pid } = process;
  const isLocal = (options['syslog-address'] ?? '') === '';
  const head = (time: Date, entry: LogEntry): string => {
    switch (options['syslog-format'] ?? '') {
      case 'rfc5424':
        return `1 ${localTime(time, '')} ${hostname} ${tag} ${pid} ${tag} -`;
      case 'rfc5424micro':
        return `1 ${localTime(time, `.${((entry.timeNs / 1000n) % 1_000_000n).toString().padStart(6, '0')}`)} ${hostname} ${tag} ${pid} ${tag} -`;
      default:
        return isLocal ? `${stamp(time)} ${tag}[${pid}]:` : `${stamp(time)} ${hostname} ${tag}[${pid}]:`;
    }
  };
  return (entry) => {
    const priority = facility * 8 + (entry.stream === 'stderr' ? SEVERITY_ERROR : SEVERITY_INFO);
    const version = head(new Date(Number(entry.timeNs / 1_000_000n)), entry);
    return Buffer.from(`<${priority}>${version} ${textOf(entry)}\n`);
  };
}

/** Go's time.Stamp, in the host's zone. */
function stamp(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = String(time.getDate()).padStart(2, ' ');
  return `${MONTHS[time.getMonth()]} ${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

/** RFC 3339 in the host's zone. */
function localTime(time: Date, fraction: string): string {
  const offsetMin = -time.getTimezoneOffset();
  const local = new Date(time.getTime() + offsetMin * 60_000).toISOString().slice(0, 19);
  if (offsetMin === 0) return `${local}${fraction}Z`;
  const ahead = Math.abs(offsetMin);
  const two = (value: number): string => String(Math.trunc(value)).padStart(2, '0');
  return `${local}${fraction}${offsetMin < 0 ? '-' : '+'}${two(ahead / 60)}:${two(ahead % 60)}`;
}

class SyslogOverUdp implements Destination {
  readonly confirms = 'none';
  readonly lingerMs = 0;
  readonly isBroken = false;
  readonly #format: Format;
  readonly #sender: UdpSender;

  constructor(format: Format, sender: UdpSender) {
    this.#format = format;
    this.#sender = sender;
  }

  async send(batch: readonly LogEntry[]): Promise<void> {
    for (const entry of batch) await this.#sender.send(this.#format(entry)); // oxlint-disable-line no-await-in-loop
  }

  [Symbol.dispose](): void {
    this.#sender[Symbol.dispose]();
  }
}

class SyslogOverStream implements Destination {
  readonly confirms = 'connection';
  readonly lingerMs = 0;
  readonly #format: Format;
  readonly #connection: StreamConnection;
  readonly #isCounted: boolean;

  constructor(format: Format, target: StreamTarget, isCounted: boolean) {
    this.#format = format;
    this.#connection = new StreamConnection(target);
    this.#isCounted = isCounted;
  }

  get isBroken(): boolean {
    return this.#connection.isBroken;
  }

  async send(batch: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    const messages = batch.map((entry) => {
      const message = this.#format(entry);
      return this.#isCounted ? Buffer.concat([Buffer.from(`${message.length} `), message]) : message;
    });
    await this.#connection.write(Buffer.concat(messages), signal);
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }
}

/** The host's own syslog: a datagram socket nearly everywhere. */
class LocalSyslog implements Destination {
  readonly confirms = 'none';
  readonly lingerMs = 0;
  readonly isBroken = false;
  readonly #format: Format;
  readonly #datagrams: UnixDatagrams;
  readonly #paths: readonly string[];

  constructor(format: Format, sendDatagrams: DriverHost['sendDatagrams'], path?: string) {
    this.#format = format;
    this.#datagrams = new UnixDatagrams(sendDatagrams);
    this.#paths = path === undefined ? LOCAL_SOCKETS : [path];
  }

  async send(batch: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    await this.#datagrams.send(await this.#path(), batch, signal, (left) => left.map(this.#format));
  }

  async #path(): Promise<string> {
    for (const path of this.#paths) {
      // oxlint-disable-next-line no-await-in-loop
      if ((await stat(path).catch(() => null))?.isSocket() === true) return path;
    }
    throw new Error('Unix syslog delivery error: no local syslog socket');
  }

  [Symbol.dispose](): void {}
}
