import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import type { Container } from '../lifecycle/container.ts';
import { checkName, Names } from './names.ts';
import { randomName } from './random-name.ts';
import { Resolver } from './resolve.ts';

const A = 'a'.repeat(64);
const B = `ab${'0'.repeat(62)}`;

function lookup(...containers: { id: string; name: string }[]) {
  const all = containers as Container[];
  return { get: (id: string) => all.find((one) => one.id === id), list: () => all };
}

test('checkName: takes what Docker takes and drops one slash', () => {
  for (const name of ['web', '/web', 'a1', 'A.b_c-d', '0x']) assert.equal(checkName(name), name.replace('/', ''));
  for (const name of ['', '/', 'a', '//web', 'a b', '-web', '.web', 'wéb', 'web/db', 'a\n']) {
    assert.throws(() => checkName(name), {
      code: 'CONTAINER_NAME_INVALID',
      message: `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    });
  }
});

test("Names.reserve: says who has the name in Docker's words", () => {
  const names = new Names(lookup({ id: A, name: 'web' }));
  assert.throws(() => names.reserve('/web', B), {
    code: 'CONTAINER_NAME_TAKEN',
    message:
      `Conflict. The container name "/web" is already in use by container "${A}". ` +
      'You have to remove (or rename) that container to be able to reuse that name.',
  });
});

test('Names.reserve: holds a name until it is disposed of, and no longer', () => {
  const names = new Names(lookup());
  {
    using held = names.reserve('web', A);
    assert.equal(held.name, 'web');
    assert.throws(() => names.reserve('web', B), { code: 'CONTAINER_NAME_TAKEN' });
  }
  names.reserve('web', B)[Symbol.dispose]();
});

test('Names.find: does not believe what it found before', () => {
  const containers = [{ id: A, name: 'web' }] as Container[];
  const names = new Names({ get: (id) => containers.find((one) => one.id === id), list: () => containers });
  assert.equal(names.find('web')?.id, A);
  containers[0] = { ...containers[0]!, name: 'other' };
  assert.equal(names.find('web'), undefined);
  assert.equal(names.find('other')?.id, A);
  containers.length = 0;
  assert.equal(names.find('other'), undefined);
});

test('randomName: an adjective and a surname, with a digit when the plain ones were taken', () => {
  for (let i = 0; i < 200; i++) assert.match(randomName(0), /^[a-z]+_[a-z]+$/);
  assert.match(randomName(3), /^[a-z]+_[a-z]+\d$/);
});

test('Names.reserve: makes up a name that is valid and free, even when all random ones are taken', () => {
  const names = new Names({ get: () => undefined, list: () => [] });
  using made = names.reserve('', A);
  assert.match(made.name, /^[a-z]+_[a-z0-9]+$/);
  const full = new Names(lookup());
  full.holder = (name) => (name.includes('_') ? B : undefined);
  using short = full.reserve('', A);
  assert.equal(short.name, A.slice(0, 12));
});

test('Resolver.resolve: a full ID wins over a name, a name over a prefix', () => {
  const containers = lookup({ id: A, name: 'web' }, { id: B, name: A }, { id: 'c'.repeat(64), name: 'ab' });
  const resolver = new Resolver(containers, new Names(containers));
  assert.equal(resolver.resolve(A).name, 'web');
  assert.equal(resolver.resolve('ab').id, 'c'.repeat(64));
  assert.equal(resolver.resolve('/ab').id, 'c'.repeat(64));
  assert.equal(resolver.resolve('aa').id, A);
  assert.equal(resolver.resolve('ab0').id, B);
  assert.throws(() => resolver.resolve('a'), {
    code: 'CONTAINER_ID_AMBIGUOUS',
    message: 'multiple IDs found with provided prefix: a',
  });
  assert.throws(() => resolver.resolve('nope'), { code: 'CONTAINER_NOT_FOUND', message: 'No such container: nope' });
});

test('Resolver.resolve: hostile references find nothing or one thing, and never crash', () => {
  const containers = lookup({ id: A, name: 'web' }, { id: B, name: 'db' });
  const resolver = new Resolver(containers, new Names(containers));
  fc.assert(
    fc.property(fc.string(), (ref) => {
      const found = resolver.tryResolve(ref);
      return found === undefined || found.id.startsWith(ref) || `/${found.name}`.endsWith(ref);
    }),
  );
});
