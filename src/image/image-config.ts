/**
 * The image config (the JSON whose digest is the image's ID), read with suspicion and written.
 * Source: OCI image spec v1.1 config.md, and Docker's additions (healthcheck, on-build, shell, docker_version).
 */
import type { HealthcheckSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';

import { isDigest } from './reference.ts';
import type { Digest, ImageConfig } from './port.ts';

/** One line of a config's history. */
export interface ConfigHistory {
  /** "" when it does not say. */
  readonly created: string;
  readonly createdBy: string;
  readonly author: string;
  readonly comment: string;
  readonly emptyLayer: boolean;
}

/** What a config says, in our words. */
export interface ConfigFile {
  readonly createdAt: string;
  readonly author: string;
  readonly comment: string;
  readonly architecture: string;
  readonly variant: string;
  readonly os: string;
  readonly osVersion: string;
  readonly dockerVersion: string;
  readonly config: ImageConfig;
  /** Of the container that the image was made of; its cmd is the step that made it. Missing where it is not known. */
  readonly containerConfig?: ImageConfig;
  readonly layers: readonly Digest[];
  readonly history: readonly ConfigHistory[];
}

type Json = Readonly<Record<string, unknown>>;

export const EMPTY_CONFIG: ImageConfig = {
  user: '',
  env: null,
  entrypoint: null,
  cmd: null,
  workingDir: '',
  labels: null,
  exposedPorts: null,
  volumes: null,
  stopSignal: '',
  healthcheck: null,
  onBuild: null,
  shell: null,
  argsEscaped: false,
};

const LAYERS_MAX = 1000;
const HISTORY_MAX = 10_000;

/** @throws IMAGE_ARCHIVE_INVALID naming the field */
export function parseConfigFile(bytes: Uint8Array): ConfigFile {
  const whole = parseJsonObject(bytes, 'image config');
  const rootfs = object(whole, 'rootfs') ?? {};
  const containerConfig = object(whole, 'container_config');
  const layers = strings(rootfs, 'diff_ids') ?? [];
  if (layers.length > LAYERS_MAX || !layers.every(isDigest)) throw wrong('rootfs.diff_ids');
  return {
    createdAt: text(whole, 'created'),
    author: text(whole, 'author'),
    comment: text(whole, 'comment'),
    architecture: text(whole, 'architecture'),
    variant: text(whole, 'variant'),
    os: text(whole, 'os'),
    osVersion: text(whole, 'os.version'),
    dockerVersion: text(whole, 'docker_version'),
    config: parseConfig(object(whole, 'config') ?? {}),
    ...(containerConfig !== null && { containerConfig: parseConfig(containerConfig) }),
    layers,
    history: parseHistory(whole['history']),
  };
}

export function formatConfigFile(file: ConfigFile): Buffer {
  return Buffer.from(
    JSON.stringify({
      architecture: file.architecture,
      ...(file.variant !== '' && { variant: file.variant }),
      os: file.os,
      ...(file.osVersion !== '' && { 'os.version': file.osVersion }),
      created: file.createdAt,
      ...(file.author !== '' && { author: file.author }),
      ...(file.comment !== '' && { comment: file.comment }),
      ...(file.dockerVersion !== '' && { docker_version: file.dockerVersion }),
      config: formatConfig(file.config),
      ...(file.containerConfig !== undefined && { container_config: formatConfig(file.containerConfig) }),
      rootfs: { type: 'layers', diff_ids: file.layers },
      history: file.history.map((entry) => ({
        ...(entry.created !== '' && { created: entry.created }),
        ...(entry.author !== '' && { author: entry.author }),
        ...(entry.createdBy !== '' && { created_by: entry.createdBy }),
        ...(entry.comment !== '' && { comment: entry.comment }),
        ...(entry.emptyLayer && { empty_layer: true }),
      })),
    }),
  );
}

/** @throws IMAGE_ARCHIVE_INVALID */
export function parseJsonObject(bytes: Uint8Array, what: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString());
  } catch (error) {
    throw new EngineError('IMAGE_ARCHIVE_INVALID', `invalid ${what}: not JSON`, { cause: error });
  }
  if (!isObject(value)) throw new EngineError('IMAGE_ARCHIVE_INVALID', `invalid ${what}: not an object`);
  return value;
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseConfig(json: Json): ImageConfig {
  return {
    user: text(json, 'User'),
    env: strings(json, 'Env'),
    entrypoint: strings(json, 'Entrypoint'),
    cmd: strings(json, 'Cmd'),
    workingDir: text(json, 'WorkingDir'),
    labels: labels(json),
    exposedPorts: keys(json, 'ExposedPorts'),
    volumes: keys(json, 'Volumes'),
    stopSignal: text(json, 'StopSignal'),
    healthcheck: healthcheck(object(json, 'Healthcheck')),
    onBuild: strings(json, 'OnBuild'),
    shell: strings(json, 'Shell'),
    argsEscaped: json['ArgsEscaped'] === true,
  };
}

