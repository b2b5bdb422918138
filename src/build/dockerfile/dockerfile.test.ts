import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { checkInstruction } from './check.ts';
import { expandWord, expandWords, parsePairs } from './expand.ts';
import { isIgnored, parseIgnore } from './ignore.ts';
import { parseDockerfile } from './parse.ts';

const names = (text: string) =>
  parseDockerfile(text).instructions.map(({ name, rest, json, flags }) => ({ name, rest, json, flags }));

test('parseDockerfile: comments, continuation, flags and the JSON form', () => {
  assert.deepEqual(
    names(
      '# a comment\nfrom a AS b\n\nRUN echo 1 \\\n  # not part\n\n  && echo 2\nCOPY --from=b --chown=1:2 x y\nCMD ["a", "b"]\nENTRYPOINT [not json]\n',
    ),
    [
      { name: 'FROM', rest: 'a AS b', json: null, flags: [] },
      { name: 'RUN', rest: 'echo 1   && echo 2', json: null, flags: [] },
      {
        name: 'COPY',
        rest: 'x y',
        json: null,
        flags: [
          { name: 'from', value: 'b' },
          { name: 'chown', value: '1:2' },
        ],
      },
      { name: 'CMD', rest: '["a", "b"]', json: ['a', 'b'], flags: [] },
      { name: 'ENTRYPOINT', rest: '[not json]', json: null, flags: [] },
    ],
  );
});

test('parseDockerfile: the escape directive and here-documents', () => {
  const { escape, instructions } = parseDockerfile(
    "# escape=`\nFROM a\nRUN one `\n two\nCOPY <<EOF <<-'RAW' /d/\nx $A\nEOF\n\ty\n\tRAW\nRUN true\n",
  );
  assert.equal(escape, '`');
  assert.deepEqual(
    instructions.map(({ name }) => name),
    ['FROM', 'RUN', 'COPY', 'RUN'],
  );
  assert.deepEqual(instructions[2]!.heredocs, [
    { name: 'EOF', content: 'x $A\n', expand: true },
    { name: 'RAW', content: 'y\n', expand: false },
  ]);
});

test('parseDockerfile: warns of empty continuation lines', () => {
  const { instructions, warnings } = parseDockerfile('FROM a\nRUN one \\\n\n  two\nRUN three\n');
  assert.deepEqual(
    instructions.map(({ rest }) => rest),
    ['a', 'one   two', 'three'],
  );
  assert.deepEqual(warnings, [
    '[WARNING]: Empty continuation line found in: RUN one   two',
    '[WARNING]: Empty continuation lines will become errors in a future release.',
  ]);
});

test('checkInstruction: flags that are none, and arguments that cannot be', () => {
  const complaint = (text: string): string => {
    try {
      for (const instruction of parseDockerfile(`FROM a\n${text}`).instructions) checkInstruction(instruction);
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };
  for (const [text, expected] of [
    ['COPY --from=x --chown=1 --link a b', ''],
    ['RUN --mount=type=cache true', ''],
    ['ENV --a=1 b=c', 'unknown flag: --a'],
    ['CMD --a x', 'unknown flag: --a'],
    ['COPY --parents a b', 'unknown flag: --parents'],
    ['COPY --from=a --from=b a b', 'duplicate flag specified: --from'],
    ['ENV =b', 'ENV names can not be blank'],
    ['ARG a =b', 'ARG names can not be blank'],
    ['USER a b', ''],
    ['USER', 'USER requires exactly one argument'],
    ['RUN', 'RUN requires at least one argument'],
    ['VOLUME []', 'VOLUME requires at least one argument'],
    ['VOLUME [""]', 'VOLUME specified can not be an empty string'],
    ['HEALTHCHECK --interval=1us CMD x', 'Interval "interval" cannot be less than 1ms'],
    ['HEALTHCHECK --retries=-1 CMD x', '--retries cannot be negative (-1)'],
    ['ONBUILD NOPE x', ''],
    ['COPY a', 'COPY requires at least two arguments, but only one was provided. Destination could not be determined'],
    ['SHELL bash', 'SHELL requires the arguments to be in JSON form'],
    ['HEALTHCHECK --interval=1s CMD', 'Missing command after HEALTHCHECK CMD'],
    ['ONBUILD ONBUILD RUN x', "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"],
  ] as const)
    assert.equal(complaint(text), expected && `dockerfile parse error on line 2: ${expected}`, text);
});

test('parseDockerfile: refuses with the line', () => {
  assert.throws(() => parseDockerfile('FROM a\nFOO bar'), /dockerfile parse error on line 2: unknown instruction: FOO/);
  assert.throws(() => parseDockerfile('', 'D'), /^EngineError: the Dockerfile \(D\) cannot be empty$/);
  assert.throws(() => parseDockerfile('# only\n'), /file with no instructions/);
  assert.throws(() => parseDockerfile('# escape=x\n'), /failed to parse Dockerfile: invalid escape token 'x'/);
  assert.throws(() => parseDockerfile('FROM a\nENV A', 'D'), /failed to parse D: ENV must have two arguments/);
  assert.throws(() => parseDockerfile('FROM a\nRUN <<EOF\nx'), /failed to parse Dockerfile: unterminated heredoc/);
});

const variables = new Map([
  ['A', 'one'],
  ['E', ''],
  ['SP', 'x y'],
]);

test('expandWord: substitutions as a shell does them', () => {
  for (const [text, expected] of [
    ['$A-${A}', 'one-one'],
    ['${N:-d}', 'd'],
    ['${E:-d}', 'd'],
    ['${E-d}', ''],
    ['${A:+alt}', 'alt'],
    ['${N:+alt}', ''],
    ['${N:-${A}}', 'one'],
    ["'$A'", '$A'],
    ['"$A b"', 'one b'],
    ['\\$A', '$A'],
    ['$', '$'],
    ['a\\ b', 'a b'],
    ['"\\n"', '\\n'],
  ] as const)
    assert.equal(expandWord(text, variables), expected, text);
  assert.throws(() => expandWord('"open', variables), /double-quote/);
  assert.throws(() => expandWord('${A', variables), /matching }/);
  assert.throws(() => expandWord('${N:?needed}', variables), /N: needed/);
});

