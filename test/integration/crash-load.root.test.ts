/**
 * The daemon is killed with SIGKILL at random moments, also while it comes up, under several clients that start, stop,
 * restart, kill, exec into and remove containers. At the end: what the API says is what the kernel has; no end of a run is
 * lost, doubled or of unknown code; no container ran twice; nothing is left over (`longshore doctor`).
 *
 * KILLS=200 for more (npm run crash-test), SEED=n to do one again.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { doctor, eventually, TestDaemon } from '../support/daemon.ts';
import { Random } from '../support/random.ts';

const KILLS = Number(process.env['KILLS'] ?? 25);
const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const CLIENTS = 4;
const CONTAINERS_MAX = 8;
/** Ends of itself with this code; a run that finds another one alive ends with TWICE. */
const CODE = 7;
const TWICE = 99;
const CODES = [CODE, 137, 143];

interface Entry {
  readonly Kind: string;
  readonly Run: number;
  readonly To: string;
  readonly Text: string;
  readonly Facts: { readonly Code: number };
}

/** Takes a lock that goes with the process, by whatever it ends: who finds it taken runs beside another. */
const ALONE = `
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
int main(int argc, char **argv) {
  if (argc < 2 || flock(open("/state/lock", O_CREAT | O_RDWR, 0600), LOCK_EX | LOCK_NB) != 0) return ${TWICE};
  execvp(argv[1], argv + 1);
  return 127;
}`;

/** A container that a client made, or tried to. */
interface Made {
  readonly name: string;
  /** "" until its creation was answered. */
  id: string;
  removed: boolean;
}

test(`daemon: ${KILLS} SIGKILLs under load lose no end, double no run and leave nothing (SEED=${SEED})`, async (t) => {
  await using d = await TestDaemon.start();
  await d.image();
  execFileSync('cc', ['-x', 'c', '-static', '-o', aloneOf(d), '-'], { input: ALONE });
  const random = new Random(SEED);
  const load = new Load(d, random);
  const clients = Array.from({ length: CLIENTS }, () => load.client());
  let during = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    await sleep(random.below(1_200));
    await d.down('SIGKILL');
    if (random.below(4) === 0) {
      // Once more, before it answers.
      during++;
      const up = d.up().catch(() => {});
      await sleep(random.below(600));
      await d.down('SIGKILL');
      await up;
    }
    await d.up();
  }
  load.over = true;
  await Promise.all(clients);
  t.diagnostic(`${KILLS} kills and ${during} more during boot; ${load.summary()}`);
  try {
    await checkAll(d, load);
  } catch (error) {
    // What the daemon's end says then (a mount that is left) would hide it.
    t.diagnostic(error instanceof Error ? error.message : String(error));
    throw error;
  }
});

async function checkAll(d: TestDaemon, load: Load): Promise<void> {
  assert.deepEqual(load.refusals, [], 'no request was answered by an error of the engine');
  await settled(d);
  await checkStories(d, load);
  await checkKernel(d);
  await d.down('SIGKILL');
  assert.deepEqual((await doctor(d, '--skip-images')).problems, [], 'with the daemon down');
  await d.up();
  assert.deepEqual((await doctor(d)).problems, [], 'with the daemon up');
  const left = (await d.ok('ps', '-aq')).split('\n').filter((id) => id !== '');
  if (left.length > 0) await d.ok('rm', '-f', ...left);
  assert.deepEqual((await doctor(d)).problems, [], 'after the removal of all');
}

class Load {
  readonly #daemon: TestDaemon;
  readonly #random: Random;
  readonly made: Made[] = [];
  /** Answers that no client should get. */
  readonly refusals: string[] = [];
  readonly #counts = new Map<string, number>();
  over = false;

  constructor(daemon: TestDaemon, random: Random) {
    this.#daemon = daemon;
    this.#random = random;
  }

  async client(): Promise<void> {
    while (!this.over) {
      try {
        await this.#daemon.api('GET', '/_ping'); // throws while nobody listens
        const there = this.made.filter(({ removed, id }) => !removed && id !== '');
        if (there.length < CONTAINERS_MAX && (there.length < 2 || this.#random.below(4) === 0)) await this.#create();
        else await this.#act(this.#random.pick(there));
      } catch {
        await sleep(20); // nobody answers just now
      }
    }
  }

  summary(): string {
    const counts = [...this.#counts]
      .toSorted(([a], [b]) => a.localeCompare(b))
      .map(([what, count]) => `${what} ${count}`);
    return `${this.made.length} containers; answered: ${counts.join(', ')}`;
  }

  async #create(): Promise<void> {
    const name = `c${this.made.length}`;
    const container: Made = { name, id: '', removed: false };
    this.made.push(container);
    const state = stateOf(this.#daemon, name);
    mkdirSync(state, { recursive: true });
    const seconds = this.#random.pick(['0.05', '0.5', '2', '600']);
    const script = `echo begin >>/state/runs; sleep ${seconds}; exit ${CODE}`;
    const body = {
      Image: 'bb:1',
      Cmd: ['/alone', 'sh', '-c', script],
      HostConfig: {
        Binds: [`${state}:/state`, `${aloneOf(this.#daemon)}:/alone:ro`],
        RestartPolicy: { Name: this.#random.pick(['no', 'always', 'unless-stopped', 'on-failure']) },
      },
    };
    const { status, json } = await this.#ask('create', 'POST', `/containers/create?name=${name}`, body);
    if (status !== 201) return;
    container.id = json.Id;
    await this.#ask('start', 'POST', `/containers/${name}/start`);
  }

  async #act(container: Made): Promise<void> {
    const path = `/containers/${container.name}`;
    const act = this.#random.below(12);
    if (act < 3) await this.#ask('start', 'POST', `${path}/start`);
    else if (act < 5) await this.#ask('stop', 'POST', `${path}/stop?t=${this.#random.below(2)}`);
    else if (act < 7) await this.#ask('restart', 'POST', `${path}/restart?t=0`);
    else if (act < 8) await this.#ask('kill', 'POST', `${path}/kill`);
    else if (act < 11) await this.#exec(path);
    else {
      container.removed = true; // asked for: whether it was done is known at the end
      await this.#ask('remove', 'DELETE', `${path}?force=1`);
    }
  }

  async #exec(path: string): Promise<void> {
    const { status, json } = await this.#ask('exec', 'POST', `${path}/exec`, {
      Cmd: ['sleep', '0.1'],
      AttachStdout: true,
    });
    if (status === 201) await this.#ask('exec start', 'POST', `/exec/${json.Id}/start`, { Detach: true });
  }

