import assert from 'node:assert/strict';
import { test } from 'node:test';

import { details, ID, IMAGE_ID } from '../fake-parts.ts';
import { createRequest, parseCreateRequest } from './container-create.ts';
import { formatContainerInspect } from './container-inspect.ts';
import { deriveState, describeState } from './container-state.ts';
import { formatContainerSummary } from './container-summary.ts';
import { decodeBody } from './decode.ts';
import { formatResources, parseUpdate, updateConfig } from './resources.ts';

const ZERO = '0001-01-01T00:00:00Z';
const parse = (body: object, minor = 51, cgroup: '1' | '2' = '2') =>
  parseCreateRequest(decodeBody(JSON.stringify(body), createRequest), minor, cgroup);
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value)) as unknown;

test('parseCreateRequest: what moby refuses is refused with its words', () => {
  const cases: [object, string, number?][] = [
    [{}, 'config cannot be empty in order to create a container'],
    [
      { Image: 'x', HostConfig: { NetworkMode: 'container:' } },
      'Invalid network mode: invalid container format container:<name|id>',
    ],
    [
      { Image: 'x', Hostname: 'h', HostConfig: { NetworkMode: 'container:y' } },
      'conflicting options: hostname and the network mode',
    ],
    [
      { Image: 'x', HostConfig: { NetworkMode: 'container:y', PublishAllPorts: true } },
      'conflicting options: port publishing and the container type network mode',
    ],
    [{ Image: 'x', Hostname: 'h', HostConfig: { UTSMode: 'host' } }, 'conflicting options: hostname and the UTS mode'],
    [
      { Image: 'x', HostConfig: { NetworkMode: 'host', Links: ['a:b'] } },
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    ],
    [
      { Image: 'x', HostConfig: { RestartPolicy: { Name: 'sometimes' } } },
      "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ],
    [
      { Image: 'x', HostConfig: { RestartPolicy: { Name: 'always', MaximumRetryCount: 2 } } },
      "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ],
    [
      { Image: 'x', HostConfig: { AutoRemove: true, RestartPolicy: { Name: 'always' } } },
      "can't create 'AutoRemove' container with restart policy",
    ],
    [{ Image: 'x', HostConfig: { PortBindings: { 'x/tcp': [] } } }, 'invalid port specification: "x"'],
    [
      { Image: 'x', HostConfig: { PortBindings: { '80/tcp': [{ HostPort: 'y' }] } } },
      'invalid port specification: "y"',
    ],
    [{ Image: 'x', Healthcheck: { Interval: 5 } }, 'Interval in Healthcheck cannot be less than 1ms'],
    [{ Image: 'x', WorkingDir: 'a/b' }, "the working directory 'a/b' is invalid, it needs to be an absolute path"],
    [{ Image: 'x', Env: ['=y'] }, 'invalid environment variable: =y'],
    [{ Image: 'x', StopSignal: 'SIGNOPE' }, 'invalid signal: SIGNOPE'],
    [
      { Image: 'x', HostConfig: { Mounts: [{ Type: 'bind', Target: '/a', VolumeOptions: {} }] } },
      'VolumeOptions must not be specified on mount type "bind"',
    ],
    [{ Image: 'x', HostConfig: { ExtraHosts: ['nothing'] } }, 'bad format for add-host: "nothing"'],
    [{ Image: 'x', HostConfig: { ExtraHosts: ['a:b.c'] } }, 'invalid IP address in add-host: "b.c"'],
    [{ Image: 'x', HostConfig: { IpcMode: 'theirs' } }, 'invalid IPC mode: theirs'],
    [
      { Image: 'x', NetworkingConfig: { EndpointsConfig: { a: {}, b: {} } } },
      'Container cannot be created with multiple network endpoints: a, b',
      43,
    ],
    [
      { Image: 'x', HostConfig: { Mounts: [{ Type: 'volume', VolumeOptions: { Subpath: 'a' } }] } },
      'VolumeOptions.Subpath needs API v1.45 or newer',
      44,
    ],
    [
      { Image: 'x', MacAddress: '02:00:00:00:00:01', HostConfig: { NetworkMode: 'host' } },
      'conflicting options: mac-address and the network mode',
    ],
  ];
  for (const [body, message, minor] of cases) assert.throws(() => parse(body, minor), { message }, message);
});

test('parseCreateRequest: what older clients meant is kept', () => {
  const old = parse(
    {
      Image: 'x',
      HostConfig: {
        AutoRemove: true,
        Annotations: { a: 'b' },
        ConsoleSize: [1, 2],
        KernelMemory: 5e6,
        Mounts: [{ Type: 'bind', BindOptions: { CreateMountpoint: true, NonRecursive: true }, TmpfsOptions: {} }],
      },
    },
    24,
    '1',
  ).spec.host;
  assert.deepEqual(
    { ...old, log: undefined, restartPolicy: undefined, resources: old.resources.kernelMemoryBytes },
    {
      ...old,
      log: undefined,
      restartPolicy: undefined,
      autoRemove: false,
      annotations: null,
      consoleSize: [0, 0],
      ipcMode: 'shareable',
      cgroupnsMode: 'host',
      resources: 5e6,
    },
  );
  assert.deepEqual(old.mounts![0]!.bind, {
    propagation: '',
    nonRecursive: false,
    createMountpoint: false,
    readOnlyNonRecursive: false,
    readOnlyForceRecursive: false,
  });
  assert.equal(parse({ Image: 'x', HostConfig: { KernelMemory: 5e6 } }).spec.host.resources.kernelMemoryBytes, 0);
});

test('parseCreateRequest: endpoints begin with the network mode\'s, "default" is "bridge"', () => {
  const { spec, warnings } = parse({
    Image: 'x',
    MacAddress: '02:00:00:00:00:01',
    HostConfig: { NetworkMode: 'default' },
    NetworkingConfig: {
      EndpointsConfig: { other: null, default: { Aliases: ['a'], IPAMConfig: { IPv4Address: '10.0.0.5' } } },
    },
  });
  assert.deepEqual(Object.keys(spec.endpoints), ['bridge', 'other']);
  assert.deepEqual(spec.endpoints['bridge'], {
    ipv4Address: '10.0.0.5',
    ipv6Address: '',
    linkLocalIps: null,
    links: null,
    aliases: ['a'],
    macAddress: '02:00:00:00:00:01',
    driverOpts: null,
    gwPriority: 0,
  });
  assert.equal(spec.process.macAddress, null);
  assert.deepEqual(warnings, [
    'The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.',
  ]);
  assert.deepEqual(Object.keys(parse({ Image: 'x', HostConfig: { NetworkMode: 'container:y' } }).spec.endpoints), []);
  assert.deepEqual(Object.keys(parse({ Image: 'x', HostConfig: { NetworkMode: 'mine' } }).spec.endpoints), ['mine']);
});

test('formatContainerInspect: gives back everything that was asked for', () => {
  const host = {
    Binds: ['/a:/b:ro'],
    ContainerIDFile: '/c',
    LogConfig: { Type: 'json-file', Config: { 'max-size': '1m' } },
    NetworkMode: 'mine',
    PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '8080' }] },
    RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 3 },
    AutoRemove: false,
    VolumeDriver: '',
    VolumesFrom: ['v'],
    ConsoleSize: [24, 80],
    Annotations: { a: 'b' },
    CapAdd: ['NET_ADMIN'],
    CapDrop: ['ALL'],
    CgroupnsMode: 'private',
    Dns: ['1.1.1.1'],
    DnsOptions: ['ndots:1'],
    DnsSearch: ['x.y'],
    ExtraHosts: ['h:1.2.3.4'],
    GroupAdd: ['audio'],
    IpcMode: 'private',
    Cgroup: '',
    Links: null,
    OomScoreAdj: 5,
    PidMode: 'host',
    Privileged: true,
    PublishAllPorts: true,
    ReadonlyRootfs: true,
    SecurityOpt: ['seccomp=unconfined'],
    StorageOpt: { size: '1G' },
    Tmpfs: { '/t': 'size=1m' },
    UTSMode: 'host',
    UsernsMode: 'host',
    ShmSize: 123,
    Sysctls: { 'net.core.somaxconn': '5' },
    Runtime: 'runc',
    Isolation: '',
    CpuShares: 1,
    Memory: 2e7,
    NanoCpus: 3,
    CgroupParent: '/p',
    BlkioWeight: 10,
    BlkioWeightDevice: [{ Path: '/d', Weight: 11 }],
    BlkioDeviceReadBps: [{ Path: '/d', Rate: 1 }],
    BlkioDeviceWriteBps: [{ Path: '/d', Rate: 2 }],
    BlkioDeviceReadIOps: [{ Path: '/d', Rate: 3 }],
    BlkioDeviceWriteIOps: [{ Path: '/d', Rate: 4 }],
    CpuPeriod: 5,
    CpuQuota: 6,
    CpuRealtimePeriod: 7,
    CpuRealtimeRuntime: 6,
    CpusetCpus: '0',
    CpusetMems: '0',
    Devices: [{ PathOnHost: '/dev/x', PathInContainer: '/dev/y', CgroupPermissions: 'rw' }],
    DeviceCgroupRules: ['c 1:1 rwm'],
    DeviceRequests: [{ Driver: 'd', Count: -1, DeviceIDs: null, Capabilities: [['gpu']], Options: { o: 'p' } }],
    KernelMemoryTCP: 9,
    MemoryReservation: 10,
    MemorySwap: -1,
    MemorySwappiness: 60,
    OomKillDisable: true,
    PidsLimit: 100,
    Ulimits: [{ Name: 'nofile', Hard: 2, Soft: 1 }],
    CpuCount: 0,
    CpuPercent: 0,
    IOMaximumIOps: 0,
    IOMaximumBandwidth: 0,
    Mounts: [
      {
        Type: 'bind',
        Source: '/s',
        Target: '/t',
        ReadOnly: true,
        BindOptions: { Propagation: 'rslave', CreateMountpoint: true },
      },
      {
        Type: 'volume',
        Source: 'v',
        Target: '/v',
        VolumeOptions: {
          NoCopy: true,
          Labels: { l: 'm' },
          Subpath: 's',
          DriverConfig: { Name: 'local', Options: { o: 'p' } },
        },
      },
      { Type: 'tmpfs', Target: '/m', TmpfsOptions: { SizeBytes: 5, Mode: 448, Options: [['exec']] } },
      { Type: 'image', Source: 'i', Target: '/i', ImageOptions: { Subpath: 'q' } },
    ],
    MaskedPaths: ['/m'],
    ReadonlyPaths: ['/r'],
    Init: true,
  };
  const config = {
    Hostname: '',
    Domainname: 'd',
    User: '1:2',
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    ExposedPorts: { '80/tcp': {} },
    Tty: true,
    OpenStdin: true,
    StdinOnce: true,
    Env: ['A=b'],
    Cmd: ['c'],
    Healthcheck: { Test: ['CMD', 'x'], Interval: 1e6, Timeout: 2e6, StartPeriod: 3e6, StartInterval: 4e6, Retries: 5 },
    ArgsEscaped: true,
    Image: 'busybox',
    Volumes: { '/x': {} },
    WorkingDir: '/w',
    Entrypoint: ['e'],
    NetworkDisabled: true,
    OnBuild: ['RUN x'],
    Labels: { a: 'b' },
    StopSignal: 'SIGINT',
    StopTimeout: 7,
    Shell: ['sh'],
  };
  const inspected = plain(formatContainerInspect(details({ ...config, HostConfig: host }), 51)) as Record<
    string,
    unknown
  >;
  assert.deepEqual(inspected['HostConfig'], host);
  assert.deepEqual(inspected['Config'], config);
  assert.deepEqual(
    [
      inspected['Id'],
      inspected['Name'],
      inspected['Image'],
      inspected['Path'],
      inspected['Args'],
      inspected['ExecIDs'],
    ],
    [ID, '/web', IMAGE_ID, 'sh', ['-c', 'sleep 1'], null],
  );
});

