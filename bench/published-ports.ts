/**
 * Thousands of published ports: what the start of the container takes, what its end takes, and the memory of all of the
 * engine's processes meanwhile (PSS), against dockerd with and without its proxies, in one run. Each engine has a
 * network namespace of its own.
 *
 *   ENGINES="longshore dockerd dockerd-proxy" node bench/published-ports.ts [PORTS, default 2000] [PORTS for dockerd with proxies, default 200]
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { eventually, run, TestDaemon } from '../test/support/daemon.ts';
import { Hosts } from '../test/support/hosts.ts';

const PORTS = Number(process.argv[2] ?? 2000);
const PROXY_PORTS = Number(process.argv[3] ?? 200);
const FIRST = 20_000;
const ENGINES = (process.env['ENGINES'] ?? 'longshore dockerd dockerd-proxy').split(' ');

interface Engine {
  readonly name: string;
  readonly host: string;
  /** Its processes are those below this one, and whose parent is gone but whose command line has its directory. */
  readonly pid: number;
  readonly directory: string;
}

const docker = async (engine: Engine, ...argv: readonly string[]): Promise<string> => {
  const { code, stdout, stderr } = await run('docker', ['-H', engine.host, ...argv], { timeoutMs: 1_200_000 });
  if (code !== 0) throw new Error(`${engine.name}: docker ${argv.join(' ').slice(0, 100)}: ${stderr}`);
  return stdout.trim();
};

if (ENGINES.includes('longshore')) {
  await using hosts = await Hosts.make();
  await using daemon = await TestDaemon.startIn(hosts.path('a'), '--log-level', 'info');
  await daemon.image();
  const { host, pid, directory } = daemon;
  await measure({ name: 'longshore', host, pid, directory }, PORTS);
}
for (const proxy of [false, true]) {
  if (!ENGINES.includes(proxy ? 'dockerd-proxy' : 'dockerd')) continue;
  await using hosts = await Hosts.make();
  const directory = mkdtempSync(join(tmpdir(), 'dkr-'));
  const host = `unix://${directory}/s`;
  const options = [`--data-root=${directory}/data`, `--exec-root=${directory}/exec`, `--pidfile=${directory}/pid`];
  const child = spawn(
    'nsenter',
    [
      `--net=${hosts.path('a')}`,
      'dockerd',
      '-H',
      host,
      ...options,
      '--storage-driver=vfs',
      `--userland-proxy=${proxy}`,
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const engine = { name: `dockerd, userland-proxy=${proxy}`, host, pid: child.pid!, directory };
  const ready = async (): Promise<boolean> => (await run('docker', ['-H', host, 'version'])).code === 0;
  try {
    await eventually('dockerd answers', ready, 60_000);
    const script = `sh ${join(import.meta.dirname, '../test/support/busybox-image.sh')} | docker -H ${host} import - bb:1`;
    await run('sh', ['-c', script]);
    await measure(engine, proxy ? PROXY_PORTS : PORTS);
  } finally {
    child.kill('SIGTERM');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  }
}

async function measure(engine: Engine, count: number): Promise<void> {
  const last = FIRST + count - 1;
  const range = ['-p', `${FIRST}-${last}:${FIRST}-${last}`];
  // No two in a row, and none keeps its number: nothing to make an interval of.
  const single = Array.from({ length: count }, (_, index) => ['-p', `${FIRST + 2 * index}:${index + 1}`]).flat();
  for (const [what, ports] of [
    ['no port', []],
    ['a range', range],
    ['singly', single],
  ] as const) {
    await docker(engine, 'create', '--name', 'many', ...ports, 'bb:1', 'sleep', '10000');
    const before = memoryKb(engine);
    let begun = performance.now();
    await docker(engine, 'start', 'many');
    const startMs = performance.now() - begun;
    const more = memoryKb(engine) - before;
    begun = performance.now();
    await docker(engine, 'rm', '-f', 'many');
    const endMs = performance.now() - begun;
    console.log(
      `${engine.name}: ${ports.length === 0 ? what : `${count} ports, ${what}`}: start ${startMs.toFixed(0)} ms, removal ${endMs.toFixed(0)} ms, memory +${(more / 1024).toFixed(1)} MiB`,
    );
  }
}

function memoryKb({ pid, directory }: Engine): number {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const parents = new Map(
    processes.map((name) => [Number(name), Number(/^\d+ \(.*\) . (\d+)/s.exec(read(name, 'stat'))?.[1])]),
  );
  const belongs = (one: number): boolean => {
    for (let at: number | undefined = one; at !== undefined && at > 1; at = parents.get(at))
      if (at === pid) return true;
    return read(String(one), 'cmdline').includes(directory);
  };
  const pss = (one: number): number => Number(/^Pss:\s+(\d+)/m.exec(read(String(one), 'smaps_rollup'))?.[1] ?? 0);
  return [...parents.keys()].filter(belongs).reduce((sum, one) => sum + pss(one), 0);
}

/** "" for a process that is gone. */
function read(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}
