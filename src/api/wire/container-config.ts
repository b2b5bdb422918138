/** Docker's Config: what runs. Source: moby api/types/container/config.go (v28). */
import type { HealthcheckSpec, ProcessSpec } from '../../core/container-spec.ts';
import { EngineError } from '../../core/engine-error.ts';
import { parseSignal } from '../../core/signal.ts';
import { flag, integer, list, map, nothing, optional, struct, text, textOrTexts, type Decoded } from './decode.ts';
import { formatSet, parseExposedPorts, portSet } from './port-map.ts';

const DURATION_NS_MIN = 1_000_000; // Smaller ones are a mistake about the unit: refused, as moby does.

const healthConfig = struct('container.HealthConfig', {
  Test: list(text),
  Interval: integer('time.Duration'),
  Timeout: integer('time.Duration'),
  StartPeriod: integer('time.Duration'),
  StartInterval: integer('time.Duration'),
  Retries: integer('int'),
});

export const configFields = {
  Hostname: text,
  Domainname: text,
  User: text,
  AttachStdin: flag,
  AttachStdout: flag,
  AttachStderr: flag,
  ExposedPorts: portSet,
  Tty: flag,
  OpenStdin: flag,
  StdinOnce: flag,
  Env: list(text),
  Cmd: textOrTexts,
  Healthcheck: optional(healthConfig),
  ArgsEscaped: flag,
  Image: text,
  Volumes: map(nothing),
  WorkingDir: text,
  Entrypoint: textOrTexts,
  NetworkDisabled: flag,
  MacAddress: text,
  OnBuild: list(text),
  Labels: map(text),
  StopSignal: text,
  StopTimeout: optional(integer('int')),
  Shell: textOrTexts,
} as const;

export const containerConfig = struct('container.Config', configFields);
export type ContainerConfig = Decoded<typeof containerConfig>;

/** Checks as moby's verifyContainerSettings does. @throws CONTAINER_SPEC_INVALID */
export function parseContainerConfig(config: ContainerConfig): ProcessSpec {
  if (config.WorkingDir !== '' && !config.WorkingDir.startsWith('/')) {
    throw invalid(`the working directory '${config.WorkingDir}' is invalid, it needs to be an absolute path`);
  }
  if (config.StopSignal !== '') parseSignal(config.StopSignal);
  for (const variable of config.Env ?? []) {
    if (variable === '' || variable.startsWith('=')) throw invalid(`invalid environment variable: ${variable}`);
  }
  return {
    image: config.Image,
    hostname: config.Hostname,
    domainname: config.Domainname,
    user: config.User,
    attachStdin: config.AttachStdin,
    attachStdout: config.AttachStdout,
    attachStderr: config.AttachStderr,
    tty: config.Tty,
    openStdin: config.OpenStdin,
    stdinOnce: config.StdinOnce,
    env: config.Env,
    cmd: config.Cmd,
    entrypoint: config.Entrypoint,
    argsEscaped: config.ArgsEscaped,
    workingDir: config.WorkingDir,
    labels: config.Labels ?? {},
    exposedPorts: config.ExposedPorts === null ? null : parseExposedPorts(Object.keys(config.ExposedPorts)),
    volumes: Object.keys(config.Volumes ?? {}),
    healthcheck: config.Healthcheck === null ? null : parseHealthcheck(config.Healthcheck),
    onBuild: config.OnBuild,
    shell: config.Shell,
    stopSignal: config.StopSignal === '' ? null : config.StopSignal,
    stopTimeoutS: config.StopTimeout,
    networkDisabled: config.NetworkDisabled,
    macAddress: config.MacAddress === '' ? null : config.MacAddress,
  };
}

export function parseHealthcheck(check: Decoded<typeof healthConfig>): HealthcheckSpec {
  for (const name of ['Interval', 'Timeout', 'StartPeriod', 'StartInterval'] as const) {
    if (check[name] !== 0 && check[name] < DURATION_NS_MIN)
      throw invalid(`${name} in Healthcheck cannot be less than 1ms`);
  }
  if (check.Retries < 0) throw invalid('Retries in Healthcheck cannot be negative');
  return {
    test: check.Test,
    intervalNs: check.Interval,
    timeoutNs: check.Timeout,
    startPeriodNs: check.StartPeriod,
    startIntervalNs: check.StartInterval,
    retries: check.Retries,
  };
}

export function formatHealthcheck(check: HealthcheckSpec | null): object | undefined {
  if (check === null) return undefined;
  return {
    Test: check.test === null || check.test.length === 0 ? undefined : check.test,
    Interval: check.intervalNs || undefined,
    Timeout: check.timeoutNs || undefined,
    StartPeriod: check.startPeriodNs || undefined,
    StartInterval: check.startIntervalNs || undefined,
    Retries: check.retries || undefined,
  };
}

/** Fields that are undefined are left out, as Go's omitempty does. */
export function formatContainerConfig(process: ProcessSpec): object {
  return {
    Hostname: process.hostname,
    Domainname: process.domainname,
    User: process.user,
    AttachStdin: process.attachStdin,
    AttachStdout: process.attachStdout,
    AttachStderr: process.attachStderr,
    ExposedPorts:
      process.exposedPorts === null || process.exposedPorts.length === 0 ? undefined : formatSet(process.exposedPorts),
    Tty: process.tty,
    OpenStdin: process.openStdin,
    StdinOnce: process.stdinOnce,
    Env: process.env,
    Cmd: process.cmd,
    Healthcheck: formatHealthcheck(process.healthcheck),
    ArgsEscaped: process.argsEscaped || undefined,
    Image: process.image,
    Volumes: process.volumes === null ? null : formatSet(process.volumes),
    WorkingDir: process.workingDir,
    Entrypoint: process.entrypoint,
    NetworkDisabled: process.networkDisabled || undefined,
    MacAddress: process.macAddress ?? undefined,
    OnBuild: process.onBuild,
    Labels: process.labels,
    StopSignal: process.stopSignal ?? undefined,
    StopTimeout: process.stopTimeoutS ?? undefined,
    Shell: process.shell === null || process.shell.length === 0 ? undefined : process.shell,
  };
}

function invalid(message: string): EngineError {
  return new EngineError('CONTAINER_SPEC_INVALID', message);
}
