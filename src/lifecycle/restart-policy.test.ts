import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import {
  DELAY_MS_MAX,
  DELAY_MS_MIN,
  STABLE_RUN_MS,
  decideAtBoot,
  decideRestart,
  type BootFacts,
  type ExitFacts,
} from './restart-policy.ts';

const always = { name: 'always', maximumRetryCount: 0 } as const;
const failed: ExitFacts = { policy: always, wanted: 'run', exitCode: 1, runMs: 50, restartCount: 0, lastDelayMs: 0 };
const onFailure = (maximumRetryCount: number): ExitFacts['policy'] => ({ name: 'on-failure', maximumRetryCount });

const cases: readonly [title: string, facts: ExitFacts, want: unknown][] = [
  ['always restarts after a clean exit', { ...failed, exitCode: 0 }, { kind: 'restart', delayMs: 100 }],
  ['a stop wins over always', { ...failed, wanted: 'stop' }, { kind: 'stay', because: 'intent' }],
  ['a removal wins over always', { ...failed, wanted: 'remove' }, { kind: 'stay', because: 'intent' }],
  ['no stays down', { ...failed, policy: { name: 'no', maximumRetryCount: 0 } }, { kind: 'stay', because: 'policy' }],
  [
    'on-failure leaves a clean exit',
    { ...failed, policy: onFailure(0), exitCode: 0 },
    { kind: 'stay', because: 'clean-exit' },
  ],
  [
    'on-failure:3 restarts a third time',
    { ...failed, policy: onFailure(3), restartCount: 2 },
    { kind: 'restart', delayMs: 100 },
  ],
  [
    'on-failure:3 gives up',
    { ...failed, policy: onFailure(3), restartCount: 3 },
    { kind: 'stay', because: 'retries-used' },
  ],
  [
    'on-failure without a number never gives up',
    { ...failed, policy: onFailure(0), restartCount: 10_000 },
    { kind: 'restart', delayMs: 100 },
  ],
  ['the delay doubles', { ...failed, lastDelayMs: 400 }, { kind: 'restart', delayMs: 800 }],
  ['the delay ends at a minute', { ...failed, lastDelayMs: 51_200 }, { kind: 'restart', delayMs: 60_000 }],
  [
    'a run of 9.999 s does not reset it',
    { ...failed, runMs: 9_999, lastDelayMs: 400 },
    { kind: 'restart', delayMs: 800 },
  ],
  ['a run of 10 s does', { ...failed, runMs: 10_000, lastDelayMs: 60_000 }, { kind: 'restart', delayMs: 100 }],
];
for (const [title, facts, want] of cases) {
  test(`decideRestart: ${title}`, () => assert.deepEqual(decideRestart(facts), want));
}

test('decideRestart: a delay is in bounds, and never shorter than the one before it but after a long run', () => {
  const facts = fc.record({
    policy: fc.constantFrom<ExitFacts['policy']>(always, onFailure(0), {
      name: 'unless-stopped',
      maximumRetryCount: 0,
    }),
    wanted: fc.constant('run' as const),
    exitCode: fc.integer({ min: 1, max: 255 }),
    runMs: fc.nat(100_000),
    restartCount: fc.nat(),
    lastDelayMs: fc.constantFrom(0, 100, 200, 400, 51_200, 60_000),
  });
  fc.assert(
    fc.property(facts, (given) => {
      const decision = decideRestart(given);
      assert(decision.kind === 'restart');
      assert(decision.delayMs >= DELAY_MS_MIN && decision.delayMs <= DELAY_MS_MAX);
      if (given.runMs < STABLE_RUN_MS) assert(decision.delayMs >= given.lastDelayMs);
    }),
  );
});

const down: BootFacts = { policy: always, stoppedByUser: false, ranBefore: true, exitCode: 0, restartCount: 0 };
const unlessStopped = { name: 'unless-stopped', maximumRetryCount: 0 } as const;
const boots: readonly [title: string, facts: BootFacts, want: boolean][] = [
  ['always comes up, even when it was stopped by hand', { ...down, stoppedByUser: true }, true],
  ['what never ran does not', { ...down, ranBefore: false }, false],
  ['unless-stopped comes up', { ...down, policy: unlessStopped }, true],
  ['unless-stopped that was stopped does not', { ...down, policy: unlessStopped, stoppedByUser: true }, false],
  ['on-failure after a failure comes up', { ...down, policy: onFailure(0), exitCode: 1 }, true],
  ['on-failure after a clean exit does not', { ...down, policy: onFailure(0) }, false],
  ['on-failure with its retries used does not', { ...down, policy: onFailure(2), exitCode: 1, restartCount: 2 }, false],
  [
    'on-failure that was stopped does not',
    { ...down, policy: onFailure(0), exitCode: 137, stoppedByUser: true },
    false,
  ],
  ['no does not', { ...down, policy: { name: 'no', maximumRetryCount: 0 } }, false],
];
for (const [title, facts, want] of boots) test(`decideAtBoot: ${title}`, () => assert.equal(decideAtBoot(facts), want));
