/** For tests: a runtime with a shim of its own, a root file system of busybox, and what to start in it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';

import { NO_RESOURCES, type HostSpec, type ProcessSpec } from '../core/container-spec.ts';
import { silent } from '../core/log.ts';
import { openKernel } from '../kernel/kernel.ts';
import type { Kernel } from '../kernel/port.ts';
import { openApparmor } from './apparmor.ts';
import { readHostFacts } from './host-facts.ts';
import { openRuntime } from './oci-runtime.ts';
import type { Launch, Runtime, RuntimeEvent } from './port.ts';
import { buildOciSpec } from './spec/build-oci-spec.ts';
import type { HostFacts, SpecMount } from './spec/input.ts';
import { plainInput, plainSpec } from './spec/spec-fixture.ts';

/** Longer in the virtual machine, as the deadlines of test/support/daemon.ts. */
const EVENT_MS_MAX = process.env['LSVM_BOOT'] === undefined ? 20_000 : 120_000;
export const CGROUP_PARENT = `/runtimetest-${process.pid}`;
export const scratch = mkdtempSync(join(tmpdir(), 'runtime-test-'));
export const execRoot = join(scratch, 'exec');
export const shimPath = join(scratch, 'shim');
export const execHelperPath = join(scratch, 'exec-helper');
const crunPath = join(scratch, 'crun');
const rootfs = join(scratch, 'rootfs');
/** Prints the errno of a system call that no kernel has, of keyctl and of userfaultfd, which the profile does not allow. */
const CALLS = `
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static int of(long number) { return syscall(number, 0, 0, 0) < 0 ? errno : 0; }
int main(void) { printf("%d %d %d\\n", of(900), of(SYS_keyctl), of(SYS_userfaultfd)); return 0; }`;
export let kernel: Kernel;
export let facts: HostFacts;
let count = 0;

before(async () => {
  kernel = await openKernel();
  facts = await readHostFacts(kernel);
  execFileSync(fileURLToPath(new URL('../../native/build.sh', import.meta.url)), [shimPath]);
  for (const name of ['bin', 'proc', 'sys', 'dev', 'tmp', 'etc']) mkdirSync(join(rootfs, name), { recursive: true });
  cpSync('/usr/bin/busybox', join(rootfs, 'bin/busybox'));
  for (const name of execFileSync('/usr/bin/busybox', ['--list'], { encoding: 'utf8' }).split('\n')) {
    if (name !== '' && name !== 'busybox') symlinkSync('busybox', join(rootfs, 'bin', name));
  }
  writeFileSync(join(rootfs, 'bin/not-executable'), 'text', { mode: 0o644 });
  execFileSync('cc', ['-static', '-x', 'c', '-o', join(rootfs, 'bin/calls'), '-'], { input: CALLS });
  // crun 1.8.1 refuses hybrid cgroups; it gets a mount namespace of its own without the unified hierarchy.
  writeFileSync(
    crunPath,
    `#!/bin/sh\n[ -d /sys/fs/cgroup/unified ] || exec /usr/bin/crun "$@"\nexec unshare -m sh -c 'umount /sys/fs/cgroup/unified; exec /usr/bin/crun "$@"' sh "$@"\n`,
    { mode: 0o755 },
  );
});

after(async () => {
  for (const hierarchy of ['.', ...readdirSync('/sys/fs/cgroup')]) {
    const path = `/sys/fs/cgroup/${hierarchy}${CGROUP_PARENT}`;
    if (existsSync(path)) execFileSync('rmdir', [path]);
  }
  await kernel[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true });
});

/** A runtime and the events that it told; `release` everything that was started in the end. */
export async function open(
  helper: string | null = execHelperPath,
  shim: string = shimPath,
): Promise<{
  runtime: Runtime;
  events: RuntimeEvent[];
  event: (kind: string, id: string) => Promise<RuntimeEvent>;
}> {
  const runtimes = { crun: { path: crunPath, options: [] }, runc: { path: '/usr/sbin/runc', options: [] } };
  const runtime = await openRuntime({
    execRoot,
    kernel,
    shimPath: shim,
    execHelperPath: helper,
    runtimes,
    logger: silent,
    ...(facts.apparmor ? { apparmor: openApparmor(execRoot, silent) } : {}),
  });
  const events: RuntimeEvent[] = [];
  const waiting = new Set<() => void>();
  runtime.onEvent = (event) => {
    events.push(event);
    for (const check of waiting) check();
  };
  const event = (kind: string, id: string): Promise<RuntimeEvent> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${kind}: ${JSON.stringify(events)}`)), EVENT_MS_MAX);
      const check = (): void => {
        const found = events.find((candidate) => candidate.kind === kind && candidate.id === id);
        if (found === undefined) return;
        clearTimeout(timer);
        waiting.delete(check);
        resolve(found);
      };
      waiting.add(check);
      check();
    });
  return { runtime, events, event };
}

export function launch(
  cmd: string[],
  options: { runtime: string; process?: Partial<ProcessSpec>; host?: Partial<HostSpec>; mounts?: readonly SpecMount[] },
): Launch {
  const id = `runtimetest-${process.pid}-${++count}`;
  const host = { networkMode: 'none', ipcMode: 'private', ...options.host };
  const resources = { ...NO_RESOURCES, ...host.resources, cgroupParent: CGROUP_PARENT };
  const spec = plainSpec({ cmd, ...options.process }, { ...host, resources });
  const input = plainInput(spec, {
    id,
    rootfsPath: rootfs,
    networkNamespacePath: null,
    host: facts,
    mounts: options.mounts ?? [],
  });
  const tty = options.process?.tty ?? false;
  const oci = buildOciSpec({ ...input, spec: { ...spec, process: { ...spec.process, networkDisabled: true } } });
  return {
    id,
    run: 1,
    runtime: options.runtime,
    oci,
    tty,
    stdin: 'none',
    consoleSize: [0, 0],
    log: { path: join(scratch, `${id}.log`), maxSizeBytes: null, maxFiles: 1, attributes: {} },
  };
}

export const output = (id: string): string =>
  readFileSync(join(scratch, `${id}.log`), 'utf8')
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { log: string }).log)
    .join('');

export function assertNothingLeft(id: string): void {
  assert.equal(existsSync(join(execRoot, 'shim', id)), false, 'state directory');
  for (const root of ['crun', 'runc']) assert.equal(existsSync(join(execRoot, root, id)), false, `${root} state`);
  for (const hierarchy of ['.', ...readdirSync('/sys/fs/cgroup')]) {
    assert.equal(existsSync(`/sys/fs/cgroup/${hierarchy}${CGROUP_PARENT}/${id}`), false, `cgroup of ${hierarchy}`);
  }
}

export async function readAll(stream: Duplex): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('latin1');
}

/** Docker's frames are cut as the bytes came. */
export function withoutFrames(text: string, tty: boolean): string {
  const bytes = Buffer.from(text, 'latin1');
  if (tty) return bytes.toString().replaceAll('\r\n', '\n');
  let joined = '';
  for (let at = 0; at + 8 <= bytes.length; at += 8 + bytes.readUInt32BE(at + 4))
    joined += bytes.toString('utf8', at + 8, at + 8 + bytes.readUInt32BE(at + 4));
  return joined;
}