test('formatContainerInspect: null, empty and missing as a bare create shows them', () => {
  const inspected = plain(formatContainerInspect(details({ Image: 'busybox', Cmd: null }), 51)) as {
    HostConfig: Record<string, unknown>;
    Config: Record<string, unknown>;
    NetworkSettings: Record<string, unknown>;
  };
  const { HostConfig: host, Config: config, NetworkSettings: network } = inspected;
  assert.deepEqual(
    [
      host['Binds'],
      host['PortBindings'],
      host['Dns'],
      host['CapAdd'],
      host['MemorySwappiness'],
      host['NetworkMode'],
      host['RestartPolicy'],
    ],
    [null, null, null, null, null, 'bridge', { Name: 'no', MaximumRetryCount: 0 }],
  );
  for (const missing of [
    'Annotations',
    'Tmpfs',
    'StorageOpt',
    'Sysctls',
    'Mounts',
    'Init',
    'KernelMemory',
    'KernelMemoryTCP',
  ])
    assert.ok(!(missing in host), missing);
  assert.deepEqual(
    [config['Cmd'], config['Env'], config['Labels'], config['Volumes'], config['OnBuild']],
    [null, null, {}, {}, null],
  );
  for (const missing of [
    'ExposedPorts',
    'Healthcheck',
    'StopSignal',
    'StopTimeout',
    'Shell',
    'MacAddress',
    'NetworkDisabled',
  ])
    assert.ok(!(missing in config), missing);
  assert.deepEqual(
    [network['Ports'], network['Networks'], network['IPAddress'], network['SecondaryIPAddresses']],
    [{}, {}, '', null],
  );
});

