/**
 * What the shim is given of an exec, as a file in the state directory: the OCI process object for the runtime, or the
 * request of native/exec.c. The daemon's own record of the exec is in it too, and the file stays as long as the exec: so a
 * daemon that comes up later knows what runs. The shim removes it.
 */
import { writeFileSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';

import type { ShimState } from '../shim/protocol.ts';
import type { ExecLaunch, Recovered } from './port.ts';

/** What the shim takes for an ID, and what a file name may be. */
const EXEC_ID = /^[A-Za-z0-9_.-]{1,128}$/;
const RECORD_KEY = 'org.longshore.exec';

export function writeExecFile(directory: string, execId: string, content: string): string {
  if (!EXEC_ID.test(execId)) throw new Error(`runtime: not an exec ID: ${execId}`);
  const path = pathOf(directory, execId);
  // A page or two in a file system that is in memory: less than the three ways over libuv's pool would take.
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

/** With the terminal's size from the beginning: the shim sets it only when the terminal arrives, and the program may have asked. */
export function sizedProcess({ process, tty, consoleSize: [height, width] }: ExecLaunch): object {
  return tty && (height > 0 || width > 0) ? { ...process, consoleSize: { height, width } } : process;
}

/** For the runtime, which leaves what it does not know. */
export function formatOciExec(process: object, record: string): string {
  return JSON.stringify({ ...process, [RECORD_KEY]: record });
}

/** What was noted of execs. The shim leaves the file of one that ended while there was no daemon to tell. */
export async function recoverExecs(
  directory: string,
  state: ShimState,
): Promise<Pick<Extract<Recovered, { at: 'running' }>, 'execs' | 'endedExecs'>> {
  const withRecord = async <T extends { readonly execId: string }>(
    exec: T,
  ): Promise<T & { record: string | null }> => ({
    ...exec,
    record: await readExecRecord(directory, exec.execId),
  });
  const execs = await Promise.all(state.execs.map(withRecord));
  const endedExecs = await Promise.all(state.endedExecs.map(withRecord));
  for (const { execId, record } of endedExecs)
    if (record !== null) await rm(pathOf(directory, execId), { force: true });
  return { execs, endedExecs: endedExecs.filter(({ record }) => record !== null) };
}

/** null: there is no such file, or nothing in it that can be read. */
async function readExecRecord(directory: string, execId: string): Promise<string | null> {
  try {
    const content = await readFile(pathOf(directory, execId), 'utf8');
    if (!content.startsWith('{')) return /^v1\0x([^\0]*)\0/.exec(content)?.[1] ?? null;
    const record = (JSON.parse(content) as Readonly<Record<string, unknown>>)[RECORD_KEY];
    return typeof record === 'string' ? record : null;
  } catch {
    return null;
  }
}

function pathOf(directory: string, execId: string): string {
  return `${directory}/exec-${execId}.request`;
}
