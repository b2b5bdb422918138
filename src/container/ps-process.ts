/** What /proc says of a process, and what of the host is needed to print it as ps does. Source: proc_pid_stat(5), proc_pid_status(5). */
import { readFile, stat } from 'node:fs/promises';
import { totalmem, uptime } from 'node:os';

const TICKS_PER_S = 100; // USER_HZ, fixed on every architecture that Node runs on
const KIB = 1024;
const PAGE_BYTES = 4096;
const PTS_MAJORS = { first: 136, last: 143 };
const TTY_MAJOR = 4;

export interface HostForPs {
  readonly bootMs: number;
  readonly uptimeS: number;
  readonly memoryKib: number;
  readonly userNames: ReadonlyMap<number, string>;
  readonly groupNames: ReadonlyMap<number, string>;
}

export interface ProcessFacts {
  readonly pid: number;
  readonly ppid: number;
  readonly pgid: number;
  readonly sid: number;
  readonly uid: number;
  readonly euid: number;
  readonly egid: number;
  readonly name: string;
  readonly args: string;
  readonly state: string;
  /** Letters that ps puts behind the state: session leader, threads, priority, foreground. */
  readonly stateFlags: string;
  readonly tty: string;
  readonly cpuS: number;
  /** Seconds after boot. */
  readonly startS: number;
  readonly nice: number;
  readonly priority: number;
  readonly threads: number;
  readonly virtualKib: number;
  readonly residentKib: number;
  readonly waitChannel: string;
}

export async function readHost(): Promise<HostForPs> {
  const [userNames, groupNames] = await Promise.all([readNames('/etc/passwd'), readNames('/etc/group')]);
  const uptimeS = uptime();
  return { bootMs: Date.now() - uptimeS * 1000, uptimeS, memoryKib: totalmem() / KIB, userNames, groupNames };
}

/** null: it ended. */
export async function readProcess(pid: number): Promise<ProcessFacts | null> {
  const directory = `/proc/${pid}`;
  try {
    const [statText, status, commandLine, waitChannel] = await Promise.all([
      readFile(`${directory}/stat`, 'utf8'),
      readFile(`${directory}/status`, 'utf8'),
      readFile(`${directory}/cmdline`),
      readFile(`${directory}/wchan`, 'utf8').catch(() => ''),
    ]);
    return parseProcess(pid, statText, status, commandLine, waitChannel);
  } catch (error) {
    if (await stat(directory).catch(() => null)) throw error;
    return null;
  }
}

export function parseProcess(
  pid: number,
  statText: string,
  status: string,
  commandLine: Buffer,
  waitChannel: string,
): ProcessFacts {
  // The name stands in parentheses and may hold any byte, also ") ": the last parenthesis ends it.
  const name = statText.slice(statText.indexOf('(') + 1, statText.lastIndexOf(')'));
  const fields = statText
    .slice(statText.lastIndexOf(')') + 2)
    .trim()
    .split(' ');
  const field = (number: number): number => Number(fields[number - 3]); // numbered as in proc(5)
  const words = commandLine.toString('utf8').split('\0');
  if (words.at(-1) === '') words.pop();
  const [uid = 0, euid = 0] = numbersOf(status, 'Uid');
  const [, egid = 0] = numbersOf(status, 'Gid');
  const state = fields[0] ?? '?';
  const nice = field(19);
  const threads = field(20);
  const flags = [
    nice < 0 ? '<' : nice > 0 ? 'N' : '',
    (numbersOf(status, 'VmLck')[0] ?? 0) > 0 ? 'L' : '',
    field(6) === pid ? 's' : '',
    threads > 1 ? 'l' : '',
    field(8) === field(5) && field(8) > 0 ? '+' : '',
  ];
  return {
    pid,
    ppid: field(4),
    pgid: field(5),
    sid: field(6),
    uid,
    euid,
    egid,
    name,
    args: words.length === 0 ? `[${name}]${state === 'Z' ? ' <defunct>' : ''}` : words.join(' '),
    state,
    stateFlags: flags.join(''),
    tty: formatTty(field(7)),
    cpuS: (field(14) + field(15)) / TICKS_PER_S,
    startS: field(22) / TICKS_PER_S,
    nice,
    priority: field(18),
    threads,
    virtualKib: field(23) / KIB,
    residentKib: (field(24) * PAGE_BYTES) / KIB,
    waitChannel: waitChannel === '' || waitChannel === '0' ? '-' : waitChannel,
  };
}

function formatTty(device: number): string {
  const major = (device >> 8) & 0xfff;
  const minor = (device & 0xff) | ((device >> 12) & 0xfff00);
  if (major >= PTS_MAJORS.first && major <= PTS_MAJORS.last) return `pts/${(major - PTS_MAJORS.first) * 256 + minor}`;
  if (major === TTY_MAJOR) return minor < 64 ? `tty${minor}` : `ttyS${minor - 64}`;
  return '?';
}

function numbersOf(status: string, key: string): number[] {
  const line = status.split('\n').find((one) => one.startsWith(`${key}:`));
  return line === undefined
    ? []
    : line
        .slice(key.length + 1)
        .trim()
        .split(/\s+/)
        .map((word) => Number.parseInt(word, 10));
}

/** IDs to names, of passwd and group files. */
async function readNames(path: string): Promise<ReadonlyMap<number, string>> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const names = new Map<number, string>();
  for (const line of text.split('\n')) {
    const [name, , id] = line.split(':');
    if (name && id && !names.has(Number(id))) names.set(Number(id), name);
  }
  return names;
}