test('deriveState and describeState: every state as Docker shows it', () => {
  const at = (secondsAgo: number): string => new Date(1_800_000_000_000 - secondsAgo * 1000).toISOString();
  const exit = { code: 3, oomKilled: false, error: '', startedAt: at(100), finishedAt: at(90) };
  const failed = { code: 127, oomKilled: false, error: 'not found', startedAt: ZERO, finishedAt: at(5) };
  const live = { pid: 9, startedAt: at(300), oomKilled: false };
  const cases = [
    [{ at: 'created' }, 'created', 'Created', false],
    [{ at: 'starting', previous: null, byPolicy: false }, 'created', 'Created', false],
    [{ at: 'starting', previous: exit, byPolicy: false }, 'exited', 'Exited (3) About a minute ago', false],
    [{ at: 'starting', previous: exit, byPolicy: true }, 'restarting', 'Restarting (3) About a minute ago', true],
    [{ at: 'running', ...live }, 'running', 'Up 5 minutes', true],
    [{ at: 'paused', ...live }, 'paused', 'Up 5 minutes (Paused)', true],
    [{ at: 'stopping', ...live, paused: false, phase: 'signalled' }, 'running', 'Up 5 minutes', true],
    [{ at: 'restarting', exit, dueAt: at(0) }, 'restarting', 'Restarting (3) About a minute ago', true],
    [{ at: 'exited', exit }, 'exited', 'Exited (3) About a minute ago', false],
    [{ at: 'exited', exit: failed }, 'created', 'Created', false],
    [{ at: 'removing', exit }, 'removing', 'Removal In Progress', false],
    [{ at: 'dead', exit, why: '' }, 'dead', 'Dead', false],
  ] as const;
  for (const [state, status, words, running] of cases) {
    const derived = deriveState({ state });
    assert.deepEqual(
      [derived.Status, describeState(derived, null, 1_800_000_000_000), derived.Running],
      [status, words, running],
    );
  }
  assert.deepEqual(deriveState({ state: { at: 'exited', exit: failed } }), {
    Status: 'created',
    Running: false,
    Paused: false,
    Restarting: false,
    OOMKilled: false,
    Dead: false,
    Pid: 0,
    ExitCode: 127,
    Error: 'not found',
    StartedAt: ZERO,
    FinishedAt: ZERO,
  });
  const again = deriveState({ state: { at: 'running', ...live }, lastFinishedAt: at(400) });
  assert.equal(again.FinishedAt, at(400), 'the end of the run before');
  assert.equal(
    describeState(
      deriveState({ state: { at: 'running', ...live } }),
      { status: 'starting', failingStreak: 0, log: [] },
      1_800_000_000_000,
    ),
    'Up 5 minutes (health: starting)',
  );
});

