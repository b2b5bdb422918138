import assert from 'node:assert/strict';
import { test } from 'node:test';

import { plainContainer } from '../../sim/spec.ts';
import { formatTime, parseTime } from '../core/clock.ts';
import type { HealthcheckSpec } from '../core/container-spec.ts';
import type { Container, Health } from './container.ts';
import { healthPlan, nextHealth } from './health.ts';
import { transition } from './transition.ts';

const SECOND_NS = 1_000_000_000;
const START_NS = parseTime('2026-11-22T04:00:00Z');
const inherit: HealthcheckSpec = {
  test: ['CMD-SHELL', 'curl -f x'],
  intervalNs: 0,
  timeoutNs: 0,
  startPeriodNs: 0,
  startIntervalNs: 0,
  retries: 0,
};

function checked(check: Partial<HealthcheckSpec>, shell: readonly string[] | null = null): Container {
  return plainContainer('a', { process: { healthcheck: { ...inherit, ...check }, shell } });
}

function at(seconds: number): bigint {
  return START_NS + BigInt(Math.round(seconds * SECOND_NS));
}

/** Running since `at(0)`. */
function running(check: Partial<HealthcheckSpec>): Container {
  const starting: Container = { ...checked(check), run: 1, state: { at: 'starting', previous: null, byPolicy: false } };
  return transition(starting, { kind: 'process-started', run: 1, pid: 7, startedAt: formatTime(START_NS) }, at(0))
    .container;
}

function probed(container: Container, exitCode: number, seconds: number): ReturnType<typeof transition> {
  const time = formatTime(at(seconds));
  return transition(
    container,
    { kind: 'probe-ended', run: 1, result: { startedAt: time, endedAt: time, exitCode, output: '' } },
    at(seconds),
  );
}

test("healthPlan: 0 takes Docker's defaults", () => {
  assert.deepEqual(healthPlan(checked({})), {
    command: ['/bin/sh', '-c', 'curl -f x'],
    intervalMs: 30_000,
    timeoutMs: 30_000,
    startPeriodMs: 0,
    startIntervalMs: 5_000,
    retries: 3,
  });
});

test('healthPlan: CMD runs as it is, CMD-SHELL in the shell of the image', () => {
  assert.deepEqual(healthPlan(checked({ test: ['CMD', 'a', 'b'] }))?.command, ['a', 'b']);
  assert.deepEqual(healthPlan(checked({}, ['/bin/bash', '-o', 'pipefail', '-c']))?.command, [
    '/bin/bash',
    '-o',
    'pipefail',
    '-c',
    'curl -f x',
  ]);
});

for (const none of [null, [], ['NONE'], ['CMD'], ['WHAT', 'x']] as const) {
  test(`healthPlan: ${JSON.stringify(none)} is no health check`, () =>
    assert.equal(healthPlan(checked({ test: none })), null));
}

test('nextHealth: unhealthy after so many failures in a row, healthy after one success', () => {
  let health: Health = { status: 'starting', failingStreak: 0, log: [] };
  const seen: string[] = [];
  for (const passed of [false, false, false, true, false, false, true]) {
    health = nextHealth(health, passed, false, 3);
    seen.push(`${health.status} ${health.failingStreak}`);
  }
  assert.deepEqual(seen, [
    'starting 1',
    'starting 2',
    'unhealthy 3',
    'healthy 0',
    'healthy 1',
    'healthy 2',
    'healthy 0',
  ]);
});

test('nextHealth: in the start period failures do not count until the first success', () => {
  const fresh: Health = { status: 'starting', failingStreak: 0, log: [] };
  assert.deepEqual(nextHealth(fresh, false, true, 1), fresh);
  assert.equal(nextHealth({ ...fresh, status: 'healthy' }, false, true, 1).status, 'unhealthy');
});

test('transition: the last five results are kept, and a change of status is published', () => {
  let container = running({ retries: 2 });
  const published: string[] = [];
  for (const [n, exitCode] of [0, 1, 1, 1, 0, 0, 7].entries()) {
    const step = probed(container, exitCode, n + 1);
    container = step.container;
    assert.equal(step.volatile, true, 'not written to disk');
    for (const effect of step.effects) if (effect.kind === 'publish') published.push(effect.action);
  }
  assert.deepEqual(published, ['health_status: healthy', 'health_status: unhealthy', 'health_status: healthy']);
  assert.deepEqual(
    container.health?.log.map(({ exitCode }) => exitCode),
    [1, 1, 0, 0, 7],
  );
  assert.equal(container.health?.failingStreak, 1);
});

test('transition: the next probe is due after the start interval while starting, then after the interval', () => {
  const container = running({
    startPeriodNs: 20 * SECOND_NS,
    startIntervalNs: 2 * SECOND_NS,
    intervalNs: 9 * SECOND_NS,
  });
  const delay = (step: ReturnType<typeof transition>): number | undefined => {
    for (const effect of step.effects) if (effect.kind === 'set-timer') return effect.delayMs;
    return undefined;
  };
  assert.equal(delay(probed(container, 1, 4)), 2_000);
  assert.equal(delay(probed(container, 0, 4)), 9_000, 'healthy');
  assert.equal(delay(probed(container, 1, 21)), 9_000, 'the start period is over');
});

test('transition: a result that comes after a pause or an end is not heard', () => {
  const container = running({});
  const paused = transition(container, { kind: 'paused', run: 1 }, at(1)).container;
  assert.equal(probed(paused, 1, 2).container, paused);
  const ended = transition(
    container,
    { kind: 'exited', run: 1, pid: 7, exit: { code: 0, signal: 0, oomKilled: false, at: formatTime(at(1)) } },
    at(1),
  );
  assert(ended.effects.some(({ kind }) => kind === 'cancel-probe'));
  assert.equal(probed(ended.container, 1, 2).container, ended.container);
});