test('expandWords: unquoted spaces part words, values do not', () => {
  assert.deepEqual(expandWords('a "b c" $SP \'\'', variables), ['a', 'b c', 'x y', '']);
});

test('parsePairs: both forms', () => {
  assert.deepEqual(parsePairs('A=1 B="x y" C=\'z\'', 'ENV'), [
    ['A', '1'],
    ['B', '"x y"'],
    ['C', "'z'"],
  ]);
  assert.deepEqual(parsePairs('A all the rest', 'ENV'), [['A', 'all the rest']]);
  assert.throws(() => parsePairs('A', 'ENV'), /failed to parse Dockerfile: ENV must have two arguments/);
  // A quote that is not closed takes the rest, and is found where it is expanded.
  assert.deepEqual(parsePairs("A=1 B='x\\'y' C=2", 'ENV'), [
    ['A', '1'],
    ['B', "'x\\'y' C=2"],
  ]);
  assert.deepEqual(parsePairs('A=x\\ y B="p\\" q"', 'ENV'), [
    ['A', 'x\\ y'],
    ['B', '"p\\" q"'],
  ]);
  assert.throws(() => expandWord("'x\\'y'", variables), {
    message: `failed to process ${JSON.stringify("'x\\'y'")}: unexpected end of statement while looking for matching single-quote`,
  });
});

test('isIgnored: patterns, directories, exceptions', () => {
  const rules = parseIgnore('# c\n*.log\nnode_modules\n**/tmp\n!keep.log\ndocs/*\n!docs/a.md\n');
  const ignored = (path: string) => isIgnored(rules, path);
  assert.deepEqual(
    ['x.log', 'keep.log', 'a/x.log', 'node_modules/a/b', 'tmp', 'a/b/tmp/c', 'docs/b.md', 'docs/a.md', 'src/x'].map(
      ignored,
    ),
    [true, false, false, true, true, true, true, false, false],
  );
});

test('parseDockerfile, expandWord, parseIgnore: any text ends in a value or an expected error', () => {
  const pieces = fc.array(
    fc.constantFrom(
      'FROM a\n',
      'RUN ',
      '\\\n',
      '<<EOF\n',
      'EOF\n',
      '$',
      '${',
      ':-',
      '}',
      '"',
      "'",
      '#',
      ' ',
      '[',
      ']',
      '--x=',
      '\n',
      '\r\n',
      'ü',
      '**',
      '/',
      '!',
    ),
    { maxLength: 30 },
  );
  fc.assert(
    fc.property(pieces, (parts) => {
      const text = parts.join('');
      for (const attempt of [
        () => parseDockerfile(text),
        () => expandWord(text, variables),
        () => isIgnored(parseIgnore(text), 'a/b'),
      ]) {
        try {
          attempt();
        } catch (error) {
          assert.equal((error as Error).name, 'EngineError', `${JSON.stringify(text)}: ${String(error)}`);
        }
      }
    }),
    { numRuns: 2000 },
  );
});
