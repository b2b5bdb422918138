import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Container } from '../lifecycle/container.ts';
import { matcherOf, matchesLabels } from './filters.ts';
import { listContainers } from './list.ts';
import { ENDPOINT_DEFAULT } from '../network/endpoint-spec.ts';
import { containerOf, partsWith, specOf } from './fakes.ts';

const LIVE = { pid: 7, startedAt: '2026-01-01T00:00:01Z', oomKilled: false };
const EXIT = {
  code: 3,
  oomKilled: false,
  error: '',
  startedAt: '2026-01-01T00:00:01Z',
  finishedAt: '2026-01-01T00:00:02Z',
};
const NEVER = { ...EXIT, startedAt: '0001-01-01T00:00:00Z' };

function make(name: string, change: Partial<Container>, index: number): Container {
  return containerOf({
    id: `${name}${'0'.repeat(64 - name.length)}`,
    name,
    createdAt: `2026-01-01T00:00:0${index}Z`,
    ...change,
  });
}

const VOLUME = {
  type: 'volume', name: 'data', source: '/v/data', destination: '/srv', driver: 'local', mode: '', readWrite: true,
  propagation: '', anonymous: false, copyUp: true, subpath: '', options: [], createSource: false,
} as const; // prettier-ignore

const CONTAINERS = [
  make(
    'c1',
    { spec: specOf({ process: { labels: { app: 'x', tier: 'web' } }, endpoints: { n1: ENDPOINT_DEFAULT } }) },
    1,
  ),
  make('c2', { state: { at: 'running', ...LIVE }, imageId: 'sha256:child', mounts: [VOLUME] }, 2),
  make('c3', { state: { at: 'exited', exit: EXIT }, spec: specOf({ process: { labels: { app: 'y' } } }) }, 3),
  make('c4', { state: { at: 'paused', ...LIVE }, health: { status: 'healthy', failingStreak: 0, log: [] } }, 4),
  make('c5', { state: { at: 'restarting', exit: EXIT, dueAt: '2026-01-01T00:00:09Z' } }, 5),
  make('c6', { state: { at: 'exited', exit: NEVER } }, 6),
  make('c7', { state: { at: 'starting', previous: null, byPolicy: false } }, 7),
];

async function list(
  filters: Record<string, string[]>,
  options: { all?: boolean; limit?: number } = {},
): Promise<string> {
  const networks = [{ name: 'n1', id: 'net1' }];
  const parts = partsWith(CONTAINERS, {
    networks: {
      endpoints: () => new Map(),
      list: () => networks,
      ports: (id: string) =>
        id.startsWith('c2') ? { '80/tcp': [{ hostIp: '', hostPort: '8080' }], '53/udp': [] } : {},
    } as never,
    images: {
      list: () => [
        { id: 'sha256:1', parentId: '' },
        { id: 'sha256:child', parentId: 'sha256:base' },
      ],
      snapshots: { describe: () => ({}) },
    } as never,
    imageOf: (ref) => (ref === 'base' ? ({ id: 'sha256:base' } as never) : null),
  });
  const map = new Map(Object.entries(filters));
  const found = await listContainers(parts, {
    all: options.all ?? true,
    limit: options.limit ?? null,
    size: false,
    filters: map,
  });
  return found.map(({ container }) => container.name).join(' ');
}

const CASES: readonly [Record<string, string[]>, string][] = [
  [{}, 'c7 c6 c5 c4 c3 c2 c1'],
  [{ name: ['c1'] }, 'c1'],
  [{ name: ['^/c[12]$'] }, 'c2 c1'],
  [{ name: ['^c3$'] }, 'c3'],
  [{ name: ['['] }, ''],
  [{ id: ['c4'] }, 'c4'],
  [{ id: ['c'] }, ''],
  [{ label: ['app'] }, 'c3 c1'],
  [{ label: ['app=x', 'tier'] }, 'c1'],
  [{ label: ['toString'] }, ''],
  [{ status: ['created'] }, 'c7 c1'],
  [{ status: ['exited', 'paused'] }, 'c6 c4 c3'],
  [{ exited: ['3'] }, 'c3'],
  [{ exited: ['0'] }, ''],
  [{ health: ['healthy'] }, 'c4'],
  [{ health: ['none'] }, 'c7 c6 c5 c3 c2 c1'],
  [{ volume: ['data'] }, 'c2'],
  [{ volume: ['/srv'] }, 'c2'],
  [{ ancestor: ['base'] }, 'c2'],
  [{ ancestor: ['nothing'] }, ''],
  [{ network: ['n1'] }, 'c1'],
  [{ network: ['net'] }, 'c1'],
  [{ publish: ['8000-8090'] }, 'c2'],
  [{ publish: ['80'] }, ''],
  [{ expose: ['53/udp'] }, 'c2'],
  [{ expose: ['53'] }, ''],
  [{ before: ['c3'] }, 'c2 c1'],
  [{ since: ['c5'] }, 'c7 c6'],
  [{ before: ['c5'], since: ['c2'] }, 'c4 c3'],
  [{ 'is-task': ['false'] }, 'c7 c6 c5 c4 c3 c2 c1'],
  [{ 'is-task': ['true'] }, ''],
];

for (const [filters, expected] of CASES) {
  test(`listContainers: ${JSON.stringify(filters)}`, async () => assert.equal(await list(filters), expected));
}

test('listContainers: shows what runs or is about to; a limit shows all', async () => {
  assert.equal(await list({}, { all: false }), 'c5 c4 c2');
  assert.equal(await list({}, { all: false, limit: 2 }), 'c7 c6');
  assert.equal(await list({ status: ['exited'] }, { all: false }), 'c6 c3');
});

test("listContainers: refuses filters in Docker's words", async () => {
  const refusals: [Record<string, string[]>, string][] = [
    [{ nosuch: ['1'] }, "invalid filter 'nosuch'"],
    [
      { status: ['gone'] },
      "invalid filter 'status=gone': invalid value for state (gone): must be one of created, running, paused, restarting, removing, exited, dead",
    ],
    [
      { health: ['fine'] },
      "invalid filter 'health=fine': invalid value for health (fine): must be one of none, starting, healthy, unhealthy",
    ],
    [{ exited: ['x'] }, 'invalid filter \'exited=x\': strconv.Atoi: parsing "x": invalid syntax'],
    [{ before: ['nobody'] }, 'No such container: nobody'],
    [{ publish: ['1:2'] }, "filter for 'publish' should not contain ':': 1:2"],
    [{ 'is-task': ['maybe'] }, "invalid filter 'is-task=[maybe]'"],
  ];
  for (const [filters, message] of refusals) await assert.rejects(list(filters), { message });
});

test('matcherOf: a pattern that would run for ever is refused', () => {
  assert.throws(() => matcherOf(['^(a+)+$'])(`${'a'.repeat(40)}!`), { code: 'PARAMETER_INVALID' });
  assert.equal(matcherOf(['^(a+)+$'])('aaa'), true);
});

test('matchesLabels: values may contain the separator', () => {
  assert.equal(matchesLabels(['a=b=c'], { a: 'b=c' }), true);
  assert.equal(matchesLabels(['a='], { a: '' }), true);
  assert.equal(matchesLabels(['a='], { a: 'x' }), false);
});