function formatConfig(config: ImageConfig): Json {
  const set = (names: readonly string[]): Json => Object.fromEntries(names.map((name) => [name, {}]));
  return {
    ...(config.user !== '' && { User: config.user }),
    ...(config.exposedPorts !== null && { ExposedPorts: set(config.exposedPorts) }),
    Env: config.env,
    ...(config.entrypoint !== null && { Entrypoint: config.entrypoint }),
    Cmd: config.cmd,
    ...(config.healthcheck !== null && { Healthcheck: formatHealthcheck(config.healthcheck) }),
    ...(config.argsEscaped && { ArgsEscaped: true }),
    ...(config.volumes !== null && { Volumes: set(config.volumes) }),
    ...(config.workingDir !== '' && { WorkingDir: config.workingDir }),
    ...(config.onBuild !== null && { OnBuild: config.onBuild }),
    ...(config.labels !== null && { Labels: config.labels }),
    ...(config.stopSignal !== '' && { StopSignal: config.stopSignal }),
    ...(config.shell !== null && { Shell: config.shell }),
  };
}

function healthcheck(json: Json | null): HealthcheckSpec | null {
  if (json === null) return null;
  return {
    test: strings(json, 'Test'),
    intervalNs: count(json, 'Interval'),
    timeoutNs: count(json, 'Timeout'),
    startPeriodNs: count(json, 'StartPeriod'),
    startIntervalNs: count(json, 'StartInterval'),
    retries: count(json, 'Retries'),
  };
}

function formatHealthcheck(spec: HealthcheckSpec): Json {
  return {
    ...(spec.test !== null && { Test: spec.test }),
    ...(spec.intervalNs !== 0 && { Interval: spec.intervalNs }),
    ...(spec.timeoutNs !== 0 && { Timeout: spec.timeoutNs }),
    ...(spec.startPeriodNs !== 0 && { StartPeriod: spec.startPeriodNs }),
    ...(spec.startIntervalNs !== 0 && { StartInterval: spec.startIntervalNs }),
    ...(spec.retries !== 0 && { Retries: spec.retries }),
  };
}

function parseHistory(value: unknown): ConfigHistory[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > HISTORY_MAX) throw wrong('history');
  return value.map((entry: unknown) => {
    if (!isObject(entry)) throw wrong('history');
    return {
      created: text(entry, 'created'),
      createdBy: text(entry, 'created_by'),
      author: text(entry, 'author'),
      comment: text(entry, 'comment'),
      emptyLayer: entry['empty_layer'] === true,
    };
  });
}

function text(json: Json, key: string): string {
  const value = json[key];
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') throw wrong(key);
  return value;
}

function count(json: Json, key: string): number {
  const value = json[key];
  if (value === undefined || value === null) return 0;
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw wrong(key);
  return value;
}

function strings(json: Json, key: string): string[] | null {
  const value = json[key];
  if (value === undefined || value === null) return null;
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) throw wrong(key);
  return value;
}

function keys(json: Json, key: string): string[] | null {
  const value = object(json, key);
  return value === null ? null : Object.keys(value);
}

function labels(json: Json): Record<string, string> | null {
  const value = object(json, 'Labels');
  if (value === null) return null;
  const entries = Object.entries(value).map(([key, label]): [string, string] => {
    if (typeof label !== 'string') throw wrong('Labels');
    return [key, label];
  });
  return Object.fromEntries(entries);
}

function object(json: Json, key: string): Json | null {
  const value = json[key];
  if (value === undefined || value === null) return null;
  if (!isObject(value)) throw wrong(key);
  return value;
}

function wrong(field: string): EngineError {
  return new EngineError('IMAGE_ARCHIVE_INVALID', `invalid image config: ${field}`);
}
