import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import {
  fitUdp,
  formatAnswer,
  formatFailure,
  isAnswerTo,
  parseQuery,
  RCODE,
  reverseAddress,
  TYPE,
  type Question,
} from './message.ts';

function query(name: string, type: number, udpBytes: number | null = null): Buffer {
  const header = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, udpBytes === null ? 0 : 1]);
  const labels = name.split('.').flatMap((label) => [Buffer.of(label.length), Buffer.from(label)]);
  const edns = udpBytes === null ? [] : [Buffer.from([0, 0, 41, udpBytes >> 8, udpBytes & 255, 0, 0, 0, 0, 0, 0])];
  return Buffer.concat([header, ...labels, Buffer.from([0, 0, type, 0, 1]), ...edns]);
}

function questionOf(message: Buffer): Question {
  const parsed = parseQuery(message);
  assert(parsed.kind === 'question');
  return parsed.question;
}

test('parseQuery: a name in lower case, and how long an answer may be', () => {
  const { name, type, udpBytes, hasEdns } = questionOf(query('Web.Example', TYPE.AAAA, 1232));
  assert.deepEqual({ name, type, udpBytes, hasEdns }, { name: 'web.example', type: 28, udpBytes: 1232, hasEdns: true });
  assert.equal(questionOf(query('a', TYPE.A)).udpBytes, 512);
  assert.equal(questionOf(query('a', TYPE.A, 65_535)).udpBytes, 4096);
});

test('parseQuery: a response is never answered, and nonsense is refused', () => {
  const response = query('a', TYPE.A);
  response[2] = 0x81;
  assert.deepEqual(parseQuery(response), { kind: 'ignore' });
  assert.deepEqual(parseQuery(Buffer.from('short')), { kind: 'ignore' });
  const pointer = query('a', TYPE.A);
  pointer[12] = 0xc0;
  assert.deepEqual(parseQuery(pointer), { kind: 'refuse', rcode: RCODE.FORMAT_ERROR });
  assert.deepEqual(parseQuery(query(Array.from({ length: 60 }, () => 'label').join('.'), 1)), {
    kind: 'refuse',
    rcode: RCODE.FORMAT_ERROR,
  });
});

test('parseQuery: any bytes give an answer and never an error', () => {
  const mutated = fc.tuple(fc.nat(60), fc.nat(255)).map(([at, byte]) => {
    const message = query('some.name', TYPE.A, 1232);
    if (at < message.length) message[at] = byte;
    return message;
  });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes)),
        mutated,
      ),
      (message) => {
        const parsed = parseQuery(message);
        if (parsed.kind === 'refuse') assert.equal(formatFailure(message, null, parsed.rcode).length, 12);
        if (parsed.kind !== 'question') return;
        const answer = formatAnswer(
          message,
          parsed.question,
          [{ kind: 'address', bytes: Buffer.from([1, 2, 3, 4]) }],
          600,
        );
        assert(isAnswerTo(answer, message, parsed.question));
        assert(fitUdp(answer, parsed.question).length <= parsed.question.udpBytes);
      },
    ),
    { numRuns: 2000 },
  );
});

test('formatAnswer: the bytes of one address', () => {
  const message = query('web', TYPE.A);
  const answer = formatAnswer(
    message,
    questionOf(message),
    [{ kind: 'address', bytes: Buffer.from([10, 0, 0, 2]) }],
    600,
  );
  assert.equal(
    answer.toString('hex'),
    '123481800001000100000000037765620000010001c00c00010001000002580004' + '0a000002',
  );
});

test('fitUdp: what is too long becomes its question, marked as cut', () => {
  const message = query('web', TYPE.A);
  const question = questionOf(message);
  const long = formatAnswer(
    message,
    question,
    Array.from({ length: 100 }, (_, index) => ({ kind: 'address' as const, bytes: Buffer.from([10, 0, 0, index]) })),
    600,
  );
  const cut = fitUdp(long, question);
  assert.equal(cut.length, question.end);
  assert.equal(cut[2]! & 2, 2);
  assert.equal(cut.readUInt16BE(6), 0);
});

test('isAnswerTo: another name is not our answer', () => {
  const message = query('web', TYPE.A);
  const other = query('wet', TYPE.A);
  assert.equal(isAnswerTo(formatAnswer(other, questionOf(other), [], 1), message, questionOf(message)), false);
});

test('reverseAddress: both families', () => {
  assert.equal(reverseAddress('2.0.17.172.in-addr.arpa'), '172.17.0.2');
  assert.equal(reverseAddress('web'), null);
  assert.equal(reverseAddress(`${'1.'.repeat(32)}ip6.arpa`), Array.from({ length: 8 }, () => '1111').join(':'));
});
