/**
 * The limits that systemd keeps of a container's scope. It writes its own into the cgroup again whenever it reloads, so
 * an update has to go through it; the OCI runtime knows how to ask (properties of a unit over D-Bus).
 */
import { readFile, rm, writeFile } from 'node:fs/promises';

import type { Processes } from '../kernel/port.ts';

export interface UnitUpdate {
  readonly processes: Pick<Processes, 'spawn' | 'reap'>;
  /** The OCI runtime and its global options. */
  readonly path: string;
  readonly options: readonly string[];
  readonly id: string;
  /** For what is handed over and what comes back. */
  readonly directory: string;
  /** OCI linux.resources. */
  readonly resources: object;
}

/** @throws {Error} with the runtime's words */
export async function updateUnit({ processes, path, options, id, directory, resources }: UnitUpdate): Promise<void> {
  const file = `${directory}/update.json`;
  const log = `${directory}/update.log`;
  try {
    await writeFile(file, JSON.stringify(resources), { mode: 0o600 });
    const argv = [path, ...options, '--log', log, 'update', '--resources', file, id];
    const { pid } = await processes.spawn({ path, argv, env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'], descriptors: [] });
    const { exitCode } = await processes.reap(pid);
    if (exitCode === 0) return;
    const words = (await readFile(log, 'utf8').catch(() => '')).trim();
    throw new Error(`systemd: ${words === '' ? `${path} update ended with ${exitCode}` : words}`);
  } finally {
    await Promise.all([rm(file, { force: true }), rm(log, { force: true })]);
  }
}
