/** Whole specs, compared with what dockerd 20.10 wrote for the same options (config.json under its exec-root). */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';

import { NO_RESOURCES, type HostSpec, type ProcessSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import { buildOciSpec, type OciSpec } from './build-oci-spec.ts';
import { DEFAULT_CAPABILITIES } from './capabilities.ts';
import { DAEMON_DEFAULTS, type OciInput, type SpecMount } from './input.ts';
import { plainInput, plainSpec } from './spec-fixture.ts';

const build = (
  process: Partial<ProcessSpec> = {},
  host: Partial<HostSpec> = {},
  more: Partial<OciInput> = {},
): OciSpec =>
  // As it is after a JSON round trip: the runtime sees no more.
  JSON.parse(JSON.stringify(buildOciSpec(plainInput(plainSpec(process, host), more)))) as OciSpec;

const bind = (source: string, destination: string, more: Partial<SpecMount> = {}): SpecMount => ({
  type: 'bind',
  source,
  destination,
  readWrite: true,
  propagation: 'rprivate',
  options: [],
  ...more,
});

const character = (allow: boolean, major: number, minor: number): object => ({
  allow,
  type: 'c',
  major,
  minor,
  access: 'rwm',
});
const DEFAULT_DEVICE_RULES = [
  { allow: false, access: 'rwm' },
  character(true, 1, 5),
  character(true, 1, 3),
  character(true, 1, 9),
  character(true, 1, 8),
  character(true, 5, 0),
  character(true, 5, 1),
  character(false, 10, 229),
];
const DEFAULT_MOUNTS = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro', 'nosuid', 'noexec', 'nodev'] },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
];
const SHM = {
  destination: '/dev/shm',
  type: 'tmpfs',
  source: 'shm',
  options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=67108864'],
};
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

