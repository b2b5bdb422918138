import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { EngineError } from '../../core/engine-error.ts';
import { createRequest, parseCreateRequest } from './container-create.ts';
import { decodeBody, flag, integer, list, map, optional, struct, text, textOrTexts } from './decode.ts';
import { parseJson } from './json-text.ts';

const sample = struct('pkg.Sample', {
  Name: text,
  On: flag,
  Size: integer('int64'),
  Small: integer('uint16'),
  Words: list(text),
  Labels: map(text),
  Cmd: textOrTexts,
  Inner: optional(struct('pkg.Inner', { Deep: integer('int64') })),
});

test('struct: keys match without case, null is zero, unknown keys are ignored, the last one wins', () => {
  assert.deepEqual(
    decodeBody(
      '{"NAME":"a","name":"b","on":null,"other":[1],"words":[null,"x"],"cmd":"run","Labels":{"__proto__":"p"}}',
      sample,
    ),
    {
      Name: 'b',
      On: false,
      Size: 0,
      Small: 0,
      Words: ['', 'x'],
      Labels: JSON.parse('{"__proto__":"p"}') as object,
      Cmd: ['run'],
      Inner: null,
    },
  );
  assert.deepEqual(decodeBody('null', sample), sample.zero);
});

test('integer: the largest of 64 bits stays one that Go reads', () => {
  const { Size } = decodeBody('{"Size":9223372036854775807}', sample);
  assert.ok(BigInt(JSON.stringify(Size)) < 2n ** 63n, JSON.stringify(Size));
  assert.equal(decodeBody('{"Size":-9223372036854775808}', sample).Size, -(2 ** 63));
});

test('struct: a wrong type is refused in the words of Go', () => {
  const cases: [string, string][] = [
    ['{"Name":1}', 'number into Go struct field Sample.Name of type string'],
    ['{"On":"x"}', 'string into Go struct field Sample.On of type bool'],
    ['{"Size":1.5}', 'number 1.5 into Go struct field Sample.Size of type int64'],
    ['{"Small":70000}', 'number 70000 into Go struct field Sample.Small of type uint16'],
    ['{"Words":{}}', 'object into Go struct field Sample.Words of type []string'],
    ['{"Inner":{"Deep":true}}', 'bool into Go struct field Inner.Inner.Deep of type int64'],
    ['[]', 'array into Go value of type pkg.Sample'],
  ];
  for (const [body, message] of cases) {
    assert.throws(() => decodeBody(body, sample), {
      code: 'BODY_INVALID',
      message: `invalid JSON: json: cannot unmarshal ${message}`,
    });
  }
});

test('parseJson: says what Go says about a text that is no JSON', () => {
  const cases: [string, string][] = [
    ['', 'invalid JSON: got EOF while reading request body'],
    ['  \n', 'invalid JSON: got EOF while reading request body'],
    ['{', 'invalid JSON: unexpected EOF'],
    ['{"a"', 'invalid JSON: unexpected EOF'],
    ['{a}', "invalid JSON: invalid character 'a' looking for beginning of object key string"],
    ['{"a":}', "invalid JSON: invalid character '}' looking for beginning of value"],
    ['{"a" 1}', "invalid JSON: invalid character '1' after object key"],
    ['{"a":1 2}', "invalid JSON: invalid character '2' after object key:value pair"],
    ['[1 2]', "invalid JSON: invalid character '2' after array element"],
    ['nope', "invalid JSON: invalid character 'o' in literal null (expecting 'u')"],
    ['{"a":"\u0001"}', "invalid JSON: invalid character '\\u0001' in string literal"],
    ['{} {}', 'unexpected content after JSON'],
    ['1 x', 'unexpected content after JSON'],
  ];
  for (const [body, message] of cases) assert.throws(() => parseJson(body), { message }, body);
  assert.deepEqual(parseJson('{"a":[1,-2.5e3,"\\u0041"]} ]'), { a: [1, -2500, 'A'] });
});

test('parseJson: agrees with JSON.parse on whatever is JSON, and throws only EngineErrors on what is not', () => {
  fc.assert(
    fc.property(fc.json(), fc.nat(), fc.string({ maxLength: 3 }), (json, at, noise) => {
      assert.deepEqual(parseJson(json), JSON.parse(json));
      const cut = at % (json.length + 1);
      for (const damaged of [json.slice(0, cut), json.slice(0, cut) + noise + json.slice(cut)]) {
        try {
          parseJson(damaged);
        } catch (error) {
          assert.ok(error instanceof EngineError, String(error));
          assert.doesNotMatch(error.message, /SyntaxError/, damaged);
        }
      }
    }),
  );
});

test('createRequest: hostile bodies are refused with EngineErrors and nothing else', () => {
  const keys = [
    'Image',
    'Env',
    'Cmd',
    'HostConfig',
    'NetworkingConfig',
    'EndpointsConfig',
    'Mounts',
    'PortBindings',
    'ExposedPorts',
    'Healthcheck',
    'Labels',
    'Ulimits',
    'Type',
    '80/tcp',
    'NetworkMode',
    'Sysctls',
    'RestartPolicy',
    'Name',
    'Links',
  ];
  const value = fc.letrec((tie) => ({
    any: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom(null, true, 0, -1, 1.5, 1e300, '', 'x', 'container:', 'host', '1-99999/tcp', '[::1'),
      fc.array(tie('any'), { maxLength: 3 }),
      fc.dictionary(fc.oneof(fc.constantFrom(...keys), fc.string({ maxLength: 4 })), tie('any'), { maxKeys: 5 }),
    ),
  })).any;
  fc.assert(
    fc.property(value, fc.integer({ min: 24, max: 51 }), (body, minor) => {
      try {
        parseCreateRequest(decodeBody(JSON.stringify(body), createRequest), minor, '1');
      } catch (error) {
        assert.ok(error instanceof EngineError, String((error as Error).stack));
      }
    }),
    { numRuns: 2000 },
  );
});
