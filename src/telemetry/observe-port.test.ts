import assert from 'node:assert/strict';
import { test } from 'node:test';

import { observePort, watchAll, whenEnded } from './observe-port.ts';
import type { Watch } from './port.ts';

/** Private fields and accessors are what a careless proxy breaks. */
class Port {
  #told: string[] = [];
  onEvent: (text: string) => void = () => {};

  get told(): readonly string[] {
    return this.#told;
  }

  async say(text: string): Promise<number> {
    if (text === '') throw new Error('nothing to say');
    this.#told.push(text);
    this.onEvent(text);
    return this.#told.length;
  }

  async *count(to: number): AsyncGenerator<number> {
    for (let n = 1; n <= to; n++) yield n;
  }
}

const recorder = (): { readonly watch: Watch; readonly seen: string[] } => {
  const seen: string[] = [];
  const watch: Watch = ({ operation }, run) =>
    whenEnded(run, (error) => seen.push(`${operation} ${error === null ? 'ok' : (error as Error).message}`));
  return { watch, seen };
};

test('observePort: the named methods are watched, and everything else is as it was', async () => {
  const { watch, seen } = recorder();
  const port = observePort(new Port(), watch, {
    say: (text) => ({ operation: `say ${text}`, attributes: () => ({}) }),
    count: () => ({ operation: 'count', attributes: () => ({}) }),
  });
  const heard: string[] = [];
  port.onEvent = (text) => heard.push(text);
  assert.equal(await port.say('a'), 1);
  await assert.rejects(port.say(''), { message: 'nothing to say' });
  assert.deepEqual(port.told, ['a']);
  assert.deepEqual(heard, ['a']);
  assert.deepEqual(seen, ['say a ok', 'say  nothing to say']);
});

test('observePort: work that is iterated ends with its iteration, also when the reader leaves early', async () => {
  const { watch, seen } = recorder();
  const port = observePort(new Port(), watch, { count: (to) => ({ operation: `to ${to}`, attributes: () => ({}) }) });
  const all: number[] = [];
  for await (const n of port.count(3)) {
    assert.deepEqual(seen, []);
    all.push(n);
  }
  for await (const n of port.count(9)) if (n === 2) break;
  assert.deepEqual(
    [all, seen],
    [
      [1, 2, 3],
      ['to 3 ok', 'to 9 ok'],
    ],
  );
});

test('watchAll: the first is outermost, and each runs the work once', () => {
  const order: string[] = [];
  const named =
    (name: string): Watch =>
    (_, run) => {
      order.push(`${name} begins`);
      const result = run();
      order.push(`${name} ends`);
      return result;
    };
  const watch = watchAll([named('a'), named('b')])!;
  assert.equal(
    watch({ operation: 'x', attributes: () => ({}) }, () => order.push('work')),
    3,
  );
  assert.deepEqual(order, ['a begins', 'b begins', 'work', 'b ends', 'a ends']);
  assert.equal(watchAll([]), null);
});

test('observePort: what is set on it may be replaced, and everything else is set as it is', async () => {
  const heard: string[] = [];
  const plain = new Port();
  const port = observePort(plain, recorder().watch, {}, { onEvent: (tell) => (text) => tell(`${text}!`) });
  port.onEvent = (text) => heard.push(text);
  await plain.say('a');
  assert.deepEqual(heard, ['a!']);
});
