/**
 * `docker top`: the container's processes as ps on the host would print them. The usual column sets are read from
 * /proc here; any other ps options go to the host's ps, as in Docker. Never inside the container.
 * Source: moby daemon/top_unix.go (v28); ps(1), proc_pid_stat(5).
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import { EngineError, messageOf } from '../core/engine-error.ts';
import { notRunning, restarting } from '../lifecycle/words.ts';
import { publishEvent } from './events.ts';
import type { Parts } from './parts.ts';
import { decidePsColumns, formatRow } from './ps-columns.ts';
import { readHost, readProcess } from './ps-process.ts';
import { refused } from './refused.ts';
import { liveOf, statusOf } from './status.ts';

const PS_OUTPUT_BYTES_MAX = 16 * 1024 * 1024;
const PS_RUN_MS_MAX = 10_000;
const BEGIN_MS_MAX = 1_000;
const BEGIN_WAIT_MS_MAX = 200;
const BEGIN_STEP_MS = 5;

const runPs = promisify(execFile);

export interface Top {
  readonly titles: readonly string[];
  readonly processes: readonly (readonly string[])[];
}

export async function top(parts: Parts, ref: string, psArgs: string): Promise<Top> {
  const options = psArgs.trim() === '' ? '-ef' : psArgs;
  refuseHeadings(options);
  const container = parts.resolver.resolve(ref);
  if (statusOf(container) === 'restarting') throw refused(restarting(container.id));
  const live = liveOf(container);
  if (live === null) throw refused(notRunning(container.id));
  await begun(live.pid, live.startedAt);
  const pids = (await parts.supervisor.processes(container.id)).toSorted((a, b) => a - b);
  const columns = decidePsColumns(options);
  const result = columns === null ? await askPs(options, pids) : await readTop(columns, pids);
  publishEvent(parts, container, 'top');
  return result;
}

/**
 * A start is over when the runtime says so, which is a moment before its "… init" becomes the command: who asks right
 * after a start would be shown that. Costs a command that ends in " init" itself a short wait in its first second.
 */
async function begun(pid: number, startedAt: string): Promise<void> {
  if (Date.now() - Date.parse(startedAt) > BEGIN_MS_MAX) return;
  for (let waitedMs = 0; waitedMs < BEGIN_WAIT_MS_MAX; waitedMs += BEGIN_STEP_MS) {
    const args = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (!args.endsWith('\0init\0')) return;
    await sleep(BEGIN_STEP_MS);
  }
}

async function readTop(
  columns: NonNullable<ReturnType<typeof decidePsColumns>>,
  pids: readonly number[],
): Promise<Top> {
  const host = await readHost();
  const processes = await Promise.all(pids.map(readProcess));
  const rows = processes.filter((process) => process !== null).map((process) => formatRow(columns, process, host));
  return { titles: columns.map((column) => column.title), processes: rows };
}

/** "-o pid=Foo" would rename the column that is looked for. @throws {EngineError} PARAMETER_INVALID */
function refuseHeadings(options: string): void {
  const match = /\S+[ ]*(pid[ ]*=[ ]*\S*)/i.exec(options);
  if (match !== null) throw new EngineError('PARAMETER_INVALID', `specifying "${match[0]}" is not allowed`);
}

async function askPs(options: string, pids: readonly number[]): Promise<Top> {
  const args = options.split(' ').filter((arg) => arg !== '');
  const text = await ps([...args, `-q${pids.join(',')}`]).catch(() => ps(args)); // some do not go together with -q
  return parsePs(text, new Set(pids));
}

async function ps(args: readonly string[]): Promise<string> {
  try {
    const limits = { timeout: PS_RUN_MS_MAX, maxBuffer: PS_OUTPUT_BYTES_MAX };
    return (await runPs('ps', args, limits)).stdout;
  } catch (cause) {
    const stderr = cause instanceof Error && 'stderr' in cause ? String(cause.stderr) : '';
    const [why = ''] = stderr.split('\n');
    throw new EngineError('RUNTIME_FAILED', `ps: ${why === '' ? messageOf(cause) : why}`, { cause });
  }
}

/** Columns are cut at spaces; the last one takes the rest of the line. */
export function parsePs(text: string, pids: ReadonlySet<number>): Top {
  const [header = '', ...lines] = text.split('\n');
  const titles = header.trim().split(/\s+/);
  const pidIndex = titles.indexOf('PID');
  if (pidIndex < 0) throw new EngineError('PARAMETER_INVALID', "Couldn't find PID field in ps output");
  const processes = lines.flatMap((line) => {
    if (line.trim() === '') return [];
    const fields = line.trim().split(/\s+/);
    if (!pids.has(Number(fields[pidIndex]))) return [];
    const own = fields.slice(0, titles.length - 1);
    return [[...own, fields.slice(titles.length - 1).join(' ')]];
  });
  return { titles, processes };
}
