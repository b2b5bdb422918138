import assert from 'node:assert/strict';
import { test } from 'node:test';

import { startError } from './start-error.ts';

const CREATE = 'failed to create task for container: failed to create shim task: OCI runtime create failed: ';

test("startError: crun's and runc's words become Docker's", () => {
  for (const [runtime, text, command, code, words] of [
    [
      'crun',
      'executable file `nope` not found in $PATH: No such file or directory',
      'nope',
      127,
      'unable to start container process: exec: "nope": executable file not found in $PATH',
    ],
    [
      'runc',
      'runc run failed: unable to start container process: exec: "nope": executable file not found in $PATH',
      'nope',
      127,
      'unable to start container process: exec: "nope": executable file not found in $PATH',
    ],
    [
      'crun',
      'executable file `/bin/nope` not found in $PATH: No such file or directory',
      '/bin/nope',
      127,
      'unable to start container process: exec: "/bin/nope": stat /bin/nope: no such file or directory',
    ],
    [
      'crun',
      'open executable: Permission denied',
      '/bin/x',
      126,
      'unable to start container process: exec: "/bin/x": permission denied',
    ],
    [
      'runc',
      'runc run failed: unable to start container process: exec: "/bin/x": permission denied',
      '/bin/x',
      126,
      'unable to start container process: exec: "/bin/x": permission denied',
    ],
    [
      'crun',
      'open executable: Operation not permitted',
      '',
      127,
      'unable to start container process: exec: "": executable file not found in $PATH',
    ],
    [
      'crun',
      'exec container process (missing dynamic library?) `/bin/b`: No such file or directory',
      '/bin/b',
      127,
      'unable to start container process: exec /bin/b: no such file or directory',
    ],
    [
      'crun',
      'exec container process `/bin/g`: Exec format error',
      '/bin/g',
      128,
      'unable to start container process: exec /bin/g: exec format error',
    ],
    [
      'crun',
      'chdir `/etc/file`: Not a directory',
      'sh',
      128,
      'unable to start container process: chdir to cwd ("/etc/file") set in config.json failed: not a directory',
    ],
    ['crun', 'the sysctl `kernel.foo` is not namespaced', 'sh', 128, 'the sysctl `kernel.foo` is not namespaced'],
    [
      'crun',
      "error stat'ing file `/no`: No such file or directory",
      'sh',
      127,
      "unable to start container process: error stat'ing file `/no`: no such file or directory",
    ],
  ] as const) {
    const error = startError({ what: 'container', runtime, text, args: [command] });
    assert.deepEqual([error.exitCode, error.message], [code, `${CREATE}${runtime} create failed: ${words}: unknown`]);
  }
});

test('startError: the hints that Docker adds', () => {
  const directory = startError({
    what: 'container',
    runtime: 'crun',
    text: 'open executable: Operation not permitted',
    args: ['/etc'],
  });
  assert.deepEqual(
    [directory.exitCode, directory.message],
    [
      126,
      `${CREATE}crun create failed: unable to start container process: exec: "/etc": is a directory: unknown: permission denied`,
    ],
  );
  const mount = startError({
    what: 'container',
    runtime: 'crun',
    text: 'mount `/tmp` to `etc/file`: Not a directory',
    args: ['sh'],
  });
  assert.deepEqual(
    [mount.exitCode, mount.message],
    [
      127,
      `${CREATE}crun create failed: unable to start container process: error mounting "/tmp" to rootfs at "/etc/file": mount /tmp:/etc/file: not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type`,
    ],
  );
});

test('startError: of execs, where anything else is 126', () => {
  const exec = (text: string): [number, string] => {
    const error = startError({ what: 'exec', runtime: 'crun', text, args: ['x'] });
    return [error.exitCode, error.message];
  };
  assert.deepEqual(exec('executable file `x` not found in $PATH: No such file or directory'), [
    127,
    'OCI runtime exec failed: exec failed: unable to start container process: exec: "x": executable file not found in $PATH: unknown',
  ]);
  assert.deepEqual(exec('something else'), [126, 'OCI runtime exec failed: exec failed: something else: unknown']);
  assert.deepEqual(exec('chdir `/nope`: No such file or directory'), [
    127,
    'OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd ("/nope") set in config.json failed: no such file or directory: unknown',
  ]);
});
