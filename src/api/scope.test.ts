import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EngineError } from '../core/engine-error.ts';
import type { EngineEvent } from '../event/port.ts';
import { details, ID, openTestApi } from './fake-parts.ts';
import { ROUTES } from './routes/all.ts';
import { SCOPED_ROUTES } from './scope.ts';

const OTHER_ID = 'c3'.repeat(32);
const LABEL = { name: 'team', value: 'blue' };

const labelled = (id: string, labels: Record<string, string>) => {
  const { container } = details({ Image: 'busybox', Labels: labels });
  return { ...container, id };
};
const ours = labelled(ID, { team: 'blue' });
const theirs = labelled(OTHER_ID, { team: 'red' });
const resolve = (ref: string): typeof ours => {
  if (ref === 'ours' || ref === ID) return ours;
  if (ref === 'theirs' || ref === OTHER_ID) return theirs;
  throw new EngineError('CONTAINER_NOT_FOUND', `No such container: ${ref}`);
};

const sample = (path: string, name: string): string =>
  path.replace('{name}', name).replace('{id}', 'e1').replace('{checkpoint}', 'c');

test('SCOPED_ROUTES: names only routes that there are', () => {
  const routes = new Set(ROUTES.map(({ method, path }) => `${method} ${path}`));
  assert.deepEqual(
    SCOPED_ROUTES.filter((route) => !routes.has(route)),
    [],
  );
});

test('a read-only listener: refuses each route that could change something, before its handler sees it', async () => {
  await using api = await openTestApi({}, { readOnly: true, label: null });
  const reads = new Set(SCOPED_ROUTES);
  let refused = 0;
  for (const { method, path } of ROUTES) {
    const reading = ['GET', 'HEAD'].includes(method) && reads.has(`${method} ${path}`) && !path.endsWith('/ws');
    if (reading || path === '/containers/{name}/wait') continue;
    const { status, text } = await api.ask(method, sample(path, ID));
    assert.equal(status, 403, `${method} ${path}: ${text}`);
    if (method !== 'HEAD') assert.match(text, /is not served here: this socket is read-only/);
    refused++;
  }
  assert(refused > 40, `only ${refused} routes were refused`);
  assert.equal((await api.ask('GET', '/_ping')).status, 200);
  assert.equal((await api.ask('GET', '/v1.44/containers/json')).status, 200);
});

test('a listener with a label: containers without it do not exist, by name, ID or exec', async () => {
  const reached: string[] = [];
  const exec = { id: 'e1', containerId: OTHER_ID } as never;
  await using api = await openTestApi(
    {
      containers: {
        resolve,
        stop: async (ref: string) => (reached.push(ref), 'stopped' as const),
        execInspect: () => ({ exec, process: { entrypoint: 'x', arguments: [] } }),
      },
    },
    { readOnly: false, label: LABEL },
  );
  assert.equal((await api.ask('POST', '/containers/ours/stop')).status, 204);
  assert.deepEqual(reached, [ID], 'by ID, whatever it is called by then');
  for (const ref of ['theirs', OTHER_ID, 'nobody']) {
    const answer = await api.ask('POST', `/containers/${ref}/stop`);
    assert.deepEqual([answer.status, answer.json], [404, { message: `No such container: ${ref}` }]);
  }
  const inspected = await api.ask('GET', '/exec/e1/json');
  assert.deepEqual([inspected.status, inspected.json], [404, { message: 'No such exec instance: e1' }]);
  for (const [method, path] of [
    ['POST', '/containers/create'],
    ['POST', '/containers/prune'],
    ['POST', '/containers/ours/update'],
    ['POST', '/containers/ours/rename?name=x'],
    ['GET', '/images/json'],
    ['GET', '/info'],
    ['POST', '/build'],
    ['POST', '/networks/n/connect'],
  ] as const)
    assert.equal((await api.ask(method, path)).status, 403, path);
});

test('a listener with a label: lists, events and execs keep to it', async () => {
  const event = (id: string, type: 'container' | 'network', attributes: Record<string, string>): EngineEvent => ({
    type,
    action: 'start',
    actor: { id, attributes },
    scope: 'local',
    timeNs: 1n,
    sequence: 1,
  });
  const all = [
    event(ID, 'container', { team: 'blue' }),
    event(OTHER_ID, 'container', { team: 'red' }),
    event('n', 'network', { team: 'blue' }),
  ];
  let listed: unknown;
  await using api = await openTestApi(
    {
      containers: {
        resolve,
        list: async ({ filters }: { filters: ReadonlyMap<string, readonly string[]> }) => {
          listed = Object.fromEntries(filters);
          return [];
        },
      },
      events: {
        publish: () => {},
        async *subscribe({ matches }: { matches: (event: EngineEvent) => boolean }) {
          yield* all.filter(matches);
        },
      },
    },
    { readOnly: false, label: LABEL },
  );
  const filters = encodeURIComponent(JSON.stringify({ label: ['a=b'], status: ['running'] }));
  assert.equal((await api.ask('GET', `/containers/json?filters=${filters}`)).status, 200);
  assert.deepEqual(listed, { label: ['a=b', 'team=blue'], status: ['running'] });
  const { text } = await api.ask('GET', '/events?since=1&until=2');
  assert.deepEqual(
    text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).Actor.ID),
    [ID],
  );
  const privileged = await api.ask('POST', '/containers/ours/exec', { Cmd: ['sh'], Privileged: true });
  assert.deepEqual([privileged.status, /privileged/.test(privileged.text)], [403, true]);
});
