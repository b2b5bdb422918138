import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ID, NEVER, entries, open, streamService } from '../../../test/support/log-services.ts';
import { EventTime, pack } from './msgpack.ts';

test('pack: as the specification has it', () => {
  const hex = (value: Parameters<typeof pack>[0]): string => pack(value).toString('hex');
  assert.deepEqual(
    [
      null,
      true,
      5,
      200,
      2 ** 32,
      'a',
      'b'.repeat(40).slice(0, 33),
      [1],
      { a: 1 },
      new EventTime(1_000_000_002n),
      Buffer.of(1),
    ].map((value) => hex(value).slice(0, 24)),
    [
      'c0',
      'c3',
      '05',
      'ce000000c8',
      'cf0000000100000000',
      'a161',
      'd92162626262626262626262',
      '9101',
      '81a16101',
      'd7000000000100000002',
      'c40101',
    ],
  );
  assert.equal(hex('x'.repeat(300)).slice(0, 6), 'da012c');
  assert.equal(hex('x'.repeat(70_000)).slice(0, 10), 'db00011170');
});

test('fluentd: one message a batch; pieces of a long line say so', async (t) => {
  const service = await streamService(t);
  const destination = open(t, 'fluentd', {
    'fluentd-address': `127.0.0.1:${service.port}`,
    tag: 't',
    'fluentd-sub-second-precision': 'true',
  });
  const batch = entries('one\n', 'half');
  await destination.send(batch, NEVER);
  const common = { container_id: ID, container_name: '/web' };
  const times = batch.map(({ timeNs }) => new EventTime(timeNs));
  const head = pack(['t', [[times[0] as EventTime, { ...common, source: 'stdout', log: 'one' }]]]).subarray(0, -1);
  await service.until(200);
  assert.equal(service.got()[0], 0x93);
  assert(service.got().includes(head.subarray(4)), 'the first event');
  assert.match(service.got().toString('latin1'), /partial_message.*partial_ordinal\xa11\xacpartial_last\xa5false/s);
});

test('fluentd: with an acknowledgement a batch counts when the server says so', async (t) => {
  const service = await streamService(t);
  const options = { 'fluentd-address': `tcp://127.0.0.1:${service.port}`, 'fluentd-request-ack': 'true' };
  const destination = open(t, 'fluentd', options);
  let isDone = false;
  const sent = destination.send(entries('a\n'), NEVER).then(() => (isDone = true));
  await service.until(150);
  const text = service.got().toString('latin1');
  const chunk = text.slice(text.indexOf('\xa5chunk') + 7, text.indexOf('\xa5chunk') + 7 + 24);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(isDone, false);
  service.sockets[0]?.write(pack({ ack: chunk }));
  await sent;
  await assert.rejects(destination.send(entries('b\n'), AbortSignal.timeout(50)), /acknowledge/);
});
