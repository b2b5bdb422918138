/** The columns of ps, for the options that people use with `docker top`. Source: ps(1) of procps-ng 4. */
import type { HostForPs, ProcessFacts } from './ps-process.ts';

type Format = (process: ProcessFacts, host: HostForPs) => string;

export interface Column {
  readonly title: string;
  readonly format: Format;
}

const NAME_LENGTH_MAX = 8; // wider ones are cut and end in "+"

const FORMATS: Readonly<Record<string, Column>> = {
  pid: column('PID', (p) => String(p.pid)),
  ppid: column('PPID', (p) => String(p.ppid)),
  pgid: column('PGID', (p) => String(p.pgid)),
  sid: column('SID', (p) => String(p.sid)),
  user: column('USER', (p, host) => userName(p.euid, host)),
  euser: column('EUSER', (p, host) => userName(p.euid, host)),
  ruser: column('RUSER', (p, host) => userName(p.uid, host)),
  uid: column('UID', (p) => String(p.euid)),
  euid: column('EUID', (p) => String(p.euid)),
  ruid: column('RUID', (p) => String(p.uid)),
  gid: column('GID', (p) => String(p.egid)),
  group: column('GROUP', (p, host) => host.groupNames.get(p.egid) ?? String(p.egid)),
  comm: column('COMMAND', (p) => (p.state === 'Z' ? `${p.name} <defunct>` : p.name)),
  args: column('COMMAND', (p) => p.args),
  stat: column('STAT', (p) => p.state + p.stateFlags),
  state: column('S', (p) => p.state),
  tty: column('TT', (p) => p.tty),
  tname: column('TTY', (p) => p.tty),
  time: column('TIME', (p) => hoursMinutesSeconds(p.cpuS)),
  bsdtime: column('TIME', (p) => `${Math.floor(p.cpuS / 60)}:${two(Math.floor(p.cpuS % 60))}`),
  etimes: column('ELAPSED', (p, host) => String(Math.floor(aliveS(p, host)))),
  etime: column('ELAPSED', (p, host) => elapsed(aliveS(p, host))),
  bsdstart: column('START', (p, host) => bsdStart(startedAt(p, host))),
  stime: column('STIME', (p, host) => stime(startedAt(p, host))),
  lstart: column('STARTED', (p, host) => lstart(startedAt(p, host))),
  c: column('C', (p, host) => String(Math.min(99, Math.floor(cpuPercent(p, host))))),
  pcpu: column('%CPU', (p, host) => cpuPercent(p, host).toFixed(1)),
  pmem: column('%MEM', (p, host) => ((100 * p.residentKib) / host.memoryKib).toFixed(1)),
  rss: column('RSS', (p) => String(Math.round(p.residentKib))),
  vsz: column('VSZ', (p) => String(Math.round(p.virtualKib))),
  ni: column('NI', (p) => String(p.nice)),
  pri: column('PRI', (p) => String(39 - p.priority)),
  nlwp: column('NLWP', (p) => String(p.threads)),
  wchan: column('WCHAN', (p) => p.waitChannel),
};

const SAME: Readonly<Record<string, string>> = {
  cmd: 'args', command: 'args', ucmd: 'comm', ucomm: 'comm', pgrp: 'pgid', sess: 'sid', session: 'sid', uname: 'user',
  s: 'state', tt: 'tty', cputime: 'time', start_time: 'stime', '%cpu': 'pcpu', '%mem': 'pmem', rssize: 'rss',
  rsz: 'rss', vsize: 'vsz', nice: 'ni', thcount: 'nlwp', egroup: 'group', egid: 'gid',
}; // prettier-ignore

/** Titles that a name has of its own. */
const TITLES: Readonly<Record<string, string>> = {
  cmd: 'CMD',
  tt: 'TT',
  cputime: 'TIME',
  sess: 'SESS',
  session: 'SESS',
  pgrp: 'PGRP',
  vsize: 'VSZ',
  nice: 'NI',
  thcount: 'THCNT',
  ucmd: 'CMD',
  egroup: 'EGROUP',
  egid: 'EGID',
  rssize: 'RSS',
  rsz: 'RSZ',
};

