/** Each checker of the simulation is tried against bugs that are planted for it (sim/plants.ts). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { PLANTS, type NamedPlant } from '../../sim/plants.ts';
import { World } from '../../sim/world.ts';

const SEEDS_MAX = 12_000;

async function firstViolation(plant: NamedPlant): Promise<{ readonly seed: number; readonly rule: string } | null> {
  for (let seed = 0; seed < SEEDS_MAX; seed++) {
    try {
      await new World(seed, plant).run();
    } catch (error) {
      return { seed, rule: (error as { rule?: string }).rule ?? `thrown: ${String(error)}` };
    }
  }
  return null;
}

for (const plant of PLANTS) {
  test(`${plant.name}: it is caught when ${plant.what}`, async (context) => {
    const caught = await firstViolation(plant);
    assert(caught !== null, `not caught in ${SEEDS_MAX} worlds`);
    context.diagnostic(`${plant.name}: seed ${caught.seed}, rule "${caught.rule}"`);
    assert(plant.caughtBy.includes(caught.rule), `caught by "${caught.rule}", which is not the checker meant`);
  });
}

test('docs/testing.md: names every planted bug', () => {
  const page = readFileSync(new URL('../../docs/testing.md', import.meta.url), 'utf8');
  const missing = PLANTS.filter(({ name }) => !page.includes(`\`${name}\``));
  assert.deepEqual(missing, []);
});
