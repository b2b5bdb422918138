/** `docker exec`. Source: moby daemon/exec.go, api/server/router/container/exec.go (v28). */
import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import { notRunning, pausedBeforeExec, restarting } from '../lifecycle/words.ts';
import type { Exec, ExecConfig } from '../supervisor/port.ts';
import { accountOf } from './account.ts';
import { parseDetachKeys } from './detach-keys.ts';
import type { Parts } from './parts.ts';
import type { Containers } from './port.ts';
import { refused } from './refused.ts';
import { liveOf, statusOf } from './status.ts';

export async function createExec(parts: Parts, ref: string, config: ExecConfig): Promise<string> {
  if (config.cmd.length === 0) throw new EngineError('CONTAINER_SPEC_INVALID', 'No exec command specified');
  const container = parts.resolver.resolve(ref);
  checkCanExec(container, ref);
  await checkUser(parts, container, config.user);
  parseDetachKeys(config.detachKeys, 'escape');
  for (const entry of config.env ?? []) checkEnv(entry);
  return parts.supervisor.execCreate(container.id, config);
}

export function inspectExec(parts: Parts, execId: string): ReturnType<Containers['execInspect']> {
  const exec = findExec(parts, execId);
  const container = parts.supervisor.get(exec.containerId);
  // moby: an exec is as reachable as its container.
  if (container === undefined) throw new EngineError('CONTAINER_NOT_FOUND', `No such container: ${exec.containerId}`);
  const [entrypoint = '', ...rest] = exec.config.cmd;
  return { exec, process: { entrypoint, arguments: rest } };
}

/** @throws {EngineError} EXEC_NOT_FOUND, and what keeps any exec from starting in its container */
export function checkExec(parts: Parts, execId: string): Exec {
  const exec = findExec(parts, execId);
  const container = parts.supervisor.get(exec.containerId);
  if (container === undefined) throw new EngineError('CONTAINER_NOT_FOUND', `No such container: ${exec.containerId}`);
  checkCanExec(container);
  return exec;
}

export async function startExec(
  parts: Parts,
  execId: string,
  options: Parameters<Containers['execStart']>[1],
): ReturnType<Containers['execStart']> {
  const exec = checkExec(parts, execId);
  const started = await parts.supervisor.execStart(execId, options);
  const { config } = exec;
  const watched = config.tty && config.attachStdin && !options.detach;
  return { ...started, tty: config.tty, detachKeys: watched ? parseDetachKeys(config.detachKeys) : null };
}

export async function resizeExec(parts: Parts, execId: string, rows: number, columns: number): Promise<void> {
  const exec = findExec(parts, execId);
  await parts.supervisor.execResize(exec.id, rows, columns);
}

/** @throws {EngineError} EXEC_NOT_FOUND "No such exec instance: x" */
function findExec(parts: Parts, execId: string): Exec {
  const exec = parts.supervisor.exec(execId);
  if (exec === undefined) throw new EngineError('EXEC_NOT_FOUND', `No such exec instance: ${execId}`);
  return exec;
}

/** `name`: how the request calls it. */
export function checkCanExec(container: Container, name: string = container.id): void {
  if (statusOf(container) === 'restarting') throw refused(restarting(container.id));
  if (statusOf(container) === 'paused') throw refused(pausedBeforeExec(name));
  if (liveOf(container) === null) throw refused(notRunning(container.id));
}

/** A user who is not there is told before the start, as of moby 28.2: a client that waits for the exec need not time out. */
async function checkUser(parts: Parts, container: Container, user: string): Promise<void> {
  if (user === '') return;
  try {
    await accountOf(parts, container, parts.images.snapshots.path(container.id), user);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw new EngineError('PARAMETER_INVALID', error.message, { cause: error });
  }
}

/** Source: moby opts/env.go ValidateEnv. */
export function checkEnv(entry: string): void {
  if (entry === '' || entry.startsWith('=')) {
    throw new EngineError('CONTAINER_SPEC_INVALID', `invalid environment variable: ${entry}`);
  }
}
