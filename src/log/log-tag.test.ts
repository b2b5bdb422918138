import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SUBJECT } from '../../test/support/log-services.ts';
import { EngineError } from '../core/engine-error.ts';
import { checkTag, expandTag } from './log-tag.ts';

const refusal = (tag: string): string => {
  try {
    checkTag(tag);
    expandTag(tag, SUBJECT);
  } catch (error) {
    assert(error instanceof EngineError, String(error));
    return error.message.replace('failed to initialize logging driver: ', '');
  }
  return '';
};

test('expandTag: as Go’s templates, compared with a dockerd', () => {
  const table: [string, string][] = [
    ['plain', 'plain'],
    ['{{.ImageName}}/{{.Name}}/{{.ID}}', 'bb:1/web/abcdef012345'],
    ['{{ .Name | upper }}-{{lower .Name}}-{{title .Name}}', 'WEB-web-Web'],
    ['{{index .ContainerLabels "team"}}|{{.ContainerLabels.team}}|{{index .ContainerLabels "no"}}', 'a|a|'],
    ['{{(.ExtraAttributes nil).STAGE}}', 'test'],
    ['{{truncate .FullID 4}} {{pad "x" 1 2}}!', 'abcd  x  !'],
    ['{{join (split .ImageName ":") "_"}}', 'bb_1'],
    ['{{json .ContainerArgs}} {{index .ContainerArgs 1}} {{len .ContainerArgs}}', '["-c","x"] x 2'],
    ['{{if .ContainerLabels.team}}yes{{else}}no{{end}}', 'yes'],
    ['{{if eq .Name "db"}}1{{else if eq .Name "web"}}2{{else}}3{{end}}', '2'],
    ['{{with .ContainerLabels}}{{.team}}{{else}}none{{end}}', 'a'],
    ['a {{- .Name -}} b', 'awebb'],
    ['{{/* said to nobody */}}{{`raw "x"`}}{{"\\"}}"}}', 'raw "x""}}'],
    ['{{.ContainerName}} {{print .DaemonName 1 true}}', '/web docker1 true'],
    ['{{printf "%s-%d%%" .Name 5}} {{print "a" "b"}}', 'web-5% ab'],
    ['{{.ContainerEnv}}', '[STAGE=test SECRET=1]'],
    ['{{.ContainerLabels}}', 'map[team:a]'],
  ];
  for (const [tag, expected] of table) {
    checkTag(tag);
    assert.equal(expandTag(tag, SUBJECT, { STAGE: 'test' }), expected, tag);
  }
});

test('checkTag: what Go’s templates refuse is refused, most in its words; what tags have no use for is named', () => {
  for (const [tag, message] of [
    ['{{', 'template: log-tag:1: unclosed action'],
    ['{{.Nope}}', 'template: log-tag:1:2: executing "log-tag" at <.Nope>: can\'t evaluate field Nope in type *logger.Info'],
    ['{{nope .ID}}', 'template: log-tag:1: function "nope" not defined'],
    ['{{end}}', 'template: log-tag:1: unexpected {{end}}'],
    ['{{if .ID}}', 'template: log-tag:1: unexpected EOF'],
    ['{{}}', 'template: log-tag:1: missing value for command'],
    ['{{(.ID}}', 'template: log-tag:1: unclosed left paren'],
    ['{{range .ContainerEnv}}x{{end}}', "log opt 'tag': {{range}} is not supported"],
    ['{{index .ContainerArgs 9}}', 'template: log-tag:1: error calling index: index out of range: 9'],
  ] as const)
    assert.equal(refusal(tag), message, tag); // prettier-ignore
});

test('checkTag: no text throws anything but an EngineError', () => {
  let seed = 5;
  const next = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const bits = ['{{', '}}', '.Name', '.', '|', '(', ')', '"x"', '"', '`', ' ', 'index', 'if ', 'else', 'end', '- ', ' -', '9', 'x', 'with ', 'json ', 'constructor'];
  for (let i = 0; i < 20_000; i++) refusal(Array.from({ length: 1 + next(9) }, () => bits[next(bits.length)]).join(''));
}); // prettier-ignore
