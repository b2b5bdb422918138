/** The Dev Containers CLI, which editors use too: from an image, and from a Dockerfile with a feature of the project's own. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { TestDaemon } from '../support/daemon.ts';

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

let daemon: TestDaemon;
before(async () => {
  daemon = await TestDaemon.start();
  await daemon.image();
});
after(() => daemon[Symbol.asyncDispose]());

/** A folder with its `.devcontainer`: files by name. */
function project(name: string, files: Readonly<Record<string, string>>): string {
  const folder = join(daemon.directory, 'projects', name);
  for (const [path, text] of Object.entries(files)) {
    const file = join(folder, '.devcontainer', path);
    mkdirSync(join(file, '..'), { recursive: true });
    writeFileSync(file, text);
  }
  return folder;
}

async function devcontainer(command: string, folder: string, ...rest: readonly string[]): Promise<Ran> {
  const TMPDIR = join(daemon.directory, 'tmp');
  mkdirSync(TMPDIR, { recursive: true });
  const env = { ...process.env, DOCKER_HOST: daemon.host, TMPDIR, HOME: daemon.directory };
  try {
    const argv = [command, '--workspace-folder', folder, ...rest];
    return { code: 0, ...(await promisify(execFile)('devcontainer', argv, { env, timeout: 300_000 })) };
  } catch (error) {
    return error as Ran;
  }
}

async function up(folder: string, ...rest: readonly string[]): Promise<Readonly<Record<string, string>>> {
  const { code, stdout, stderr } = await devcontainer('up', folder, ...rest);
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as Readonly<Record<string, string>>;
  assert.equal(result['outcome'], 'success');
  return result;
}

test('devcontainer: up from an image, its commands, exec with its exit code; found again, and made anew', async () => {
  const folder = project('plain', {
    'devcontainer.json': JSON.stringify({
      image: 'bb:1',
      containerEnv: { FOO: 'bar' },
      remoteEnv: { BOTH: '${containerEnv:FOO}x' },
      mounts: ['source=dev-data,target=/data,type=volume'],
      runArgs: ['--init', '--cap-add=SYS_PTRACE', '--label', 'mine=1'],
      postCreateCommand: 'echo "$FOO" >created && pwd >>created',
    }),
  });
  const { containerId, remoteWorkspaceFolder } = await up(folder);
  assert.equal(remoteWorkspaceFolder, '/workspaces/plain');
  assert.equal(readFileSync(join(folder, 'created'), 'utf8'), 'bar\n/workspaces/plain\n');
  const ran = await devcontainer('exec', folder, 'sh', '-c', 'echo $BOTH; cat created; df /data >/dev/null; exit 3');
  assert.deepEqual([ran.code, ran.stdout], [3, 'barx\nbar\n/workspaces/plain\n']);
  assert.equal(await daemon.inspect(containerId!, '{{.Config.Labels.mine}} {{.HostConfig.Init}}'), '1 true');
  await daemon.ok('stop', '-t', '0', containerId!);
  assert.equal((await up(folder))['containerId'], containerId); // started again
  assert.notEqual((await up(folder, '--remove-existing-container'))['containerId'], containerId);
});

test('devcontainer: up from a Dockerfile, with a local feature and a user', async () => {
  const folder = project('built', {
    'devcontainer.json': JSON.stringify({
      build: { dockerfile: 'Dockerfile', args: { WORD: 'given' } },
      remoteUser: 'dev',
      updateRemoteUserUID: false,
      features: { './tool': { version: '7' } },
    }),
    Dockerfile: "FROM bb:1\nARG WORD\nRUN echo 'dev:x:1000:1000::/:/bin/sh' >>/etc/passwd && echo $WORD >/word\n",
    'tool/devcontainer-feature.json': JSON.stringify({
      id: 'tool',
      version: '1.0.0',
      name: 'tool',
      options: { version: { type: 'string', default: '1' } },
    }),
    'tool/install.sh': '#!/bin/sh\necho "tool $VERSION" >/tool\n',
  });
  assert.equal((await up(folder))['remoteUser'], 'dev');
  const { code, stdout } = await devcontainer('exec', folder, 'sh', '-c', 'id -u; cat /word /tool');
  assert.deepEqual([code, stdout], [0, '1000\ngiven\ntool 7\n']);
});
