/**
 * Fuzzes what reads bytes of others in the daemon: all targets in turn, with a seed that is printed.
 *   node test/fuzz/run.ts [SECONDS, default 20] [SEED]
 * An input that breaks a target is known again by the seed that its message names: SECONDS 0 runs that one alone.
 */
import { Random } from '../support/random.ts';
import { IMAGE_TARGETS } from './image-targets.ts';
import { TARGETS } from './targets.ts';

/** Targets that touch files get one seed of so many. */
const SLOW_EACH = 100;

const seconds = Number(process.argv[2] ?? 20);
const first = Number(process.argv[3] ?? Math.trunc(Math.random() * 2 ** 32));
const counts = new Map<string, number>();
const endMs = performance.now() + seconds * 1000;
let seed = first;
do {
  for (const target of [...TARGETS, ...IMAGE_TARGETS]) {
    if (target.isSlow === true && seed % SLOW_EACH !== 0 && seconds > 0) continue;
    try {
      await target.run(new Random(seed));
    } catch (error) {
      console.error(`${target.name}: seed ${seed}: ${(error as Error).stack}`);
      process.exit(1);
    }
    counts.set(target.name, (counts.get(target.name) ?? 0) + 1);
  }
  seed = (seed + 1) >>> 0;
} while (performance.now() < endMs);
console.log(`seed ${first}: ${[...counts].map(([name, count]) => `${name}: ${count}`).join(', ')}`);
