/** One daemon per pidfile. Source: moby pkg/pidfile: a file whose process is gone is taken over. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

import { EngineError } from '../core/engine-error.ts';

/** @throws {EngineError} PARAMETER_INVALID when the process named in it lives. "" is no pidfile. */
export async function writePidfile(path: string): Promise<AsyncDisposable> {
  if (path === '') return { [Symbol.asyncDispose]: async () => {} };
  const text = await readFile(path, 'utf8').catch(() => '');
  const pid = Number(text.trim());
  if (Number.isSafeInteger(pid) && pid > 1 && pid !== process.pid && (await isDaemon(pid))) {
    throw new EngineError('PARAMETER_INVALID', `process with PID ${pid} is still running (pid file ${path})`);
  }
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, String(process.pid), { mode: 0o644 });
  return {
    [Symbol.asyncDispose]: async () => {
      if ((await readFile(path, 'utf8').catch(() => '')) === String(process.pid)) await rm(path, { force: true });
    },
  };
}

/** A pid is used again after a reboot or a wrap: only one that runs Node is a daemon that matters. */
async function isDaemon(pid: number): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return /node|longshore/.test(command);
}
