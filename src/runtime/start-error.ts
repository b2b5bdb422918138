/**
 * From an OCI runtime's words to Docker's: the message that users read and clients parse, and the exit code.
 * Source: moby daemon/errors.go translateContainerdStartErr (v28); docker CLI cli/command/container/run.go, which looks for
 * these very words to choose 125, 126 or 127.
 */
import { RuntimeStartError } from './port.ts';

export interface FailedStart {
  readonly what: 'container' | 'exec';
  /** The runtime's name, as in the table of runtimes. */
  readonly runtime: string;
  /** Its last error, without the log's decoration. */
  readonly text: string;
  /** What was to be run. */
  readonly args: readonly string[];
}

export function startError(failed: FailedStart, options?: ErrorOptions): RuntimeStartError {
  const said = withoutPrefix(translateCrun(failed.text, failed.args[0] ?? ''));
  const message =
    failed.what === 'exec'
      ? `OCI runtime exec failed: exec failed: ${said}: unknown`
      : `failed to create task for container: failed to create shim task: OCI runtime create failed: ${failed.runtime} create failed: ${said}: unknown`;
  const lower = message.toLowerCase();
  if (lower.includes('is a directory')) {
    // The CLI looks for "permission denied" only.
    return new RuntimeStartError(126, `${message}: permission denied`, options);
  }
  if (lower.includes('not a directory') && !lower.includes('chdir to cwd')) {
    const hint =
      'Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type';
    return new RuntimeStartError(127, `${message}: ${hint}`, options);
  }
  if (lower.includes('permission denied')) return new RuntimeStartError(126, message, options);
  if (lower.includes('executable file not found') || lower.includes('no such file or directory')) {
    return new RuntimeStartError(127, message, options);
  }
  return new RuntimeStartError(failed.what === 'exec' ? 126 : 128, message, options);
}

/** runc names the command it was called with; Docker calls create, we call run. */
function withoutPrefix(text: string): string {
  const inner = text.replace(/^(?:runc (?:run|create) failed|exec failed): /, '');
  return inner.startsWith('unable to start container process: ') ||
    !/^(?:exec: |exec \/|chdir to cwd|error )/.test(inner)
    ? inner
    : `unable to start container process: ${inner}`;
}

/** crun's texts in the form of runc's; what is not known stays as it is, but for errno in Go's lower case. */
function translateCrun(text: string, command: string): string {
  const lowered = lowerErrno(text);
  const quoted = JSON.stringify(command);
  if (/^executable file `.*` not found/s.test(lowered)) {
    return command.includes('/')
      ? `exec: ${quoted}: stat ${command}: no such file or directory`
      : `exec: ${quoted}: executable file not found in $PATH`;
  }
  const open = /^open executable: (.*)$/s.exec(lowered);
  if (open) {
    if (command === '') return 'exec: "": executable file not found in $PATH';
    // crun's word for what is no regular file.
    return `exec: ${quoted}: ${open[1] === 'operation not permitted' ? 'is a directory' : open[1]}`;
  }
  const exec = /^exec container process .*`(.*)`: (.*)$/s.exec(lowered);
  if (exec) return `exec ${exec[1]}: ${exec[2]}`;
  const chdir = /^chdir (?:to )?`(.*)`: (.*)$/s.exec(lowered);
  if (chdir) return `chdir to cwd (${JSON.stringify(chdir[1])}) set in config.json failed: ${chdir[2]}`;
  const mount = /^mount `(.*)` to `(.*)`: (.*)$/s.exec(lowered);
  if (mount) {
    const target = `/${(mount[2] ?? '').replace(/^\/+/, '')}`;
    return `error mounting ${JSON.stringify(mount[1])} to rootfs at ${JSON.stringify(target)}: mount ${mount[1]}:${target}: ${mount[3]}`;
  }
  return lowered;
}

/** glibc's strerror() begins with a capital, Go's does not, and clients look for Go's. */
function lowerErrno(text: string): string {
  return text.replace(
    /: (No such file or directory|Permission denied|Operation not permitted|Not a directory|Is a directory|Exec format error|Invalid argument|Device or resource busy|No space left on device|Too many open files|Resource temporarily unavailable|Cannot allocate memory|Read-only file system|File exists|No such device)/g,
    (match) => match.toLowerCase(),
  );
}
