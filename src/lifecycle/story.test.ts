import assert from 'node:assert/strict';
import { test } from 'node:test';

import { formatTime } from '../core/clock.ts';
import type { Container } from './container.ts';
import { created } from './created.ts';
import type { Event } from './event.ts';
import { nextText, storyText } from './story-text.ts';
import { storyOf, storyOfCreation, type StoryEntry } from './story.ts';
import { transition } from './transition.ts';
import { plainContainer } from '../../sim/spec.ts';

const S = 1_000_000_000n;
const time = (at: string): string => at.slice(11, 19);
const cause = (detail: string) => ({ actor: 'api', detail }) as const;

/** Events of one container, each with its second; gives the lines that are told. */
function tell(
  container: Container,
  events: readonly (readonly [atS: number, event: Event])[],
): { lines: string[]; after: Container } {
  const entries: StoryEntry[] = [storyOfCreation(container)];
  let now = container;
  for (const [atS, event] of events) {
    const nowNs = BigInt(atS) * S;
    const step = transition(now, event, nowNs);
    entries.push(...storyOf(now, event, step, nowNs));
    now = step.container;
  }
  return { lines: entries.map((entry) => storyText(entry, time)), after: now };
}

function web(policy: Container['spec']['host']['restartPolicy'], memoryBytes = 0): Container {
  const { spec, ...given } = plainContainer('c1');
  const host = { ...spec.host, restartPolicy: policy, resources: { ...spec.host.resources, memoryBytes } };
  return { ...created({ ...given, spec: { ...spec, host }, cause: cause('POST /containers/create') }), name: 'web' };
}

const at = (atS: number): string => formatTime(BigInt(atS) * S);
const exit = (code: number, atS: number, signal = 0, oomKilled = false) => ({ code, signal, oomKilled, at: at(atS) });

test('storyOf: a run that ends by its memory, is restarted by its policy, and is stopped by hand', () => {
  const { lines, after } = tell(web({ name: 'on-failure', maximumRetryCount: 5 }, 64 << 20), [
    [1, { kind: 'start-requested', request: 1, cause: cause('POST /v1.51/containers/web/start from me/1') }],
    [2, { kind: 'process-started', run: 1, pid: 70, startedAt: at(2) }],
    [3, { kind: 'oom', run: 1, memory: { limitBytes: 64 << 20, usedBytes: 67_000_000 } }],
    [3, { kind: 'oom', run: 1 }],
    [4, { kind: 'exited', run: 1, pid: 70, exit: exit(137, 4, 9, true) }],
    [4, { kind: 'exited', run: 1, pid: 70, exit: exit(137, 4, 9, true) }],
    [5, { kind: 'restart-due', run: 1 }],
    [6, { kind: 'process-started', run: 2, pid: 71, startedAt: at(6) }],
    [
      7,
      {
        kind: 'stop-requested',
        request: 2,
        signal: null,
        timeoutS: 3,
        cause: cause('POST /v1.51/containers/web/stop'),
      },
    ],
    [10, { kind: 'kill-due', run: 2 }],
    [11, { kind: 'exited', run: 2, pid: 71, exit: exit(137, 11, 9) }],
    [12, { kind: 'stop-requested', request: 3, signal: null, timeoutS: 3, cause: cause('nothing to do') }],
    [13, { kind: 'pause-requested', request: 4, cause: cause('refused') }],
  ]);
  assert.deepEqual(lines, [
    'created by POST /containers/create: web, image busybox, restart policy on-failure:5',
    'start by POST /v1.51/containers/web/start from me/1',
    'started, pid 70',
    'out of memory: the kernel killed a process; limit 64 MiB, used at most 64 MiB',
    'ended with code 137 by SIGKILL, out of memory after 2.0 s (pid 70); the policy restarts it in 100 ms (attempt 1 of 5)',
    'started, pid 71 (restart 1 by the policy)',
    'stop (SIGTERM, SIGKILL at 00:00:10) by POST /v1.51/containers/web/stop',
    'it did not stop in time: SIGKILL',
    'ended with code 137 by SIGKILL after 5.0 s (pid 71); it stays down: a stop was asked for',
  ]);
  assert.equal(nextText(after, time), null);
});

