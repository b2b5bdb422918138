/** Pulls from a registry that this process is: what is hostile, what breaks, what comes at the same time, which platform. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';

import { MEDIA } from '../oci.ts';
import type { Images, Platform } from '../port.ts';
import { digestOf, FakeRegistry, tarOf } from './fake-registry.ts';
import { DEFAULTS, Fixture, linesOf } from './fixture.ts';

let fixture: Fixture;
let scratch: string;
before(async () => {
  fixture = await Fixture.make();
  ({ scratch } = fixture);
});
after(async () => {
  await fixture[Symbol.asyncDispose]();
});

async function startRegistry(t: TestContext): Promise<FakeRegistry> {
  const registry = await FakeRegistry.start();
  t.after(() => registry[Symbol.asyncDispose]());
  return registry;
}

interface Asked {
  readonly platform?: Platform | null;
  readonly signal?: AbortSignal;
}

async function pull(images: Images, reference: string, { platform = null, signal }: Asked = {}): Promise<string[]> {
  return await linesOf(images.pull({ ...DEFAULTS, reference, platform, ...(signal !== undefined && { signal }) }));
}

const arm = (variant: string): Platform => ({ os: 'linux', architecture: 'arm', variant });

test('pull: what is hostile or damaged is refused with its reason, and nothing of it stays', async (t) => {
  const registry = await startRegistry(t);
  const images = await fixture.open('hostile', { downloadAttemptsMax: 1 });
  const tar = tarOf('f', Buffer.from('x'));
  const layer = registry.addBlob(gzipSync(tar), MEDIA.dockerLayerGzip);
  const file = { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [digestOf(tar)] } };
  const blobOf = (value: unknown): ReturnType<FakeRegistry['addBlob']> =>
    registry.addBlob(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)), MEDIA.dockerConfig);
  const config = blobOf(file);
  const manifest = { schemaVersion: 2, mediaType: MEDIA.dockerManifest, config, layers: [layer] };
  const add = (tag: string, content: unknown, type: string = MEDIA.dockerManifest): unknown =>
    registry.addManifest('bad', tag, content, type);
  const other = digestOf(Buffer.from('other'));
  const lying = { ...registry.addBlob(Buffer.from('lies'), MEDIA.dockerLayerGzip), digest: other };
  registry.blobs.set(other, Buffer.from('lies'));
  const bomb = registry.addBlob(Buffer.from('no gzip at all'), MEDIA.dockerLayerGzip);
  const loop = (tag: string): object => ({
    schemaVersion: 2,
    mediaType: MEDIA.dockerIndex,
    manifests: [
      { mediaType: MEDIA.dockerIndex, size: 1, digest: other, platform: { os: 'linux', architecture: 'amd64' } },
    ],
    annotations: { tag },
  });
  registry.manifests.set(`bad@${other}`, {
    bytes: Buffer.from(JSON.stringify(loop(''))),
    mediaType: MEDIA.dockerIndex,
  });
  const cases: [tag: string, message: RegExp, content?: unknown, type?: string][] = [
    ['not-json', /invalid manifest: not JSON/, Buffer.from('<html>')],
    ['no-layers', /invalid manifest/, { schemaVersion: 2, mediaType: MEDIA.dockerManifest, config }],
    ['no-digest', /invalid manifest: digest/, { ...manifest, layers: [{ ...layer, digest: '../../etc/passwd' }] }],
    [
      'chart',
      /unsupported media type application\/vnd.cncf.helm.config/,
      { ...manifest, config: { ...config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } },
    ],
    [
      'model',
      /AI models are not yet supported/,
      { ...manifest, config: { ...config, mediaType: 'application/vnd.docker.ai.model.config.v0.1+json' } },
    ],
    [
      'wrong-layer',
      new RegExp(`filesystem layer verification failed for digest ${other}`),
      { ...manifest, layers: [lying] },
    ],
    [
      'short-layer',
      /has \d+ bytes where its manifest says/,
      { ...manifest, layers: [{ ...layer, size: layer.size + 5 }] },
    ],
    [
      'long-layer',
      /has \d+ bytes where its manifest says/,
      { ...manifest, layers: [{ ...layer, size: layer.size - 5 }] },
    ],
    ['no-gzip', /failed to register layer: unexpected EOF/, { ...manifest, layers: [bomb] }],
    ['two-layers', /layers from manifest don't match image configuration/, { ...manifest, layers: [layer, layer] }],
    [
      'other-layer',
      /layers from manifest don't match image configuration/,
      { ...manifest, config: blobOf({ ...file, rootfs: { diff_ids: [other] } }) },
    ],
    [
      'no-config',
      /error pulling image configuration: download failed after attempts=1: blob unknown/,
      { ...manifest, config: { ...config, digest: digestOf(Buffer.from('none')) } },
    ],
    ['bad-config', /invalid image config/, { ...manifest, config: blobOf('{"rootfs":7}') }],
    ['index-loop', /manifest verification failed|no matching manifest/, loop('x'), MEDIA.dockerIndex],
    ['gigantic', /answered with more than can be taken/, Buffer.alloc(5 << 20, ' ')],
    [
      'schema-1',
      /schema 1|schemaVersion/i,
      { schemaVersion: 1, name: 'x', fsLayers: [] },
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
    ],
    ['none', /manifest for .*bad:none not found: manifest unknown/],
  ];
  for (const [tag, message, content, type] of cases) {
    if (content !== undefined) add(tag, content, type);
    await assert.rejects(pull(images, `${registry.host}/bad:${tag}`), (error: Error) => {
      assert.match(error.message, message, tag);
      return true;
    });
    assert.deepEqual(images.list(), [], tag);
  }
  const { digest } = registry.addManifest('bad', 'by-digest', manifest, MEDIA.dockerManifest);
  registry.manifests.set(`bad@${digest}`, { bytes: Buffer.from('{}'), mediaType: MEDIA.dockerManifest });
  await assert.rejects(pull(images, `${registry.host}/bad@${digest}`), {
    message: `manifest verification failed for digest ${digest}`,
  });
  assert.deepEqual(await images.verify!(), []);
  assert.deepEqual(await readdir(join(scratch, 'hostile/layer')), ['empty']);
  // What was found to be wrong is not kept to be found wrong again.
  for (const name of await readdir(join(scratch, 'hostile/image/download'))) assert.match(name, /\.part$/);
});

test('pull: an endless answer is left', { timeout: 20_000 }, async (t) => {
  const registry = await startRegistry(t);
  const images = await fixture.open('endless', { downloadAttemptsMax: 1 });
  const { config, layers } = registry.addImage('a', '1', [1000]);
  const flood = (response: ServerResponse): void => {
    response.on('error', () => {});
    const more = (): void => {
      while (!response.destroyed && response.write(Buffer.alloc(65536)));
      if (!response.destroyed) response.once('drain', more);
    };
    more();
  };
  for (const target of ['/manifests/', config.digest, layers[0]!.digest]) {
    registry.meddle = (request, response) => {
      if (request.method === 'HEAD' || !request.url!.includes(target)) return false;
      flood(response);
      return true;
    };
    await assert.rejects(pull(images, `${registry.host}/a:1`), /more than can be taken|longer than its manifest says/);
  }
  registry.meddle = () => false;
  assert.match((await pull(images, `${registry.host}/a:1`)).at(-1)!, /Downloaded newer image/);
});

test('pull: tries again where it makes sense, says so, and goes on by range', async (t) => {
  const registry = await startRegistry(t);
  const images = await fixture.open('again', { downloadAttemptsMax: 3 });
  const { layers } = registry.addImage('a', '1', [50_000]);
  const { digest, size } = layers[0]!;
  const ranges: (string | undefined)[] = [];
  registry.meddle = (request: IncomingMessage, response) => {
    if (!request.url!.includes(digest)) return false;
    ranges.push(request.headers.range);
    if (ranges.length === 1) response.writeHead(503).end();
    else if (ranges.length === 2) {
      response.writeHead(200, { 'Content-Length': size });
      response.write(registry.blobs.get(digest)!.subarray(0, 30_000), () => setTimeout(() => response.destroy(), 100));
    } else return false;
    return true;
  };
  const lines = await pull(images, `${registry.host}/a:1`);
  assert.deepEqual(ranges, [undefined, undefined, 'bytes=30000-']);
  const id = digest.slice(7, 19);
  assert.deepEqual(
    lines.filter((line) => /Retrying/.test(line)),
    [`${id}: Retrying in 1 second`, `${id}: Retrying in 2 seconds`, `${id}: Retrying in 1 second`],
  );
  // Refused for good: no second try.
  registry.addImage('a', '2', [10]);
  ranges.length = 0;
  registry.meddle = (request, response) => {
    if (!/GET .*blobs/.test(`${request.method} ${request.url}`)) return false;
    ranges.push(request.url);
    response.writeHead(403).end('{"errors":[{"code":"DENIED","message":"no"}]}');
    return true;
  };
  await assert.rejects(pull(images, `${registry.host}/a:2`), /denied: no/);
  assert.equal(ranges.length, 1);
});

test('pull: layers come side by side, but not more than there may be, and pulls of one image share them', async (t) => {
  const registry = await startRegistry(t);
  const images = await fixture.open('together', { concurrentDownloadsMax: 2 });
  const { layers } = registry.addImage('a', '1', [10_000, 10_001, 10_002, 10_003, 10_004]);
  const both = await Promise.all([pull(images, `${registry.host}/a:1`), pull(images, `${registry.host}/a:1`)]);
  assert.equal(registry.most, 2);
  for (const { digest } of layers)
    assert.equal(registry.requests.filter((request) => request.includes(digest)).length, 1, digest);
  for (const lines of both) assert.equal(lines.filter((line) => /Pull complete/.test(line)).length, 5);
  assert.ok(both.flat().some((line) => line.endsWith(': Waiting')));
  assert.deepEqual(await readdir(join(scratch, 'together/image/download')), []);

  // Who goes away does not end it for the other.
  const second = registry.addImage('a', '2', [200_000]);
  const stop = new AbortController();
  registry.meddle = (request, response) => {
    if (!request.url!.includes(second.layers[0]!.digest) || request.headers.range !== undefined) return false;
    response.writeHead(200, { 'Content-Length': second.layers[0]!.size });
    response.write(registry.blobs.get(second.layers[0]!.digest)!.subarray(0, 100_000));
    setTimeout(() => stop.abort(), 200);
    return true;
  };
  const gone = pull(images, `${registry.host}/a:2`, { signal: stop.signal });
  const stays = new Promise((resolve) => setTimeout(resolve, 100)).then(() => pull(images, `${registry.host}/a:2`));
  await assert.rejects(gone, { message: 'context canceled' });
  assert.match((await stays).at(-1)!, /Downloaded newer image/);
});

test('pull: what is here already is not fetched again, and has no lines of layers', async (t) => {
  const registry = await startRegistry(t);
  const images = await fixture.open('known');
  const { digest, layers } = registry.addImage('a', '1');
  const reference = `${registry.host}/a:1`;
  await pull(images, reference);
  registry.requests.length = 0;
  const upToDate = ['1: Pulling from a', `Digest: ${digest}`, `Status: Image is up to date for ${reference}`];
  assert.deepEqual(await pull(images, reference), upToDate);
  assert.deepEqual(registry.requests, ['GET /v2/', 'HEAD /v2/a/manifests/1']);
  assert.deepEqual(await pull(images, `${registry.host}/a@${digest}`), [
    `${registry.host}/a@${digest}: Pulling from a`,
    `Digest: ${digest}`,
    `Status: Image is up to date for ${registry.host}/a@${digest}`,
  ]);
  // Another image with the same layer, under another tag that then moves.
  const file = {
    os: 'linux',
    architecture: 'amd64',
    author: 'another',
    rootfs: { diff_ids: images.resolve(reference).layers },
  };
  const config = registry.addBlob(Buffer.from(JSON.stringify(file)), MEDIA.dockerConfig);
  const moved = registry.addManifest(
    'a',
    '1',
    { schemaVersion: 2, mediaType: MEDIA.dockerManifest, config, layers },
    MEDIA.dockerManifest,
  );
  assert.deepEqual(await pull(images, reference), [
    '1: Pulling from a',
    `${layers[0]!.digest.slice(7, 19)}: Already exists`,
    `Digest: ${moved.digest}`,
    `Status: Downloaded newer image for ${reference}`,
  ]);
  assert.equal(images.list().length, 2);
  assert.deepEqual(images.resolve(`${registry.host}/a@${digest}`).tags, []);
});

test('pull: the best image for a platform, also in an index of indexes, and a warning where there is only one', async (t) => {
  const registry = await startRegistry(t);
  const images = await fixture.open('platforms');
  const made = [
    ['amd64', ''],
    ['arm', 'v5'],
    ['arm', 'v6'],
    ['arm', 'v7'],
    ['arm64', 'v8'],
  ].map(([architecture = '', variant = '']) => {
    const { digest, size, config } = registry.addImage('m', `${architecture}${variant}`, [10], {
      architecture,
      variant,
    });
    const platform = { os: 'linux', architecture, ...(variant !== '' && { variant }) };
    return { mediaType: MEDIA.dockerManifest, digest, size, platform, id: config.digest };
  });
  const attestation = {
    ...made[0]!,
    platform: { os: 'unknown', architecture: 'unknown' },
    annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
  };
  const index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [attestation, ...made] };
  registry.addManifest('m', 'all', index, MEDIA.ociIndex);
  const inner = registry.addManifest('m', 'inner', index, MEDIA.ociIndex);
  registry.addManifest(
    'm',
    'nested',
    { ...index, manifests: [{ ...inner, platform: { os: 'linux', architecture: 'arm64' } }] },
    MEDIA.ociIndex,
  );
  const idOf = (name: string): string =>
    made.find(({ platform }) => `${platform.architecture}${platform.variant ?? ''}` === name)!.id;
  const reference = `${registry.host}/m:all`;
  const cases: [Platform | undefined, string][] = [
    [undefined, { x64: 'amd64', arm64: 'arm64v8' }[process.arch as string] ?? process.arch],
    [{ os: 'linux', architecture: 'arm64', variant: '' }, 'arm64v8'],
    [arm(''), 'armv7'],
    [arm('v7'), 'armv7'],
    [arm('v6'), 'armv6'],
    [arm('v8'), 'armv7'],
    [{ os: 'linux', architecture: 'amd64', variant: '' }, 'amd64'],
  ];
  for (const [platform, name] of cases) {
    await pull(images, reference, platform === undefined ? {} : { platform });
    assert.equal(images.resolve(reference).id, idOf(name), name);
  }
  await assert.rejects(pull(images, reference, { platform: arm('v4') }), {
    message: 'no matching manifest for linux/arm/v4 in the manifest list entries',
  });
  await pull(images, `${registry.host}/m:nested`, { platform: { os: 'linux', architecture: 'arm64', variant: '' } });
  assert.equal(images.resolve(`${registry.host}/m:nested`).id, idOf('arm64v8'));
  const single = `${registry.host}/m:armv7`;
  const warned = await pull(images, single, { platform: { os: 'linux', architecture: 's390x', variant: '' } });
  assert.equal(
    warned.at(-1),
    `WARNING: image with reference ${single} was found but its platform (linux/arm/v7) does not match the specified platform (linux/s390x)`,
  );
  assert.equal(images.resolve(single).variant, 'v7');
  assert.throws(() => images.resolve(single, { os: 'linux', architecture: 's390x', variant: '' }), {
    code: 'IMAGE_NOT_FOUND',
  });
});
