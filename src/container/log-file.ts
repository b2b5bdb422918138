/** Where a container's output is kept, and with what in each line. Source: moby daemon/logs.go mergeAndVerifyLogConfig (v28). */
import type { LogSpec } from '../core/container-spec.ts';
import type { Container } from '../lifecycle/container.ts';
import { logAttributes, type LogSubject } from '../log/log-attributes.ts';
import { checkLogOptions, tendedLog, mergeLogSpec, parseLogOptions } from '../log/log-options.ts';
import type { TendedLog, LogFileOptions } from '../log/port.ts';
import { effectiveArgs } from '../runtime/spec/process.ts';
import type { Parts } from './parts.ts';

/** With the daemon's defaults put in, as the record keeps it. @throws {EngineError} LOG_DRIVER_UNKNOWN, LOG_OPTION_INVALID */
export function checkLog(parts: Parts, asked: LogSpec): LogSpec {
  const { defaultLog } = parts.settings;
  checkLogOptions(asked, defaultLog);
  return mergeLogSpec(asked, defaultLog);
}

/** null: output is kept nowhere. */
export function logFileOf(container: Container, path: string): LogFileOptions | null {
  const { host } = container.spec;
  // The defaults were put in at creation: the daemon's present ones do not matter any more.
  const { file, service, selection } = parseLogOptions(host.log, host.log);
  if (file === null) return null;
  // What a service gets is put together from the container, not from its lines.
  return { path, ...file, attributes: service === null ? logAttributes(selection, subjectOf(container)) : {} };
}

/** Whether `docker logs` may read it. */
export function isLogReadable(container: Container): boolean {
  const { log } = container.spec.host;
  return parseLogOptions(log, log).isReadable;
}

/** null: it only has to be written. */
export function tendedLogOf(container: Container, path: string): TendedLog | null {
  return tendedLog(container.spec.host.log, subjectOf(container), path);
}

function subjectOf({ id, name, imageId, createdAt, spec }: Container): LogSubject {
  const { process } = spec;
  return {
    containerId: id,
    containerName: name,
    imageId,
    imageName: process.image,
    createdAt,
    labels: process.labels,
    env: process.env ?? [],
    command: effectiveArgs(process),
  };
}
