/** Where a container's output is kept, and with what in each line. Source: moby daemon/logs.go mergeAndVerifyLogConfig (v28). */
import type { LogSpec } from '../core/container-spec.ts';
import type { Container } from '../lifecycle/container.ts';
import { logAttributes, mergeLogSpec, parseLogOptions } from '../log/log-options.ts';
import type { LogFileOptions } from '../log/port.ts';
import { effectiveArgs } from '../runtime/spec/process.ts';
import type { Parts } from './parts.ts';

/** With the daemon's defaults put in, as the record keeps it. @throws {EngineError} LOG_DRIVER_UNKNOWN, LOG_OPTION_INVALID */
export function checkLog(parts: Parts, asked: LogSpec): LogSpec {
  const { defaultLog } = parts.settings;
  parseLogOptions(asked, defaultLog);
  return mergeLogSpec(asked, defaultLog);
}

/** null: output is kept nowhere. */
export function logFileOf(container: Container, path: string): LogFileOptions | null {
  const { process, host } = container.spec;
  // The defaults were put in at creation: the daemon's present ones do not matter any more.
  const { file, selection } = parseLogOptions(host.log, host.log);
  if (file === null) return null;
  const attributes = logAttributes(selection, {
    containerId: container.id,
    containerName: container.name,
    imageId: container.imageId,
    imageName: process.image,
    labels: process.labels,
    env: process.env ?? [],
    command: effectiveArgs(process),
  });
  return { path, ...file, attributes };
}