test('formatContainerSummary: an image name that means another image by now gives way to the ID', () => {
  const name = (asked: string): unknown =>
    (plain(formatContainerSummary(details({ Image: asked }), 51, 0)) as { Image: string }).Image;
  assert.deepEqual(['busybox', 'docker.io/library/busybox:latest', 'b2b2b2', 'alpine', 'busybox:1'].map(name), [
    'busybox',
    'docker.io/library/busybox:latest',
    'b2b2b2',
    IMAGE_ID,
    IMAGE_ID,
  ]);
  const summary = plain(formatContainerSummary(details({ Image: 'busybox' }), 51, 0)) as Record<string, unknown>;
  assert.deepEqual(Object.keys(summary), [
    'Id',
    'Names',
    'Image',
    'ImageID',
    'Command',
    'Created',
    'Ports',
    'Labels',
    'State',
    'Status',
    'HostConfig',
    'NetworkSettings',
    'Mounts',
  ]);
  assert.equal(summary['Command'], "sh -c 'sleep 1'");
});

test('parseCreateRequest, formatResources: limits of Windows come back as they were asked', () => {
  const { resources } = parse({ Image: 'x', HostConfig: { CpuCount: 2, CpuPercent: 50 } }).spec.host;
  const { CpuCount, CpuPercent } = formatResources(resources) as Record<string, unknown>;
  assert.deepEqual({ CpuCount, CpuPercent }, { CpuCount: 2, CpuPercent: 50 });
});

test('parseUpdate: only what is given changes', () => {
  const update = (body: object, minor = 51) => parseUpdate(decodeBody(JSON.stringify(body), updateConfig), minor);
  assert.deepEqual(update({ Memory: 5, CpusetCpus: '0', PidsLimit: -1, RestartPolicy: { Name: 'always' } }), {
    resources: { memoryBytes: 5, cpusetCpus: '0', pidsLimit: 0 },
    restartPolicy: { name: 'always', maximumRetryCount: 0 },
  });
  assert.deepEqual(update({ CpuCount: 2, CpuPercent: 50 }), { resources: {}, restartPolicy: null });
  assert.deepEqual(update({}), { resources: {}, restartPolicy: null });
  assert.deepEqual(update({ PidsLimit: 5 }, 39), { resources: {}, restartPolicy: null });
});
