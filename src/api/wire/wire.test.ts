import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { DetachScanner } from '../detach-keys.ts';
import { fakeParts, image, version } from '../fake-parts.ts';
import { frame, FrameStripper } from '../log-stream.ts';
import { cleanPath, Router } from '../router.ts';
import { parsePlatform } from '../../image/platform-text.ts';
import { eventMatcher } from './event.ts';
import { flagFilter, matchesLabels, matchesPattern, parseFilters } from './filters.ts';
import { filterImages, formatImageInspect, formatImageSummary } from './image.ts';
import { formatNetwork } from './network.ts';
import { parsePlatformJson } from './platform.ts';
import { parsePortBindings } from './port-map.ts';
import { formatProgress } from './progress.ts';
import { joinImageTag, joinRepoTag } from './reference.ts';
import { parseAuthHeader } from './registry-auth.ts';
import { formatStats } from './stats.ts';
import { formatVersion } from './system.ts';
import { humanDuration, parseTime } from './time.ts';

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value)) as unknown;

test('Router: names hold slashes, versions are stripped, the first route wins', () => {
  const router = new Router([
    { method: 'GET', path: '/images/json' },
    { method: 'GET', path: '/images/{name}/json' },
    { method: 'DELETE', path: '/images/{name}' },
  ] as const);
  assert.deepEqual(router.find('GET', '/v1.44/images/json'), {
    route: { method: 'GET', path: '/images/json' },
    params: {},
    version: '1.44',
  });
  assert.deepEqual(router.find('GET', '/images/a.b:5/c/d/json')?.params, { name: 'a.b:5/c/d' });
  assert.deepEqual(router.find('DELETE', '/v1.24/images/a/b@sha256:x')?.params, { name: 'a/b@sha256:x' });
  for (const path of ['/images', '/images//json', '/v1.44', '/vx/images/json', '/'])
    assert.equal(router.find('GET', path), null, path);
  assert.equal(router.find('POST', '/images/json'), null);
  assert.deepEqual(['/a//b', '/a/./b/', '/a/../../b', '/a/b'].map(cleanPath), ['/a/b', '/a/b/', '/b', '/a/b']);
});

test('DetachScanner: passes on all but the sequence, however it is cut up', () => {
  fc.assert(
    fc.property(fc.array(fc.array(fc.constantFrom(16, 17, 97), { maxLength: 4 }), { maxLength: 8 }), (chunks) => {
      const scanner = new DetachScanner(Buffer.from([16, 17]));
      const all = chunks.flat();
      const end = all.findIndex((byte, index) => byte === 16 && all[index + 1] === 17);
      const passed: number[] = [];
      let detached = false;
      for (const chunk of chunks) {
        if (detached) break;
        const result = scanner.push(Buffer.from(chunk));
        passed.push(...result.pass);
        detached = result.detached;
      }
      assert.equal(detached, end >= 0);
      // A 16 at the very end may still be held back.
      const expected = end >= 0 ? all.slice(0, end) : all.at(-1) === 16 ? all.slice(0, -1) : all;
      assert.deepEqual(passed, expected);
    }),
  );
});

test('parseFilters: both forms; anything else is an invalid filter', () => {
  const expected = new Map([['a', ['x', 'y']]]);
  assert.deepEqual(parseFilters('{"a":{"x":true,"y":true}}'), expected);
  assert.deepEqual(parseFilters('{"a":["x","y","x"]}'), expected);
  for (const text of ['[]', '{', '{"a":1}', '{"a":[1]}', '{"a":{"x":1}}', '"x"'])
    assert.throws(() => parseFilters(text), { message: 'invalid filter' }, text);
  const filters = parseFilters('{"label":["a","b=1"],"dangling":["maybe"],"name":["we.*"]}');
  assert.deepEqual(
    [
      matchesLabels(filters, 'label', { a: '', b: '1' }),
      matchesLabels(filters, 'label', { a: '', b: '2' }),
      matchesLabels(filters, 'label', null),
    ],
    [true, false, false],
  );
  assert.throws(() => flagFilter(filters, 'dangling'), { message: "invalid filter 'dangling=[maybe]'" });
  assert.deepEqual(
    [
      matchesPattern(filters, 'name', 'web'),
      matchesPattern(filters, 'name', 'db'),
      matchesPattern(filters, 'other', 'x'),
    ],
    [true, false, true],
  );
});

