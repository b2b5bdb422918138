/**
 * The table of OCI runtimes, and which one containers get that name none: crun where it works (it starts a container
 * in half the time), else runc. Nothing is executed to find out.
 */
import { access, constants, readFile } from 'node:fs/promises';

import { EngineError } from '../core/engine-error.ts';
import type { DaemonOptions } from './options.ts';

export interface Runtimes {
  readonly table: Readonly<Record<string, { readonly path: string; readonly options: readonly string[] }>>;
  /** A name in the table. */
  readonly fallback: string;
}

const SEARCH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** @throws {EngineError} RUNTIME_UNKNOWN for a default that is not in the table; HOST_UNSUPPORTED when there is none at all */
export async function chooseRuntimes(options: Pick<DaemonOptions, 'defaultRuntime' | 'runtimes'>): Promise<Runtimes> {
  const table: Record<string, { path: string; options: readonly string[] }> = {};
  for (const name of ['crun', 'runc']) {
    const path = await findProgram(name);
    if (path !== null) table[name] = { path, options: [] };
  }
  for (const [name, { path, args }] of Object.entries(options.runtimes)) table[name] = { path, options: args };
  if (options.defaultRuntime !== '') {
    if (!(options.defaultRuntime in table)) throw new EngineError('RUNTIME_UNKNOWN', `specified default runtime '${options.defaultRuntime}' does not exist`);
    return { table, fallback: options.defaultRuntime };
  }
  const fallback = table['crun'] !== undefined && !(await isHybrid()) ? 'crun' : table['runc'] !== undefined ? 'runc' : Object.keys(table)[0];
  if (fallback === undefined) throw new EngineError('HOST_UNSUPPORTED', 'no OCI runtime: install crun or runc');
  return { table, fallback };
}

/** crun up to 1.8 takes a mounted /sys/fs/cgroup/unified for cgroup v2 and finds no controllers there. */
async function isHybrid(): Promise<boolean> {
  const mounts = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  return / \/sys\/fs\/cgroup\/unified /.test(mounts);
}

async function findProgram(name: string): Promise<string | null> {
  for (const directory of SEARCH) {
    const path = `${directory}/${name}`;
    const there = await access(path, constants.X_OK).then(() => true, () => false);
    if (there) return path;
  }
  return null;
}
