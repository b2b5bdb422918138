/** Runs many worlds, over several threads; the same file is the thread. */
import { fileURLToPath } from 'node:url';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

import { World } from './world.ts';

export interface Batch {
  readonly from: number;
  readonly count: number;
}

export interface Tally {
  worlds: number;
  transitions: number;
  crashes: number;
  requests: number;
  virtualMs: number;
  readonly failures: { readonly seed: number; readonly rule: string; readonly detail: string }[];
}

/** After so many failures of one batch the rest tells nothing new. */
const FAILURES_MAX = 5;

export function emptyTally(): Tally {
  return { worlds: 0, transitions: 0, crashes: 0, requests: 0, virtualMs: 0, failures: [] };
}

export async function runBatch({ from, count }: Batch): Promise<Tally> {
  const tally = emptyTally();
  for (let seed = from; seed < from + count && tally.failures.length < FAILURES_MAX; seed++) {
    try {
      const { transitions, crashes, requests, virtualMs } = await new World(seed, null).run();
      tally.transitions += transitions;
      tally.crashes += crashes;
      tally.requests += requests;
      tally.virtualMs += virtualMs;
    } catch (error) {
      const { rule = 'thrown', message } = error as Error & { rule?: string };
      tally.failures.push({ seed, rule, detail: message });
    }
    tally.worlds += 1;
  }
  return tally;
}

/** Splits `batch` over `threads`, in pieces, so that a slow thread does not hold up the others. */
export async function runWorlds(batch: Batch, threads: number): Promise<Tally> {
  const pieces: Batch[] = [];
  const size = Math.max(1, Math.min(2_000, Math.ceil(batch.count / threads)));
  for (let from = batch.from; from < batch.from + batch.count; from += size) {
    pieces.push({ from, count: Math.min(size, batch.from + batch.count - from) });
  }
  const total = emptyTally();
  const work = async (): Promise<void> => {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: 'worlds' });
    try {
      for (let piece; (piece = pieces.shift()) !== undefined && total.failures.length < FAILURES_MAX;) {
        add(total, await ask(worker, piece));
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(threads, pieces.length) }, work));
  return total;
}

function ask(worker: Worker, piece: Batch): Promise<Tally> {
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', (tally: Tally) => {
      worker.off('error', reject);
      resolve(tally);
    });
    worker.postMessage(piece);
  });
}

function add(total: Tally, part: Tally): void {
  total.worlds += part.worlds;
  total.transitions += part.transitions;
  total.crashes += part.crashes;
  total.requests += part.requests;
  total.virtualMs += part.virtualMs;
  total.failures.push(...part.failures);
}

if (!isMainThread && workerData === 'worlds') {
  const port = parentPort;
  if (port === null) throw new Error('no parent');
  port.on('message', (batch: Batch) => {
    void runBatch(batch).then((tally) => port.postMessage(tally));
  });
}
