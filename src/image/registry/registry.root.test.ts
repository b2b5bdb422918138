/** Pull and push against Debian's docker-registry on 127.0.0.1, open and with a password, and against a registry that misbehaves. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { readdir, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import type { Images, RegistryAuth } from '../port.ts';
import { FakeRegistry } from './fake-registry.ts';
import { DEFAULTS, Fixture, importFile as make, linesOf } from './fixture.ts';
import { openRegistries } from './registries.ts';

let fixture: Fixture;
let scratch: string;
let openPort: number;
let authPort: number;

before(async () => {
  fixture = await Fixture.make();
  ({ scratch } = fixture);
  await writeFile(join(scratch, 'htpasswd'), 'u:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n');
  openPort = await fixture.startRegistry('open', '');
  authPort = await fixture.startRegistry('auth', `auth: {htpasswd: {realm: test, path: ${scratch}/htpasswd}}`);
});
after(async () => {
  await fixture[Symbol.asyncDispose]();
});

const openAt = async (name: string): Promise<Images> => await fixture.open(name);

test("push, pull: the same image comes back, with Docker's lines", async () => {
  const repository = `127.0.0.1:${openPort}/team/app`;
  const images = await openAt('a');
  const id = await make(images, `${repository}:1`, 'hello');
  const layer = images.resolve(id).layers[0]!.slice(7, 19);
  const pushed = await linesOf(images.push({ ...DEFAULTS, reference: `${repository}:1` }));
  assert.deepEqual(pushed.slice(0, -1), [
    `The push refers to repository [${repository}]`,
    `${layer}: Preparing`,
    `${layer}: Pushing`,
    `${layer}: Pushed`,
  ]);
  assert.match(pushed.at(-1)!, /^1: digest: sha256:[0-9a-f]{64} size: \d+$/);
  const [digest] = images.resolve(id).digests;
  assert.equal(digest, `${repository}@${/sha256:\w+/.exec(pushed.at(-1)!)![0]}`);
  assert.ok(
    (await linesOf(images.push({ ...DEFAULTS, reference: `${repository}:1` }))).includes(
      `${layer}: Layer already exists`,
    ),
  );

  const other = await openAt('b');
  const pulled = await linesOf(other.pull({ ...DEFAULTS, reference: `${repository}:1` }));
  assert.deepEqual(
    pulled.map((line) => line.replace(/^[0-9a-f]{12}/, 'ID')),
    [
      '1: Pulling from team/app',
      'ID: Pulling fs layer',
      'ID: Downloading',
      'ID: Verifying Checksum',
      'ID: Download complete',
      'ID: Extracting',
      'ID: Pull complete',
      `Digest: ${digest!.split('@')[1]}`,
      `Status: Downloaded newer image for ${repository}:1`,
    ],
  );
  assert.deepEqual(
    { ...other.resolve(id), taggedAt: '', manifestDigest: '' },
    { ...images.resolve(id), taggedAt: '', manifestDigest: '' },
  );
  assert.equal(
    (await linesOf(other.pull({ ...DEFAULTS, reference: `${repository}:1` }))).at(-1),
    `Status: Image is up to date for ${repository}:1`,
  );
  await other.remove(id, { force: true, prune: true }, () => null);
  assert.equal(
    (await linesOf(other.pull({ ...DEFAULTS, reference: digest! }))).at(-1),
    `Status: Downloaded newer image for ${digest}`,
  );
  assert.deepEqual(other.resolve(digest!).tags, []);
  assert.deepEqual(await readdir(join(scratch, 'b/image/download')), []);

  await images.tag(id, `127.0.0.1:${openPort}/other/app:2`);
  const mounted = await linesOf(images.push({ ...DEFAULTS, reference: `127.0.0.1:${openPort}/other/app:2` }));
  assert.ok(mounted.includes(`${layer}: Mounted from team/app`), mounted.join('\n'));
});

test('pull, push: all tags', async () => {
  const repository = `127.0.0.1:${openPort}/all`;
  const images = await openAt('c');
  for (const tag of ['x', 'y']) await make(images, `${repository}:${tag}`, tag);
  await linesOf(images.push({ ...DEFAULTS, reference: repository, allTags: true }));
  const other = await openAt('d');
  assert.equal(
    (await linesOf(other.pull({ ...DEFAULTS, reference: repository, allTags: true }))).at(-1),
    `Status: Downloaded newer image for ${repository}`,
  );
  assert.deepEqual(
    other
      .list()
      .flatMap(({ tags }) => tags)
      .toSorted(),
    [`${repository}:x`, `${repository}:y`],
  );
});

test("pull, push: what is not there, and who may not, in Docker's words", async () => {
  const images = await openAt('e');
  const pull = async (reference: string, auth: RegistryAuth | null = null): Promise<string[]> =>
    await linesOf(images.pull({ ...DEFAULTS, reference, auth }));
  const here = `127.0.0.1:${openPort}`;
  await assert.rejects(pull(`${here}/none:1`), {
    code: 'REGISTRY_NOT_FOUND',
    message: `manifest for ${here}/none:1 not found: manifest unknown: manifest unknown`,
  });
  await assert.rejects(pull('127.0.0.1:1/none/none'), {
    message: 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
  });
  await assert.rejects(linesOf(images.push({ ...DEFAULTS, reference: 'none' })), {
    message: 'An image does not exist locally with the tag: none',
  });
  const there = `127.0.0.1:${authPort}`;
  const auth = { username: 'u', password: 'secret', identityToken: '', registryToken: '', serverAddress: there };
  await make(images, `${there}/p:1`, 'x');
  const push = async (given: RegistryAuth | null): Promise<string[]> =>
    await linesOf(images.push({ ...DEFAULTS, reference: `${there}/p:1`, auth: given }));
  await assert.rejects(push(null), /no basic auth credentials/);
  await assert.rejects(push({ ...auth, password: 'wrong' }), /unauthorized: authentication required/);
  const registries = openRegistries();
  await assert.rejects(registries.authenticate({ ...auth, password: 'wrong' }), {
    message: `login attempt to http://${there}/v2/ failed with status: 401 Unauthorized`,
  });
  await assert.rejects(registries.search({ term: `${here}/x`, limit: null, auth: null }), {
    message: 'Unexpected status code 404',
  });
  await make(images, `${here}/d:1`, 'd');
  await linesOf(images.push({ ...DEFAULTS, reference: `${here}/d:1` }));
  const { descriptor, platforms } = await registries.distribution(`${here}/d:1`, null);
  assert.equal(`${here}/d@${descriptor.digest}`, images.resolve(`${here}/d:1`).digests[0]);
  assert.deepEqual(
    platforms.map(({ os }) => os),
    ['linux'],
  );
});

test('pull: takes the image for the platform out of an index that skopeo copied', async () => {
  const repository = `127.0.0.1:${openPort}/multi`;
  const images = await openAt('f');
  const id = await make(images, `${repository}:amd`, 'amd');
  await linesOf(images.push({ ...DEFAULTS, reference: `${repository}:amd` }));
  const manifest = execFileSync('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${repository}:amd`]);
  const digest = images.resolve(id).digests[0]!.split('@')[1]!;
  const entry = (architecture: string, at: string): object => ({
    mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    size: manifest.length,
    digest: at,
    platform: { os: 'linux', architecture },
  });
  const index = JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.docker.distribution.manifest.list.v2+json',
    manifests: [entry('arm64', digest), entry('amd64', digest)],
  });
  await new Promise<void>((resolve, reject) => {
    const put = httpRequest(
      `http://127.0.0.1:${openPort}/v2/multi/manifests/index`,
      { method: 'PUT', headers: { 'Content-Type': 'application/vnd.docker.distribution.manifest.list.v2+json' } },
      (response) => (
        response.resume(),
        response.statusCode === 201 ? resolve() : reject(new Error(String(response.statusCode)))
      ),
    );
    put.end(index);
  });
  const other = await openAt('g');
  await linesOf(
    other.pull({
      ...DEFAULTS,
      reference: `${repository}:index`,
      platform: { os: 'linux', architecture: 'amd64', variant: '' },
    }),
  );
  assert.equal(other.resolve(`${repository}:index`).id, id);
  await assert.rejects(
    linesOf(
      other.pull({
        ...DEFAULTS,
        reference: `${repository}:index`,
        platform: { os: 'linux', architecture: 's390x', variant: '' },
      }),
    ),
    { message: 'no matching manifest for linux/s390x in the manifest list entries' },
  );
});

/** Between us and the open registry: `meddle` may answer itself (true) or let it pass. */
async function proxy(
  meddle: (
    request: IncomingMessage,
    response: ServerResponse,
    upstream: (alter: (body: Buffer) => Buffer) => void,
  ) => boolean,
): Promise<{ server: Server; port: number }> {
  const server = createServer((request, response) => {
    const forward = (alter: ((body: Buffer) => Buffer) | null): void => {
      const out = httpRequest(
        {
          host: '127.0.0.1',
          port: openPort,
          path: request.url,
          method: request.method,
          // The registry's Locations lead through here, too.
          headers: { ...request.headers, host: `127.0.0.1:${openPort}`, 'x-forwarded-host': request.headers.host },
        },
        (answer) => {
          if (alter === null) {
            response.writeHead(answer.statusCode ?? 500, answer.headers);
            answer.pipe(response);
            return;
          }
          const parts: Buffer[] = [];
          answer
            .on('data', (part: Buffer) => parts.push(part))
            .on('end', () => {
              const body = Buffer.concat(parts);
              response.writeHead(answer.statusCode ?? 500, answer.headers);
              const altered = alter(body);
              if (altered.length === body.length) response.end(altered);
              else response.write(altered, () => setTimeout(() => response.destroy(), 100)); // after it was read
            });
        },
      );
      request.pipe(out);
    };
    if (!meddle(request, response, forward)) forward(null);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, port: (server.address() as AddressInfo).port };
}

test('pull: goes on by range where a connection broke, refuses changed bytes, stops when asked', async (t) => {
  const images = await openAt('h');
  const id = await make(
    images,
    `127.0.0.1:${openPort}/big:1`,
    Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 251)),
  );
  await linesOf(images.push({ ...DEFAULTS, reference: `127.0.0.1:${openPort}/big:1` }));
  const ranges: (string | undefined)[] = [];
  let mode: 'cut' | 'change' | 'hang' = 'cut';
  const { server, port } = await proxy((request, response, upstream) => {
    if (!/blobs/.test(request.url ?? '') || request.method !== 'GET') return false;
    if (mode === 'hang') return ranges.length >= 0 && response.writeHead(200).write('x');
    ranges.push(request.headers.range);
    if (mode === 'cut') {
      if (ranges.length !== 2) return false; // the config comes first
      upstream((body) => body.subarray(0, 1000));
    } else upstream((body) => Buffer.from(body.map((byte, i) => (i === 500 ? byte ^ 1 : byte))));
    return true;
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const reference = `127.0.0.1:${port}/big:1`;
  const other = await openAt('i');
  await linesOf(other.pull({ ...DEFAULTS, reference }));
  assert.equal(other.resolve(reference).id, id);
  assert.deepEqual(ranges.slice(1), [undefined, 'bytes=1000-']);
  await other.remove(id, { force: true, prune: true }, () => null);
  mode = 'change';
  await assert.rejects(linesOf(other.pull({ ...DEFAULTS, reference })), { code: 'IMAGE_CORRUPT' });
  mode = 'hang';
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 200);
  await assert.rejects(linesOf(other.pull({ ...DEFAULTS, reference, signal: stop.signal })), {
    message: 'context canceled',
  });
  assert.deepEqual(other.list(), []);
  assert.deepEqual(await readdir(join(scratch, 'i/layer')), ['empty']);
});

