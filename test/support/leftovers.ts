/**
 * What the tests could leave on a host: read before and after a whole run, the difference must be nothing. As a
 * program (`node test/support/leftovers.ts FILE`) it writes what is there now.
 */
import { execFileSync } from 'node:child_process';
import { globSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

export type Leftovers = Readonly<
  Record<
    'mounts' | 'namespaces' | 'interfaces' | 'nftTables' | 'cgroups' | 'processes' | 'sockets' | 'files',
    readonly string[]
  >
>;

export function readLeftovers(): Leftovers {
  return {
    mounts: lines('/proc/self/mountinfo').map((line) => line.split(' ')[4]!),
    namespaces: globSync('/run/netns/*'),
    interfaces: readdirSync('/sys/class/net'),
    nftTables: execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line !== ''),
    // Not the parent of all containers' cgroups: it stays, as dockerd's does, since every daemon of the host may be using it.
    cgroups: globSync([
      '/sys/fs/cgroup/**/longshore*',
      '/sys/fs/cgroup/**/longshore/*/',
      '/sys/fs/cgroup/**/ls-test*',
    ]).filter((path) => !path.endsWith('/longshore')),
    processes: processes(),
    sockets: lines('/proc/net/unix')
      .map((line) => line.split(/\s+/)[7] ?? '')
      .filter((path) => path.includes('longshore')),
    files: [...globSync('/tmp/longshore*'), ...globSync('/run/longshore*'), ...globSync('/var/lib/longshore*')],
  };
}

/** By command line, so that a pid that is used again does not look the same. */
function processes(): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      if (
        /longshore|\/shim |dockerd|docker-registry/.test(command) &&
        !command.includes('leftovers') &&
        !command.includes('test.sh')
      )
        found.push(`${pid} ${command.slice(0, 200)}`);
    } catch {
      // ended meanwhile
    }
  }
  return found;
}

function lines(path: string): string[] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
}

if (import.meta.main) writeFileSync(process.argv[2]!, JSON.stringify(readLeftovers()));
