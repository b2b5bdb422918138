/** `docker logs`. Source: moby daemon/logs.go (v28). */
import { posix } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import type { LogEntry, LogFileOptions, LogReadOptions } from '../log/port.ts';
import { containerDirectory } from './details.ts';
import { tendedLogOf, isLogReadable, logFileOf } from './log-file.ts';
import type { Parts } from './parts.ts';
import { liveOf } from './status.ts';

export function readLogs(
  parts: Parts,
  container: Container,
  options: LogReadOptions,
  signal: AbortSignal,
): { readonly tty: boolean; readonly entries: AsyncIterable<LogEntry[]> } {
  if (container.state.at === 'removing' || container.state.at === 'dead') {
    const message = 'can not get logs from container which is dead or marked for removal';
    throw new EngineError('CONTAINER_DEAD', message);
  }
  const file = readableLogOf(parts, container);
  // Only what is still being written can be followed; else "ended" is now.
  const ended =
    options.follow && liveOf(container) !== null ? parts.supervisor.runEnded(container.id) : AbortSignal.abort();
  return { tty: container.spec.process.tty, entries: parts.readLog(file, options, { signal, ended }) };
}

/** @throws {EngineError} LOG_UNREADABLE */
export function readableLogOf(parts: Parts, container: Container): LogFileOptions {
  const file = isLogReadable(container) ? logFileFor(parts, container) : null;
  if (file !== null) return file;
  throw new EngineError('LOG_UNREADABLE', 'configured logging driver does not support reading');
}

/** null: output is kept nowhere. */
export function logFileFor(parts: Parts, container: Container): LogFileOptions | null {
  return logFileOf(container, logPath(parts, container));
}

/** From now on it is sent to its service, and its rotated files are packed, where the container asks for that. */
export function tendLog(parts: Parts, container: Container): void {
  const log = tendedLogOf(container, logPath(parts, container));
  if (log !== null) parts.logTending.begin(container.id, log);
}

/** Boot: of containers that do not run, what was not sent before. */
export function tendRemainders(parts: Parts): void {
  for (const container of parts.supervisor.list()) {
    if (liveOf(container) !== null || container.state.at === 'created') continue;
    tendLog(parts, container);
    parts.logTending.end(container.id);
  }
}

function logPath(parts: Parts, { id }: Container): string {
  return posix.join(containerDirectory(parts.settings.dataRoot, id), `${id}-json.log`);
}
