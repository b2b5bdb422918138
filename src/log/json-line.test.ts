import assert from 'node:assert/strict';
import { suite, test } from 'node:test';

import fc from 'fast-check';

import { JsonLineParser, parseTimeNs } from './json-line.ts';
import type { LogEntry } from './port.ts';

const plain = (entry: LogEntry): object => ({
  stream: entry.stream,
  line: entry.line.toString('utf8'),
  time: entry.time,
  timeNs: entry.timeNs,
  attributes: entry.attributes,
});

function parse(text: string | Buffer): object[] {
  const entries: LogEntry[] = [];
  const bytes = Buffer.from(text);
  new JsonLineParser().parse(bytes, entries);
  return entries.map(plain);
}

/** Go's json.Marshal escapes more than JSON.stringify does. */
const goString = (text: string): string =>
  JSON.stringify(text).replace(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

suite('JsonLineParser', () => {
  test('parse: any text comes back as it was, whatever the encoder escaped', () => {
    const line = fc.record({
      log: fc.oneof(
        fc.string({ unit: 'grapheme' }),
        fc.string({ unit: 'binary' }),
        fc.constant('\\\\"\\n\n\t\u0000<&>\u2028'),
      ),
      stream: fc.constantFrom('stdout', 'stderr'),
      attrs: fc.option(fc.dictionary(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' })), { nil: null }),
      nanos: fc.integer({ min: 0, max: 999_999_999 }),
      hasNewline: fc.boolean(),
      isAscii: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(line, { maxLength: 5 }), (lines) => {
        const expected: object[] = [];
        let text = '';
        for (const { log, stream, attrs, nanos, hasNewline, isAscii } of lines) {
          const whole = Buffer.from(log + (hasNewline ? '\n' : '')).toString('utf8');
          const fraction = nanos === 0 ? '' : `.${String(nanos).padStart(9, '0').replace(/0+$/, '')}`;
          const time = `2026-11-22T04:09:49${fraction}Z`;
          const coded = isAscii
            ? JSON.stringify(whole).replace(
                /[\u0080-\uffff]/g,
                (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
              )
            : goString(whole);
          text += `{"log":${coded},"stream":"${stream}"${attrs === null ? '' : `,"attrs":${JSON.stringify(attrs)}`},"time":"${time}"}\n`;
          expected.push({
            stream,
            line: whole,
            time,
            timeNs: BigInt(Date.parse('2026-11-22T04:09:49Z')) * 1_000_000n + BigInt(nanos),
            attributes: { ...attrs },
          });
        }
        assert.deepEqual(
          parse(text).map((entry) => ({ ...entry, attributes: { ...(entry as LogEntry).attributes } })),
          expected,
        );
      }),
      { numRuns: 500 },
    );
  });

  test('parse: garbage is skipped and never hides a whole line behind it', () => {
    const good = '{"log":"ok\\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}\n';
    const garbage = fc.oneof(
      fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\n', '')),
      fc.constantFrom(
        '{"log":"x',
        '{"log":"\\',
        '{"log":"a","stream":"stdout","time":"2026"',
        '{}',
        'null',
        '[]',
        '{"log":"a\\u12","stream":"stdout","time":"2026-01-01T00:00:00Z"}',
        '{"log":1,"stream":"stdout","time":"2026-01-01T00:00:00Z"}',
        '{"log":"a","stream":"stdxxx","time":"2026-01-01T00:00:00Z"}',
      ),
      fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('latin1').replaceAll('\n', '')),
    );
    fc.assert(
      fc.property(fc.array(garbage, { maxLength: 4 }), (pieces) => {
        const entries = parse(pieces.map((piece) => `${piece}\n${good}`).join('')) as { line: string }[];
        assert.equal(entries.filter((entry) => entry.line === 'ok\n').length, pieces.length);
      }),
    );
  });

  test('parse: half a line of a crashed writer in front of a whole one costs only itself', () => {
    assert.deepEqual(
      parse('{"log":"half{"log":"a \\"b\\"\\n","stream":"stderr","time":"2026-01-01T00:00:00.5Z"}\n').map(
        (entry) => (entry as { line: string }).line,
      ),
      ['a "b"\n'],
    );
  });

  test('parse: keys in another order and with other spaces', () => {
    assert.deepEqual(parse('{ "time": "2026-01-01T01:00:00+01:00", "stream": "stderr", "log": "x" }\n'), [
      {
        stream: 'stderr',
        line: 'x',
        time: '2026-01-01T01:00:00+01:00',
        timeNs: BigInt(Date.UTC(2026, 0, 1)) * 1_000_000n,
        attributes: {},
      },
    ]);
  });
});

test('parseTimeNs: nanoseconds, offsets, and what is no time', () => {
  assert.equal(parseTimeNs('1970-01-01T00:00:01.000000001Z'), 1_000_000_001n);
  assert.equal(parseTimeNs('1970-01-01T01:00:00+01:00'), 0n);
  for (const text of ['', 'x', '2026-13-01T00:00:00Z', '2026-01-01', '2026-01-01T00:00:00'])
    assert.equal(parseTimeNs(text), null);
});
