/** The supervisor over the simulated host, when nothing goes wrong by itself: what one request after another does. */
import assert from 'node:assert/strict';
import { PassThrough, type Duplex } from 'node:stream';
import { test } from 'node:test';

import { Timeline } from '../../sim/clock.ts';
import { Kernel } from '../../sim/kernel.ts';
import { Random } from '../../sim/random.ts';
import { SimResources } from '../../sim/resources.ts';
import { SimRuntime } from '../../sim/runtime.ts';
import { plainContainer } from '../../sim/spec.ts';
import { Disk } from '../../sim/store.ts';
import { EngineError } from '../core/engine-error.ts';
import { silent } from '../core/log.ts';
import type { Cause, Container } from '../lifecycle/container.ts';
import type { Launch, PendingAttachment, Started } from '../runtime/port.ts';
import type { Collection } from '../store/port.ts';
import type { ExecConfig, Supervisor } from './port.ts';
import { openSupervisor } from './supervisor.ts';

const cause: Cause = { actor: 'api', detail: 'test' };
const own = { signal: null, timeoutS: null };
const never = new AbortController().signal;
const alive = (): boolean => true;
const execConfig: ExecConfig = {
  tty: false,
  attachStdin: false,
  attachStdout: true,
  attachStderr: true,
  detachKeys: '',
  env: null,
  cmd: ['ls'],
  privileged: false,
  user: '',
  workingDir: '',
};

class ConnectingRuntime extends SimRuntime {
  override async start(launch: Launch, attachments: readonly PendingAttachment[] = []): Promise<Started> {
    for (const attachment of attachments) attachment.connect(new PassThrough());
    return await super.start(launch);
  }
}

class House {
  readonly timeline = new Timeline();
  readonly kernel = new Kernel(this.timeline, new Random(1));
  readonly disk = new Disk<Container>();
  readonly events: string[] = [];
  readonly resources = new SimResources(this.kernel, alive, new Set());
  readonly runtime = new ConnectingRuntime(
    this.kernel,
    alive,
    { onStart: () => {}, onRelease: () => {} },
    new Map(),
    false,
  );
  readonly supervisor: Supervisor;

  constructor(wrap: (records: Collection<Container>) => Collection<Container> = (records) => records) {
    this.kernel.quiet = true;
    this.supervisor = openSupervisor({
      clock: this.timeline,
      logger: silent,
      records: wrap(this.disk.collection(alive, () => {})),
      runtime: this.runtime,
      resources: this.resources,
      events: { publish: ({ action }) => this.events.push(action) },
    });
  }

  /** Lets virtual time go on until `work` is done. */
  async until<T>(work: Promise<T>): Promise<T> {
    let over = false;
    const mark = (): void => {
      over = true;
    };
    work.then(mark, mark);
    for (let n = 0; !over; n++) {
      await this.pass(0);
      if (over) break;
      assert(this.timeline.untilNext() !== null && n < 10_000, 'nothing is due, but it is not done');
      this.timeline.step();
    }
    return await work;
  }

  async pass(ms: number): Promise<void> {
    const endMs = this.timeline.nowMs() + ms;
    for (;;) {
      for (let n = 0; n < 40; n++) await Promise.resolve();
      const next = this.timeline.untilNext();
      if (next === null || this.timeline.nowMs() + next > endMs) return;
      this.timeline.step();
    }
  }

  async started(id = 'a', change: Parameters<typeof plainContainer>[1] = {}): Promise<void> {
    await this.supervisor.add(plainContainer(id, change));
    assert.equal(await this.until(this.supervisor.start(id, cause)), 'started');
  }
}