test('storyOf: an end before its start was known, a start that failed, a daemon that came up', () => {
  const { lines, after } = tell(web({ name: 'always', maximumRetryCount: 0 }), [
    [1, { kind: 'start-requested', request: 1, cause: cause('a') }],
    [2, { kind: 'exited', run: 1, pid: 5, exit: exit(3, 2) }],
    [2, { kind: 'process-started', run: 1, pid: 5, startedAt: at(1) }],
    [3, { kind: 'restart-due', run: 1 }],
    [4, { kind: 'start-failed', run: 2, exitCode: 127, code: 'RUNTIME_INVALID_COMMAND', message: 'no such\n file' }],
    [5, { kind: 'restart-due', run: 2 }],
    [6, { kind: 'process-started', run: 3, pid: 6, startedAt: at(6) }],
    [7, { kind: 'found', run: 3, boot: true, finding: { at: 'lost', because: 'reboot' } }],
  ]);
  assert.deepEqual(lines.slice(2), [
    'started, pid 5',
    'ended with code 3 after 1.0 s (pid 5); the policy restarts it in 100 ms (attempt 1)',
    'the start failed with code 127: no such / file; the policy restarts it in 200 ms (attempt 2)',
    'started, pid 6 (restart 2 by the policy)',
    'the daemon came up: the host was restarted',
    'ended with code 255 after 1.0 s (pid 6); the policy restarts it in 400 ms (attempt 3)',
  ]);
  assert.deepEqual(nextText(after, time), {
    text: 'restart due at 00:00:07 (attempt 3)',
    at: at(7).replace('Z', '.4Z'),
  });
});

test('storyOf: health is told when it changes, with what the probe said; a signal that is no stop is told', () => {
  const { spec, ...rest } = web({ name: 'no', maximumRetryCount: 0 });
  const healthcheck = {
    test: ['CMD', 'x'],
    intervalNs: 0,
    timeoutNs: 0,
    startPeriodNs: 0,
    startIntervalNs: 0,
    retries: 2,
  };
  const sick: Container = { ...rest, spec: { ...spec, process: { ...spec.process, healthcheck } } };
  const failed = { startedAt: at(3), endedAt: at(3), exitCode: 1, output: 'refused\n' };
  const { lines } = tell(sick, [
    [1, { kind: 'start-requested', request: 1, cause: cause('a') }],
    [2, { kind: 'process-started', run: 1, pid: 5, startedAt: at(2) }],
    [3, { kind: 'probe-ended', run: 1, result: failed }],
    [4, { kind: 'probe-ended', run: 1, result: failed }],
    [5, { kind: 'probe-ended', run: 1, result: failed }],
    [6, { kind: 'kill-requested', request: 2, signal: 1, cause: cause('POST /containers/web/kill?signal=HUP') }],
    [7, { kind: 'exited', run: 1, pid: 5, exit: exit(129, 7, 1) }],
    [
      8,
      {
        kind: 'remove-requested',
        request: 3,
        force: false,
        volumes: false,
        asked: 'web',
        cause: cause('DELETE /containers/web'),
      },
    ],
    [9, { kind: 'destroyed' }],
  ]);
  assert.deepEqual(lines.slice(3), [
    'unhealthy: the health check failed 2 times in a row, last with code 1: refused',
    'kill (SIGHUP) by POST /containers/web/kill?signal=HUP',
    'ended with code 129 by SIGHUP, unhealthy (3 probes failed in a row) after 5.0 s (pid 5); it stays down: restart policy no',
    'removal by DELETE /containers/web',
    'removed',
  ]);
});
