/** The classic builder by the raw API, line by line, as dockerd 20.10 answered it or moby 28 has it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { buffer } from 'node:stream/consumers';

import { pack } from 'tar-stream';

import { TestDaemon } from '../support/daemon.ts';

let daemon: TestDaemon;
before(async () => {
  daemon = await TestDaemon.start();
  await daemon.image();
});
after(() => daemon[Symbol.asyncDispose]());

interface Line {
  readonly stream?: string;
  readonly aux?: { readonly ID: string };
  readonly error?: string;
}

async function post(
  files: Readonly<Record<string, string>>,
  query: Readonly<Record<string, string>> = {},
): Promise<{ readonly status: number; readonly text: string }> {
  const tar = pack();
  for (const [name, content] of Object.entries(files)) tar.entry({ name }, content);
  tar.finalize();
  return await daemon.api('POST', `/v1.51/build?${new URLSearchParams(query).toString()}`, await buffer(tar), {
    'content-type': 'application/x-tar',
  });
}

async function build(dockerfile: string, query = {}, files = {}): Promise<Line[]> {
  const { status, text } = await post({ Dockerfile: dockerfile, ...files }, query);
  assert.equal(status, 200, text);
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** What is printed, without what differs each time. */
const printed = (lines: readonly Line[]): string[] =>
  lines.map(({ stream, aux, error }) =>
    (stream ?? (aux === undefined ? `error: ${error}` : `aux`)).replaceAll(/\b[0-9a-f]{12}\b/g, 'ID'),
  );
const isCached = (lines: readonly Line[]): number =>
  lines.filter(({ stream }) => stream === ' ---> Using cache\n').length;

test('build: standard error is red; labels are steps; each stage tells its image; what was not used is named last', async () => {
  const lines = await build(
    'FROM bb:1 AS a\nRUN echo out; echo err >&2\nFROM scratch\nCOPY --from=a /bin/busybox /\n',
    { labels: '{"b":"$1","a":"x y"}', buildargs: '{"unused":"1"}', nocache: '1', t: 'red:1' },
  );
  const out = printed(lines);
  const [first, second] = ['out\n', '\u001b[91merr\n\u001b[0m'].map((text) => out.indexOf(text));
  assert(first! > 0 && second! > 0, JSON.stringify(out));
  assert.deepEqual(
    out.filter((_, at) => at !== first && at !== second),
    [
      'Step 1/6 : FROM bb:1 AS a\n',
      ' ---> ID\n',
      'Step 2/6 : RUN echo out; echo err >&2\n',
      ' ---> Running in ID\n',
      ' ---> Removed intermediate container ID\n',
      ' ---> ID\n',
      'aux',
      'Step 3/6 : FROM scratch\n',
      ' ---> \n',
      'Step 4/6 : COPY --from=a /bin/busybox /\n',
      ' ---> ID\n',
      'Step 5/6 : LABEL a=x y\n',
      ' ---> ID\n',
      'Step 6/6 : LABEL b=$1\n',
      ' ---> ID\n',
      'aux',
      '[Warning] One or more build-args [unused] were not consumed\n',
      'Successfully built ID\n',
      'Successfully tagged red:1\n',
    ],
  );
  assert.equal(
    await daemon.ok('image', 'inspect', '--format', '{{json .Config.Labels}}', 'red:1'),
    '{"a":"x y","b":"$1"}',
  );
});

test('build: quiet says the ID alone, and everything when it fails', async () => {
  const [only, ...more] = await build('FROM bb:1\nRUN echo out\n', { q: '1' });
  assert.match(only!.stream!, /^sha256:[0-9a-f]{64}\n$/);
  assert.deepEqual(more, []);
  assert.deepEqual(printed(await build('FROM bb:1\nRUN echo why >&2; exit 3\n', { q: '1', forcerm: '1' })), [
    'Step 1/2 : FROM bb:1\n',
    ' ---> ID\n',
    'Step 2/2 : RUN echo why >&2; exit 3\n',
    ' ---> Running in ID\n',
    '\u001b[91mwhy\n\u001b[0m',
    ' ---> Removed intermediate container ID\n',
    "error: The command '/bin/sh -c echo why >&2; exit 3' returned a non-zero code: 3",
  ]);
});

test('build: what a Dockerfile never can be is refused before the first step', async () => {
  for (const [dockerfile, expected] of [
    ['FROM --nope=1 bb:1\n', 'dockerfile parse error on line 1: unknown flag: --nope'],
    ['FROM bb:1\nRUN true\nUSER --nope=1 x\n', 'dockerfile parse error on line 3: unknown flag: --nope'],
    ['FROM bb:1\nRUN true\nENV A\n', 'failed to parse Dockerfile: ENV must have two arguments'],
    ['', 'the Dockerfile (Dockerfile) cannot be empty'],
  ] as const) {
    const { status, text } = await post({ Dockerfile: dockerfile });
    assert.deepEqual([status, JSON.parse(text)], [400, { message: expected }]);
  }
});

