/** Words on a process that does not go away after SIGKILL: its state and what it waits for. Source: proc(5). */
import { readFile } from 'node:fs/promises';

const STATES: Readonly<Record<string, string>> = {
  R: 'running', S: 'sleeping', D: 'uninterruptible disk sleep', Z: 'zombie', T: 'stopped', t: 'traced', X: 'dead', I: 'idle', P: 'parked',
}; // prettier-ignore

/** Never throws. */
export async function describeStuck(pid: number): Promise<string> {
  const [status, channel] = await Promise.all([
    readFile(`/proc/${pid}/status`, 'utf8').catch(() => ''),
    readFile(`/proc/${pid}/wchan`, 'utf8').catch(() => ''),
  ]);
  if (status === '') return `process ${pid} is gone, but its container did not end`;
  const name = /^Name:\s*(.*)$/m.exec(status)?.[1] ?? '?';
  const state = /^State:\s*(\w)/m.exec(status)?.[1] ?? '?';
  const waits = channel === '' || channel === '0' ? '' : `, waiting in ${channel}`;
  return `process ${pid} (${name}) is in state ${state} (${STATES[state] ?? 'unknown'})${waits}`;
}
