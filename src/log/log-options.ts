/**
 * `--log-driver` and `--log-opt`: checked when a container is made, in Docker's words.
 * Source: moby daemon/logger/factory.go, jsonfilelog, local (v28). docs/logging.md is the user's page.
 */
import type { LogSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { LogDriver, MessageSource } from './drivers/driver.ts';
import { SERVICE_DRIVERS } from './drivers/drivers.ts';
import type { LogFileOptions, TendedLog } from './port.ts';

/** Unlike Docker's json-file, output is bounded when nothing is asked. */
export const DEFAULT_MAX_SIZE_BYTES = 20_000_000;
export const DEFAULT_MAX_FILES = 5;

export interface LogConfig {
  readonly driver: string;
  /** The service that output is forwarded to from the file; null: none. */
  readonly service: LogDriver | null;
  /** False: `docker logs` is refused, though there may be a file as a buffer. */
  readonly isReadable: boolean;
  /** null: output is kept nowhere. */
  readonly file: Pick<LogFileOptions, 'maxSizeBytes' | 'maxFiles'> | null;
  /** Rotated files are packed. */
  readonly compress: boolean;
  /** What is to be written into each line. */
  readonly selection: AttributeSelection;
}

/** Which labels and variables of the container become attributes of its lines. */
export interface AttributeSelection {
  readonly labels: readonly string[];
  readonly labelsRegex: RegExp | null;
  readonly env: readonly string[];
  readonly envRegex: RegExp | null;
  /** A Go template; "": none. */
  readonly tag: string;
}

const FILE_DRIVERS = ['json-file', 'local', 'none'];
/** As `docker info` lists them. */
export const LOG_DRIVERS: readonly string[] = ['json-file', 'local', ...SERVICE_DRIVERS.keys()].toSorted();
const JSON_FILE_OPTIONS = new Set([
  'max-file',
  'max-size',
  'compress',
  'labels',
  'labels-regex',
  'env',
  'env-regex',
  'tag',
]);
const LOCAL_OPTIONS = new Set(['max-file', 'max-size', 'compress']);
/** Of every driver. */
const COMMON_OPTIONS = new Set([
  'mode',
  'max-buffer-size',
  'cache-disabled',
  'cache-max-size',
  'cache-max-file',
  'cache-compress',
]);

const NOTHING: AttributeSelection = { labels: [], labelsRegex: null, env: [], envRegex: null, tag: '' };

/**
 * `defaults`: the daemon's driver and options; its options count only where the container takes its driver too.
 * @throws {EngineError} LOG_DRIVER_UNKNOWN, LOG_OPTION_INVALID
 */
export function parseLogOptions(asked: LogSpec, defaults: LogSpec): LogConfig {
  const { driver, options } = mergeLogSpec(asked, defaults);
  if (driver === 'none')
    return { driver, service: null, isReadable: false, file: null, compress: false, selection: NOTHING };
  checkMode(options);
  const service = SERVICE_DRIVERS.get(driver);
  if (service !== undefined) return serviceConfig(service, options);
  checkNames(driver, options);
  const file = fileOptions(options);
  const compress = parseBool(options['compress'] ?? '') ?? false;
  return { driver, service: null, isReadable: true, file, compress, selection: selectionOf(options) };
}

/**
 * As parseLogOptions, for a container that is to be made: looks at the service's own options too, and at the files and
 * sockets that they name, which may go later without `docker logs` minding.
 * @throws {EngineError} LOG_DRIVER_UNKNOWN, LOG_OPTION_INVALID, OPTION_UNSUPPORTED
 */
export function checkLogOptions(asked: LogSpec, defaults: LogSpec): void {
  const { service } = parseLogOptions(asked, defaults);
  service?.check(mergeLogSpec(asked, defaults).options);
}

/** Of the daemon's own `--log-driver` and `--log-opt`. @throws {EngineError} as checkLogOptions, in dockerd's words */
export function checkDefaultLog(defaults: LogSpec): void {
  try {
    checkLogOptions(defaults, { driver: '', options: {} });
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    const message = `failed to start daemon: failed to set log opts: ${error.message}`;
    throw new EngineError(error.code, message, { cause: error });
  }
}

/** The local file is the service's buffer; the options that bound it are those of Docker's dual logging. */
function serviceConfig(service: LogDriver, options: Readonly<Record<string, string>>): LogConfig {
  for (const name of Object.keys(options)) {
    if (!COMMON_OPTIONS.has(name) && !service.options.includes(name)) refuse(service.unknown(name));
  }
  const disabled = options['cache-disabled'] ?? '';
  if (disabled !== '' && parseBool(disabled) === null) refuse(`invalid value for option cache-disabled: ${disabled}`);
  const { 'cache-max-size': size, 'cache-max-file': files, 'cache-compress': compress = '' } = options;
  if (compress !== '' && parseBool(compress) === null) {
    refuse(`strconv.ParseBool: parsing ${JSON.stringify(compress)}: invalid syntax`);
  }
  if (parseBool(compress) === true) {
    throw new EngineError(
      'OPTION_UNSUPPORTED',
      "log opt 'cache-compress' is not supported: what is still to be sent is kept as it is",
    );
  }
  // Unlike max-size, this bounds each of the usual number of files.
  const bounds = fileOptions({ ...(size && { 'max-size': size }), 'max-file': files || String(DEFAULT_MAX_FILES) });
  const selection = selectionOf(options);
  return {
    driver: service.name,
    service,
    isReadable: parseBool(disabled) !== true,
    file: bounds,
    compress: false,
    selection,
  };
}

/** null: it only has to be written. `log`: with the defaults put in; `path`: of the local file. */
export function tendedLog(log: LogSpec, subject: LogSubject, path: string): TendedLog | null {
  const config = parseLogOptions(log, log);
  const { service: driver, compress } = config;
  if (config.file === null || (driver === null && !compress)) return null;
  const file = { path, ...config.file, attributes: {} };
  return { file, compress, service: driver && { driver, source: messageSource(config, log.options, subject) } };
}

/** What the messages to the service of `config` are made of. */
function messageSource(
  config: LogConfig,
  options: Readonly<Record<string, string>>,
  subject: LogSubject,
): MessageSource {
  const { selection } = config;
  // Only of splunk may the tag be empty on purpose. Source: moby loggerutils.ParseLogTag.
  const template = options['tag'] === '' && config.driver === 'splunk' ? '' : selection.tag || '{{.ID}}';
  return {
    options,
    subject,
    tag: expandTag(template, subject),
    attributes: logAttributes({ ...selection, tag: '' }, subject),
  };
}

/** What inspect shows: the driver that is meant, and the options as asked. */
export function mergeLogSpec(asked: LogSpec, defaults: LogSpec): LogSpec {
  const named = asked.driver === '' ? defaults.driver || 'json-file' : asked.driver;
  if (!FILE_DRIVERS.includes(named) && !SERVICE_DRIVERS.has(named)) {
    throw new EngineError('LOG_DRIVER_UNKNOWN', `logger: no log driver named '${named}' is registered`);
  }
  const isDefault = named === (defaults.driver || 'json-file');
  // Of another driver's defaults, those of the local file count. Source: moby cache.MergeDefaultLogConfig.
  const inherited = Object.entries(defaults.options).filter(([name]) => isDefault || name.startsWith('cache-'));
  return { driver: named, options: { ...Object.fromEntries(inherited), ...asked.options } };
}

/**
 * Nothing that a container writes waits for a log service here: the shim writes a local file. So "blocking" and
 * "non-blocking" come to the same, and the buffer's size is checked but has nothing to bound.
 */
function checkMode(options: Readonly<Record<string, string>>): void {
  const { mode = '', 'max-buffer-size': size } = options;
  if (!['', 'blocking', 'non-blocking'].includes(mode)) refuse(`logger: logging mode not supported: ${mode}`);
  if (size === undefined) return;
  if (mode !== 'non-blocking') refuse("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
  if (parseSize(size, 1024) === null) refuse(`error parsing option max-buffer-size: invalid size: '${size}'`);
}

function checkNames(driver: string, options: Readonly<Record<string, string>>): void {
  const known = driver === 'local' ? LOCAL_OPTIONS : JSON_FILE_OPTIONS;
  for (const name of Object.keys(options)) {
    if (COMMON_OPTIONS.has(name) || known.has(name)) continue;
    refuse(
      driver === 'local'
        ? `unknown log opt '${name}' for log driver local`
        : `unknown log opt '${name}' for json-file log driver`,
    );
  }
}

function fileOptions(options: Readonly<Record<string, string>>): Pick<LogFileOptions, 'maxSizeBytes' | 'maxFiles'> {
  const { 'max-size': size, 'max-file': files, compress } = options;
  let maxSizeBytes: number | null = DEFAULT_MAX_SIZE_BYTES;
  if (size !== undefined && size !== '-1') {
    maxSizeBytes = parseSize(size, 1000);
    if (maxSizeBytes === null) refuse(`invalid size: '${size}'`);
    if (maxSizeBytes <= 0) refuse('max-size must be a positive number');
  } else if (size === '-1') {
    maxSizeBytes = null; // Docker's word for "never rotate"
  }
  // Who bounds the size and does not say how many files means one, as Docker does.
  let maxFiles = size === undefined ? DEFAULT_MAX_FILES : 1;
  if (files !== undefined) {
    if (!/^[+-]?\d+$/.test(files)) refuse(`strconv.Atoi: parsing ${JSON.stringify(files)}: invalid syntax`);
    maxFiles = Number(files);
    if (maxFiles < 1) refuse('max-file cannot be less than 1');
  }
  if (compress !== undefined) {
    const wanted = parseBool(compress);
    if (wanted === null) refuse(`strconv.ParseBool: parsing ${JSON.stringify(compress)}: invalid syntax`);
    if (wanted && (maxFiles < 2 || maxSizeBytes === null))
      refuse('compress cannot be true when max-file is less than 2 or max-size is not set');
  }
  return { maxSizeBytes, maxFiles };
}

function selectionOf(options: Readonly<Record<string, string>>): AttributeSelection {
  const list = (text = ''): string[] => (text === '' ? [] : text.split(','));
  const regex = (name: string): RegExp | null => {
    const text = options[name] ?? '';
    if (text === '') return null;
    try {
      return new RegExp(text);
    } catch (error) {
      return refuse(`error parsing regexp: ${(error as Error).message}`);
    }
  };
  const tag = options['tag'] ?? '';
  if (tag !== '') checkTag(tag);
  return {
    labels: list(options['labels']),
    labelsRegex: regex('labels-regex'),
    env: list(options['env']),
    envRegex: regex('env-regex'),
    tag,
  };
}

/** What attributes are taken from. */
export interface LogSubject {
  readonly containerId: string;
  /** Without the slash. */
  readonly containerName: string;
  readonly imageId: string;
  readonly imageName: string;
  /** RFC 3339 */
  readonly createdAt: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly env: readonly string[];
  /** entrypoint and cmd */
  readonly command: readonly string[];
}

/** Source: moby daemon/logger/loginfo.go ExtraAttributes. */
export function logAttributes(selection: AttributeSelection, subject: LogSubject): Record<string, string> {
  const variables = new Map(
    subject.env
      .filter((entry) => entry.includes('='))
      .map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
  );
  const attributes: Record<string, string> = {};
  const labels = new Map(Object.entries(subject.labels));
  pick(attributes, labels, selection.labels, selection.labelsRegex);
  pick(attributes, variables, selection.env, selection.envRegex);
  const tag = selection.tag === '' ? '' : expandTag(selection.tag, subject);
  if (tag !== '') attributes['tag'] = tag;
  return attributes;
}

function pick(
  into: Record<string, string>,
  from: ReadonlyMap<string, string>,
  names: readonly string[],
  regex: RegExp | null,
): void {
  for (const name of names) {
    const value = from.get(name);
    if (value !== undefined) into[name] = value;
  }
  if (regex !== null) for (const [name, value] of from) if (regex.test(name)) into[name] = value;
}

const SHORT = 12;
const TAG_FIELD = /\{\{\s*\.(\w+)\s*\}\}/g;
const TAG_FIELDS: Readonly<Record<string, (subject: LogSubject) => string>> = {
  ID: (subject) => subject.containerId.slice(0, SHORT),
  FullID: (subject) => subject.containerId,
  Name: (subject) => subject.containerName,
  ImageID: (subject) => subject.imageId.slice(0, SHORT), // of "sha256:…", as Docker's
  ImageFullID: (subject) => subject.imageId,
  ImageName: (subject) => subject.imageName,
  Command: (subject) => subject.command.join(' '),
  DaemonName: () => 'docker',
};

function expandTag(tag: string, subject: LogSubject): string {
  return tag.replace(TAG_FIELD, (_, field: string) => TAG_FIELDS[field]?.(subject) ?? '');
}

/** Go's template language is not built in; the fields that Docker documents are. */
function checkTag(tag: string): void {
  for (const [, field = ''] of tag.matchAll(TAG_FIELD)) {
    if (!Object.hasOwn(TAG_FIELDS, field)) {
      refuse(
        `template: log-tag:1:2: executing "log-tag" at <.${field}>: can't evaluate field ${field} in type *logger.Info`,
      );
    }
  }
  if (/\{\{|\}\}/.test(tag.replace(TAG_FIELD, '')))
    refuse(`log opt 'tag': only {{.Field}} is supported, not ${JSON.stringify(tag)}`);
}

/** go-units FromHumanSize (1000) and RAMInBytes (1024). null: not a size. */
function parseSize(text: string, base: 1000 | 1024): number | null {
  const match = /^(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?$/i.exec(text);
  if (!match) return null;
  return Math.trunc(Number(match[1]) * base ** ' kmgtp'.indexOf((match[2] || ' ').toLowerCase()));
}

function parseBool(text: string): boolean | null {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true;
  return ['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text) ? false : null;
}

function refuse(message: string): never {
  throw new EngineError('LOG_OPTION_INVALID', message);
}
