import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import {
  encodeAttributes,
  encodeRequest,
  NLM_F_REQUEST,
  NLMSG_ERROR,
  parseAcknowledgement,
  parseAttributes,
  parseMessages,
  parseString,
  type Attribute,
} from './netlink.ts';

const attributeType = fc.integer({ min: 0, max: 0x3fff });
const bytes = fc.uint8Array({ maxLength: 300 });

test('encodeAttributes: parseAttributes gives back every value', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(attributeType, bytes), { selector: ([type]) => type }), (attributes) => {
      const parsed = parseAttributes(encodeAttributes(attributes));
      assert.deepEqual(
        [...parsed].map(([type, value]) => [type, Uint8Array.from(value)]),
        attributes,
      );
    }),
  );
});

test('encodeAttributes: numbers, strings and nesting', () => {
  fc.assert(
    fc.property(
      fc.nat(0xffffffff),
      fc.string().filter((text) => !text.includes('\0')),
      attributeType,
      (word, text, type) => {
        const attributes: Attribute[] = [
          [1, word],
          [2, text],
          [3, [[type, text]]],
        ];
        const parsed = parseAttributes(encodeAttributes(attributes));
        assert.equal(parsed.get(1)?.readUInt32LE(0), word);
        assert.equal(parseString(parsed.get(2)), Buffer.from(text).toString());
        assert.equal(
          parseString(parseAttributes(parsed.get(3) ?? Buffer.alloc(0)).get(type)),
          Buffer.from(text).toString(),
        );
      },
    ),
  );
});

test('encodeRequest: several in one send parse as they were', () => {
  const part = fc.record({ type: fc.nat(0xffff), flags: fc.nat(0xfff), header: bytes, payload: bytes });
  fc.assert(
    fc.property(fc.array(part, { maxLength: 5 }), (parts) => {
      const data = Buffer.concat(
        parts.map(({ type, flags, header, payload }, index) =>
          encodeRequest(
            { call: 'x', detail: '', type, flags, header: Buffer.from(header), attributes: [[7, payload]] },
            index + 1,
          ),
        ),
      );
      assert.deepEqual(
        parseMessages(data).map(({ type, flags, sequence, payload }) => ({
          type,
          flags,
          sequence,
          size: payload.length % 4,
        })),
        parts.map(({ type, flags }, index) => ({ type, flags: flags | NLM_F_REQUEST, sequence: index + 1, size: 0 })),
      );
    }),
  );
});

test('parseMessages, parseAttributes: any bytes end in values or a RangeError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
      const data = Buffer.from(noise);
      for (const parse of [parseMessages, parseAttributes]) {
        try {
          parse(data);
        } catch (error) {
          assert.ok(error instanceof RangeError);
        }
      }
    }),
  );
});

test('encodeAttributes: what does not fit a length field is refused', () => {
  assert.throws(() => encodeAttributes([[1, new Uint8Array(65_536)]]), RangeError);
});

test("parseAcknowledgement: the kernel's text is found behind a capped and behind a whole request", () => {
  const text = encodeAttributes([[1, 'no such thing']]);
  const errno = Buffer.alloc(4);
  errno.writeInt32LE(-19);
  const echoed = Buffer.alloc(24);
  echoed.writeUInt32LE(22, 0); // not a multiple of four
  const flagsWhole = 0x200;
  const flagsCapped = 0x300;
  const expected = { errno: 19, text: 'no such thing' };
  const base = { type: NLMSG_ERROR, sequence: 1 };
  assert.deepEqual(
    parseAcknowledgement({ ...base, flags: flagsWhole, payload: Buffer.concat([errno, echoed, text]) }),
    expected,
  );
  assert.deepEqual(
    parseAcknowledgement({
      ...base,
      flags: flagsCapped,
      payload: Buffer.concat([errno, echoed.subarray(0, 16), text]),
    }),
    expected,
  );
  assert.deepEqual(parseAcknowledgement({ ...base, flags: 0, payload: Buffer.concat([errno, echoed]) }), {
    errno: 19,
    text: '',
  });
});
