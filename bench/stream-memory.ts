/**
 * What daemon and shim hold while much output goes through logs with rotation, and through attach. Prints resident memory
 * (MB) at every tenth of the way; flat means that nothing piles up.
 *
 *   node bench/stream-memory.ts [GIGABYTES each way, default 1] [logs or attach, default both]
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { TestDaemon } from '../test/support/daemon.ts';

const GIGABYTES = Number(process.argv[2] ?? 1);
const ONLY = process.argv[3] ?? '';
const BYTES = Math.round(GIGABYTES * 1e9);
const LINE = 'x'.repeat(99);
const SAMPLES = 10;

/** @throws when the process is gone */
const memoryOf = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

interface Sample {
  readonly share: number;
  readonly daemonMb: number;
  readonly shimMb: number;
}

function print(title: string, samples: readonly Sample[], seconds: number): void {
  const row = (name: string, value: (sample: Sample) => string): void =>
    console.log(`  ${name.padEnd(12)}${samples.map((sample) => value(sample).padStart(8)).join('')}`);
  console.log(`\n${title}: ${GIGABYTES} GB in ${seconds.toFixed(1)} s, ${(BYTES / 1e6 / seconds).toFixed(0)} MB/s`);
  row('of the way', ({ share }) => `${Math.round(share * 100)}%`);
  row('daemon MB', ({ daemonMb }) => daemonMb.toFixed(1));
  row('shim MB', ({ shimMb }) => shimMb.toFixed(2));
}

await using daemon = await TestDaemon.start();
await daemon.image();
/** It waits for the sign, so that everybody is in place. */
const writing = ['sh', '-c', `until [ -e /go ]; do sleep 0.05; done; yes ${LINE} | head -c ${BYTES}`];
const go = async (id: string): Promise<string> => daemon.ok('exec', id, 'touch', '/go');

/** Samples until `done` says that all went through; `share` is how much did. */
async function watch(
  id: string,
  share: () => number,
  done: Promise<unknown>,
): Promise<{ samples: Sample[]; seconds: number }> {
  const shimPid = Number(readFileSync(join(daemon.directory, 'exec/shim', id, 'shim.pid'), 'utf8').split(' ')[0]);
  const samples: Sample[] = [];
  const sample = (at: number): void =>
    void samples.push({ share: at, daemonMb: memoryOf(daemon.pid), shimMb: memoryOf(shimPid) });
  const beganMs = performance.now();
  let isOver = false;
  void done.then(() => (isOver = true));
  sample(0);
  while (!isOver) {
    await sleep(20);
    try {
      if (samples.length <= SAMPLES && share() * SAMPLES >= samples.length) sample(Math.min(1, share()));
    } catch {
      break; // the shim is gone: it ended
    }
  }
  return { samples, seconds: (performance.now() - beganMs) / 1000 };
}

/** Everything that a process has read. */
function readBy(pid: number): number {
  return Number(/rchar: (\d+)/.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1]);
}

if (ONLY !== 'attach') {
  const id = await daemon.ok('run', '-d', '--log-opt', 'max-size=20m', '--log-opt', 'max-file=3', 'bb:1', ...writing);
  const shimPid = Number(readFileSync(join(daemon.directory, 'exec/shim', id, 'shim.pid'), 'utf8').split(' ')[0]);
  const first = readBy(shimPid);
  const done = daemon.dockerWith({ timeoutMs: 3_600_000 }, 'wait', id);
  await go(id);
  const { samples, seconds } = await watch(id, () => (readBy(shimPid) - first) / BYTES, done);
  print('logs with rotation (3 files of 20 MB)', samples, seconds);
  await daemon.ok('rm', '-f', id);
}
if (ONLY !== 'logs') {
  const id = await daemon.ok('create', '--log-driver', 'none', 'bb:1', ...writing);
  const client = spawn('docker', ['-H', daemon.host, 'start', '-a', id], { stdio: ['ignore', 'pipe', 'inherit'] });
  let bytes = 0;
  client.stdout.on('data', (chunk: Buffer) => (bytes += chunk.length));
  while ((await daemon.inspect(id, '{{.State.Running}}')) !== 'true') await sleep(20);
  await go(id);
  const { samples, seconds } = await watch(
    id,
    () => bytes / BYTES,
    new Promise((resolve) => client.once('close', resolve)),
  );
  print('attach (docker CLI)', samples, seconds);
  console.log(`  ${bytes === BYTES ? 'every byte arrived' : `${bytes} of ${BYTES} bytes arrived`}`);
  await daemon.ok('rm', '-f', id);
}
