/**
 * Images through the API: what dockerd answers to the same requests (asked side by side: 20.10, and moby 28's sources where
 * they differ), word for word, with the events of it.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { run, TestDaemon, type Answer } from '../support/daemon.ts';

let daemon: TestDaemon;
before(async () => {
  daemon = await TestDaemon.start();
});
after(async () => {
  await daemon[Symbol.asyncDispose]();
});

const filters = (value: object): string => `filters=${encodeURIComponent(JSON.stringify(value))}`;
const message = ({ status, json }: Answer): [number, string] => [status, json?.message];
const lines = ({ text }: Answer): Record<string, unknown>[] =>
  text
    .split('\r\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

/** A tar with one file, made an image. */
async function make(repository: string, content: string, ...changes: readonly string[]): Promise<string> {
  const query = new URLSearchParams({ fromSrc: '-', repo: repository });
  for (const change of changes) query.append('changes', change);
  const answer = await daemon.api('POST', `/v1.51/images/create?${query.toString()}`, await tar(content));
  assert.equal(answer.status, 200, answer.text);
  return String(lines(answer).at(-1)!['status']);
}

async function tar(content: string): Promise<Buffer> {
  const { bytes } = await run('sh', ['-c', `cd "$(mktemp -d)"; printf %s '${content}' > f; tar -c f`], {
    binary: true,
  });
  return bytes;
}

async function tagsOf(query = ''): Promise<string[]> {
  const { json } = await daemon.api('GET', `/v1.51/images/json?${query}`);
  return json.flatMap(({ RepoTags }: { RepoTags: string[] }) => RepoTags).toSorted();
}

test('images/{name}: names that are none, and images that are not here', async () => {
  await make('here:1', 'x');
  const digest = `sha256:${'a'.repeat(64)}`;
  const cases: [string, string, number, string][] = [
    ['GET', 'none/json', 404, 'No such image: none:latest'],
    ['GET', 'none:7/json', 404, 'No such image: none:7'],
    ['GET', `none@${digest}/json`, 404, `No such image: none@${digest}`],
    ['GET', `${'a'.repeat(64)}/json`, 404, `No such image: ${digest}`],
    ['GET', 'abcdef/json', 404, 'No such image: abcdef:latest'],
    ['GET', 'a::b/json', 400, 'invalid reference format'],
    ['GET', 'none/history', 404, 'No such image: none:latest'],
    ['GET', 'none/get', 404, 'No such image: none'],
    ['DELETE', 'none', 404, 'No such image: none:latest'],
    ['DELETE', '%20', 400, 'image name cannot be blank'],
    ['POST', 'none/tag?repo=x', 404, 'No such image: none:latest'],
    ['POST', 'here:1/tag?repo=ok&tag=b%20d', 400, 'invalid tag format'],
    ['POST', 'here:1/tag?repo=a//b', 400, 'invalid reference format'],
    ['POST', `here:1/tag?repo=a@${digest}`, 400, 'cannot import digest reference'],
    ['POST', 'here:1/tag?repo=sha256&tag=x', 400, 'refusing to create an ambiguous tag using digest algorithm as name'],
    [
      'POST',
      `here:1/tag?repo=${'a'.repeat(64)}`,
      400,
      `invalid repository name (${'a'.repeat(64)}), cannot specify 64-byte hexadecimal strings`,
    ],
    ['POST', 'create?fromImage=ok&tag=b%20d', 400, 'invalid tag format'],
    ['POST', 'create?fromImage=scratch&tag=1', 403, "'scratch' is a reserved name"],
    [
      'POST',
      'create?fromImage=a&tag=1&platform=a/b/c/d',
      400,
      '"a/b/c/d": cannot parse platform specifier: invalid argument',
    ],
    ['POST', 'create?fromSrc=-&changes=FOO%20x', 400, 'FOO is not a valid change command'],
    ['POST', 'create?fromSrc=-&platform=macos', 400, 'operating system is not supported'],
    ['POST', 'create', 500, 'Get "http:": http: no Host in request URL'],
    ['GET', `json?${filters({ dangling: ['maybe'] })}`, 400, "invalid filter 'dangling=[maybe]'"],
    ['GET', `json?${filters({ foo: ['x'] })}`, 400, "invalid filter 'foo'"],
    ['GET', `json?${filters({ before: ['none'] })}`, 404, 'No such image: none:latest'],
    ['POST', `prune?${filters({ until: ['1h', '2h'] })}`, 400, 'more than one until filter specified'],
    ['GET', 'search?term=x&limit=101', 400, 'limit 101 is outside the range of [1, 100]'],
    ['GET', 'search?term=x&limit=x', 400, 'invalid limit specified: strconv.Atoi: parsing "x": invalid syntax'],
    [
      'GET',
      'search?term=http://x',
      400,
      'invalid repository name: repository name (http://x) should not have a scheme',
    ],
    ['GET', `search?term=x&${filters({ foo: ['x'] })}`, 400, "invalid filter 'foo'"],
  ];
  for (const [method, path, status, text] of cases)
    assert.deepEqual(message(await daemon.api(method, `/v1.51/images/${path}`)), [status, text], `${method} ${path}`);
  const integer = 'is in bytes and expects an integer, got x: strconv.Atoi: parsing "x": invalid syntax';
  for (const [path, text] of [
    ['v1.51/build/prune?filters=x', 'invalid filter'],
    ['v1.51/build/prune?max-used-space=x', `max-used-space ${integer}`],
    ['v1.47/build/prune?keep-storage=x', `keep-storage ${integer}`],
  ] as const)
    assert.deepEqual(message(await daemon.api('POST', `/${path}`)), [400, text]);
  const unpushable = lines(await daemon.api('POST', '/v1.51/images/127.0.0.1:1/none/push?tag=1', {}));
  assert.deepEqual(
    unpushable.map(({ status, error }) => status ?? error),
    [
      'The push refers to repository [127.0.0.1:1/none]',
      'An image does not exist locally with the tag: 127.0.0.1:1/none',
    ],
  );
  await daemon.ok('rmi', 'here:1');
});

