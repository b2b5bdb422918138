import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { plainContainer } from '../../sim/spec.ts';
import { decodeContainer } from './created.ts';

test('decodeContainer: takes what was written', () => {
  const container = plainContainer('a');
  assert.deepEqual(decodeContainer(JSON.parse(JSON.stringify(container))), container);
});

const broken: readonly [title: string, change: object, why: RegExp][] = [
  ['no spec', { spec: undefined }, /no spec/],
  ['a state that is unknown', { state: { at: 'flying' } }, /state\.at is "flying"/],
  ['running without a pid', { state: { at: 'running', startedAt: '', oomKilled: false } }, /no pid/],
  ['exited without its exit', { state: { at: 'exited' } }, /no exit/],
  ['an exit without a code', { state: { at: 'exited', exit: { error: '' } } }, /no code/],
  ['an intent that is unknown', { intent: { wanted: 'maybe', stoppedByUser: false } }, /intent\.wanted/],
  ['a run that is text', { run: '1' }, /no run/],
];
for (const [title, change, why] of broken) {
  test(`decodeContainer: refuses ${title}`, () => {
    assert.throws(() => decodeContainer({ ...plainContainer('a'), ...change }), why);
  });
}

test('decodeContainer: refuses anything else with an Error', () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => assert.throws(() => decodeContainer(value), Error)));
});