test('push: layers go side by side, but not more than there may be; one that broke off is sent again', async (t) => {
  await using source = await FakeRegistry.start();
  source.addImage('five', '1', [1_500_000, 1_500_001, 1_500_002, 1_500_003, 1_500_004]);
  const images = await fixture.open('j', { concurrentUploadsMax: 2 });
  await linesOf(images.pull({ ...DEFAULTS, reference: `${source.host}/five:1` }));
  let now = 0;
  let most = 0;
  let patches = 0;
  const { server, port } = await proxy((request, response) => {
    if (request.method !== 'PATCH') return false;
    if (++patches === 4) return Boolean(request.socket.destroy());
    most = Math.max(most, ++now);
    response.once('close', () => now--);
    return false;
  });
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const reference = `127.0.0.1:${port}/five:1`;
  await images.tag(`${source.host}/five:1`, reference);
  const lines = await linesOf(images.push({ ...DEFAULTS, reference }));
  assert.equal(most, 2);
  assert.equal(patches, 1 + 5 + 1, 'the one that broke off, five layers and the config');
  assert.equal(lines.filter((line) => line.endsWith(': Pushed')).length, 5);
  assert.equal(lines.filter((line) => line.endsWith(': Retrying in 1 second')).length, 1);
  const other = await fixture.open('k');
  await linesOf(other.pull({ ...DEFAULTS, reference: `127.0.0.1:${openPort}/five:1` }));
  assert.equal(other.resolve(`127.0.0.1:${openPort}/five:1`).id, images.resolve(reference).id);
});