test('build: a failed copy, stage names and ports in Docker’s words', async () => {
  for (const [dockerfile, expected] of [
    [
      'COPY nosuch /',
      'COPY failed: file not found in build context or excluded by .dockerignore: stat nosuch: file does not exist',
    ],
    ['COPY http://a/b /', "COPY failed: source can't be a URL for COPY"],
    [
      'COPY *.txt /new',
      'When using COPY with more than one source file, the destination must be a directory and end with a /',
    ],
    ['COPY --from=bb:1 /nosuch /', 'COPY failed: stat nosuch: file does not exist'],
    ['COPY *.no *.such /new/', 'COPY failed: no source files were specified'],
    [
      "ENV A='x\\'y'",
      `failed to process ${JSON.stringify("'x\\'y'")}: unexpected end of statement while looking for matching single-quote`,
    ],
    ['RUN touch /file\nWORKDIR /file', 'Cannot mkdir: /file is not a directory'],
    [
      'COPY --chown=nosuch a.txt /',
      "unable to convert uid/gid chown string to host mapping: can't find uid for user nosuch: no such user: nosuch",
    ],
    [
      'COPY --chown=0:nosuch a.txt /',
      "unable to convert uid/gid chown string to host mapping: can't find gid for group nosuch: no such group: nosuch",
    ],
    ['EXPOSE 99999', 'invalid containerPort: 99999'],
    ['EXPOSE 80/foo', 'invalid proto: foo'],
    ['COPY --from=9 a b', 'invalid from flag value 9: index out of bounds'],
    ['FROM ${x}', 'base name (${x}) should not be blank'],
    [
      'ADD http://127.0.0.1:31999/x /y',
      'ADD failed: Get "http://127.0.0.1:31999/x": dial tcp 127.0.0.1:31999: connect: connection refused',
    ],
    ['FROM a AS a', 'a stage name already used'],
  ] as const) {
    const lines = await build(`FROM bb:1 AS a\n${dockerfile}\n`, {}, { 'a.txt': '', 'b.txt': '' });
    assert.equal(lines.at(-1)!.error, expected);
  }
});

test('build: a .dockerignore takes out itself and the Dockerfile; what else it names the client keeps back', async () => {
  const lines = await build(
    'FROM bb:1\nCOPY . /all/\nCOPY dir /dir/\nCOPY no*.txt a*.txt /some/\nRUN find /all /dir /some -type f | sort\n',
    { nocache: '1' },
    { '.dockerignore': '**\n!dir/kept\n', 'a.txt': '', 'dir/kept': '', 'dir/other': '' },
  );
  const named = await post(
    {
      'sub/dockerfile': 'FROM bb:1\nCOPY sub /sub\nRUN ls -A /sub\n',
      'sub/kept': '',
      '.dockerignore': '**/dockerfile',
    },
    { dockerfile: './sub/dockerfile', nocache: '1' },
  );
  assert(named.text.includes('kept\\n') && !named.text.includes('"dockerfile\\n'), named.text);
  const found = printed(lines).filter((line) => line.startsWith('/'));
  assert.deepEqual(found.join(''), '/all/a.txt\n/all/dir/kept\n/all/dir/other\n/dir/kept\n/dir/other\n/some/a.txt\n');
});

test('build: several sources are one digest; COPY --from takes the image, not what a container adds; links may dangle', async () => {
  const lines = await build(
    'FROM scratch AS a\nCOPY a.txt b.txt /x/\nFROM bb:1\nCOPY --from=a / /all/\nRUN ln -s target /link\nCOPY a.txt /link/sub/\nRUN find /all /target | sort\n',
    { nocache: '1', t: 'several:1' },
    { 'a.txt': '', 'b.txt': '' },
  );
  const found = printed(lines).filter((line) => line.startsWith('/'));
  assert.deepEqual(
    found.join(''),
    '/all\n/all/x\n/all/x/a.txt\n/all/x/b.txt\n/target\n/target/sub\n/target/sub/a.txt\n',
  );
  const history = await build('FROM bb:1\nCOPY a.txt b.txt /x/\n', { t: 'several:1' }, { 'a.txt': '', 'b.txt': '' });
  assert.equal(history.at(-1)!.error, undefined);
  assert.match(
    await daemon.ok('history', '--no-trunc', '--format', '{{.CreatedBy}}', 'several:1'),
    /^\/bin\/sh -c #\(nop\) COPY multi:[0-9a-f]{64} in \/x\/ $/m,
  );
});

