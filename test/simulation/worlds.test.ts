/**
 * The real supervisor and the real transition in simulated worlds (sim/world.ts): no order of requests, failures, late,
 * doubled or missing reports, crashes and power cuts may break a rule of DESIGN.md section 4.
 *
 * SEED=n replays one world and prints all that happens in it; WORLDS=n runs so many.
 */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';

import { runWorlds, type Tally } from '../../sim/run-worlds.ts';
import { World } from '../../sim/world.ts';

const FIXED_WORLDS = 100_000;
const FRESH_WORLDS = 4_000;
const threads = Math.min(4, availableParallelism());

function report(tally: Tally): string {
  const { worlds, transitions, crashes, requests } = tally;
  return `${worlds} worlds, ${requests} requests, ${transitions} transitions, ${crashes} crashes`;
}

function assertNone({ failures }: Tally): void {
  const text = failures.map(({ seed, detail }) => `SEED=${seed} ${detail}`).join('\n');
  assert.equal(failures.length, 0, text);
}

if (process.env['SEED'] !== undefined) {
  const seed = Number(process.env['SEED']);
  test(`World: seed ${seed} keeps the rules`, async () => {
    await new World(seed, null, (line) => console.log(line)).run();
  });
} else {
  const fixed = Number(process.env['WORLDS'] ?? FIXED_WORLDS);
  test(`World: ${fixed} worlds with known seeds keep the rules`, async (context) => {
    const tally = await runWorlds({ from: 0, count: fixed }, threads);
    context.diagnostic(report(tally));
    assertNone(tally);
    if (fixed >= FIXED_WORLDS) assert(tally.transitions > 1_000_000, `only ${tally.transitions} transitions`);
  });

  const from = 2 ** 30 + Math.floor(Math.random() * 2 ** 30);
  test(`World: ${FRESH_WORLDS} worlds with fresh seeds from ${from} keep the rules`, async () => {
    assertNone(await runWorlds({ from, count: FRESH_WORLDS }, threads));
  });
}

test('World: the same seed makes the same world', async () => {
  const lines = async (): Promise<string[]> => {
    const heard: string[] = [];
    await new World(7, null, (line) => heard.push(line.replace(/[0-9a-f]{64}/g, 'ID'))).run();
    return heard;
  };
  assert.deepEqual(await lines(), await lines());
});
