import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { ProcessSpec } from '../core/container-spec.ts';
import { checkCommand, commandOf, mergeConfig, type Mergeable } from './merge-config.ts';

const EMPTY: Mergeable = {
  user: '', exposedPorts: null, env: null, labels: {}, entrypoint: null, cmd: null, argsEscaped: false,
  healthcheck: null, workingDir: '', volumes: null, stopSignal: null, shell: null,
}; // prettier-ignore

const HEALTH = { test: null, intervalNs: 0, timeoutNs: 0, startPeriodNs: 0, startIntervalNs: 0, retries: 0 };

const CASES: readonly [string, Partial<Mergeable>, Partial<Mergeable>, Partial<Mergeable>][] = [
  ['the image fills in what is open', {}, { user: 'app', workingDir: '/w', stopSignal: 'SIGINT', cmd: ['a'], argsEscaped: true, shell: ['sh'] }, { user: 'app', workingDir: '/w', stopSignal: 'SIGINT', cmd: ['a'], argsEscaped: true, shell: ['sh'] }],
  ['the request wins', { user: 'me', workingDir: '/x', stopSignal: 'TERM', shell: ['bash'] }, { user: 'app', workingDir: '/w', stopSignal: 'SIGINT', shell: ['sh'] }, { user: 'me', workingDir: '/x', stopSignal: 'TERM', shell: ['bash'] }],
  ['an own command keeps the entrypoint', { cmd: ['b'] }, { entrypoint: ['e'], cmd: ['a'] }, { entrypoint: ['e'], cmd: ['b'] }],
  ['an own entrypoint drops the command', { entrypoint: ['f'] }, { entrypoint: ['e'], cmd: ['a'] }, { entrypoint: ['f'], cmd: null }],
  ['an empty entrypoint is a wish', { entrypoint: [] }, { entrypoint: ['e'], cmd: ['a'] }, { entrypoint: [], cmd: ['a'] }],
  ['an empty command is none', { cmd: [] }, { entrypoint: ['e'], cmd: ['a'] }, { entrypoint: ['e'], cmd: ['a'] }],
  ['variables by name, the request first', { env: ['B=2', 'X'] }, { env: ['A=1', 'B=1', 'X=0', 'C=a=b'] }, { env: ['B=2', 'X', 'A=1', 'C=a=b'] }],
  ['no variables take the image\'s', { env: [] }, { env: ['A=1'] }, { env: ['A=1'] }],
  ['labels, ports and volumes are united', { labels: { a: '1' }, exposedPorts: ['80/tcp'], volumes: ['/v'] }, { labels: { a: '0', b: '2' }, exposedPorts: ['80/tcp', '53/udp'], volumes: ['/w'] }, { labels: { a: '1', b: '2' }, exposedPorts: ['80/tcp', '53/udp'], volumes: ['/v', '/w'] }],
  ['a health check is inherited whole', {}, { healthcheck: { ...HEALTH, test: ['CMD', 'x'], retries: 2 } }, { healthcheck: { ...HEALTH, test: ['CMD', 'x'], retries: 2 } }],
  ['a health check is inherited by field', { healthcheck: { ...HEALTH, test: [], retries: 5 } }, { healthcheck: { ...HEALTH, test: ['CMD', 'x'], retries: 2, intervalNs: 7 } }, { healthcheck: { ...HEALTH, test: ['CMD', 'x'], retries: 5, intervalNs: 7 } }],
  ['a health check is switched off', { healthcheck: { ...HEALTH, test: ['NONE'] } }, { healthcheck: { ...HEALTH, test: ['CMD', 'x'] } }, { healthcheck: { ...HEALTH, test: ['NONE'] } }],
]; // prettier-ignore

for (const [what, own, image, merged] of CASES) {
  test(`mergeConfig: ${what}`, () => {
    assert.deepEqual(mergeConfig({ ...EMPTY, ...own }, { ...EMPTY, ...image }), { ...EMPTY, ...merged });
  });
}

test('checkCommand: refuses a container that has nothing to run', () => {
  const process = (entrypoint: string[] | null, cmd: string[] | null) =>
    ({ ...EMPTY, entrypoint, cmd }) as unknown as ProcessSpec;
  const refused = { code: 'CONTAINER_SPEC_INVALID', message: 'no command specified' };
  for (const [entrypoint, cmd] of [
    [null, null],
    [[], []],
    [[''], null],
  ] as const) {
    assert.throws(() => checkCommand(process(entrypoint as string[] | null, cmd as string[] | null)), refused);
  }
  assert.deepEqual(checkCommand(process([''], ['sh'])), process(null, ['sh']));
});

test('commandOf: path and arguments are entrypoint and command in a row', () => {
  assert.deepEqual(commandOf({ entrypoint: ['e', '1'], cmd: ['a'] }), { path: 'e', arguments: ['1', 'a'] });
  assert.deepEqual(commandOf({ entrypoint: null, cmd: null }), { path: '', arguments: [] });
});
