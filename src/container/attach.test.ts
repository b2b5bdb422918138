import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach } from './attach.ts';
import { checkCanExec, createExec, startExec } from './exec.ts';
import { containerOf, partsWith, specOf } from './fakes.ts';
import type { Parts } from './parts.ts';

const LIVE = { pid: 7, startedAt: '2026-01-01T00:00:01Z', oomKilled: false };
const EXIT = {
  code: 0,
  oomKilled: false,
  error: '',
  startedAt: '2026-01-01T00:00:01Z',
  finishedAt: '2026-01-01T00:00:02Z',
};
const ALL = { stdin: true, stdout: true, stderr: true };
const CONFIG = {
  tty: false, attachStdin: false, attachStdout: true, attachStderr: true, detachKeys: '', env: null, cmd: ['true'],
  privileged: false, user: '', workingDir: '',
}; // prettier-ignore

function partsFor(container: ReturnType<typeof containerOf>, more: object = {}) {
  const asked: object[] = [];
  const supervisor = {
    get: () => container,
    list: () => [container],
    attach: async (_: string, streams: object) => (asked.push(streams), { stream: Promise.resolve(null) }),
    execCreate: async () => 'e'.repeat(64),
    ...more,
  };
  return { parts: partsWith([container], { supervisor } as unknown as Partial<Parts>), asked };
}

test('attach: says so, asks for stdin only where there is one, and watches for keys only at a terminal', async () => {
  const options = { streams: ALL, logs: false, stream: true, detachKeys: 'ctrl-a,x' };
  const { signal } = new AbortController();
  const plain = partsFor(containerOf());
  const first = await attach(plain.parts, 'web', options, signal);
  assert.deepEqual([first.tty, first.detachKeys, first.past], [false, null, null]);
  assert.deepEqual(plain.asked, [{ ...ALL, stdin: false }]);
  assert.deepEqual(
    plain.parts.published.map(({ action }) => action),
    ['attach'],
  );
  const terminal = partsFor(containerOf({ spec: specOf({ process: { tty: true, openStdin: true } }) }));
  const second = await attach(terminal.parts, 'web', options, signal);
  assert.deepEqual([second.tty, [...second.detachKeys!]], [true, [1, 120]]);
  assert.deepEqual(terminal.asked, [ALL]);
  await assert.rejects(attach(plain.parts, 'web', { ...options, detachKeys: 'nope' }, signal), {
    message: 'Invalid detach keys (nope) provided',
  });
});

test("attach: a paused and a restarting container refuse, in Docker's words", async () => {
  const options = { streams: ALL, logs: false, stream: true, detachKeys: null };
  const { signal } = new AbortController();
  const paused = partsFor(containerOf({ state: { at: 'paused', ...LIVE } }));
  await assert.rejects(attach(paused.parts, 'web', options, signal), {
    message: 'container web is paused, unpause the container before attach',
  });
  const waiting = partsFor(containerOf({ state: { at: 'restarting', exit: EXIT, dueAt: '2026-01-01T00:00:09Z' } }));
  await assert.rejects(attach(waiting.parts, 'web', options, signal), {
    message: 'container web is restarting, wait until the container is running',
  });
  const none = partsFor(containerOf({ spec: specOf({ host: { log: { driver: 'none', options: {} } } }) }));
  await assert.rejects(attach(none.parts, 'web', { ...options, logs: true }, signal), { code: 'LOG_UNREADABLE' });
});

test("createExec: refuses what cannot run, in Docker's words", async () => {
  const id = containerOf().id;
  const running = partsFor(containerOf({ state: { at: 'running', ...LIVE } }));
  assert.equal(await createExec(running.parts, 'web', CONFIG), 'e'.repeat(64));
  await assert.rejects(createExec(running.parts, 'web', { ...CONFIG, cmd: [] }), {
    message: 'No exec command specified',
  });
  await assert.rejects(createExec(running.parts, 'web', { ...CONFIG, env: ['=x'] }), {
    message: 'invalid environment variable: =x',
  });
  await assert.rejects(createExec(running.parts, 'gone', CONFIG), { message: 'No such container: gone' });
  const states = [
    [{ at: 'created' }, `container ${id} is not running`],
    [{ at: 'paused', ...LIVE }, `Container ${id} is paused, unpause the container before exec`],
    [{ at: 'restarting', exit: EXIT, dueAt: '' }, `Container ${id} is restarting, wait until the container is running`],
  ] as const;
  for (const [state, message] of states) assert.throws(() => checkCanExec(containerOf({ state })), { message });
});

test('startExec: of an exec that there is', async () => {
  const options = { detach: false, tty: false, consoleSize: null };
  const { parts } = partsFor(containerOf({ state: { at: 'running', ...LIVE } }), { exec: () => undefined });
  await assert.rejects(startExec(parts, 'e1', options), { message: 'No such exec instance: e1' });
});
