/** Bodies of /exec. Source: moby api/types/container/exec.go, daemon/server/backend ExecInspect (v28). */
import { parseDetachKeys } from '../../container/detach-keys.ts';
import type { Containers } from '../../container/port.ts';
import { EngineError } from '../../core/engine-error.ts';
import { flag, integer, list, optional, pair, struct, text, textOrTexts, type Decoded } from './decode.ts';

const consoleSize = optional(pair(integer('uint')));

export const execCreateRequest = struct('container.ExecCreateRequest', {
  User: text,
  Privileged: flag,
  Tty: flag,
  ConsoleSize: consoleSize,
  AttachStdin: flag,
  AttachStderr: flag,
  AttachStdout: flag,
  DetachKeys: text,
  Env: list(text),
  WorkingDir: text,
  Cmd: textOrTexts,
});

export const execStartRequest = struct('container.ExecStartRequest', {
  Detach: flag,
  Tty: flag,
  ConsoleSize: consoleSize,
});

export function parseExecCreate(
  asked: Decoded<typeof execCreateRequest>,
  minor: number,
): Parameters<Containers['execCreate']>[1] {
  if (asked.Cmd === null || asked.Cmd.length === 0)
    throw new EngineError('PARAMETER_INVALID', 'No exec command specified');
  return {
    tty: asked.Tty,
    consoleSize: minor < 42 ? null : asked.ConsoleSize,
    attachStdin: asked.AttachStdin,
    attachStdout: asked.AttachStdout,
    attachStderr: asked.AttachStderr,
    detachKeys: asked.DetachKeys,
    env: asked.Env,
    cmd: asked.Cmd,
    privileged: asked.Privileged,
    user: asked.User,
    workingDir: asked.WorkingDir,
  };
}

export function formatExecInspect({ exec, process }: ReturnType<Containers['execInspect']>): object {
  const { config, state } = exec;
  return {
    ID: exec.id,
    Running: state.at === 'running',
    ExitCode: state.at === 'exited' ? state.exitCode : null,
    ProcessConfig: {
      tty: config.tty,
      entrypoint: process.entrypoint,
      arguments: process.arguments,
      privileged: config.privileged,
      user: config.user || undefined,
    },
    OpenStdin: config.attachStdin,
    OpenStderr: config.attachStderr,
    OpenStdout: config.attachStdout,
    CanRemove: state.at === 'exited',
    ContainerID: exec.containerId,
    DetachKeys: config.detachKeys === '' ? '' : parseDetachKeys(config.detachKeys).toString('base64'),
    Pid: state.at === 'created' ? 0 : state.pid,
  };
}