suite('buildOciSpec', () => {
  test('buildOciSpec: nothing asked', () => {
    const { linux, process, ...rest } = build({ cmd: ['sleep', '100'] }, { ipcMode: 'private', cgroupnsMode: 'host' });
    const { seccomp, maskedPaths, ...kernel } = linux;
    const { capabilities, ...command } = process;
    assert.deepEqual(rest, {
      ociVersion: '1.0.2',
      root: { path: '/rootfs', readonly: false },
      hostname: 'host1',
      mounts: [...DEFAULT_MOUNTS, SHM],
    });
    assert.deepEqual(command, {
      terminal: false,
      user: { uid: 0, gid: 0, additionalGids: [0] },
      args: ['sleep', '100'],
      env: [PATH, 'HOSTNAME=host1', 'HOME=/root'],
      cwd: '/',
      noNewPrivileges: false,
      oomScoreAdj: 0,
    });
    const { bounding, effective, permitted, ...none } = capabilities as Record<string, string[]>;
    for (const set of [bounding, effective, permitted])
      assert.deepEqual(set?.toSorted(), DEFAULT_CAPABILITIES.toSorted());
    assert.deepEqual(none, {});
    assert.deepEqual(kernel, {
      namespaces: [
        { type: 'mount' },
        { type: 'network', path: '/run/netns/c1' },
        { type: 'uts' },
        { type: 'pid' },
        { type: 'ipc' },
      ],
      sysctl: { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' },
      cgroupsPath: '/longshore/c1',
      resources: { devices: DEFAULT_DEVICE_RULES },
      devices: [],
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    });
    assert.equal(seccomp?.defaultAction, 'SCMP_ACT_ERRNO');
    assert.ok(maskedPaths.includes('/proc/kcore') && maskedPaths.includes('/sys/firmware'));
  });

  test('buildOciSpec: much asked', () => {
    const node = { type: 'c' as const, uid: 0, gid: 0, permissions: 'rwm' };
    const spec = build(
      { domainname: 'dom', tty: true, cmd: ['100'], entrypoint: ['/bin/sleep'], env: ['A=1'], workingDir: '/tmp' },
      {
        capAdd: ['NET_ADMIN'],
        capDrop: ['cap_kill'],
        readonlyRootfs: true,
        tmpfs: { '/t': 'size=1m,exec', '/t/u': '' },
        sysctls: { 'net.ipv4.ip_forward': '1' },
        securityOpt: ['no-new-privileges'],
        oomScoreAdj: 100,
        ipcMode: 'shareable',
        consoleSize: [24, 80],
        annotations: { a: 'b' },
        resources: {
          ...NO_RESOURCES,
          memoryBytes: 64 << 20,
          memorySwapBytes: 128 << 20,
          nanoCpus: 5e8,
          cpusetCpus: '0',
          pidsLimit: 50,
          ulimits: [
            { name: 'core', soft: -1, hard: -1 },
            { name: 'nofile', soft: 100, hard: 200 },
          ],
          deviceCgroupRules: ['c 42:* rmw'],
        },
      },
      {
        user: { uid: 1000, gid: 50, additionalGids: [50, 7], home: '/' },
        mounts: [
          bind('/etc', '/t/e'),
          bind('/tmp', '/mnt', { readWrite: false, propagation: 'rslave' }),
          bind('/d/hosts', '/etc/hosts', { readWrite: false }),
        ],
        shmPath: '/d/shm',
        devices: [
          { ...node, path: '/dev/fuse', pathOnHost: '/dev/fuse', major: 10, minor: 229, mode: 0o600 },
          { ...node, path: '/dev/zz', pathOnHost: '/dev/zero', major: 1, minor: 5, mode: 0o666, permissions: 'r' },
        ],
      },
    );
    assert.deepEqual(spec.process.user, { uid: 1000, gid: 50, additionalGids: [50, 7] });
    assert.deepEqual(spec.process.args, ['/bin/sleep', '100']);
    assert.deepEqual(spec.process.env, [PATH, 'HOSTNAME=host1', 'TERM=xterm', 'A=1', 'HOME=/']);
    assert.deepEqual(
      [spec.process.cwd, spec.process.terminal, spec.process.consoleSize],
      ['/tmp', true, { height: 24, width: 80 }],
    );
    assert.deepEqual([spec.process.noNewPrivileges, spec.process.oomScoreAdj], [true, 100]);
    const { bounding, ...others } = spec.process.capabilities as Record<string, string[]>;
    assert.deepEqual(others, {}, 'who is not root holds none');
    assert.deepEqual(
      bounding?.toSorted(),
      [...DEFAULT_CAPABILITIES.filter((c) => c !== 'CAP_KILL'), 'CAP_NET_ADMIN'].toSorted(),
    );
    assert.ok(
      JSON.stringify(
        buildOciSpec(
          plainInput(plainSpec({}, { resources: { ...NO_RESOURCES, ulimits: [{ name: 'core', soft: 0, hard: -1 }] } })),
        ),
      ).includes('{"type":"RLIMIT_CORE","hard":18446744073709551615,"soft":0}'),
    );
    assert.deepEqual(spec.mounts, [
      ...DEFAULT_MOUNTS,
      { destination: '/mnt', type: 'bind', source: '/tmp', options: ['rbind', 'ro', 'rro', 'rslave'] },
      {
        destination: '/t',
        type: 'tmpfs',
        source: 'tmpfs',
        options: ['nosuid', 'nodev', 'rprivate', 'size=1m', 'exec'],
      },
      { destination: '/t/e', type: 'bind', source: '/etc', options: ['rbind', 'rprivate'] },
      { destination: '/etc/hosts', type: 'bind', source: '/d/hosts', options: ['rbind', 'ro', 'rro', 'rprivate'] },
      { destination: '/t/u', type: 'tmpfs', source: 'tmpfs', options: ['noexec', 'nosuid', 'nodev', 'rprivate'] },
      { destination: '/dev/shm', type: 'bind', source: '/d/shm', options: ['rbind', 'rprivate'] },
    ]);
    assert.deepEqual(spec.linux.sysctl, {
      'kernel.domainname': 'dom',
      'net.ipv4.ip_forward': '1',
      'net.ipv4.ip_unprivileged_port_start': '0',
      'net.ipv4.ping_group_range': '0 2147483647',
    });
    assert.deepEqual(spec.linux.resources, {
      memory: { limit: 64 << 20, swap: 128 << 20 },
      cpu: { period: 100_000, quota: 50_000, cpus: '0' },
      pids: { limit: 50 },
      devices: [
        ...DEFAULT_DEVICE_RULES,
        character(true, 10, 229),
        { ...character(true, 1, 5), access: 'r' },
        { allow: true, type: 'c', major: 42, access: 'rmw' },
      ],
    });
    assert.deepEqual(spec.linux.devices, [
      { path: '/dev/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o600, uid: 0, gid: 0 },
      { path: '/dev/zz', type: 'c', major: 1, minor: 5, fileMode: 0o666, uid: 0, gid: 0 },
    ]);
    assert.equal(spec.linux.rootfsPropagation, 'rslave');
    assert.deepEqual(spec.annotations, { a: 'b' });
  });

  test('buildOciSpec: the namespaces of the host', () => {
    const spec = build(
      {},
      { networkMode: 'host', pidMode: 'host', ipcMode: 'host', utsMode: 'host', cgroupnsMode: 'host' },
      { networkNamespacePath: null },
    );
    assert.deepEqual(spec.linux.namespaces, [{ type: 'mount' }]);
    assert.equal('hostname' in spec, false);
    assert.deepEqual(spec.linux.sysctl, {});
    assert.deepEqual(spec.mounts.at(-1), {
      destination: '/dev/shm',
      type: 'bind',
      source: '/dev/shm',
      options: ['rbind', 'rprivate'],
    });
  });

  test('buildOciSpec: those of other containers, and of a cgroup of its own', () => {
    const spec = build(
      {},
      { pidMode: 'container:x', ipcMode: 'container:x', cgroupnsMode: 'private' },
      { pidModePid: 7, ipcModePid: 8, shmPath: '/x/shm' },
    );
    assert.deepEqual(spec.linux.namespaces.slice(3), [
      { type: 'pid', path: '/proc/7/ns/pid' },
      { type: 'ipc', path: '/proc/8/ns/ipc' },
      { type: 'cgroup' },
    ]);
    assert.throws(() => build({}, { pidMode: 'container:x' }), EngineError);
  });

  test('buildOciSpec: privileged', () => {
    const hostDevices = [{ path: '/dev/sda', type: 'b' as const, major: 8, minor: 0, mode: 0o660, uid: 0, gid: 6 }];
    const available = DEFAULT_CAPABILITIES.toSpliced(3, 1);
    const input = plainInput(plainSpec({}, { privileged: true, readonlyRootfs: true }), { hostDevices });
    const spec = buildOciSpec({ ...input, host: { ...input.host, capabilities: available } });
    assert.deepEqual(
      (spec.process.capabilities as { bounding: string[] }).bounding.toSorted(),
      available.toSorted(),
      'what the daemon lacks cannot be given',
    );
    assert.equal(spec.linux.seccomp, undefined);
    assert.deepEqual([spec.linux.maskedPaths, spec.linux.readonlyPaths], [[], []]);
    assert.deepEqual(spec.linux.resources.devices, [{ allow: true, access: 'rwm' }]);
    assert.deepEqual(
      spec.linux.devices.map((device) => device.path),
      ['/dev/sda'],
    );
    const optionsOf = (destination: string): readonly string[] | undefined =>
      spec.mounts.find((mount) => mount.destination === destination)?.options;
    assert.equal(optionsOf('/sys')?.includes('ro'), false);
    assert.equal(optionsOf('/sys/fs/cgroup')?.includes('ro'), false);
  });

  test('buildOciSpec: a bind that is not recursive says nothing with an "r", which crun takes for a recursive one', () => {
    const shallow = (propagation: SpecMount['propagation']): SpecMount =>
      bind('/tmp', `/of${propagation}`, { propagation, options: ['nonrecursive'] });
    const mounts = ['', 'rprivate', 'rslave', 'slave'].map(shallow);
    assert.deepEqual(
      build({}, {}, { mounts })
        .mounts.slice(-mounts.length)
        .map(({ options }) => options),
      [['bind', 'private'], ['bind', 'private'], ['bind', 'slave'], ['bind', 'slave']], // prettier-ignore
    );
  });

  test('buildOciSpec: init only as process 1 of its own, and only where there is one', () => {
    const daemon = { ...DAEMON_DEFAULTS, initPath: '/usr/bin/docker-init' };
    const spec = build({ cmd: ['sleep', '1'] }, { init: true }, { daemon });
    assert.deepEqual(spec.process.args, ['/sbin/docker-init', '--', 'sleep', '1']);
    assert.deepEqual(spec.mounts.at(-1), {
      destination: '/sbin/docker-init',
      type: 'bind',
      source: '/usr/bin/docker-init',
      options: ['bind', 'ro'],
    });
    assert.deepEqual(build({ cmd: ['sleep'] }, { init: true, pidMode: 'host' }, { daemon }).process.args, ['sleep']);
    assert.deepEqual(build({ cmd: ['sleep'] }, {}, { daemon: { ...daemon, init: true } }).process.args, [
      '/sbin/docker-init',
      '--',
      'sleep',
    ]);
    assert.throws(() => build({}, { init: true }), EngineError);
  });

  test('buildOciSpec: what the user mounts replaces what is mounted by default', () => {
    const over = (mounts: SpecMount[], host: Partial<HostSpec> = {}): string[] =>
      build({}, host, { mounts }).mounts.map((mount) => mount.destination);
    assert.deepEqual(over([bind('/dev', '/dev')]), ['/proc', '/sys', '/sys/fs/cgroup', '/dev']);
    assert.deepEqual(over([bind('/x', '/proc/')]).filter((path) => path === '/proc').length, 1);
    assert.equal(over([], { ipcMode: 'none' }).includes('/dev/shm'), false);
  });

  test('buildOciSpec: refuses what cannot be done, by name', () => {
    for (const [host, more, pattern] of [
      [
        {
          resources: {
            ...NO_RESOURCES,
            deviceRequests: [{ driver: '', count: -1, deviceIds: null, capabilities: [['gpu']], options: null }],
          },
        },
        {},
        /^could not select device driver "" with capabilities: \[\[gpu\]\]$/,
      ],
      [{ sysctls: { 'kernel.shmmax': '1' }, ipcMode: 'host' }, {}, /kernel\.shmmax/],
      [
        { sysctls: { 'net.core.somaxconn': '1' }, networkMode: 'host' },
        { networkNamespacePath: null },
        /^sysctl "net.core.somaxconn" not allowed in host network namespace$/,
      ],
      [{ sysctls: { 'vm.swappiness': '1' } }, {}, /^sysctl "vm.swappiness" is not in a separate kernel namespace$/],
      [{ securityOpt: ['systempaths=unconfined'] }, {}, /^invalid --security-opt 2: "systempaths=unconfined"$/],
      [{ securityOpt: ['x'] }, {}, /^invalid --security-opt 1: "x"$/],
      [{ capAdd: ['NOPE'] }, {}, /^unknown capability: "CAP_NOPE"$/],
      [{ tmpfs: { '/t': 'nope' } }, {}, /^invalid tmpfs option \["nope"\]$/],
      [
        {},
        { mounts: [bind('/a', '/a', { propagation: 'rshared' })], mountinfo: '1 0 0:1 / / rw - x x rw\n' },
        /^path \/a is mounted on \/ but it is not a shared mount$/,
      ],
    ] as const) {
      assert.throws(
        () => build({}, host, more as Partial<OciInput>),
        (error: unknown) => error instanceof EngineError && pattern.test(error.message),
        String(pattern),
      );
    }
  });
});