function isError(code: string, message: RegExp): (error: unknown) => true {
  return (error) => {
    assert(error instanceof EngineError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

test('Supervisor: start, stop, remove, and nothing is left', async () => {
  const house = new House();
  await house.started();
  assert.equal(house.supervisor.get('a')?.state.at, 'running');
  assert.equal(await house.until(house.supervisor.stop('a', own, cause)), 'stopped');
  await house.until(house.supervisor.remove('a', { force: false, volumes: false }, cause));
  assert.equal(house.supervisor.get('a'), undefined);
  assert.equal(house.disk.get('a'), undefined);
  assert.deepEqual([house.kernel.held.size, house.kernel.processes.size], [0, 0]);
  assert.deepEqual(house.events, ['create', 'start', 'kill', 'die', 'stop', 'destroy']);
  await assert.rejects(house.supervisor.start('a', cause), isError('CONTAINER_NOT_FOUND', /^No such container: a$/));
});

test('Supervisor: a stop is answered after the clean-up, and does not wait for a slow one for ever; a start does', async () => {
  const house = new House();
  const gate = Promise.withResolvers<void>();
  const release = house.runtime.release.bind(house.runtime);
  house.runtime.release = async (id) => {
    await gate.promise;
    await release(id);
  };
  await house.started();
  let answer = '';
  void house.supervisor.stop('a', own, cause).then((outcome) => (answer = outcome));
  await house.pass(3_000);
  assert.deepEqual([house.supervisor.get('a')?.state.at, answer], ['exited', '']);
  await house.pass(5_000);
  assert.equal(answer, 'stopped');
  const again = house.supervisor.start('a', cause);
  await house.pass(60_000);
  assert.equal(house.supervisor.get('a')?.state.at, 'starting');
  gate.resolve();
  assert.equal(await house.until(again), 'started');
});

test('Supervisor: a stop is heard while the start is under way', async () => {
  const house = new House();
  const gate = Promise.withResolvers<void>();
  const acquire = house.resources.acquire.bind(house.resources);
  house.resources.acquire = async (container, stack) => {
    await gate.promise;
    return await acquire(container, stack);
  };
  await house.supervisor.add(plainContainer('a'));
  const start = house.supervisor.start('a', cause);
  const stop = house.supervisor.stop('a', own, cause);
  await house.pass(10);
  gate.resolve();
  assert.equal(await house.until(start), 'started');
  assert.equal(await house.until(stop), 'stopped');
  assert.deepEqual(house.events, ['create', 'start', 'kill', 'die', 'stop']);
});

test('Supervisor: a start that hangs is told of, and reads go on', async () => {
  const house = new House();
  house.resources.acquire = () => new Promise(() => {});
  await house.supervisor.add(plainContainer('a'));
  const start = house.supervisor.start('a', cause);
  const stop = house.supervisor.stop('a', { signal: null, timeoutS: 1 }, cause);
  const stuck = isError('CONTAINER_STUCK', /still being started/);
  await Promise.all([assert.rejects(house.until(stop), stuck), assert.rejects(start, stuck)]);
  assert.equal(house.timeline.nowMs(), 11_000);
  assert.equal(house.supervisor.list().length, 1);
});

test('Supervisor: a process that does not die is named, and the removal goes on when it is gone', async () => {
  const house = new House();
  await house.started();
  const [process] = house.kernel.live('a');
  assert(process !== undefined);
  house.kernel.quiet = false;
  process.stuckUntilMs = house.timeline.nowMs() + 30_000;
  const removal = house.supervisor.remove('a', { force: true, volumes: false, asked: 'web' }, cause);
  await assert.rejects(house.until(removal), isError('CONTAINER_STUCK', /process 100 does not go away/));
  assert.equal(house.supervisor.get('a')?.state.at, 'stopping');
  const second = house.supervisor.remove('a', { force: true, volumes: false, asked: 'web' }, cause);
  await assert.rejects(second, isError('CONTAINER_REMOVING', /^removal of container web is already in progress$/));
  house.kernel.quiet = true;
  await house.pass(40_000);
  assert.equal(house.supervisor.get('a'), undefined);
});

test('Supervisor: fifty starts at once do not wait for one that hangs', async () => {
  const house = new House();
  const acquire = house.resources.acquire.bind(house.resources);
  house.resources.acquire = (container, stack) =>
    container.id === 'c0' ? new Promise(() => {}) : acquire(container, stack);
  const ids = Array.from({ length: 50 }, (_, n) => `c${n}`);
  for (const id of ids) await house.supervisor.add(plainContainer(id));
  const starts = ids.map((id) => house.supervisor.start(id, cause));
  void starts[0]?.catch(() => {});
  await house.until(Promise.all(starts.slice(1)));
  assert(house.timeline.nowMs() < 1_000);
});

test('Supervisor: wait follows Docker in what it waits for', async () => {
  const house = new House();
  await house.supervisor.add(plainContainer('a'));
  const wait = house.supervisor.wait.bind(house.supervisor);
  assert.deepEqual(await wait('a', 'not-running', never), { exitCode: 0, error: '' });
  const next = wait('a', 'next-exit', never);
  const removed = wait('a', 'removed', never);
  await house.until(house.supervisor.start('a', cause));
  const down = wait('a', 'not-running', never);
  const [process] = house.kernel.live('a');
  assert(process !== undefined);
  house.kernel.die(process, 7, 0);
  assert.deepEqual(await house.until(Promise.all([next, down])), [
    { exitCode: 7, error: '' },
    { exitCode: 7, error: '' },
  ]);
  await house.until(house.supervisor.remove('a', { force: false, volumes: false }, cause));
  assert.deepEqual(await removed, { exitCode: 7, error: '' });
  const aborted = new AbortController();
  await house.supervisor.add(plainContainer('b'));
  const given = wait('b', 'next-exit', aborted.signal);
  aborted.abort(new Error('gone'));
  await assert.rejects(given, /gone/);
});

test('Supervisor: an attach before the start gets its stream with it; a removal ends the wait', async () => {
  const house = new House();
  const streams = { stdin: false, stdout: true, stderr: true };
  await house.supervisor.add(plainContainer('a'));
  const { stream } = await house.supervisor.attach('a', streams, never);
  await house.until(house.supervisor.start('a', cause));
  assert((await stream) instanceof PassThrough);
  await house.supervisor.add(plainContainer('b'));
  const waiting: Promise<Duplex | null> = (await house.supervisor.attach('b', streams, never)).stream;
  await house.until(house.supervisor.remove('b', { force: false, volumes: false }, cause));
  assert.equal(await waiting, null);
});

test('Supervisor: runEnded is aborted at the end of the run', async () => {
  const house = new House();
  await house.started();
  const ended = house.supervisor.runEnded('a');
  assert.equal(ended.aborted, false);
  await house.until(house.supervisor.stop('a', own, cause));
  assert.equal(ended.aborted, true);
  assert.equal(house.supervisor.runEnded('a').aborted, false, 'the next run');
});

test('Supervisor: an exec is created, run once, and gone with its container', async () => {
  const house = new House();
  await house.supervisor.add(plainContainer('a'));
  await assert.rejects(
    house.supervisor.execCreate('a', execConfig),
    isError('CONTAINER_NOT_RUNNING', /^container a is not running$/),
  );
  await house.until(house.supervisor.start('a', cause));
  const id = await house.supervisor.execCreate('a', execConfig);
  const options = { detach: true, tty: false, consoleSize: null };
  await house.until(house.supervisor.execStart(id, options));
  assert.equal(house.supervisor.exec(id)?.state.at, 'running');
  await assert.rejects(house.supervisor.execStart(id, options), isError('EXEC_CONFLICT', /is already running$/));
  house.runtime.onEvent({ kind: 'exec-exited', id: 'a', execId: id, exitCode: 5 });
  assert.deepEqual(house.supervisor.exec(id)?.state, { at: 'exited', exitCode: 5, pid: 7 });
  await assert.rejects(house.supervisor.execStart(id, options), isError('EXEC_CONFLICT', /has already run$/));
  assert.deepEqual(house.events.slice(2), ['exec_create: ls ', 'exec_start: ls ', 'exec_die']);
  await house.until(house.supervisor.remove('a', { force: true, volumes: false }, cause));
  assert.equal(house.supervisor.exec(id), undefined);
  await assert.rejects(house.supervisor.execStart(id, options), isError('EXEC_NOT_FOUND', /^No such exec instance: /));
});

test('Supervisor: an exec is known for some minutes after its end', async () => {
  const house = new House();
  await house.started();
  const id = await house.supervisor.execCreate('a', execConfig);
  await house.until(house.supervisor.execStart(id, { detach: true, tty: false, consoleSize: null }));
  house.runtime.onEvent({ kind: 'exec-exited', id: 'a', execId: id, exitCode: 0 });
  await house.pass(290_000);
  assert.notEqual(house.supervisor.exec(id), undefined);
  await house.pass(620_000);
  assert.equal(house.supervisor.exec(id), undefined);
});

test('Supervisor: a request that cannot be saved is refused and changes nothing', async () => {
  let full = false;
  const house = new House((records) => ({
    ...records,
    put: (key, record, options) => {
      if (full) throw new EngineError('STORE_FAILED', 'disk full');
      records.put(key, record, options);
    },
  }));
  await house.started();
  full = true;
  const before = house.supervisor.get('a');
  await assert.rejects(house.supervisor.stop('a', own, cause), isError('STORE_FAILED', /disk full/));
  assert.equal(house.supervisor.get('a'), before);
  const [process] = house.kernel.live('a');
  assert(process !== undefined);
  house.kernel.die(process, 0, 0);
  await house.pass(100);
  assert.equal(house.supervisor.get('a')?.state.at, 'exited', 'a fact stays one');
  full = false;
  await house.pass(1_000);
  assert.equal(house.disk.get('a')?.state.at, 'exited', 'and is saved when that works again');
});

test('Supervisor: shutdown stops all, which are still wanted when a daemon comes up', async () => {
  const house = new House();
  const policy = { host: { restartPolicy: { name: 'unless-stopped', maximumRetryCount: 0 } } } as const;
  await house.started('a', policy);
  await house.started('b', policy);
  await house.until(house.supervisor.stop('b', own, cause));
  await house.until(house.supervisor.shutdown({ stopContainers: true, timeoutS: 10 }));
  assert.equal(house.supervisor.get('a')?.state.at, 'exited');
  await house.pass(1_000);
  await house.supervisor[Symbol.asyncDispose]();
  const next = openSupervisor({
    clock: house.timeline,
    logger: silent,
    records: house.disk.collection(alive, () => {}),
    runtime: house.runtime,
    resources: house.resources,
    events: { publish: () => {} },
  });
  await house.until(next.recover());
  await house.pass(1_000);
  assert.deepEqual([next.get('a')?.state.at, next.get('b')?.state.at], ['running', 'exited']);
});
