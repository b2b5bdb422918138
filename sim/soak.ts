/**
 * Simulated worlds for as long as asked, with fresh seeds: node sim/soak.ts [SECONDS]. Prints the throughput each ten
 * seconds; ends with status 1 and the seeds when a rule is violated.
 */
import { availableParallelism } from 'node:os';

import { emptyTally, runWorlds } from './run-worlds.ts';

const seconds = Number(process.argv[2] ?? 60);
if (!Number.isFinite(seconds) || seconds <= 0) {
  console.error('usage: node sim/soak.ts [SECONDS]');
  process.exit(2);
}
const threads = availableParallelism();
const beganMs = performance.now();
const total = emptyTally();
let seed = Math.floor(Math.random() * 2 ** 30);
let printedMs = beganMs;
console.log(`from seed ${seed} on, ${threads} threads, ${seconds} s`);
while (performance.now() - beganMs < seconds * 1000 && total.failures.length === 0) {
  const count = 1_000 * threads;
  const part = await runWorlds({ from: seed, count }, threads);
  seed += count;
  total.worlds += part.worlds;
  total.transitions += part.transitions;
  total.crashes += part.crashes;
  total.virtualMs += part.virtualMs;
  total.failures.push(...part.failures);
  if (performance.now() - printedMs < 10_000) continue;
  printedMs = performance.now();
  print();
}
print();
for (const failure of total.failures) console.error(`SEED=${failure.seed} ${failure.detail}`);
process.exitCode = total.failures.length === 0 ? 0 : 1;

function print(): void {
  const tookS = (performance.now() - beganMs) / 1000;
  const { worlds, transitions, crashes, virtualMs } = total;
  console.log(
    `${tookS.toFixed(0)} s: ${worlds} worlds (${(worlds / tookS).toFixed(0)}/s), ${transitions} transitions, ` +
      `${crashes} crashes, ${(virtualMs / 3_600_000).toFixed(1)} h of simulated time, ${total.failures.length} failures`,
  );
}
