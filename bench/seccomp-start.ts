/**
 * What the default seccomp profile adds to a start: containers with it and without, taking turns, on each engine.
 *   PROGRAM=bench/seccomp-start.ts ENGINES="longshore dockerd" bench/compare.sh OUT
 *   PAIRS (100) in the environment
 */
import { ask, create, enginesOf, importImage, setting, type Engine } from './engine-client.ts';

const PAIRS = setting('PAIRS', 100);
const WARM_UP = 5;

async function startMs(engine: Engine, securityOpt: readonly string[]): Promise<number> {
  const id = await create(engine, { NetworkMode: 'none', SecurityOpt: securityOpt });
  const began = performance.now();
  await ask(engine, 'POST', `/containers/${id}/start`);
  const took = performance.now() - began;
  await ask(engine, 'DELETE', `/containers/${id}?force=1`);
  return took;
}

function median(values: readonly number[]): string {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!.toFixed(2);
}

console.log('| engine | start, seccomp on | off | difference of each pair |');
console.log('| --- | --- | --- | --- |');
for (const engine of enginesOf(process.argv)) {
  await importImage(engine);
  const on: number[] = [];
  const off: number[] = [];
  for (let pair = -WARM_UP; pair < PAIRS; pair++) {
    const order = pair % 2 === 0 ? [[], ['seccomp=unconfined']] : [['seccomp=unconfined'], []];
    for (const options of order) {
      const took = await startMs(engine, options);
      if (pair >= 0) (options.length === 0 ? on : off).push(took);
    }
  }
  const differences = on.map((took, pair) => took - off[pair]!);
  console.log(`| ${engine.name} | ${median(on)} ms | ${median(off)} ms | ${median(differences)} ms |`);
}
