/** RUN: a container of the image so far, its output as lines of the build, and its top as the next layer. */
import { Buffer } from 'node:buffer';
import type { Readable } from 'node:stream';

import type { Containers, Request } from '../container/port.ts';
import type { ContainerSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { ImageConfig } from '../image/port.ts';
import type { BuildRequest } from './port.ts';

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

/** Yields the container's ID first, then its output as text. Throws when the command fails; the container is the caller's. */
export async function* runStep(containers: Containers, step: RunStep, request: BuildRequest, signal: AbortSignal): AsyncGenerator<{ readonly containerId: string } | { readonly output: string }> {
  const by: Request = { description: 'docker build' };
  const { id } = await containers.create({ name: '', spec: runSpec(step, request), platform: null, apiVersion: '1.51' }, by);
  yield { containerId: id };
  const attached = await containers.attach(id, { streams: { stdin: false, stdout: true, stderr: true }, logs: false, stream: true, detachKeys: null }, signal);
  const { result } = containers.wait(id, 'next-exit', signal);
  result.catch(() => {}); // awaited below, unless the start fails first
  await containers.start(id, by);
  const stream = await attached.stream;
  if (stream !== null) for await (const output of frames(stream)) yield { output };
  const { exitCode } = await result;
  if (exitCode !== 0) throw new StepFailed(exitCode, `The command '${step.shown}' returned a non-zero code: ${exitCode}`);
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
async function* frames(stream: Readable): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let pending: Buffer = Buffer.alloc(0);
  for await (const chunk of stream) {
    pending = pending.length === 0 ? (chunk as Buffer) : Buffer.concat([pending, chunk as Buffer]);
    for (let length; pending.length >= 8 && pending.length >= 8 + (length = pending.readUInt32BE(4)); pending = pending.subarray(8 + length)) {
      const text = decoder.decode(pending.subarray(8, 8 + length), { stream: true });
      if (text !== '') yield text;
    }
  }
}

function runSpec({ imageId, config, command, buildArguments }: RunStep, request: BuildRequest): ContainerSpec {
  return {
    process: {
      image: imageId, hostname: '', domainname: '', user: config.user, attachStdin: false, attachStdout: true, attachStderr: true,
      tty: false, openStdin: false, stdinOnce: false, env: [...(config.env ?? []), ...buildArguments], cmd: command, entrypoint: [''],
      argsEscaped: false, workingDir: config.workingDir, labels: {}, exposedPorts: null, volumes: null,
      healthcheck: { test: ['NONE'], intervalNs: 0, timeoutNs: 0, startPeriodNs: 0, startIntervalNs: 0, retries: 0 },
      onBuild: null, shell: null, stopSignal: null, stopTimeoutS: null, networkDisabled: false, macAddress: null,
    },
    host: {
      binds: null, mounts: null, tmpfs: null, volumesFrom: null, volumeDriver: '', containerIdFile: '', log: { driver: 'none', options: {} },
      networkMode: request.networkMode === '' || request.networkMode === 'default' ? 'bridge' : request.networkMode, portBindings: {}, publishAllPorts: false,
      restartPolicy: { name: 'no', maximumRetryCount: 0 }, autoRemove: false, consoleSize: [0, 0], annotations: null, capAdd: null, capDrop: null,
      cgroupnsMode: '', dns: null, dnsOptions: null, dnsSearch: null, extraHosts: request.extraHosts, groupAdd: null, ipcMode: '', cgroup: '', links: null,
      oomScoreAdj: 0, pidMode: '', privileged: false, readonlyRootfs: false, securityOpt: request.securityOpt, storageOpt: null, utsMode: '', usernsMode: '',
      shmSizeBytes: request.shmSizeBytes, sysctls: null, runtime: '', isolation: '', maskedPaths: null, readonlyPaths: null, init: null,
      resources: {
        cpuShares: request.cpuShares, nanoCpus: 0, cpuPeriodUs: request.cpuPeriodUs, cpuQuotaUs: request.cpuQuotaUs, cpuRealtimePeriodUs: 0, cpuRealtimeRuntimeUs: 0,
        cpusetCpus: request.cpusetCpus, cpusetMems: request.cpusetMems, memoryBytes: request.memoryBytes, memorySwapBytes: request.memorySwapBytes, memoryReservationBytes: 0,
        memorySwappiness: null, kernelMemoryBytes: 0, kernelMemoryTcpBytes: 0, oomKillDisable: null, pidsLimit: null, blkioWeight: 0, blkioWeightDevice: null,
        blkioDeviceReadBps: null, blkioDeviceWriteBps: null, blkioDeviceReadIops: null, blkioDeviceWriteIops: null, cgroupParent: request.cgroupParent,
        devices: null, deviceCgroupRules: null, deviceRequests: null, ulimits: request.ulimits,
      },
    },
    endpoints: {},
  };
}