test('images/{name}/tag, images/json: names are one in all their forms, and filters narrow them', async () => {
  const id = await make('base', 'base', 'LABEL a=1 b=2');
  const forms = ['docker.io/library/off', 'index.docker.io/off', 'library/off', 'off:latest', 'docker.io/off'];
  for (const form of forms) assert.equal((await daemon.api('POST', `/v1.51/images/base/tag?repo=${form}`)).status, 201);
  for (const name of ['utest:tag1', 'utest/docker:tag2', 'utest:5000/docker:tag3'])
    await daemon.ok('tag', 'base', name);
  assert.deepEqual(await tagsOf(), [
    'base:latest',
    'off:latest',
    'utest/docker:tag2',
    'utest:5000/docker:tag3',
    'utest:tag1',
  ]);
  const cases: [object, string[]][] = [
    [{ reference: ['utest*/*'] }, ['utest/docker:tag2', 'utest:5000/docker:tag3']],
    [{ reference: ['utest*'] }, ['utest:tag1']],
    [{ reference: ['utest'] }, ['utest:tag1']],
    [{ reference: ['*5000*/*'] }, ['utest:5000/docker:tag3']],
    [{ reference: ['off', 'base'] }, ['base:latest', 'off:latest']],
    [{ reference: ['docker.io/library/off'] }, []],
    [{ label: ['a=1', 'b'], reference: ['off'] }, ['off:latest']],
    [{ label: ['a=2'] }, []],
    [{ dangling: ['true'] }, []],
  ];
  for (const [value, expected] of cases)
    assert.deepEqual(await tagsOf(filters(value)), expected, JSON.stringify(value));
  for (const name of [id, id.slice(7), id.slice(7, 19), 'docker.io/off', 'base:latest'])
    assert.equal((await daemon.api('GET', `/v1.51/images/${name}/json`)).json.Id, id);
  await daemon.ok('rmi', '-f', id);
});