test("parseTime and humanDuration: as Docker's", () => {
  const nowNs = 1_000_000_000_000n;
  assert.deepEqual(
    ['1.5', '1700000000.000000001', '10m', '1970-01-01T00:00:01.25Z', '1970-01-01'].map((text) =>
      parseTime(text, nowNs),
    ),
    [1_500_000_000n, 1_700_000_000_000_000_001n, nowNs - 600_000_000_000n, 1_250_000_000n, 0n],
  );
  for (const [text, wrong] of [
    ['soon', 'soon'],
    ['1.', ''],
    ['.5', ''],
    ['1.x', 'x'],
    ['1.1.1', '1.1'],
  ] as const)
    assert.throws(() => parseTime(text, nowNs), {
      code: 'TIME_INVALID',
      message: `strconv.ParseInt: parsing "${wrong}": invalid syntax`,
    });
  assert.equal(parseTime('9223372036854775807', nowNs), (2n ** 63n - 1n) * 1_000_000_000n);
  assert.throws(() => parseTime('9223372036854775808', nowNs), /parsing "9223372036854775808": value out of range/);
  const seconds = [
    0.2,
    1,
    46,
    60,
    119,
    120,
    3599,
    3600,
    5400,
    7200,
    47 * 3600,
    48 * 3600,
    15 * 86400,
    70 * 86400,
    800 * 86400,
  ];
  assert.deepEqual(
    seconds.map((s) => humanDuration(s * 1000)),
    [
      'Less than a second',
      '1 second',
      '46 seconds',
      'About a minute',
      'About a minute',
      '2 minutes',
      '59 minutes',
      'About an hour',
      '2 hours',
      '2 hours',
      '47 hours',
      '2 days',
      '2 weeks',
      '2 months',
      '2 years',
    ],
  );
});

test('joinRepoTag, joinImageTag: tags and digests', () => {
  assert.deepEqual(
    [joinRepoTag('', 'x'), joinRepoTag('a:5/b', ''), joinRepoTag('a:5/b:1', '2')],
    [null, 'a:5/b', 'a:5/b:2'],
  );
  assert.throws(() => joinRepoTag('a@sha256:b', ''));
  const digest = `sha256:${'a'.repeat(64)}`;
  assert.deepEqual(
    [
      joinImageTag('b', ''),
      joinImageTag('b:1', ''),
      joinImageTag('b', '2'),
      joinImageTag('b:1', digest),
      joinImageTag('h:5/b:', ''),
    ],
    [
      { reference: 'b', allTags: true },
      { reference: 'b:1', allTags: false },
      { reference: 'b:2', allTags: false },
      { reference: `b@${digest}`, allTags: false },
      { reference: 'h:5/b', allTags: true },
    ],
  );
});

test('parsePlatform: text and JSON', () => {
  assert.deepEqual(parsePlatform('linux/arm64/v8'), { os: 'linux', architecture: 'arm64', variant: '' });
  assert.deepEqual(parsePlatform('linux/arm'), { os: 'linux', architecture: 'arm', variant: 'v7' });
  assert.deepEqual(parsePlatform('x86_64'), { os: 'linux', architecture: 'amd64', variant: '' });
  assert.deepEqual(parsePlatformJson('{"os":"linux","architecture":"arm64","variant":"v8"}'), {
    os: 'linux',
    architecture: 'arm64',
    variant: 'v8',
  });
  assert.deepEqual(parsePlatform('macos/arm64'), { os: 'darwin', architecture: 'arm64', variant: '' });
  assert.deepEqual(parsePlatform('sparc64'), { os: 'linux', architecture: 'sparc64', variant: '' });
  assert.throws(() => parsePlatform('a/b/c/d'), { code: 'PARAMETER_INVALID' });
  assert.throws(() => parsePlatformJson('{"os":"linux"}'), { message: 'both OS and Architecture must be provided' });
});

