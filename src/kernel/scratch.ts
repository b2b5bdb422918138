/** For tests only: a kernel, a directory of one's own, and a check that nothing was left behind. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { openKernel } from './kernel.ts';
import { mountPointsBelow, parseMountinfo } from './mountinfo.ts';
import type { Kernel } from './port.ts';

export interface Scratch {
  readonly kernel: Kernel;
  readonly directory: string;
  /** Unlike any other run's, and short enough for an interface: "kt1a2b". */
  readonly prefix: string;
}

/** Runs `action`; fails when descriptors, mounts, links or threads in other namespaces are left. */
export async function withScratch(action: (scratch: Scratch) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'longshore-kernel-'));
  const prefix = `kt${Math.floor(Math.random() * 0x10000).toString(16)}`;
  try {
    await using kernel = await openKernel();
    // What the worker keeps open for good is open now.
    await kernel.network.links();
    await kernel.nftables.run('list tables');
    const before = state(directory, prefix);
    await action({ kernel, directory, prefix });
    assert.deepEqual(await settled(() => state(directory, prefix), before), before, 'left behind');
  } finally {
    // After a test that failed; never delete through a mount.
    for (const path of mountPointsBelow(parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8')), directory)) {
      execFileSync('umount', ['-l', path]);
    }
    rmSync(directory, { recursive: true, force: true });
  }
}

function state(
  directory: string,
  prefix: string,
): { descriptors: string[]; mounts: string[]; links: string[]; namespaces: string[] } {
  const descriptors = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith('/proc/') ? [] : [target.replace(/\d+/g, 'N')]; // the listing itself; inode numbers
    } catch {
      return [];
    }
  });
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(directory));
  const links = readdirSync('/sys/class/net').filter((name) => name.startsWith(prefix));
  const namespaces = new Set(
    readdirSync('/proc/self/task').map((task) => readlinkSync(`/proc/self/task/${task}/ns/net`)),
  );
  return { descriptors: descriptors.toSorted(), mounts, links, namespaces: [...namespaces] };
}

/** Links of a namespace that was dropped go a moment later. */
async function settled<T>(read: () => T, wanted: T): Promise<T> {
  for (let tries = 0; tries < 50; tries++) {
    const value = read();
    if (JSON.stringify(value) === JSON.stringify(wanted)) return value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return read();
}
