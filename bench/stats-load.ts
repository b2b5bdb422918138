/**
 * What watching costs an engine: CONTAINERS of them run and do nothing, CLIENTS stream the stats of each, and the processor
 * time of all the engine's processes is counted (those with its directory on their command line: daemon, containerd,
 * shims). Engines take turns, ROUNDS times.
 *   PROGRAM=bench/stats-load.ts ENGINES="longshore dockerd" bench/compare.sh OUT
 *   CONTAINERS (200), CLIENTS (5), SECONDS (15), ROUNDS (3) in the environment
 */
import { readdirSync, readFileSync } from 'node:fs';
import { Agent, request, type ClientRequest } from 'node:http';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { ask, create, enginesOf, importImage, setting, type Engine } from './engine-client.ts';

const CONTAINERS = setting('CONTAINERS', 200);
const CLIENTS = setting('CLIENTS', 5);
const SECONDS = setting('SECONDS', 15);
const ROUNDS = setting('ROUNDS', 3);
const MS_PER_TICK = 10;
const PARALLEL = 4;

const engines = enginesOf(process.argv);

async function start(engine: Engine): Promise<string[]> {
  await importImage(engine);
  const ids: string[] = [];
  const one = async (): Promise<void> => {
    const id = await create(engine);
    ids.push(id);
    await ask(engine, 'POST', `/containers/${id}/start`);
  };
  let left = CONTAINERS;
  await Promise.all(
    Array.from({ length: PARALLEL }, async () => {
      while (left-- > 0) await one();
    }),
  );
  return ids;
}

/** Processor time of every process of the engine. */
function cpuMs({ socketPath }: Engine): number {
  let ticks = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(dirname(socketPath))) continue;
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It has ended.
    }
  }
  return ticks * MS_PER_TICK;
}

async function measured(
  engine: Engine,
  ids: readonly string[],
): Promise<{ readonly cpu: number; readonly samples: number }> {
  const streams: ClientRequest[] = [];
  let samples = 0;
  const agent = new Agent({ keepAlive: false });
  for (let client = 0; client < CLIENTS; client++) {
    for (const id of ids) {
      const path = `/v1.41/containers/${id}/stats?stream=1`;
      const stream = request({ socketPath: engine.socketPath, path, agent }, (answer) => {
        answer.on('data', (chunk: Buffer) => (samples += chunk.toString('latin1').split('\n').length - 1));
        answer.once('error', () => {});
      });
      stream.once('error', () => {});
      stream.end();
      streams.push(stream);
    }
  }
  await sleep(3000);
  const [before, samplesBefore, began] = [cpuMs(engine), samples, performance.now()];
  await sleep(SECONDS * 1000);
  const seconds = (performance.now() - began) / 1000;
  const result = { cpu: (cpuMs(engine) - before) / seconds, samples: (samples - samplesBefore) / seconds };
  for (const stream of streams) stream.destroy();
  await sleep(1000);
  return result;
}

const containers = new Map<Engine, string[]>();
for (const engine of engines) containers.set(engine, await start(engine));
console.log(`${CONTAINERS} running containers, ${CLIENTS} clients, ${SECONDS} s a round`);
console.log('| engine | processor time a second | per container | samples a second (to be: containers x clients) |');
console.log('| --- | --- | --- | --- |');
for (let round = 0; round < ROUNDS; round++) {
  for (const engine of engines) {
    const { cpu, samples } = await measured(engine, containers.get(engine)!);
    console.log(
      `| ${engine.name} | ${cpu.toFixed(0)} ms | ${(cpu / CONTAINERS).toFixed(2)} ms | ${samples.toFixed(0)} |`,
    );
  }
}
for (const engine of engines) {
  for (const id of containers.get(engine)!) await ask(engine, 'DELETE', `/containers/${id}?force=1`);
}
