import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import {
  encodeFrame,
  encodeHelloExec,
  encodeResize,
  encodeSignal,
  LineReader,
  parseControlLine,
  parseExecAnswer,
  parseExitRecord,
  runtimeMessage,
} from './protocol.ts';

test('encodeFrame: frames are as docs/shim-protocol.md has them', () => {
  assert.equal(encodeFrame('stdin-eof').toString('hex'), '0100000000000000');
  assert.equal(encodeResize(24, 80).toString('hex'), '020000000000000400180050');
  assert.equal(encodeResize(70000, -1, 'ab').toString('hex'), '0200000000000006ffff00006162');
  assert.equal(encodeSignal(15, 'x').toString('hex'), '03000000000000020f78');
  const exec = encodeHelloExec({
    execId: 'e',
    processFile: '/p',
    tty: true,
    stdin: true,
    mask: 7,
    rows: 1,
    columns: 2,
  });
  assert.equal(exec.toString('hex'), '060000000000000a0307000100026500' + '2f70');
});

test('parseControlLine: each event of the protocol', () => {
  const exit = { code: 137, signal: 9, oomKilled: true, at: 'T' };
  assert.deepEqual(parseControlLine('{"event":"started","pid":5,"at":"T"}'), { kind: 'started', pid: 5, at: 'T' });
  assert.deepEqual(parseControlLine('{"event":"failed","error":"e","status":1}'), {
    kind: 'failed',
    error: 'e',
    status: 1,
  });
  assert.deepEqual(parseControlLine('{"event":"oom"}'), { kind: 'oom' });
  assert.deepEqual(parseControlLine('{"event":"exec-exited","id":"x","code":2}'), {
    kind: 'exec-exited',
    execId: 'x',
    exitCode: 2,
  });
  assert.deepEqual(
    parseControlLine('{"event":"exited","pid":5,"code":137,"signal":9,"oom":true,"at":"T","recorded":true}'),
    {
      kind: 'exited',
      pid: 5,
      exit,
      recorded: true,
    },
  );
  assert.deepEqual(parseControlLine('{"event":"log-dropped","bytes":7}'), { kind: 'log-dropped', bytes: 7 });
  assert.deepEqual(parseControlLine('{"event":"released","status":0,"error":""}'), {
    kind: 'released',
    status: 0,
    error: '',
  });
  assert.equal(parseControlLine('{"event":"of a later version"}'), null);
  assert.equal(parseControlLine('{"event":"started","pid":"5","at":"T"}'), null);
  const record = parseExitRecord('{"pid":5,"code":137,"signal":9,"oom":true,"at":"T","run":2,"started_at":"S"}\n');
  assert.deepEqual(record, { run: 2, pid: 5, startedAt: 'S', exit });
});

test('parseControlLine: never throws, whatever the line', () => {
  const line = fc.oneof(
    fc.string(),
    fc.json(),
    fc
      .record({
        event: fc.constantFrom('state', 'started', 'exited', 'released', 'failed', 'exec-exited'),
        pid: fc.jsonValue(),
        code: fc.jsonValue(),
        execs: fc.jsonValue(),
        ended_execs: fc.array(fc.jsonValue()),
        version: fc.nat(),
        id: fc.string(),
        run: fc.nat(),
        started_at: fc.string(),
      })
      .map((value) => JSON.stringify(value)),
  );
  fc.assert(
    fc.property(line, (text) => {
      parseControlLine(text);
      parseExecAnswer(text);
      parseExitRecord(text);
      runtimeMessage(text);
    }),
  );
});

test('LineReader: the same lines however the bytes are cut, and an endless one is refused', () => {
  const cut = fc.tuple(
    fc.array(fc.string().map((text) => text.replaceAll('\n', ' '))),
    fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
  );
  fc.assert(
    fc.property(cut, ([lines, sizes]) => {
      const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
      const reader = new LineReader();
      const got: string[] = [];
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const size = sizes[turn % sizes.length]!;
        got.push(...reader.push(bytes.subarray(at, at + size)));
        at += size;
      }
      assert.deepEqual(
        got,
        lines.map((line) => Buffer.from(line).toString()),
      );
    }),
  );
  const reader = new LineReader();
  assert.throws(() => {
    for (let i = 0; i < 20; i++) reader.push(Buffer.alloc(100_000, 'x'));
  }, /no end/);
});

test('runtimeMessage: the last error of the log, or the text itself', () => {
  const log = '{"level":"warning","msg":"w"}\n{"level":"error","msg":"the cause"}\n{"level":"info","msg":"after"}\n';
  assert.equal(runtimeMessage(log), 'the cause');
  assert.equal(runtimeMessage('{"level":"warning","msg":"only this"}\n'), 'only this');
  assert.equal(runtimeMessage('plain words\n'), 'plain words');
  assert.equal(runtimeMessage(''), '');
});
