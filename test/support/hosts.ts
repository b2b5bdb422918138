/**
 * Three hosts as network namespaces: A, where a daemon can be started, and B and C, which reach A over links of their
 * own and each other through it. Each has a name of its own, so that test files can run side by side.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';

import { run } from './daemon.ts';

const PEERS = {
  b: { device: 'tob', v4: '192.0.2', v6: 'fd00:b:' },
  c: { device: 'toc', v4: '198.51.100', v6: 'fd00:c:' },
} as const;
const CONNECT_MS = 400;

export type HostName = 'a' | 'b' | 'c';

let made = 0;

export class Hosts implements AsyncDisposable {
  readonly #prefix = `lsh${process.pid.toString(36)}${made++}`;
  readonly #children: ChildProcess[] = [];

  static async make(): Promise<Hosts> {
    const hosts = new Hosts();
    const { a, b, c } = hosts.#names();
    await hosts.#ip(`netns add ${a}`, `netns add ${b}`, `netns add ${c}`);
    for (const name of ['b', 'c'] as const) {
      const { device, v4, v6 } = PEERS[name];
      const peer = hosts.#names()[name];
      await hosts.#ip(
        `-n ${a} link add ${device} type veth peer name eth0 netns ${peer}`,
        `-n ${a} addr add ${v4}.1/24 dev ${device}`,
        `-n ${a} addr add ${v6}:1/64 dev ${device} nodad`,
        `-n ${peer} addr add ${v4}.2/24 dev eth0`,
        `-n ${peer} addr add ${v6}:2/64 dev eth0 nodad`,
        `-n ${a} link set ${device} up`,
        `-n ${peer} link set lo up`,
        `-n ${peer} link set eth0 up`,
        `-n ${peer} route add default via ${v4}.1`,
        `-n ${peer} -6 route add default via ${v6}:1`,
      );
    }
    await hosts.#ip(`-n ${a} link set lo up`);
    return hosts;
  }

  /** As `nsenter --net` takes it. */
  path(host: HostName): string {
    return `/run/netns/${this.#names()[host]}`;
  }

  /** A's address on its link with a peer. */
  addressOfA(peer: 'b' | 'c', family: 4 | 6 = 4): string {
    return family === 4 ? `${PEERS[peer].v4}.1` : `${PEERS[peer].v6}:1`;
  }

  addressOf(peer: 'b' | 'c', family: 4 | 6 = 4): string {
    return family === 4 ? `${PEERS[peer].v4}.2` : `${PEERS[peer].v6}:2`;
  }

  /** What a program says there; its failure is the test's. */
  async in(host: HostName, ...argv: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await run('nsenter', [`--net=${this.path(host)}`, ...argv]);
    assert.equal(code, 0, `${argv.join(' ')} on ${host}: ${stderr}`);
    return stdout.trim();
  }

  /** The answer of what listens there: "NAME ADDRESS-THAT-ASKED", or "refused". `from`: a host, or a namespace's path. */
  async ask(from: string, address: string, port: number): Promise<string> {
    const at = address.includes(':') ? `[${address}]` : address;
    const fetch = `busybox timeout 1 busybox wget -qO- http://${at}:${port}/`;
    const { code, stdout } = await run('nsenter', [this.#net(from), ...fetch.split(' ')]);
    return code === 0 ? stdout.trim().replace('::ffff:', '') : 'refused';
  }

  /** The same by UDP. */
  async askUdp(from: string, address: string, port: number): Promise<string> {
    const program = `const s = require('dgram').createSocket('udp${address.includes(':') ? 6 : 4}');
      s.on('message', (m) => { console.log(String(m)); process.exit(); });
      s.on('error', () => {});
      s.send('?', ${port}, '${address}'); setTimeout(() => { console.log('refused'); process.exit(); }, 700);`;
    return (await run('nsenter', [this.#net(from), process.execPath, '-e', program])).stdout.trim();
  }

  /** Serves `name` and who asked: HTTP, and datagrams, on one port of a namespace. */
  async serve(namespace: string, name: string, port: number): Promise<void> {
    const program = `const say = (a) => ${JSON.stringify(name)} + ' ' + a.replace('::ffff:', '');
      const u = require('dgram').createSocket('udp6');
      u.on('message', (_, r) => u.send(say(r.address), r.port, r.address));
      require('http').createServer((q, r) => r.end(say(q.socket.remoteAddress))).listen(${port}, '::', () =>
        u.bind(${port}, '::', () => console.log('up')));`;
    await this.#spawn(namespace, program);
  }

  /** A program of Node.js on a host, until the end; it says something when it is ready. */
  async run(host: HostName, program: string): Promise<void> {
    await this.#spawn(this.path(host), program);
  }

  /** TCP ports that answer, "address:port", of all combinations. */
  async scan(from: HostName, addresses: readonly string[], first: number, last: number): Promise<string[]> {
    const program = `const net = require('net'); const open = []; let left = 0;
      const tries = ${JSON.stringify(addresses)}.flatMap((host) =>
        Array.from({ length: ${last - first + 1} }, (_, i) => ({ host, port: ${first} + i })));
      const next = () => {
        const one = tries.pop();
        if (one === undefined) { if (left === 0) console.log(JSON.stringify(open)); return; }
        left++;
        const s = net.connect(one);
        const end = (found) => () => { if (found) open.push(one.host + ':' + one.port); s.removeAllListeners(); s.on('error', () => {}); s.destroy(); left--; next(); };
        s.once('connect', end(true)).once('error', end(false)).setTimeout(${CONNECT_MS}, end(false));
      };
      for (let i = 0; i < 512; i++) if (tries.length > 0) next();`;
    return JSON.parse(await this.in(from, process.execPath, '-e', program)).toSorted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const running = this.#children.filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null);
    await Promise.all(
      running.map((child) => new Promise((resolve) => void child.once('exit', resolve).kill('SIGKILL'))),
    );
    for (const name of Object.values(this.#names())) await run('ip', ['netns', 'del', name]);
  }

  async #spawn(namespace: string, program: string): Promise<void> {
    const child = spawn('nsenter', [`--net=${namespace}`, process.execPath, '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#children.push(child);
    await new Promise((resolve) => child.stdout.once('data', resolve));
  }

  #net(from: string): string {
    return `--net=${from === 'a' || from === 'b' || from === 'c' ? this.path(from) : from}`;
  }

  #names(): Readonly<Record<HostName, string>> {
    return { a: `${this.#prefix}a`, b: `${this.#prefix}b`, c: `${this.#prefix}c` };
  }

  async #ip(...commands: readonly string[]): Promise<void> {
    for (const command of commands) {
      const { code, stderr } = await run('ip', command.split(' '));
      assert.equal(code, 0, `ip ${command}: ${stderr}`);
    }
  }
}
