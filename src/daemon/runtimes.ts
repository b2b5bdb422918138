/** The table of OCI runtimes: what the host has, what the options add, and which one containers get that name none. */
import { EngineError } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import { detectRuntimes } from '../runtime/detect.ts';
import type { OciRuntimeEntry } from '../runtime/oci-runtime.ts';
import type { DaemonOptions } from './daemon-options.ts';

export interface Runtimes {
  readonly table: Readonly<Record<string, OciRuntimeEntry>>;
  /** A name in the table. */
  readonly fallback: string;
}

/** @throws {EngineError} RUNTIME_UNKNOWN for a default that is not in the table; HOST_UNSUPPORTED when there is none at all */
export async function chooseRuntimes(
  options: Pick<DaemonOptions, 'defaultRuntime' | 'runtimes'>,
  logger: Logger,
): Promise<Runtimes> {
  const { runtimes, defaultName, note } = await detectRuntimes();
  const added = Object.entries(options.runtimes).map(
    ([name, { path, args }]) => [name, { path, options: args }] as const,
  );
  const table = { ...runtimes, ...Object.fromEntries(added) };
  const fallback = options.defaultRuntime || (defaultName ?? added[0]?.[0]);
  if (fallback === undefined) throw new EngineError('HOST_UNSUPPORTED', 'no OCI runtime: install crun or runc');
  if (table[fallback] === undefined)
    throw new EngineError('RUNTIME_UNKNOWN', `specified default runtime '${fallback}' does not exist`);
  if (note !== '' && options.defaultRuntime === '') logger.info({ runtime: fallback }, note);
  return { table, fallback };
}