test('build: --chown without a group is the group of that number or name', async () => {
  const lines = await build(
    'FROM bb:1\nRUN echo own:x:1001:1001::/:/bin/sh >>/etc/passwd; echo own:x:77: >>/etc/group\nCOPY --chown=5 a /\nCOPY --chown=own b /\nCOPY --chown=own:9 c /\nRUN stat -c "%n %u %g" /a /b /c\n',
    {},
    { a: '', b: '', c: '' },
  );
  const out = printed(lines).join('');
  for (const expected of ['/a 5 5\n', '/b 1001 77\n', '/c 1001 9\n']) assert(out.includes(expected), out);
});

test('build: what a step ran in is the container of its image, as versions before 1.45 show it', async () => {
  const inspected = async (reference: string, version: string): Promise<readonly unknown[]> => {
    const { json } = await daemon.api('GET', `/v${version}/images/${reference}/json`);
    return [json.Config.Cmd, json.ContainerConfig.Cmd];
  };
  await build('FROM bb:1\nARG A\nRUN echo $A\n', { buildargs: '{"A":"1"}', t: 'ran:1' });
  assert.deepEqual(await inspected('ran:1', '1.44'), [['sh'], ['|1', 'A=1', '/bin/sh', '-c', 'echo $A']]);
  await build('FROM ran:1\nCMD ["x","y"]\n', { t: 'ran:2' });
  assert.deepEqual(await inspected('ran:2', '1.44'), [
    ['x', 'y'],
    ['/bin/sh', '-c', '#(nop) ', 'CMD ["x" "y"]'],
  ]);
  await build('FROM bb:1\nENTRYPOINT ["a","b c"]\nHEALTHCHECK --interval=90s --retries=3 CMD x\n', { t: 'ran:4' });
  assert.deepEqual(
    (await daemon.ok('history', '--no-trunc', '--format', '{{.CreatedBy}}', 'ran:4')).split('\n').slice(0, 2),
    [
      `/bin/sh -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "x"] "1m30s" "0s" "0s" "0s" '\\x03'}`,
      '/bin/sh -c #(nop)  ENTRYPOINT ["a" "b c"]',
    ],
  );
  const archive = `${daemon.directory}/ran.tar`;
  await daemon.ok('save', '-o', archive, 'ran:1');
  await daemon.ok('rmi', 'ran:2', 'ran:1');
  await daemon.ok('load', '-i', archive);
  assert.deepEqual(await inspected('ran:1', '1.44'), [['sh'], ['|1', 'A=1', '/bin/sh', '-c', 'echo $A']]);
  await daemon.ok('create', '--name', 'committed', 'bb:1', 'echo', 'z');
  await daemon.ok('commit', '-c', 'CMD ["w"]', 'committed', 'ran:3');
  assert.deepEqual(await inspected('ran:3', '1.44'), [['w'], ['echo', 'z']]);
});

test('build: WORKDIR makes its directory in the image', async () => {
  const lines = await build('FROM bb:1 AS a\nWORKDIR /made/here\nFROM bb:1\nCOPY --from=a /made /made\nRUN ls /made\n');
  assert(printed(lines).includes('here\n'), JSON.stringify(lines));
});

test('build: FROM --platform is asked of the image', async () => {
  assert.equal((await build('FROM --platform=$BUILDPLATFORM bb:1\nUSER x\n')).at(-1)!.error, undefined);
  const { text } = await post({ Dockerfile: 'FROM --platform=nope/arm/v7/x bb:1\nUSER x\n' });
  assert.match(text, /failed to parse platform nope\/arm\/v7\/x: /);
});

test('build: --cache-from counts instead of the store, also for an image without its parents', async () => {
  const dockerfile = 'FROM bb:1\nENV FOO=bar\nRUN touch /baz\nRUN touch /bax\n';
  await build(dockerfile, { t: 'cached:1' });
  const from = (name: string): object => ({ cachefrom: JSON.stringify([name]), t: 'again:1' });
  assert.equal(isCached(await build(dockerfile, from('cached:1'))), 3);
  const built = await daemon.ok('image', 'inspect', '--format', '{{.Id}}', 'cached:1');
  assert.equal(isCached(await build(dockerfile, from('nosuch:1'))), 0);
  await daemon.ok('rmi', 'again:1');

  const archive = `${daemon.directory}/cached.tar`;
  await daemon.ok('save', '-o', archive, 'cached:1');
  await daemon.ok('rmi', 'cached:1');
  assert.equal(isCached(await build(dockerfile, { t: 'other:1' })), 0); // it was gone with its parents
  await daemon.ok('rmi', 'other:1');
  await daemon.ok('load', '-i', archive);
  const lines = await build(dockerfile, from('cached:1'));
  assert.equal(isCached(lines), 3);
  assert.equal(lines.find(({ aux }) => aux !== undefined)!.aux!.ID, built);
  assert.equal(isCached(await build(`${dockerfile}RUN true\n`, from('cached:1'))), 3);
  const history = await daemon.ok('history', '-q', '--no-trunc', 'again:1');
  assert(!history.split('\n').slice(0, 3).includes('<missing>'), history); // its steps are images again
});