const EF: readonly Column[] = ['user', 'pid', 'ppid', 'c', 'stime', 'tname', 'time', 'cmd'].map((name) =>
  name === 'user' ? { ...named(name)!, title: 'UID' } : named(name)!,
);
const AUX: readonly Column[] = [
  'user',
  'pid',
  'pcpu',
  'pmem',
  'vsz',
  'rss',
  'tname',
  'stat',
  'bsdstart',
  'bsdtime',
  'command',
].map((name) => named(name)!);

/** null: leave it to the host's ps. */
export function decidePsColumns(options: string): readonly Column[] | null {
  const words = options.split(' ').filter((word) => word !== '');
  const [first = '', ...rest] = words;
  if (words.length === 1 && /^-?[efA]{2}$/.test(first) && first.startsWith('-') && first.includes('f')) return EF;
  if (words.length === 1 && /^-?(aux|axu|uax)$/.test(first)) return AUX;
  // "-o a,b", "-eo a,b", "axo a,b": the list may be cut at blanks too.
  const withList = /^(?:-?[eaxA]{0,2}o)(.*)$/.exec(first);
  if (withList === null) return null;
  const names = [withList[1] ?? '', ...rest]
    .join(',')
    .split(',')
    .filter((name) => name !== '');
  if (names.length === 0 || !names.some((name) => name.toLowerCase() === 'pid')) return null;
  const columns = names.map(named);
  return columns.every((one) => one !== null) ? columns : null;
}

export function formatRow(columns: readonly Column[], process: ProcessFacts, host: HostForPs): string[] {
  return columns.map((one) => one.format(process, host));
}

function named(name: string): Column | null {
  const key = Object.hasOwn(SAME, name) ? SAME[name]! : name;
  const found = Object.hasOwn(FORMATS, key) ? FORMATS[key] : undefined;
  if (found === undefined) return null;
  const title = Object.hasOwn(TITLES, name) ? TITLES[name] : undefined;
  return title === undefined ? found : { ...found, title };
}

function column(title: string, format: Format): Column {
  return { title, format };
}

function userName(uid: number, host: HostForPs): string {
  const name = host.userNames.get(uid) ?? String(uid);
  return name.length > NAME_LENGTH_MAX ? `${name.slice(0, NAME_LENGTH_MAX - 1)}+` : name;
}

function aliveS(process: ProcessFacts, host: HostForPs): number {
  return Math.max(0, host.uptimeS - process.startS);
}

function startedAt(process: ProcessFacts, host: HostForPs): Date {
  return new Date(host.bootMs + process.startS * 1000);
}

function cpuPercent(process: ProcessFacts, host: HostForPs): number {
  const alive = aliveS(process, host);
  return alive === 0 ? 0 : (100 * process.cpuS) / alive;
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const;
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'] as const;

/** Time of day for the present day, else the day, else the year. */
function stime(start: Date): string {
  const now = new Date();
  if (start.toDateString() === now.toDateString()) return clock(start);
  return start.getFullYear() === now.getFullYear() ? day(start) : String(start.getFullYear());
}

/** As stime, but the time of day for a whole day. */
function bsdStart(start: Date): string {
  const isRecent = Date.now() - start.getTime() < 24 * 3600 * 1000;
  return isRecent ? clock(start) : day(start);
}

function lstart(start: Date): string {
  const date = String(start.getDate()).padStart(2, ' ');
  return `${DAYS[start.getDay()]} ${MONTHS[start.getMonth()]} ${date} ${clock(start)}:${two(start.getSeconds())} ${start.getFullYear()}`;
}

function clock(time: Date): string {
  return `${two(time.getHours())}:${two(time.getMinutes())}`;
}

function day(time: Date): string {
  return `${MONTHS[time.getMonth()]}${two(time.getDate())}`;
}

/** [DD-]HH:MM:SS */
function hoursMinutesSeconds(seconds: number): string {
  const whole = Math.floor(seconds);
  const days = Math.floor(whole / 86_400);
  const rest = `${two(Math.floor((whole % 86_400) / 3600))}:${two(Math.floor((whole % 3600) / 60))}:${two(whole % 60)}`;
  return days > 0 ? `${two(days)}-${rest}` : rest;
}

/** [[DD-]HH:]MM:SS */
function elapsed(seconds: number): string {
  const text = hoursMinutesSeconds(seconds);
  return text.startsWith('00:') && text.length === 8 ? text.slice(3) : text;
}

function two(number: number): string {
  return String(number).padStart(2, '0');
}
