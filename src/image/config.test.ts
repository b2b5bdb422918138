import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { applyChanges } from './config-change.ts';
import { EMPTY_CONFIG, formatConfigFile, parseConfigFile } from './image-config.ts';
import { choosePlatform, matchesPlatform } from './platform.ts';
import type { ImageConfig } from './port.ts';
import { expand, splitWords, unquote } from './shell-word.ts';

const platform = (architecture: string, variant = ''): { os: string; architecture: string; variant: string } => ({
  os: 'linux',
  architecture,
  variant,
});

test('applyChanges: every instruction that commit and import take', () => {
  const base: ImageConfig = { ...EMPTY_CONFIG, cmd: ['old'], env: ['PATH=/bin'] };
  const cases: readonly (readonly [string[], Partial<ImageConfig>])[] = [
    [['CMD ["a", "b"]'], { cmd: ['a', 'b'] }],
    [['cmd echo hi'], { cmd: ['/bin/sh', '-c', 'echo hi'] }],
    [['ENTRYPOINT ["e"]'], { entrypoint: ['e'], cmd: null }],
    [['CMD x', 'ENTRYPOINT ["e"]'], { entrypoint: ['e'], cmd: ['/bin/sh', '-c', 'x'] }],
    [['ENV A=1 B="2 3" PATH=$PATH:/x'], { env: ['PATH=/bin:/x', 'A=1', 'B=2 3'] }],
    [['ENV A one two'], { env: ['PATH=/bin', 'A=one two'] }],
    [["LABEL a='b c' d=${NONE:-e}"], { labels: { a: 'b c', d: 'e' } }],
    [['EXPOSE 80 53/UDP 9000-9001'], { exposedPorts: ['53/udp', '80/tcp', '9000/tcp', '9001/tcp'] }],
    [['USER app:staff'], { user: 'app:staff' }],
    [['VOLUME ["/a b", "/c"]', 'VOLUME /d /c'], { volumes: ['/a b', '/c', '/d'] }],
    [['WORKDIR /a', 'WORKDIR b/../c'], { workingDir: '/a/c' }],
    [['STOPSIGNAL SIGUSR1'], { stopSignal: 'SIGUSR1' }],
    [['ONBUILD RUN x'], { onBuild: ['RUN x'] }],
    [
      ['HEALTHCHECK --interval=1m30s --retries=2 CMD curl x'],
      {
        healthcheck: {
          test: ['CMD-SHELL', 'curl x'],
          intervalNs: 90e9,
          timeoutNs: 0,
          startPeriodNs: 0,
          startIntervalNs: 0,
          retries: 2,
        },
      },
    ],
    [
      ['HEALTHCHECK NONE'],
      {
        healthcheck: { test: ['NONE'], intervalNs: 0, timeoutNs: 0, startPeriodNs: 0, startIntervalNs: 0, retries: 0 },
      },
    ],
  ];
  for (const [changes, expected] of cases) assert.deepEqual(applyChanges(base, changes), { ...base, ...expected });
});

test('applyChanges: refuses what it cannot honour', () => {
  const refused: Readonly<Record<string, RegExp>> = {
    'RUN x': /^RUN is not a valid change command$/,
    'NOPE x': /NOPE is not a valid change command/,
    'cmd=/bin/Foo': /^cmd=\/bin\/Foo is not a valid change command$/,
    ENV: /ENV requires/,
    'ENV a': /must have two arguments/,
    'EXPOSE 99999': /Invalid containerPort: 99999/,
    'STOPSIGNAL NOPE': /invalid signal/,
    'ONBUILD ONBUILD x': /Chaining/,
    'HEALTHCHECK --interval=x CMD y': /invalid duration/,
    'HEALTHCHECK FOO': /Unknown type/,
  };
  for (const [change, message] of Object.entries(refused))
    assert.throws(() => applyChanges(EMPTY_CONFIG, [change]), { code: 'PARAMETER_INVALID', message });
});

test('splitWords, expand, unquote: never throw; a quoted text comes back', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      for (const word of splitWords(text)) unquote(expand(word, () => null));
      assert.equal(unquote(`"${text.replace(/[\\"]/g, '\\$&')}"`), text);
      assert.equal(unquote(expand('$X', () => text)), text);
    }),
  );
});

test('parseConfigFile: gives back what was written, and refuses wrong types', () => {
  const file = parseConfigFile(
    Buffer.from(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        created: '2020-01-01T00:00:00Z',
        config: { Env: ['A=b'], ExposedPorts: { '80/tcp': {} }, Labels: { a: 'b' }, Healthcheck: { Test: ['NONE'] } },
        rootfs: { type: 'layers', diff_ids: [`sha256:${'0'.repeat(64)}`] },
        history: [{ created_by: 'x', empty_layer: true }],
      }),
    ),
  );
  assert.deepEqual(parseConfigFile(formatConfigFile(file)), file);
  for (const wrong of [
    '[]',
    'x',
    '{"config":[]}',
    '{"config":{"Env":"x"}}',
    '{"rootfs":{"diff_ids":["sha256:x"]}}',
    '{"history":{}}',
    '{"config":{"Labels":{"a":1}}}',
    '{"created":1}',
  ]) {
    assert.throws(() => parseConfigFile(Buffer.from(wrong)), { code: 'IMAGE_ARCHIVE_INVALID' }, wrong);
  }
});

test('choosePlatform: takes the nearest that runs', () => {
  const list = ['amd64', 'arm/v6', 'arm/v7', 'arm64/v8'].map((text) => ({
    text,
    platform: platform(...(text.split('/') as [string, string?])),
  }));
  assert.equal(choosePlatform(list, platform('amd64'))?.text, 'amd64');
  assert.equal(choosePlatform(list, platform('x86_64'))?.text, 'amd64');
  assert.equal(choosePlatform(list, platform('arm', 'v7'))?.text, 'arm/v7');
  assert.equal(choosePlatform(list, platform('arm', 'v6'))?.text, 'arm/v6');
  assert.equal(choosePlatform(list, platform('arm64'))?.text, 'arm64/v8');
  assert.equal(choosePlatform(list, platform('s390x')), null);
  assert.ok(!matchesPlatform(platform('arm64'), platform('amd64')));
});