test('parsePortBindings: an empty list is one unspecified binding', () => {
  assert.deepEqual(parsePortBindings({ '80': null, '53/UDP': [{ HostIp: '', HostPort: '53-60' }] }), {
    '80/tcp': [{ hostIp: '', hostPort: '' }],
    '53/udp': [{ hostIp: '', hostPort: '53-60' }],
  });
});

test('parseAuthHeader: damaged credentials are none', () => {
  const header = Buffer.from('{"username":"u","password":"p","serveraddress":"s"}').toString('base64url');
  assert.deepEqual(parseAuthHeader(header), {
    username: 'u',
    password: 'p',
    identityToken: '',
    registryToken: '',
    serverAddress: 's',
  });
  for (const damaged of [
    undefined,
    '',
    '!!!',
    Buffer.from('[]').toString('base64'),
    Buffer.from('{"username":1}').toString('base64'),
    Buffer.from('{}').toString('base64'),
  ])
    assert.equal(parseAuthHeader(damaged), null);
});

test('formatImageInspect: fields come and go with the version', () => {
  const shown = (minor: number): Record<string, unknown> =>
    plain(formatImageInspect(image, ['/l/b', '/l/a'], minor)) as Record<string, unknown>;
  const [old, now] = [shown(43), shown(51)];
  assert.deepEqual(
    [old['VirtualSize'], now['VirtualSize'], 'Container' in old, 'Container' in now],
    [1234, undefined, true, false],
  );
  assert.deepEqual(now['Config'], {
    User: '',
    Env: ['PATH=/bin'],
    Entrypoint: null,
    Cmd: ['sh'],
    Volumes: null,
    WorkingDir: '',
    Labels: null,
    OnBuild: null,
  });
  assert.equal((old['Config'] as Record<string, unknown>)['AttachStdin'], false);
  assert.deepEqual(now['GraphDriver'], {
    Name: 'overlay2',
    Data: { LowerDir: '/l/a/diff', MergedDir: '/l/b/merged', UpperDir: '/l/b/diff', WorkDir: '/l/b/work' },
  });
  const untagged = { image, tags: [], digests: [] };
  const summary = (minor: number): Record<string, unknown> =>
    plain(formatImageSummary(untagged, { containers: 2, sharedBytes: -1 }, minor)) as Record<string, unknown>;
  assert.deepEqual(
    [summary(42)['RepoTags'], summary(43)['RepoTags'], summary(43)['VirtualSize'], summary(44)['VirtualSize']],
    [['<none>:<none>'], [], 1234, undefined],
  );
});

test('filterImages: references are globs that narrow the tags', () => {
  const images = {
    list: () => [
      { ...image, tags: ['busybox:1', 'me/busybox:2'] },
      { ...image, id: 'sha256:x', tags: [] },
    ],
    resolve: () => image,
  };
  const find = (filters: object, all = false): unknown =>
    filterImages(fakeParts({ images }).images, parseFilters(JSON.stringify(filters)), { all, nowNs: 0n }).map(
      ({ tags }) => tags,
    );
  assert.deepEqual(find({ reference: ['busy*'] }), [['busybox:1']]);
  assert.deepEqual(find({ reference: ['*/busybox'] }), [['me/busybox:2']]);
  assert.deepEqual(find({ dangling: ['true'] }), [[]]);
  assert.deepEqual(find({ dangling: ['false'] }), [['busybox:1', 'me/busybox:2']]);
  assert.deepEqual(find({ label: ['none'] }), []);
  assert.throws(() => find({ colour: ['red'] }), { message: "invalid filter 'colour'" });
});

test('eventMatcher: open actions match by their beginning, others whole', () => {
  const event = {
    type: 'container',
    action: 'exec_create: sh',
    actor: { id: 'abc', attributes: { image: 'busybox:1', name: 'web', k: 'v' } },
    scope: 'local',
    timeNs: 0n,
    sequence: 1,
  } as const;
  const matches = (filters: object): boolean => eventMatcher(parseFilters(JSON.stringify(filters)), 51)(event);
  assert.deepEqual(
    [
      { event: ['exec_create'] },
      { event: ['exec'] },
      { container: ['we'] },
      { container: ['b'] },
      { image: ['busybox'] },
      { image: ['busy'] },
      { label: ['k=v'] },
      { label: ['k=w'] },
      { type: ['network'] },
      {},
    ].map(matches),
    [true, false, true, false, true, false, true, false, false, true],
  );
});

