/** `docker logs`. Source: moby daemon/logs.go (v28). */
import { posix } from 'node:path';

import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import type { LogEntry, LogFileOptions, LogReadOptions } from '../log/port.ts';
import { containerDirectory } from './details.ts';
import { logFileOf } from './log-file.ts';
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
  const file = logFileFor(parts, container);
  if (file === null) {
    throw new EngineError('LOG_UNREADABLE', 'configured logging driver does not support reading');
  }
  // Only what is still being written can be followed; else "ended" is now.
  const ended =
    options.follow && liveOf(container) !== null ? parts.supervisor.runEnded(container.id) : AbortSignal.abort();
  return { tty: container.spec.process.tty, entries: parts.readLog(file, options, { signal, ended }) };
}

export function logFileFor(parts: Parts, container: Container): LogFileOptions | null {
  const path = posix.join(containerDirectory(parts.settings.dataRoot, container.id), `${container.id}-json.log`);
  return logFileOf(container, path);
}
