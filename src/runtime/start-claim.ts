/**
 * Who may decide that a start was none: a shim removes this file just before it runs the OCI runtime, and a daemon that
 * comes up after a crash removes it before it says "never started". Only one of them can: a shim that was still on its way
 * when the daemon died ends without a container. The run is in the name: a late shim finds nothing of a later start.
 */
import { writeFileSync } from 'node:fs';
import { readdir, unlink } from 'node:fs/promises';

export function claimOf(run: number): string {
  return `start.${run}`;
}

/** An empty file in a file system that is in memory: less than a way over libuv's pool. */
export function allowStart(directory: string, run: number): void {
  writeFileSync(`${directory}/${claimOf(run)}`, '', { mode: 0o600 });
}

/** Whether it was still to be claimed: no shim can begin that run any more. */
export async function revokeStart(directory: string, run: number): Promise<boolean> {
  try {
    await unlink(`${directory}/${claimOf(run)}`);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return false;
  }
}

/** Of a run that nobody knows any more. */
export async function revokeStarts(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => []);
  for (const name of names) {
    const run = /^start\.(\d+)$/.exec(name)?.[1];
    if (run !== undefined) await revokeStart(directory, Number(run));
  }
}