test('formatProgress: lines as the docker client draws them', () => {
  assert.equal(
    formatProgress({ kind: 'status', id: 'a', text: 'Waiting' }),
    '{"status":"Waiting","progressDetail":{},"id":"a"}\r\n',
  );
  assert.equal(formatProgress({ kind: 'stream', text: 'Loaded\n' }), '{"stream":"Loaded\\n"}\r\n');
  assert.equal(formatProgress({ kind: 'error', message: 'm' }), '{"errorDetail":{"message":"m"},"error":"m"}\r\n');
});

test('formatStats: a container that does not run has zeros', () => {
  const sample = {
    containerId: 'i',
    name: 'web',
    read: 'r',
    preRead: 'p',
    cgroupVersion: 'v1',
    onlineCpus: 2,
    cpu: null,
    preCpu: null,
    memory: null,
    pids: null,
    blkio: null,
    networks: null,
  } as const;
  const usage = {
    cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
    throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
  };
  const lists = [
    'io_service_bytes',
    'io_serviced',
    'io_queue',
    'io_service_time',
    'io_wait_time',
    'io_merged',
    'io_time',
    'sectors',
  ];
  assert.deepEqual(plain(formatStats(sample)), {
    name: '/web',
    id: 'i',
    read: 'r',
    preread: 'p',
    pids_stats: {},
    blkio_stats: Object.fromEntries(lists.map((name) => [`${name}_recursive`, null])),
    num_procs: 0,
    storage_stats: {},
    cpu_stats: usage,
    precpu_stats: usage,
    memory_stats: {},
  });
});

test('formatNetwork and formatVersion: the keys that clients read', () => {
  const network = formatNetwork(
    {
      name: 'n',
      id: 'i',
      createdAt: 't',
      scope: 'local',
      driver: 'bridge',
      internal: false,
      attachable: false,
      ingress: false,
      enableIpv4: true,
      enableIpv6: false,
      ipam: {
        driver: '',
        options: null,
        configs: [{ subnet: '10.0.0.0/24', ipRange: '', gateway: '10.0.0.1', auxAddresses: null }],
      },
      options: {},
      labels: {},
      configOnly: false,
      configFrom: '',
      bridgeName: 'br',
    },
    [],
  );
  assert.deepEqual(plain(network), {
    Name: 'n',
    Id: 'i',
    Created: 't',
    Scope: 'local',
    Driver: 'bridge',
    EnableIPv4: true,
    EnableIPv6: false,
    IPAM: { Driver: 'default', Options: null, Config: [{ Subnet: '10.0.0.0/24', Gateway: '10.0.0.1' }] },
    Internal: false,
    Attachable: false,
    Ingress: false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: {},
    Options: {},
    Labels: {},
  });
  const { ApiVersion, MinAPIVersion, Os, Arch } = formatVersion(version) as Record<string, unknown>;
  assert.deepEqual([ApiVersion, MinAPIVersion, Os, Arch], ['1.51', '1.24', 'linux', 'amd64']);
});

test('FrameStripper: gives back the payloads, however the frames are cut up', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 20 })),
      fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }),
      (payloads, cuts) => {
        const framed = Buffer.concat(
          payloads.map((payload, index) => frame(index % 2 === 0 ? 'stdout' : 'stderr', Buffer.from(payload))),
        );
        const stripper = new FrameStripper();
        const out: Buffer[] = [];
        for (let at = 0, cut = 0; at < framed.length; cut++) {
          const size = cuts[cut % cuts.length]!;
          out.push(stripper.push(framed.subarray(at, at + size)));
          at += size;
        }
        assert.deepEqual(Buffer.concat(out), Buffer.concat(payloads));
      },
    ),
  );
});
