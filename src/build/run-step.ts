/** RUN: a container of the image so far, its output as lines of the build, and its top as the next layer. */
import { Buffer } from 'node:buffer';
import type { Readable } from 'node:stream';

import type { Containers, Request } from '../container/port.ts';
import { NO_RESOURCES, PLAIN_HOST, PLAIN_PROCESS, type ContainerSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { ImageConfig } from '../image/port.ts';
import type { BuildRequest } from './port.ts';

/** Docker's number of the stream in a frame's head. */
const STDERR = 2;

export interface RunStep {
  readonly imageId: string;
  readonly config: ImageConfig;
  /** What is executed, shell included. */
  readonly command: readonly string[];
  /** "NAME=value", for this step only. */
  readonly buildArguments: readonly string[];
  /** As the user wrote it: for the error. */
  readonly shown: string;
}

export type RunNews =
  | { readonly containerId: string; readonly warnings: readonly string[] }
  | { readonly output: string; readonly isError: boolean };

/** Yields the container's ID first, then its output as text. Throws when the command fails; the container is the caller's. */
export async function* runStep(
  containers: Containers,
  step: RunStep,
  request: BuildRequest,
  signal: AbortSignal,
): AsyncGenerator<RunNews> {
  const by: Request = { description: 'docker build' };
  const { id, warnings } = await containers.create(
    { name: '', spec: runSpec(step, request), platform: null, apiVersion: '1.51' },
    by,
  );
  yield { containerId: id, warnings };
  const attached = await containers.attach(
    id,
    { streams: { stdin: false, stdout: true, stderr: true }, logs: false, stream: true, detachKeys: null },
    signal,
  );
  const { result } = containers.wait(id, 'next-exit', signal);
  result.catch(() => {}); // awaited below, unless the start fails first
  await containers.start(id, by);
  const stream = await attached.stream;
  if (stream !== null) yield* frames(stream);
  const { exitCode } = await result;
  if (exitCode !== 0)
    throw new StepFailed(exitCode, `The command '${step.shown}' returned a non-zero code: ${exitCode}`);
}

/** The command of a RUN ended with another code than 0. */
export class StepFailed extends EngineError {
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super('RUNTIME_FAILED', message);
    this.exitCode = exitCode;
  }
}

/** Docker's multiplexed stream (8 bytes of head: stream, 0, 0, 0, length), back to what was written. */
async function* frames(stream: Readable): AsyncGenerator<RunNews> {
  const decoders = [new TextDecoder(), new TextDecoder()] as const;
  let pending: Buffer = Buffer.alloc(0);
  for await (const chunk of stream) {
    pending = pending.length === 0 ? (chunk as Buffer) : Buffer.concat([pending, chunk as Buffer]);
    for (
      let length;
      pending.length >= 8 && pending.length >= 8 + (length = pending.readUInt32BE(4));
      pending = pending.subarray(8 + length)
    ) {
      const isError = pending[0] === STDERR;
      const output = decoders[isError ? 1 : 0].decode(pending.subarray(8, 8 + length), { stream: true });
      if (output !== '') yield { output, isError };
    }
  }
}

function runSpec({ imageId, config, command, buildArguments }: RunStep, request: BuildRequest): ContainerSpec {
  const {
    cpuShares,
    cpuPeriodUs,
    cpuQuotaUs,
    cpusetCpus,
    cpusetMems,
    memoryBytes,
    memorySwapBytes,
    cgroupParent,
    ulimits,
  } = request;
  const { extraHosts, securityOpt, shmSizeBytes, networkMode } = request;
  return {
    process: {
      ...PLAIN_PROCESS,
      image: imageId,
      user: config.user,
      attachStdout: true,
      attachStderr: true,
      env: [...(config.env ?? []), ...buildArguments],
      cmd: command,
      entrypoint: [''],
      workingDir: config.workingDir,
      healthcheck: { test: ['NONE'], intervalNs: 0, timeoutNs: 0, startPeriodNs: 0, startIntervalNs: 0, retries: 0 },
    },
    host: {
      ...PLAIN_HOST,
      log: { driver: 'none', options: {} },
      networkMode: networkMode === '' || networkMode === 'default' ? 'bridge' : networkMode,
      extraHosts,
      securityOpt,
      shmSizeBytes,
      resources: {
        ...NO_RESOURCES,
        cpuShares,
        cpuPeriodUs,
        cpuQuotaUs,
        cpusetCpus,
        cpusetMems,
        memoryBytes,
        memorySwapBytes,
        cgroupParent,
        ulimits,
      },
    },
    endpoints: {},
  };
}