test('images/json: before, since and until are borders that are not inside', async () => {
  const made: string[] = [];
  for (const name of ['t0', 't1', 't2', 't3', 't4']) {
    made.push(await make(name, name));
    await sleep(5);
  }
  const created = async (name: string): Promise<string> =>
    (await daemon.api('GET', `/v1.51/images/${name}/json`)).json.Created;
  const found = async (value: object): Promise<string[]> => await tagsOf(filters(value));
  assert.deepEqual(await found({ since: ['t0'], before: ['t4'] }), ['t1:latest', 't2:latest', 't3:latest']);
  const until = [await created('t2'), await created('t3')];
  assert.deepEqual(await found({ since: ['t0'], before: ['t4'], until }), ['t1:latest']);
  await daemon.ok('rmi', ...made);
});

test('DELETE /images/{name}: conflicts, what goes, and in which order', async () => {
  const id = await make('bb:1', 'bb', 'CMD ["true"]');
  const short = id.slice(7, 19);
  await daemon.ok('create', '--name', 'c1', 'bb:1');
  const container = (await daemon.inspect('c1', '{{.Id}}')).slice(0, 12);
  const remove = async (name: string, query = ''): Promise<Answer> =>
    await daemon.api('DELETE', `/v1.51/images/${name}?${query}`);
  assert.deepEqual(message(await remove('bb:1')), [
    409,
    `conflict: unable to remove repository reference "bb:1" (must force) - container ${container} is using its referenced image ${short}`,
  ]);
  assert.deepEqual(message(await remove(id)), [
    409,
    `conflict: unable to delete ${short} (must be forced) - image is being used by stopped container ${container}`,
  ]);
  await daemon.ok('tag', 'bb:1', 'bb:2');
  assert.deepEqual(message(await remove(short)), [
    409,
    `conflict: unable to delete ${short} (must be forced) - image is referenced in multiple repositories`,
  ]);
  assert.deepEqual((await remove('bb:2')).json, [{ Untagged: 'bb:2' }]);
  await daemon.ok('commit', '-m', 'child', 'c1', 'child:1');
  await daemon.ok('rm', 'c1');
  assert.deepEqual(message(await remove(id, 'force=1')), [
    409,
    `conflict: unable to delete ${short} (cannot be forced) - image has dependent child images`,
  ]);
  assert.deepEqual((await remove('bb:1')).json, [{ Untagged: 'bb:1' }]);
  const child: string = (await daemon.api('GET', '/v1.51/images/child:1/json')).json.Id;
  const [layer] = (await daemon.api('GET', '/v1.51/images/child:1/json')).json.RootFS.Layers;
  // The parent, which has no name any more, goes with its last child.
  assert.deepEqual((await remove('child:1')).json, [
    { Untagged: 'child:1' },
    { Deleted: child },
    { Deleted: id },
    { Deleted: layer },
  ]);
});

test('DELETE /images/{name}: the layers of an image that went by force go with its last container', async () => {
  await daemon.image('forced:1');
  await daemon.ok('run', '-d', '--name', 'last', 'forced:1', 'sleep', '600');
  const { json } = await daemon.api('GET', '/v1.51/images/forced:1/json');
  const upper: string = json.GraphDriver.Data.UpperDir;
  assert.equal((await run('test', ['-d', upper])).code, 0);
  assert.match(
    message(await daemon.api('DELETE', `/v1.51/images/${json.Id}?force=1`))[1],
    /\(cannot be forced\) - image is being used by running container/,
  );
  await daemon.ok('kill', 'last');
  assert.equal((await daemon.api('DELETE', `/v1.51/images/${json.Id}?force=1`)).status, 200);
  assert.equal((await run('test', ['-d', upper])).code, 0, 'the container still has it');
  await daemon.ok('rm', 'last');
  assert.equal((await run('test', ['-d', upper])).code, 1);
});

