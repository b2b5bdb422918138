/** The OCI process object of an exec, handed to the shim as a file in the state directory; the shim removes it. */
import { writeFile } from 'node:fs/promises';

/** What the shim takes for an ID, and what a file name may be. */
const EXEC_ID = /^[A-Za-z0-9_.-]{1,128}$/;

export async function writeExecFile(directory: string, execId: string, process: object): Promise<string> {
  if (!EXEC_ID.test(execId)) throw new Error(`runtime: not an exec ID: ${execId}`);
  const path = `${directory}/exec-${execId}.json`;
  await writeFile(path, JSON.stringify(process), { mode: 0o600 });
  return path;
}
