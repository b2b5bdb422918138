/** Wording, order of events and single decisions; what holds in all orders is in test/simulation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { plainContainer } from '../../sim/spec.ts';
import { ZERO_TIME, formatTime, parseTime } from '../core/clock.ts';
import type { Cause, Container, Exit, State } from './container.ts';
import type { Effect, Event, Request } from './event.ts';
import { transition } from './transition.ts';

const NOW_NS = parseTime('2026-11-22T04:00:00Z');
const NOW = formatTime(NOW_NS);
const cause: Cause = { actor: 'api', detail: 'test' };
const live = { pid: 7, startedAt: '2026-11-22T03:59:57.5Z', oomKilled: false };
const exit = {
  code: 3,
  oomKilled: false,
  error: '',
  startedAt: '2026-11-22T03:00:00Z',
  finishedAt: '2026-11-22T03:10:00Z',
};
const STATES = {
  created: { at: 'created' },
  starting: { at: 'starting', previous: null, byPolicy: false },
  running: { at: 'running', ...live },
  paused: { at: 'paused', ...live },
  stopping: { at: 'stopping', ...live, paused: false, phase: 'signalled', by: 'stop', killAt: null },
  restarting: { at: 'restarting', exit, dueAt: NOW },
  exited: { at: 'exited', exit },
  removing: { at: 'removing', exit },
  dead: { at: 'dead', exit, why: 'busy' },
} as const satisfies Record<State['at'], State>;

function be(at: State['at'], change: Parameters<typeof plainContainer>[1] = {}): Container {
  const wanted = at === 'removing' || at === 'dead' ? 'remove' : at === 'created' ? 'stop' : 'run';
  return {
    ...plainContainer('ID', change),
    name: 'web',
    run: 4,
    state: STATES[at],
    intent: { wanted, stoppedByUser: false },
  };
}

function end(code: number): Event {
  const ended: Exit = { code, signal: 0, oomKilled: false, at: NOW };
  return { kind: 'exited', run: 4, pid: 7, exit: ended };
}

/** Events in a row; what was published and answered, in order. */
function told(container: Container, ...events: Event[]): { readonly container: Container; readonly lines: string[] } {
  const lines: string[] = [];
  let now = container;
  for (const event of events) {
    const step = transition(now, event, NOW_NS);
    now = step.container;
    for (const effect of step.effects) lines.push(...lineOf(effect));
  }
  return { container: now, lines };
}

function lineOf(effect: Effect): string[] {
  if (effect.kind === 'publish')
    return [[effect.action, ...Object.entries(effect.attributes).map(([k, v]) => `${k}=${v}`)].join(' ')];
  if (effect.kind === 'answer') return [`= ${effect.answer}`];
  if (effect.kind === 'refuse') return [`! ${effect.code} ${effect.message}`];
  if (effect.kind === 'settle')
    return [`= ${effect.until}${effect.error === undefined ? '' : `: ${effect.error.message}`}`];
  return [];
}

const start: Request = { kind: 'start-requested', request: 1, cause };
const stop: Request = { kind: 'stop-requested', request: 1, signal: null, timeoutS: null, cause };
const restart: Request = { kind: 'restart-requested', request: 1, signal: null, timeoutS: null, cause };
const kill = (signal: number): Request => ({ kind: 'kill-requested', request: 1, signal, cause });
const pause: Request = { kind: 'pause-requested', request: 1, cause };
const unpause: Request = { kind: 'unpause-requested', request: 1, cause };
const remove = (force: boolean): Request => ({
  kind: 'remove-requested',
  request: 1,
  force,
  volumes: true,
  asked: 'web',
  cause,
});

const refusals: readonly [State['at'], Request, string][] = [
  ['paused', start, '! CONTAINER_PAUSED cannot start a paused container, try unpause instead'],
  ['removing', start, '! CONTAINER_REMOVING container is marked for removal and cannot be started'],
  ['dead', start, '! CONTAINER_REMOVING container is marked for removal and cannot be started'],
  ['running', start, '= already-running'],
  ['restarting', start, '= already-running'],
  ['exited', stop, '= already-stopped'],
  ['created', stop, '= already-stopped'],
  ['dead', restart, '! CONTAINER_REMOVING container is marked for removal and cannot be started'],
  ['exited', kill(9), '! CONTAINER_NOT_RUNNING container ID is not running'],
  ['created', kill(15), '! CONTAINER_NOT_RUNNING container ID is not running'],
  ['exited', pause, '! CONTAINER_NOT_RUNNING container ID is not running'],
  ['paused', pause, '! CONTAINER_PAUSED Container ID is already paused'],
  ['restarting', pause, '! CONTAINER_RESTARTING Container ID is restarting, wait until the container is running'],
  ['running', unpause, '! CONTAINER_NOT_PAUSED Container ID is not paused'],
  [
    'running',
    remove(false),
    '! CONTAINER_RUNNING cannot remove container "/web": container is running: stop the container before removing or force remove',
  ],
  [
    'restarting',
    remove(false),
    '! CONTAINER_RUNNING cannot remove container "/web": container is restarting: stop the container before removing or force remove',
  ],
  [
    'paused',
    remove(false),
    '! CONTAINER_RUNNING cannot remove container "/web": container is paused and must be unpaused first',
  ],
  ['removing', remove(true), '! CONTAINER_REMOVING removal of container web is already in progress'],
];
for (const [at, request, want] of refusals) {
  test(`transition: ${request.kind} of one that is ${at}: ${want}`, () => {
    const before = be(at);
    const { container, lines } = told(before, request);
    assert.deepEqual(lines, [want]);
    assert.equal(container, before);
  });
}

