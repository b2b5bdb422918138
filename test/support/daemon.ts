/**
 * A daemon of its own for a test: own roots, socket, bridge and subnet, on the real kernel; and real clients for it.
 * Disposing it removes every container, ends the daemon, and asserts that its directories hold no mount.
 */
import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const ROOT = join(import.meta.dirname, '../..');
/** Where scripts/setup.sh puts the docker CLI when the machine has none. */
export const TOOLS = join(ROOT, 'build/tools');
/** In the virtual machine everything takes some ten times as long; what counts work has the same deadlines elsewhere. */
export const PATIENCE = process.env['LSVM_BOOT'] === undefined ? 1 : 6;
const START_MS_MAX = 30_000 * PATIENCE;

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
  /** The body as JSON, for assertions on parts of it. */
  // oxlint-disable-next-line typescript/no-explicit-any -- answers are what is under test
  readonly json: any;
}

/** Tests run in several processes at once: each daemon gets a subnet that no other has. */
let daemons = 0;
const nextSubnet = (): string =>
  `10.${100 + (process.pid % 100)}.${(daemons++ * 16 + Math.floor(process.pid / 100)) % 256}.1/24`;

export class TestDaemon implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'longshore-test-'));
  readonly socket = join(this.directory, 's.sock');
  readonly host = `unix://${this.socket}`;
  readonly bridge = `lst${process.pid.toString(36)}${daemons}`;
  readonly #bip = nextSubnet();
  #extra: readonly string[];
  /** What stands before the daemon's own command. */
  #within: readonly string[];
  #process: ChildProcess | null = null;
  log = '';

  private constructor(extra: readonly string[], within: readonly string[]) {
    this.#extra = extra;
    this.#within = within;
  }

  static async start(...extra: readonly string[]): Promise<TestDaemon> {
    return await new TestDaemon(extra, []).#begin();
  }

  /** On a host of its own: the path of a network namespace. */
  static async startIn(namespace: string, ...extra: readonly string[]): Promise<TestDaemon> {
    return await new TestDaemon(extra, ['nsenter', `--net=${namespace}`]).#begin();
  }

  /**
   * Where /etc is a copy of its own (a mount namespace with an overlay), with these files in it: the host's accounts stay
   * as they are. Its directory lets others pass through, as a remapped root must.
   */
  static async startWithEtc(files: Readonly<Record<string, string>>, ...extra: readonly string[]): Promise<TestDaemon> {
    const script =
      'mount -t overlay -o lowerdir=/etc,upperdir="$0/etc",workdir="$0/etc-work" overlay /etc && exec "$@"';
    const daemon = new TestDaemon(extra, []);
    daemon.#within = ['unshare', '--mount', 'sh', '-c', script, daemon.directory];
    chmodSync(daemon.directory, 0o711);
    for (const name of ['etc', 'etc-work']) mkdirSync(join(daemon.directory, name));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(daemon.directory, 'etc', name), text);
    return await daemon.#begin();
  }

  /** One that does not start (a test of options) leaves nothing. */
  async #begin(): Promise<this> {
    try {
      await this.up();
    } catch (error) {
      await this.down('SIGKILL');
      rmSync(this.directory, { recursive: true, force: true });
      throw error;
    }
    return this;
  }

  /** A container's network namespace, once it runs. */
  async namespace(name: string): Promise<string> {
    return join(this.directory, 'exec/netns', await this.inspect(name, '{{.Id}}'));
  }

  /** Starts it (again), and waits for its first answer. */
  async up(): Promise<void> {
    assert.equal(this.#process, null, 'it runs already');
    const argv = [
      'daemon',
      '--host',
      this.host,
      '--data-root',
      join(this.directory, 'data'),
      '--exec-root',
      join(this.directory, 'exec'),
      '--pidfile',
      join(this.directory, 'pid'),
      '--bridge',
      this.bridge,
      '--bip',
      this.#bip,
      '--log-level',
      'debug',
      ...(process.env['TEST_CRUN'] === '1' ? crunOfOwn(this.directory) : []),
      ...this.#extra,
    ];
    const [program, ...rest] = [...this.#within, join(ROOT, 'bin/longshore'), ...argv];
    const child = spawn(program!, rest, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
    this.#process = child;
    for (const end = Date.now() + START_MS_MAX; ; await sleep(20)) {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`the daemon ended with ${child.exitCode ?? child.signalCode}:\n${this.log}`);
      if (existsSync(this.socket) && (await this.api('GET', '/_ping').catch(() => null))?.status === 200) return;
      if (Date.now() > end) throw new Error(`the daemon does not answer:\n${this.log}`);
    }
  }

  /** Starts it again with other options than before. */
  async upWith(extra: readonly string[]): Promise<void> {
    this.#extra = extra;
    await this.up();
  }

  get pid(): number {
    assert(this.#process?.pid !== undefined, 'it does not run');
    return this.#process.pid;
  }

  /** Ends it with a signal and waits until it is gone. */
  async down(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#process;
    if (child === null) return;
    this.#process = null;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  /** The docker CLI. */
  docker(...argv: readonly string[]): Promise<Ran> {
    return this.dockerWith({}, ...argv);
  }

  async dockerWith(
    { input, timeoutMs = 60_000 }: { readonly input?: string | Uint8Array; readonly timeoutMs?: number },
    ...argv: readonly string[]
  ): Promise<Ran> {
    return run('docker', argv, {
      env: { DOCKER_HOST: this.host, DOCKER_CONFIG: join(this.directory, 'cli') },
      timeoutMs,
      ...(input !== undefined && { input }),
    });
  }

  /** The docker CLI where success is expected: its standard output, without the last newline. */
  async ok(...argv: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.docker(...argv);
    assert.equal(code, 0, `docker ${argv.join(' ')}: ${stderr}\n--- daemon:\n${this.log.slice(-3000)}`);
    return stdout.replace(/\n$/, '');
  }

  /** docker inspect --format, on a container. */
  inspect(ref: string, format: string): Promise<string> {
    return this.ok('inspect', '--format', format, ref);
  }

  api(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const raw = typeof body === 'string' || body instanceof Uint8Array;
      const sending = request(
        {
          socketPath: this.socket,
          method,
          path,
          headers: { ...(body !== undefined && !raw && { 'content-type': 'application/json' }), ...headers },
        },
        (answer) => {
          const chunks: Buffer[] = [];
          answer.on('data', (chunk: Buffer) => chunks.push(chunk));
          answer.once('error', reject);
          answer.once('end', () => {
            const text = Buffer.concat(chunks).toString();
            let json: unknown;
            try {
              json = JSON.parse(text);
            } catch {
              json = undefined;
            }
            resolve({ status: answer.statusCode!, headers: answer.headers, text, json });
          });
        },
      );
      sending.once('error', reject);
      sending.end(body === undefined ? undefined : raw ? body : JSON.stringify(body));
    });
  }

  /** What happened since `sinceMs` (Date.now()) to objects of this name or ID: the CLI rounds its times to seconds. */
  async events(
    sinceMs: number,
    filters: Record<string, readonly string[]>,
  ): Promise<
    readonly {
      readonly Type: string;
      readonly Action: string;
      readonly Actor: { readonly ID: string; readonly Attributes: Record<string, string> };
    }[]
  > {
    const query = new URLSearchParams({
      since: String(sinceMs / 1000),
      until: String((Date.now() + 1) / 1000),
      filters: JSON.stringify(filters),
    });
    const { status, text } = await this.api('GET', `/events?${query.toString()}`);
    assert.equal(status, 200, text);
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  }

  /** Imports a small image made of the host's static busybox: every applet, users root, app (1000), nobody. */
  async image(name = 'bb:1'): Promise<string> {
    const made = await run('sh', [join(import.meta.dirname, 'busybox-image.sh')], { binary: true });
    assert.equal(made.code, 0, made.stderr);
    const { code, stderr } = await this.dockerWith(
      { input: made.bytes },
      'import',
      '-c',
      'CMD ["sh"]',
      '-c',
      'ENV PATH=/usr/bin:/bin:/sbin',
      '-',
      name,
    );
    assert.equal(code, 0, `${stderr}\n--- daemon:\n${this.log.slice(-3000)}`);
    return name;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process !== null) {
      const { stdout } = await this.docker('ps', '-aq');
      const ids = stdout.split('\n').filter((id) => id !== '');
      if (ids.length > 0) await this.docker('rm', '-fv', ...ids);
    }
    await this.down();
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(this.directory));
    assert.deepEqual(mounts, [], 'no mount is left of this daemon');
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/**
 * Flags for TEST_CRUN=1: crun for all containers, as most users have it. Where v1 and v2 are mounted (hybrid), crun 1.8
 * refuses: it gets a mount namespace without v2, in which no mount of a container is shared with the host.
 */
function crunOfOwn(directory: string): string[] {
  const path = join(directory, 'crun-alone');
  const alone = `exec unshare -m sh -c 'umount /sys/fs/cgroup/unified; exec crun "$@"' sh "$@"`;
  writeFileSync(path, `#!/bin/sh\n[ -d /sys/fs/cgroup/unified ] || exec crun "$@"\n${alone}\n`, { mode: 0o755 });
  return ['--add-runtime', `alone=${path}`, '--default-runtime', 'alone'];
}

/** Runs a program to its end. */
export function run(
  program: string,
  argv: readonly string[],
  {
    input,
    env = {},
    timeoutMs = 60_000,
  }: {
    readonly input?: string | Uint8Array;
    readonly env?: Record<string, string>;
    readonly timeoutMs?: number;
    readonly binary?: boolean;
  } = {},
): Promise<Ran & { readonly bytes: Buffer }> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      argv,
      {
        env: { ...process.env, PATH: `${process.env['PATH']}:${TOOLS}`, ...env },
        timeout: timeoutMs * PATIENCE,
        killSignal: 'SIGKILL',
        maxBuffer: 256 << 20,
        encoding: 'buffer',
      },
      (error, stdout, stderr) => {
        if (error !== null && typeof error.code !== 'number' && child.exitCode === null && child.signalCode === null)
          return reject(error);
        resolve({
          code: child.exitCode ?? 128,
          stdout: stdout.toString(),
          stderr:
            stderr.toString() +
            (child.signalCode === null
              ? ''
              : `\n(ended by ${child.signalCode} after at most ${timeoutMs * PATIENCE} ms)`),
          bytes: stdout,
        });
      },
    );
    child.stdin!.on('error', () => {}); // a program that does not read its input is no failure of the test
    child.stdin!.end(input);
  });
}

/** Waits until `probe` answers true; fails with `what` after `timeoutMs`. */
export async function eventually(
  what: string,
  probe: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  for (const end = Date.now() + timeoutMs * PATIENCE; !(await probe()); await sleep(50))
    assert(Date.now() < end, `not within ${timeoutMs * PATIENCE} ms: ${what}`);
}

export interface DoctorProblem {
  readonly check: string;
  readonly subject: string;
  readonly text: string;
  readonly repair: string | null;
  readonly repaired: boolean;
}

/** `longshore doctor --json` on this daemon's directories. */
export async function doctor(
  daemon: TestDaemon,
  ...argv: readonly string[]
): Promise<{
  readonly code: number;
  readonly daemonPid: number | null;
  readonly problems: readonly DoctorProblem[];
  readonly error?: string;
}> {
  const roots = ['--data-root', join(daemon.directory, 'data'), '--exec-root', join(daemon.directory, 'exec')];
  const { code, stdout, stderr } = await run(join(ROOT, 'bin/longshore'), ['doctor', '--json', ...roots, ...argv]);
  if (stdout === '') return { code, daemonPid: null, problems: [], error: stderr };
  return { code, ...JSON.parse(stdout) };
}