  async #ask(what: string, method: string, path: string, body?: object): ReturnType<TestDaemon['api']> {
    const answer = await this.#daemon.api(method, path, body);
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
    // An exec of a container that ends just then is refused by the runtime.
    if (answer.status >= 500 && !what.startsWith('exec'))
      this.refusals.push(`${what} ${path}: ${answer.status} ${answer.text}`);
    return answer;
  }
}

function aloneOf(d: TestDaemon): string {
  return join(d.directory, 'alone');
}

function stateOf(d: TestDaemon, name: string): string {
  return join(d.directory, 'state', name);
}

/** Nothing is on its way any more. */
async function settled(d: TestDaemon): Promise<void> {
  await eventually(
    'every container is up, down, or about to be restarted',
    async () => {
      const { json } = await d.api('GET', '/containers/json?all=1');
      return (json as { State: string }[]).every(({ State }) => State !== 'removing');
    },
    30_000,
  );
}

/** Every run that was begun is told of, and has one end, with a code that it can have had. */
async function checkStories(d: TestDaemon, load: Load): Promise<void> {
  let runs = 0;
  for (const { name, id } of load.made) {
    const { status, json } = await d.api('GET', `/containers/${id === '' ? name : id}/why`);
    if (status === 404) {
      assert.equal(id, '', `${name} was made, and nothing is known of it`);
      continue;
    }
    const entries = json.Entries as Entry[];
    const told = (message: string): string =>
      `${name}: ${message}\n${entries.map(({ Run, Text }) => `  ${Run} ${Text}`).join('\n')}`;
    // A long story has lost its beginning, but for the creation.
    const first = Math.max(1, (entries[1]?.Run ?? 1) + (entries.length > 240 ? 1 : 0));
    const started = entries.filter(({ Kind, Run }) => Kind === 'started' && Run >= first).map(({ Run }) => Run);
    const ended = entries.filter(({ Kind, Run }) => Kind === 'ended' && Run >= first);
    const live = ['running', 'paused'].includes(json.Status) ? started.at(-1) : undefined;
    assert.deepEqual(
      ended.map(({ Run }) => Run),
      started.filter((run) => run !== live),
      told('each run has one end'),
    );
    assert.deepEqual(
      ended.filter(({ Facts }) => !CODES.includes(Facts.Code)),
      [],
      told('ends with a code that it cannot have had'),
    );
    runs += started.length;
    const begun = existsSync(join(stateOf(d, name), 'runs'))
      ? readFileSync(join(stateOf(d, name), 'runs'), 'utf8').split('\n').length - 1
      : 0;
    if (first === 1) assert(begun <= started.length, told(`${begun} runs began, ${started.length} are told of`));
    await checkEvents(d, json.Id, told, live !== undefined);
  }
  assert(runs > KILLS, `${runs} runs`);
}

/** The events tell the same: as many ends as starts, but for the run that lives, and in their order. */
async function checkEvents(d: TestDaemon, id: string, told: (message: string) => string, live: boolean): Promise<void> {
  const actions = (await d.events(0, { container: [id], type: ['container'] })).map(({ Action }) => Action);
  const runs = actions.filter((action) => action === 'start' || action === 'die');
  const expected = runs.map((_, index) => (index % 2 === 0 ? 'start' : 'die'));
  assert.deepEqual(runs, expected, told(`events: ${actions.join(' ')}`));
  assert.equal(runs.at(-1) === 'start', live, told(`events: ${actions.join(' ')}`));
  assert.equal(actions.filter((action) => action === 'create').length, 1, told(`events: ${actions.join(' ')}`));
  assert(actions.filter((action) => action === 'destroy').length <= 1, told(`events: ${actions.join(' ')}`));
}

/** What runs by the API is a process, once; what does not is none. */
async function checkKernel(d: TestDaemon): Promise<void> {
  const ids = (await d.ok('ps', '-aq', '--no-trunc')).split('\n').filter((id) => id !== '');
  for (const id of ids) {
    await eventually(`${id} is what the API says`, async () => {
      const [status, pid] = (await d.inspect(id, '{{.State.Status}} {{.State.Pid}}')).split(' ');
      if (status !== 'running') return pid === '0';
      const cgroup = existsSync(`/proc/${pid}/cgroup`) ? readFileSync(`/proc/${pid}/cgroup`, 'utf8') : '';
      return cgroup.includes(id);
    });
  }
}