test('transition: stop publishes kill, die, stop, and is answered after them', () => {
  const { container, lines } = told(be('running'), stop, end(143));
  assert.deepEqual(lines.slice(0, 4), ['kill signal=15', 'die exitCode=143 execDuration=2', 'stop', '= stopped']);
  assert.equal(container.state.at, 'exited');
  assert.deepEqual(container.intent, { wanted: 'stop', stoppedByUser: true });
});

test('transition: stop past its timeout publishes a second kill', () => {
  const { lines } = told(be('running'), stop, { kind: 'kill-due', run: 4 }, end(137));
  assert.deepEqual(lines.slice(0, 5), [
    'kill signal=15',
    'kill signal=9',
    'die exitCode=137 execDuration=2',
    'stop',
    '= stopped',
  ]);
});

test('transition: a paused one is signalled, then thawed', () => {
  const { effects } = transition(be('paused'), stop, NOW_NS);
  const order = effects
    .map(({ kind }) => kind)
    .filter((kind) => kind === 'signal-process' || kind === 'resume-process');
  assert.deepEqual(order, ['signal-process', 'resume-process']);
  const { lines } = told(be('paused'), stop, { kind: 'resumed', run: 4 });
  assert.deepEqual(lines.slice(0, 2), ['kill signal=15', 'unpause']);
});

test('transition: restart publishes kill, die, stop, start, restart', () => {
  const { container, lines } = told(be('running'), restart, end(143), {
    kind: 'process-started',
    run: 5,
    pid: 8,
    startedAt: NOW,
  });
  const published = lines.filter((line) => !line.startsWith('='));
  assert.deepEqual(published, ['kill signal=15', 'die exitCode=143 execDuration=2', 'stop', 'start', 'restart']);
  assert.equal(lines.at(-1), '= restarted');
  assert.deepEqual(container.state, { at: 'running', pid: 8, startedAt: NOW, oomKilled: false });
  assert.equal(container.lastFinishedAt, NOW);
});

test('transition: a forced removal publishes kill, die, destroy', () => {
  const { lines } = told(be('running'), remove(true), end(137), { kind: 'destroyed' });
  assert.deepEqual(
    lines.filter((line) => !line.startsWith('=')),
    ['kill signal=9', 'die exitCode=137 execDuration=2', 'destroy'],
  );
  assert.equal(lines.at(-1), '= removed');
});

test('transition: a policy restart publishes die, start, and counts', () => {
  const policy = { host: { restartPolicy: { name: 'always', maximumRetryCount: 0 } } } as const;
  const { container, lines } = told(
    be('running', policy),
    end(1),
    { kind: 'restart-due', run: 4 },
    {
      kind: 'process-started',
      run: 5,
      pid: 8,
      startedAt: NOW,
    },
  );
  assert.deepEqual(
    lines.filter((line) => !line.startsWith('=')),
    ['die exitCode=1 execDuration=2', 'start'],
  );
  assert.deepEqual([container.run, container.restartCount, container.lastDelayMs], [5, 1, 100]);
});

test('transition: kill -s HUP leaves the policy on; kill with the stop signal does not', () => {
  assert.equal(told(be('running'), kill(1)).container.intent.wanted, 'run');
  assert.equal(told(be('running'), kill(15)).container.intent.wanted, 'stop');
  const hup = be('running', { process: { stopSignal: 'SIGHUP' } });
  assert.equal(told(hup, kill(1)).container.intent.wanted, 'stop');
  assert.equal(told(hup, kill(15)).container.intent.wanted, 'run');
});

test('transition: a first start that fails is answered, and leaves one that never ran', () => {
  const failed: Event = {
    kind: 'start-failed',
    run: 1,
    exitCode: 127,
    code: 'RUNTIME_INVALID_COMMAND',
    message: 'no such command',
  };
  const { container, lines } = told({ ...be('created'), run: 0 }, start, failed);
  assert.equal(lines[0], '= started: no such command');
  assert.deepEqual(container.state, {
    at: 'exited',
    exit: { code: 127, oomKilled: false, error: 'no such command', startedAt: ZERO_TIME, finishedAt: ZERO_TIME },
  });
});

test('transition: an end that is reported before the start is settled after it', () => {
  const early: Event = { kind: 'exited', run: 4, pid: 7, exit: { code: 0, signal: 0, oomKilled: false, at: NOW } };
  const { container, lines } = told(be('starting'), early, { kind: 'process-started', run: 4, pid: 7, startedAt: NOW });
  assert.deepEqual(
    lines.filter((line) => !line.startsWith('=')),
    ['start', 'die exitCode=0 execDuration=0'],
  );
  assert.equal(container.state.at, 'exited');
});

test('transition: an OOM is published when it happens, and kept in the exit', () => {
  const { container, lines } = told(be('running'), { kind: 'oom', run: 4 }, end(137));
  assert.deepEqual(lines.slice(0, 2), ['oom', 'die exitCode=137 execDuration=2']);
  assert(container.state.at === 'exited' && container.state.exit.oomKilled);
});

test('transition: a clock that jumped does not stretch a restart at boot', () => {
  const late = be('restarting');
  const far: Container = { ...late, lastDelayMs: 400, state: { ...STATES.restarting, dueAt: '2030-01-01T00:00:00Z' } };
  const { effects } = transition(far, { kind: 'found', run: 4, boot: true, finding: { at: 'none' } }, NOW_NS);
  assert.deepEqual(effects, [{ kind: 'set-timer', timer: 'restart-due', delayMs: 400, run: 4 }]);
});

test('transition: rename publishes the old name with its slash', () => {
  const { container, lines } = told(be('running'), { kind: 'rename-requested', request: 1, name: 'new', cause });
  assert.deepEqual(lines, ['rename oldName=/web', '= done']);
  assert.equal(container.name, 'new');
});