test('system/df, images/json: sizes that are shared, and containers that are counted', async () => {
  await daemon.image('du:1');
  await daemon.ok('create', '--name', 'dc', 'du:1');
  await daemon.ok('commit', 'dc', 'du:2');
  const images = async (path: string): Promise<Record<string, unknown>[]> => {
    const { json } = await daemon.api('GET', path);
    return (json.Images ?? json).map(
      ({ RepoTags, Containers, SharedSize, Size, VirtualSize }: Record<string, unknown>) => ({
        RepoTags,
        Containers,
        isShared: SharedSize === Size ? true : SharedSize,
        isVirtual: VirtualSize === Size,
      }),
    );
  };
  const both = (containers: number, isShared: boolean | number, isVirtual: boolean): unknown => [
    { RepoTags: ['du:2'], Containers: containers === -1 ? -1 : 0, isShared, isVirtual },
    { RepoTags: ['du:1'], Containers: containers, isShared, isVirtual },
  ];
  assert.deepEqual(await images('/v1.51/system/df'), both(1, true, false));
  assert.deepEqual(await images('/v1.43/system/df'), both(1, true, true));
  assert.deepEqual(await images('/v1.51/images/json'), both(1, -1, false));
  assert.deepEqual(await images('/v1.50/images/json?shared-size=1'), both(-1, true, false));
  const { json } = await daemon.api('GET', '/v1.51/system/df?type=image');
  assert.deepEqual(Object.keys(json).toSorted(), ['Images', 'LayersSize']);
  assert.equal(json.LayersSize, json.Images[0].Size);
  await daemon.ok('rm', 'dc');
  await daemon.ok('rmi', 'du:1', 'du:2');
});

test('images/create?fromSrc=URL: imports what is there, and says what is not', async (t) => {
  const content = await tar('from afar');
  const server = createServer((request, response) => {
    if (request.url === '/moved') response.writeHead(302, { Location: '/image.tar' }).end();
    else if (request.url === '/image.tar') response.end(content);
    else response.writeHead(404).end('nothing here\n');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const create = async (source: string): Promise<Answer> =>
    await daemon.api('POST', `/v1.51/images/create?fromSrc=${encodeURIComponent(source)}&repo=afar&message=m`);
  const imported = await create(`${host}/moved`);
  assert.equal(lines(imported)[0]!['status'], `Downloading from http://${host}/moved`);
  const { json } = await daemon.api('GET', '/v1.51/images/afar/json');
  assert.deepEqual([json.Id, json.Comment], [lines(imported).at(-1)!['status'], 'm']);
  const url = `http://${host}/none`;
  assert.deepEqual(message(await create(url)), [404, `failed to GET ${url} with status 404 Not Found: nothing here`]);
  assert.match(message(await create('http://127.0.0.1:1/'))[1], /connect: connection refused$/);
  assert.match(message(await create('file:///etc/passwd'))[1], /unsupported protocol scheme "file"$/);
  await daemon.ok('rmi', 'afar');
});

test('events: images, with labels and names as attributes', async () => {
  const sinceMs = Date.now();
  const id = await make('ev:1', 'ev', 'LABEL k=v');
  await daemon.ok('tag', 'ev:1', 'ev:2');
  const saved = await run('docker', ['-H', daemon.host, 'save', 'ev:1'], { binary: true });
  const config = await run('sh', ['-c', `tar -tv --full-time --utc | grep ${id.slice(7)}`], { input: saved.bytes });
  const { Created } = (await daemon.api('GET', '/v1.51/images/ev:1/json')).json;
  assert.ok(config.stdout.includes(Created.slice(0, 19).replace('T', ' ')), config.stdout);
  await daemon.ok('rmi', 'ev:2');
  await daemon.ok('rmi', 'ev:1');
  assert.equal((await daemon.dockerWith({ input: saved.bytes }, 'load')).code, 0);
  await daemon.ok('image', 'prune', '-af', '--filter', 'label=k=v');
  const events = await daemon.events(sinceMs, { type: ['image'] });
  assert.deepEqual(
    events.map(({ Action, Actor }) => [Action, Actor.ID, Actor.Attributes]),
    [
      ['tag', id, { k: 'v', name: 'ev:1' }],
      ['import', id, { k: 'v', name: id }],
      ['tag', id, { k: 'v', name: 'ev:2' }],
      ['save', id, { k: 'v', name: id }],
      ['untag', id, { k: 'v', name: id }],
      ['untag', id, { k: 'v', name: id }],
      ['delete', id, { name: id }],
      ['load', id, { k: 'v', name: id }],
      ['untag', id, { k: 'v', name: id }],
      ['delete', id, { name: id }],
      ['prune', '', { reclaimed: '2' }],
    ],
  );
});
