import assert from 'node:assert/strict';
import { test } from 'node:test';

import { formatDirectExec, type DirectPlace } from './direct-exec.ts';
import { decideRlimits } from './spec/rlimits.ts';

const place: DirectPlace = {
  hierarchies: [{ key: 'memory', root: '/', mountPoint: '/c/memory' }],
  seccompPath: '/s/seccomp.bpf',
  keyring: '_ses.x',
};
const process = {
  terminal: true,
  consoleSize: { height: 7, width: 90_000 },
  user: { uid: 1, gid: 2, additionalGids: [3, 4] },
  args: ['sh', '', 'a b'],
  env: ['A=b=c', 'E='],
  cwd: '/w',
  capabilities: { bounding: ['CAP_CHOWN', 'CAP_CHECKPOINT_RESTORE'], effective: [], permitted: ['CAP_KILL'] },
  rlimits: decideRlimits([{ name: 'nofile', soft: 5, hard: -1 }], []),
  noNewPrivileges: true,
  apparmorProfile: 'docker-default',
  oomScoreAdj: -5,
};

test('formatDirectExec: everything that a process may have', () => {
  assert.deepEqual(formatDirectExec(process, place, '{"r":1}')?.split('\0'), [
    'v1', 'x{"r":1}', 'ash', 'a', 'aa b', 'eA=b=c', 'eE=', 'd/w', 'u1', 'g2', 'G3', 'G4', 'B10000000001', 'P20', 'E0',
    'I0', 'A0', 'r7 5 18446744073709551615', 'n1', 't7 65535', 'pdocker-default', 'o-5', 's/s/seccomp.bpf', 'k_ses.x',
    'hmemory\t/\t/c/memory', '',
  ]); // prettier-ignore
});

test('formatDirectExec: what it does not know is left to the runtime, never left out', () => {
  for (const [change, because] of [
    [{ selinuxLabel: 'x' }, 'a label'],
    [{ scheduler: {} }, 'a scheduler'],
    [{ user: { uid: 0, gid: 0, umask: 18 } }, 'a umask'],
    [{ user: { uid: 0, gid: 0, additionalGids: Array.from({ length: 257 }, (_, i) => i) } }, 'too many groups'],
    [{ capabilities: { bounding: ['CAP_FUTURE'] } }, 'a capability'],
    [{ capabilities: { other: [] } }, 'a set of capabilities'],
    [{ rlimits: [{ type: 'RLIMIT_FUTURE', soft: 1, hard: 1 }] }, 'a limit'],
    [{ args: ['a\0eLD_PRELOAD=x'] }, 'an entry within an argument'],
    [{ env: ['A=\0u0'] }, 'an entry within a variable'],
  ] as const)
    assert.equal(formatDirectExec({ ...process, ...change }, place, ''), null, because);
  assert.equal(formatDirectExec(process, { ...place, keyring: 'a\0b' }, ''), null);
});
