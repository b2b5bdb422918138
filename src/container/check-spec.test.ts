import assert from 'node:assert/strict';
import { test } from 'node:test';

import { NO_RESOURCES, type HostSpec, type ProcessSpec } from '../core/container-spec.ts';
import { checkSpec, parseLink } from './check-spec.ts';
import { parseDetachKeys } from './detach-keys.ts';
import { specOf } from './fakes.ts';
import { parseMoment } from './moment.ts';
import { mergeResources } from './update.ts';

const HEALTH = { test: null, intervalNs: 0, timeoutNs: 0, startPeriodNs: 0, startIntervalNs: 0, retries: 0 };

const REFUSED: readonly [Partial<ProcessSpec>, Partial<HostSpec>, string][] = [
  [{ workingDir: 'a/b' }, {}, "the working directory 'a/b' is invalid, it needs to be an absolute path"],
  [{ stopSignal: 'NOPE' }, {}, 'invalid signal: NOPE'],
  [{ env: ['A=1', '=x'] }, {}, 'invalid environment variable: =x'],
  [{ env: [''] }, {}, 'invalid environment variable: '],
  [{ healthcheck: { ...HEALTH, intervalNs: 10 } }, {}, 'Interval in Healthcheck cannot be less than 1ms'],
  [{ healthcheck: { ...HEALTH, retries: -1 } }, {}, 'Retries in Healthcheck cannot be negative'],
  [
    {},
    { autoRemove: true, restartPolicy: { name: 'always', maximumRetryCount: 0 } },
    "can't create 'AutoRemove' container with restart policy",
  ],
  [
    {},
    { restartPolicy: { name: 'always', maximumRetryCount: 2 } },
    "invalid restart policy: maximum retry count can only be used with 'on-failure'",
  ],
  [
    {},
    { restartPolicy: { name: 'on-failure', maximumRetryCount: -1 } },
    'invalid restart policy: maximum retry count cannot be negative',
  ],
  [
    {},
    { restartPolicy: { name: 'nope' as never, maximumRetryCount: 0 } },
    "invalid restart policy: unknown policy 'nope'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
  ],
  [{ hostname: 'h' }, { networkMode: 'container:x' }, 'conflicting options: hostname and the network mode'],
  [{}, { networkMode: 'container:' }, 'Invalid network mode: invalid container format container:<name|id>'],
  [{ hostname: 'h' }, { utsMode: 'host' }, 'conflicting options: hostname and the UTS mode'],
  [
    {},
    { networkMode: 'container:x', portBindings: { '80/tcp': [] } },
    'conflicting options: port publishing and the container type network mode',
  ],
  [{}, { extraHosts: ['a'] }, 'bad format for add-host: "a"'],
  [{}, { extraHosts: ['a:nope'] }, 'invalid IP address in add-host: "nope"'],
  [{}, { portBindings: { '99999/tcp': [] } }, 'invalid port specification: "99999/tcp"'],
  [{}, { portBindings: { '80/tcp': [{ hostIp: '', hostPort: '9-8' }] } }, 'invalid port specification: "9-8"'],
  [{}, { annotations: { '': 'x' } }, 'invalid Annotations: the empty string is not permitted as an annotation key'],
];

for (const [process, host, message] of REFUSED) {
  test(`checkSpec: ${message}`, () => assert.throws(() => checkSpec(specOf({ process, host })), { message }));
}

test('checkSpec: takes what is right, and cleans the working directory', () => {
  const spec = specOf({
    process: {
      workingDir: '/a/../b/',
      env: ['A', 'B=', 'C=d=e'],
      stopSignal: 'sigusr1',
      exposedPorts: ['80/tcp', '8000-8010/udp'],
    },
    host: {
      extraHosts: ['a:1.2.3.4', 'b=[::1]', 'c:::1', 'd:host-gateway'],
      portBindings: { '80/tcp': [{ hostIp: '::', hostPort: '8000-8010' }] },
    },
  });
  assert.deepEqual(checkSpec(spec), { ...spec, process: { ...spec.process, workingDir: '/b' } });
});

test('parseLink: takes the forms of clients and of inspect', () => {
  assert.deepEqual(parseLink('db'), { name: 'db', alias: 'db' });
  assert.deepEqual(parseLink('db:d'), { name: 'db', alias: 'd' });
  assert.deepEqual(parseLink('/db:/web/d'), { name: 'db', alias: 'd' });
  assert.throws(() => parseLink('a:b:c'), { message: 'bad format for links: a:b:c' });
});

test('parseDetachKeys: control keys, plain ones, and nonsense', () => {
  assert.deepEqual([...parseDetachKeys(null)], [16, 17]);
  assert.deepEqual([...parseDetachKeys('ctrl-a,x,DEL,ctrl-[,ctrl-_')], [1, 120, 127, 27, 31]);
  for (const keys of ['ctrl-', 'ab', 'ctrl-é', 'a,,b', 'ctrl-toString']) {
    assert.throws(() => parseDetachKeys(keys), { message: `Invalid detach keys (${keys}) provided` });
  }
});

test('parseMoment: durations are ago, the rest is absolute', () => {
  const now = 1_700_000_000_000_000_000n;
  assert.equal(parseMoment('1h30m', now), now - 5_400_000_000_000n);
  assert.equal(parseMoment('1.5s', now), now - 1_500_000_000n);
  assert.equal(parseMoment('1700000000.25', now), 1_700_000_000_250_000_000n);
  assert.equal(parseMoment('2023-11-14T22:13:20.5Z', now), now + 500_000_000n);
  assert.equal(parseMoment('2023-11-14T23:13:20+01:00', now), now);
  for (const text of ['', 'x', '5', '1h ago'].filter((text) => text !== '5')) {
    assert.throws(() => parseMoment(text, now), { code: 'PARAMETER_INVALID' });
  }
});

test("mergeResources: what is not asked for stays, conflicts are refused in Docker's words", () => {
  const present = { ...NO_RESOURCES, memoryBytes: 100, memorySwapBytes: 200, cpuPeriodUs: 50 };
  assert.equal(mergeResources(present, NO_RESOURCES), present);
  assert.deepEqual(mergeResources(present, { ...NO_RESOURCES, memoryBytes: 150, pidsLimit: 5, cpusetCpus: '0' }), {
    ...present,
    memoryBytes: 150,
    pidsLimit: 5,
    cpusetCpus: '0',
  });
  assert.throws(() => mergeResources(present, { ...NO_RESOURCES, memoryBytes: 300 }), {
    code: 'CONTAINER_SPEC_CONFLICT',
    message: 'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time',
  });
  assert.throws(() => mergeResources(present, { ...NO_RESOURCES, nanoCpus: 1 }), {
    message: 'Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set',
  });
});
