/** The pure parts of the spec that are tables: users, capabilities, limits, environment, cgroup paths, seccomp, warnings. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';

import fc from 'fast-check';

import { NO_RESOURCES, PLAIN_HOST, type HostSpec, type ResourceSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import { CAPABILITIES, decideCapabilities, DEFAULT_CAPABILITIES } from './capabilities.ts';
import { cgroupPathOf, ociCgroupsPath } from './cgroup-path.ts';
import { DAEMON_DEFAULTS, type HostFacts } from './input.ts';
import { buildExecProcess, replaceEnv } from './process.ts';
import { resolveUser } from './resolve-user.ts';
import { buildResources } from './resources.ts';
import { DEFAULT_SECCOMP_PROFILE } from './seccomp-default.ts';
import { decideSeccomp, parseSeccompProfile, resolveSeccomp, type OciSeccomp } from './seccomp.ts';
import { ABLE_HOST, plainInput, plainSpec } from './spec-fixture.ts';
import { applyHostDefaults, validateHostSpec } from './validate-host.ts';
import { parseNumberList, validateResources } from './validate-resources.ts';

const fails = (run: () => unknown, message: string | RegExp): void => {
  assert.throws(run, (error: unknown) => {
    assert.ok(error instanceof EngineError, String(error));
    if (typeof message === 'string') assert.equal(error.message, message);
    else assert.match(error.message, message);
    return true;
  });
};

suite('resolveUser', () => {
  const passwd =
    'root:x:0:0:root:/root:/bin/sh\nweb:x:101:50::/srv:/bin/sh\n# web2:x:1:1\nnumeric:x:7:8::/n:\n7777:x:1:1::/odd:\n\nbroken\n';
  const group = 'root:x:0:\nstaff:x:50:web,root\nextra:x:60:web\n99:x:70:\n';
  test('resolveUser: names, numbers, groups', () => {
    for (const [user, add, expected] of [
      ['', null, { uid: 0, gid: 0, additionalGids: [0, 50], home: '/root' }],
      ['web', null, { uid: 101, gid: 50, additionalGids: [50, 60], home: '/srv' }],
      ['101', null, { uid: 101, gid: 50, additionalGids: [50, 60], home: '/srv' }],
      ['web:extra', null, { uid: 101, gid: 60, additionalGids: [60], home: '/srv' }],
      ['web:123', ['staff', '5'], { uid: 101, gid: 123, additionalGids: [123, 50, 5], home: '/srv' }],
      ['7777', null, { uid: 7777, gid: 0, additionalGids: [0], home: '/' }],
      ['1000:1001', null, { uid: 1000, gid: 1001, additionalGids: [1001], home: '/' }],
      [':50', null, { uid: 0, gid: 50, additionalGids: [50], home: '/root' }],
      ['0', ['99'], { uid: 0, gid: 0, additionalGids: [0, 50, 70], home: '/root' }],
    ] as const) {
      assert.deepEqual(resolveUser(passwd, group, user, add), expected, user);
    }
    assert.deepEqual(resolveUser('', '', '', null), { uid: 0, gid: 0, additionalGids: [0], home: '/' });
  });
  test("resolveUser: Docker's words", () => {
    fails(
      () => resolveUser(passwd, group, 'nobody', null),
      'unable to find user nobody: no matching entries in passwd file',
    );
    fails(
      () => resolveUser(passwd, group, 'web:nope', null),
      'unable to find group nope: no matching entries in group file',
    );
    fails(
      () => resolveUser(passwd, group, 'web', ['nope']),
      'unable to find group nope: no matching entries in group file',
    );
    fails(() => resolveUser(passwd, group, '2147483648', null), 'uids and gids must be in range 0-2147483647');
    fails(() => resolveUser(passwd, group, '-1', null), 'uids and gids must be in range 0-2147483647');
  });
  test('resolveUser: no text makes it fail otherwise', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), (a, b, user) => {
        try {
          const { uid, gid } = resolveUser(a, b, user, null);
          assert.ok(Number.isSafeInteger(uid) && Number.isSafeInteger(gid));
        } catch (error) {
          assert.ok(error instanceof EngineError);
        }
      }),
    );
  });
});

test('decideCapabilities: add, drop, ALL, privileged', () => {
  const decide = (add: string[] | null, drop: string[] | null, more: object = {}): string[] =>
    decideCapabilities({ add, drop, privileged: false, available: CAPABILITIES, ...more });
  const set = (...names: string[]): string[] => CAPABILITIES.filter((capability) => names.includes(capability));
  assert.deepEqual(decide(null, null), set(...DEFAULT_CAPABILITIES));
  assert.deepEqual(decide(['all'], null), CAPABILITIES);
  assert.deepEqual(
    decide(['ALL'], ['net_raw']),
    CAPABILITIES.filter((c) => c !== 'CAP_NET_RAW'),
  );
  assert.deepEqual(decide(null, ['ALL']), []);
  assert.deepEqual(decide(['CAP_SYS_TIME', 'chown'], ['ALL']), ['CAP_CHOWN', 'CAP_SYS_TIME']);
  assert.deepEqual(
    decide(['SYS_TIME'], ['CHOWN']),
    set(...DEFAULT_CAPABILITIES.filter((c) => c !== 'CAP_CHOWN'), 'CAP_SYS_TIME'),
  );
  assert.deepEqual(decide(['ALL'], null, { available: ['CAP_KILL'] }), ['CAP_KILL']);
  assert.deepEqual(decide(null, ['ALL'], { privileged: true, available: ['CAP_KILL'] }), ['CAP_KILL']);
  fails(
    () => decide(['SYS_TIME'], null, { available: ['CAP_KILL'] }),
    'capability not supported by your kernel or not available in the current environment: "CAP_SYS_TIME"',
  );
});

test('ociCgroupsPath: both drivers, and no way out of the hierarchy', () => {
  const path = (parent: string, driver: 'cgroupfs' | 'systemd' = 'cgroupfs'): string =>
    ociCgroupsPath({ id: 'c1', parent, daemonParent: '', driver });
  assert.equal(path(''), '/longshore/c1');
  assert.equal(path('a/b'), '/a/b/c1');
  assert.equal(path('../../..'), '/c1');
  assert.equal(path('', 'systemd'), 'system.slice:longshore:c1');
  assert.equal(cgroupPathOf(path('a-b.slice', 'systemd')), '/a.slice/a-b.slice/longshore-c1.scope');
  assert.equal(cgroupPathOf('/longshore/c1'), '/longshore/c1');
});

test('replaceEnv: replaces in place, removes, appends', () => {
  assert.deepEqual(replaceEnv(['A=1', 'B=2', 'C=3'], ['B=x=y', 'A', 'D=', 'NOPE', 'D=2']), [
    'B=x=y',
    'C=3',
    'D=',
    'D=2',
  ]);
});

test('buildExecProcess: own user, directory, variables; privileged for this process alone', () => {
  const spec = plainSpec(
    { env: ['A=1', 'TERM=vt100'], workingDir: '/srv', tty: true },
    { securityOpt: ['no-new-privileges'] },
  );
  const exec = {
    args: ['ls'],
    env: ['A=2'],
    workingDir: '',
    tty: false,
    privileged: true,
    linkEnv: [],
    consoleSize: null,
  };
  const process = buildExecProcess(
    plainInput(spec, { user: { uid: 0, gid: 0, additionalGids: [0], home: '/h' } }),
    exec,
  );
  assert.deepEqual(process.env.slice(1), ['HOSTNAME=host1', 'A=2', 'TERM=vt100', 'HOME=/h']);
  assert.deepEqual([process.cwd, process.terminal, process.noNewPrivileges], ['/srv', false, true]);
  assert.deepEqual((process.capabilities as { bounding: string[] }).bounding, CAPABILITIES);
  assert.equal(buildExecProcess(plainInput(), { ...exec, tty: true, workingDir: '/x' }).cwd, '/x');
  assert.ok(buildExecProcess(plainInput(), { ...exec, tty: true }).env.includes('TERM=xterm'));
});

test('buildResources: only what was asked', () => {
  const build = (more: Partial<ResourceSpec>): object =>
    buildResources({ ...NO_RESOURCES, ...more }, new Map([['/dev/sda', { major: 8, minor: 0 }]]));
  assert.deepEqual(build({}), {});
  assert.deepEqual(build({ nanoCpus: 1_500_000_000 }), { cpu: { period: 100_000, quota: 150_000 } });
  assert.deepEqual(build({ memoryBytes: 100, memorySwapBytes: -1, memorySwappiness: -1, oomKillDisable: false }), {
    memory: { limit: 100, swap: -1 },
  });
  assert.deepEqual(build({ memoryBytes: 100, memorySwappiness: 0, memoryReservationBytes: 50, oomKillDisable: true }), {
    memory: { limit: 100, reservation: 50, swappiness: 0, disableOOMKiller: true },
  });
  assert.deepEqual(build({ pidsLimit: 0 }), { pids: { limit: -1 } });
  assert.deepEqual(build({ cpuShares: 1, cpuQuotaUs: -1 }), { cpu: { shares: 2, quota: -1 } });
  assert.deepEqual(build({ blkioWeight: 300, blkioDeviceReadBps: [{ path: '/dev/sda', rate: 5 }] }), {
    blockIO: { weight: 300, throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 5 }] },
  });
  fails(() => build({ blkioDeviceReadBps: [{ path: '/dev/no', rate: 5 }] }), 'stat /dev/no: no such file or directory');
});

suite('validateResources', () => {
  const validate = (
    more: Partial<ResourceSpec>,
    limits: Partial<HostFacts['limits']> = {},
    isUpdate = false,
  ): ReturnType<typeof validateResources> =>
    validateResources(
      { ...NO_RESOURCES, ...more },
      { ...ABLE_HOST, limits: { ...ABLE_HOST.limits, ...limits } },
      { isUpdate },
    );

  test("validateResources: Docker's errors", () => {
    for (const [more, message] of [
      [{ memoryBytes: 4096 }, 'Minimum memory limit allowed is 6MB'],
      [
        { memoryBytes: 8 << 20, memorySwapBytes: 7 << 20 },
        'Minimum memoryswap limit should be larger than memory limit, see usage',
      ],
      [{ memorySwapBytes: 7 << 20 }, 'You should always set the Memory limit when using Memoryswap limit, see usage'],
      [{ memorySwappiness: 101 }, 'Invalid value: 101, valid memory swappiness range is 0-100'],
      [{ memoryReservationBytes: 1 }, 'Minimum memory reservation allowed is 6MB'],
      [
        { memoryBytes: 8 << 20, memoryReservationBytes: 9 << 20 },
        'Minimum memory limit can not be less than memory reservation limit, see usage',
      ],
      [{ nanoCpus: 3e9 }, 'range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available'],
      [{ nanoCpus: 1, cpuPeriodUs: 1000 }, 'Conflicting options: Nano CPUs and CPU Period cannot both be set'],
      [{ nanoCpus: 1, cpuQuotaUs: 1000 }, 'Conflicting options: Nano CPUs and CPU Quota cannot both be set'],
      [{ cpuPeriodUs: 10 }, 'CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)'],
      [{ cpuQuotaUs: 10 }, 'CPU cfs quota can not be less than 1ms (i.e. 1000)'],
      [{ cpuShares: -1 }, 'invalid CPU shares (-1): value must be a positive integer'],
      [{ cpusetCpus: '0-7' }, 'Requested CPUs are not available - requested 0-7, available: 0-1'],
      [{ cpusetMems: '3' }, 'Requested memory nodes are not available - requested 3, available: 0'],
      [{ cpusetCpus: 'x' }, /^Invalid value x for cpuset cpus: /],
      [{ cpusetCpus: '0-4000000000' }, /^Invalid value 0-4000000000 for cpuset cpus: /],
      [{ blkioWeight: 5 }, 'Range of blkio weight is from 10 to 1000'],
    ] as const) {
      fails(() => validate(more), message);
    }
    assert.deepEqual(validate({ memorySwapBytes: 7 << 20 }, {}, true).warnings, [], 'an update may name swap alone');
    assert.equal(validate({ memorySwappiness: -1 }).resources.memorySwappiness, null);
  });

  test('validateResources: what the kernel cannot do is taken away, with a warning', () => {
    const cannot = (what: string, consequence: string): string =>
      `Your kernel does not support ${what} or the cgroup is not mounted. ${consequence}`;
    for (const [more, limits, warning, after] of [
      [
        { memoryBytes: 8 << 20 },
        { memory: false },
        cannot('memory limit capabilities', 'Limitation discarded.'),
        { memoryBytes: 0, memorySwapBytes: -1 },
      ],
      [
        { memoryBytes: 8 << 20 },
        { swap: false },
        cannot('swap limit capabilities', 'Memory limited without swap.'),
        { memoryBytes: 8 << 20, memorySwapBytes: -1 },
      ],
      [
        { pidsLimit: 5 },
        { pids: false },
        cannot('PIDs limit capabilities', 'PIDs limit discarded.'),
        { pidsLimit: null },
      ],
      [{ cpuShares: 5 }, { cpuShares: false }, cannot('CPU shares', 'Shares discarded.'), { cpuShares: 0 }],
      [
        { cpusetCpus: '0' },
        { cpuset: false },
        cannot('cpuset', 'Cpuset discarded.'),
        { cpusetCpus: '', cpusetMems: '' },
      ],
      [
        { blkioWeight: 100 },
        { blkioWeight: false },
        cannot('Block I/O weight', 'Weight discarded.'),
        { blkioWeight: 0 },
      ],
      [
        { oomKillDisable: true, memoryBytes: 8 << 20 },
        { oomKillDisable: false },
        'Your kernel does not support OomKillDisable. OomKillDisable discarded.',
        { oomKillDisable: null, memoryBytes: 8 << 20 },
      ],
    ] as const) {
      assert.deepEqual(validate(more, limits), { resources: { ...NO_RESOURCES, ...after }, warnings: [warning] });
    }
    assert.equal(validate({ oomKillDisable: true }).warnings.length, 1, 'without a memory limit it is dangerous');
  });

  test('parseNumberList: lists and what is none', () => {
    assert.deepEqual([...(parseNumberList('0-2,5') ?? [])], [0, 1, 2, 5]);
    for (const text of ['-', '3-1', '1,', 'a', '99999']) assert.equal(parseNumberList(text), null);
  });
});

suite('validateHostSpec', () => {
  const validate = (more: Partial<HostSpec>, facts: Partial<HostFacts> = {}): ReturnType<typeof validateHostSpec> =>
    validateHostSpec({ ...PLAIN_HOST, ...more }, { ...ABLE_HOST, ...facts }, DAEMON_DEFAULTS);

  test("validateHostSpec: Docker's errors and warnings", () => {
    for (const [more, message] of [
      [{ capAdd: ['X'] }, 'invalid CapAdd: unknown capability: "CAP_X"'],
      [{ capDrop: ['X'] }, 'invalid CapDrop: unknown capability: "CAP_X"'],
      [{ ipcMode: 'x' }, 'invalid IPC mode: x'],
      [{ ipcMode: 'container:' }, 'invalid IPC mode: container:'],
      [{ pidMode: 'x' }, 'invalid PID mode: x'],
      [{ utsMode: 'x' }, 'invalid UTS mode: x'],
      [{ runtime: 'x' }, 'unknown or invalid runtime name: x'],
      [{ shmSizeBytes: -1 }, 'SHM size can not be less than 0'],
      [{ oomScoreAdj: 2000 }, 'Invalid value 2000, range for oom score adj is [-1000, 1000]'],
      [{ tmpfs: { '/': '' } }, "invalid specification: destination can't be '/'"],
      [{ securityOpt: ['seccomp={'] }, /^Decoding seccomp profile failed: /],
      [{ securityOpt: ['no-new-privileges:maybe'] }, 'invalid --security-opt 2: "no-new-privileges:maybe"'],
      [{ resources: { ...NO_RESOURCES, ulimits: [{ name: 'x', soft: 1, hard: 1 }] } }, 'invalid ulimit type: x'],
      [
        { resources: { ...NO_RESOURCES, ulimits: [{ name: 'nofile', soft: 2, hard: 1 }] } },
        'ulimit soft limit must be less than or equal to hard limit: 2 > 1',
      ],
      [{ resources: { ...NO_RESOURCES, deviceCgroupRules: ['x'] } }, "invalid device cgroup rule format: 'x'"],
    ] as const) {
      fails(() => validate(more), message);
    }
    assert.deepEqual(validate({}, { ipv4Forwarding: false }).warnings, [
      'IPv4 forwarding is disabled. Networking will not work.',
    ]);
    assert.deepEqual(
      validate({ networkMode: 'host', portBindings: { '80/tcp': [] } }, { ipv4Forwarding: false }).warnings,
      ['Published ports are discarded when using host network mode'],
    );
    assert.deepEqual(validate({ capDrop: ['SYS_TIME'] }, { capabilities: [] }).warnings, []);
  });

  test('applyHostDefaults: what inspect shows where nothing was asked', () => {
    const after = applyHostDefaults(
      { ...PLAIN_HOST, resources: { ...NO_RESOURCES, memoryBytes: 100 } },
      ABLE_HOST,
      DAEMON_DEFAULTS,
    );
    assert.deepEqual(
      [
        after.shmSizeBytes,
        after.ipcMode,
        after.cgroupnsMode,
        after.securityOpt,
        after.resources.memorySwapBytes,
        after.resources.oomKillDisable,
      ],
      [64 << 20, 'private', 'host', null, 200, false],
    );
    assert.deepEqual(applyHostDefaults({ ...PLAIN_HOST, privileged: true }, ABLE_HOST, DAEMON_DEFAULTS).securityOpt, [
      'label=disable',
    ]);
    assert.equal(
      applyHostDefaults(PLAIN_HOST, { ...ABLE_HOST, cgroupVersion: 'v2' }, DAEMON_DEFAULTS).cgroupnsMode,
      'private',
    );
  });
});

suite('seccomp', () => {
  const situation = { capabilities: DEFAULT_CAPABILITIES, architecture: 'amd64', kernelVersion: [6, 1] as const };
  const rules = (capabilities: readonly string[], name: string): OciSeccomp['syscalls'] =>
    resolveSeccomp(DEFAULT_SECCOMP_PROFILE, { ...situation, capabilities })?.syscalls.filter((rule) =>
      rule.names.includes(name),
    ) ?? [];

  test('DEFAULT_SECCOMP_PROFILE: what default capabilities may and may not call', () => {
    for (const name of ['read', 'clone', 'chroot', 'ptrace', 'arch_prctl', 'personality', 'socket'])
      assert.ok(rules(DEFAULT_CAPABILITIES, name).length > 0, name);
    for (const name of [
      'mount',
      'unshare',
      'setns',
      'bpf',
      'io_uring_setup',
      'init_module',
      'keyctl',
      'add_key',
      'reboot',
      'open_by_handle_at',
      'fsopen',
      'userfaultfd',
      'kexec_load',
      'perf_event_open',
      'syslog',
      'clock_settime',
      's390_runtime_instr',
    ]) {
      assert.deepEqual(rules(DEFAULT_CAPABILITIES, name), [], name);
    }
    assert.deepEqual(
      rules(DEFAULT_CAPABILITIES, 'clone').map((rule) => rule.args),
      [[{ index: 0, value: 0x7e020000, op: 'SCMP_CMP_MASKED_EQ' }]],
    );
    assert.deepEqual(rules(DEFAULT_CAPABILITIES, 'clone3'), [
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
    ]);
    assert.ok(rules([...DEFAULT_CAPABILITIES, 'CAP_SYS_ADMIN'], 'mount').length > 0);
    assert.ok(rules([...DEFAULT_CAPABILITIES, 'CAP_SYS_ADMIN'], 'clone').every((rule) => rule.args === undefined));
  });

  test('resolveSeccomp: sub-architectures, old kernels, other architectures', () => {
    assert.deepEqual(resolveSeccomp(DEFAULT_SECCOMP_PROFILE, situation)?.architectures, [
      'SCMP_ARCH_X86_64',
      'SCMP_ARCH_X86',
      'SCMP_ARCH_X32',
    ]);
    const old = resolveSeccomp(DEFAULT_SECCOMP_PROFILE, { ...situation, kernelVersion: [4, 7] });
    assert.equal(
      old?.syscalls.some((rule) => rule.names.includes('ptrace')),
      false,
    );
    const s390 = resolveSeccomp(DEFAULT_SECCOMP_PROFILE, { ...situation, architecture: 's390x' });
    assert.deepEqual(
      s390?.syscalls.filter((rule) => rule.names.includes('clone')).map((rule) => rule.args?.[0]?.index),
      [1],
    );
    assert.equal(resolveSeccomp(parseSeccompProfile('{}'), situation), null);
  });

  test('decideSeccomp: own profile, unconfined, privileged, no support', () => {
    const decide = (more: object): OciSeccomp | null =>
      decideSeccomp({ asked: '', daemonProfile: '', privileged: false, supported: true, situation, ...more });
    const own =
      '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO","args":null}]}';
    assert.deepEqual(decide({ asked: own }), {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_ERRNO' }],
    });
    assert.deepEqual(decide({ asked: own, privileged: true })?.defaultAction, 'SCMP_ACT_ALLOW');
    assert.deepEqual(decide({ daemonProfile: own })?.defaultAction, 'SCMP_ACT_ALLOW');
    assert.deepEqual(decide({ daemonProfile: own, asked: 'builtin' })?.defaultAction, 'SCMP_ACT_ERRNO');
    for (const more of [
      { asked: 'unconfined' },
      { privileged: true },
      { supported: false },
      { daemonProfile: 'unconfined' },
    ])
      assert.equal(decide(more), null);
    fails(
      () => decide({ supported: false, asked: own }),
      'seccomp is not enabled in your kernel, cannot run a custom seccomp profile',
    );
    fails(() => decide({ asked: '{"listenerPath":"/run/x","syscalls":[]}' }), /"listenerPath" is not supported/);
    fails(() => decide({ asked: '[]' }), /^Decoding seccomp profile failed: /);
  });
});
