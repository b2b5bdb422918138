/**
 * `--log-driver` and `--log-opt`: checked when a container is made, in Docker's words.
 * Source: moby daemon/logger/factory.go, jsonfilelog, local (v28). docs/logging.md is the user's page.
 */
import type { LogSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { LogDriver, MessageSource } from './drivers/driver.ts';
import { SERVICE_DRIVERS } from './drivers/drivers.ts';
import {
  logAttributes,
  selectionOf,
  NO_SELECTION,
  type AttributeSelection,
  type LogSubject,
} from './log-attributes.ts';
import {
  AT_START,
  parseBool,
  parseSize,
  refuse,
  refuseAtStart,
  requireBool,
  requireInteger,
  type Options,
} from './option-values.ts';
import { expandTag } from './log-tag.ts';
import type { LogFileOptions, TendedLog } from './port.ts';

/** Unlike Docker's json-file, output is bounded when nothing is asked. */
export const DEFAULT_MAX_SIZE_BYTES = 100_000_000;
/** Of Docker's `local`, and of the buffers of services. */
const LOCAL_MAX_SIZE_BYTES = 20_000_000;
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

const CACHE_PREFIX = 'cache-';
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

/**
 * `defaults`: the daemon's driver and options; its options count only where the container takes its driver too.
 * @throws {EngineError} LOG_DRIVER_UNKNOWN, LOG_OPTION_INVALID
 */
export function parseLogOptions(asked: LogSpec, defaults: LogSpec): LogConfig {
  const { driver, options } = mergeLogSpec(asked, defaults);
  if (driver === 'none')
    return { driver, service: null, isReadable: false, file: null, compress: false, selection: NO_SELECTION };
  checkMode(options);
  const service = SERVICE_DRIVERS.get(driver);
  if (service !== undefined) return serviceConfig(service, options);
  checkNames(driver, options);
  const file = driver === 'local' ? localFile(options) : jsonFile(options);
  return { driver, service: null, isReadable: true, ...file, selection: selectionOf(options) };
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
  const cache = Object.entries(options).flatMap(([name, value]) =>
    name.startsWith(CACHE_PREFIX) ? [[name.slice(CACHE_PREFIX.length), value] as const] : [],
  );
  return {
    driver: service.name,
    service,
    isReadable: parseBool(disabled) !== true,
    ...localFile(Object.fromEntries(cache)),
    selection: selectionOf(options),
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
  const attributes = logAttributes({ ...selection, tag: '' }, subject);
  // Only of splunk may the tag be empty on purpose. Source: moby loggerutils.ParseLogTag.
  const template = options['tag'] === '' && config.driver === 'splunk' ? '' : selection.tag || '{{.ID}}';
  return {
    options,
    subject,
    tag: expandTag(template, subject, attributes),
    attributes,
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
  const inherited = Object.entries(defaults.options).filter(([name]) => isDefault || name.startsWith(CACHE_PREFIX));
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

type FileConfig = Pick<LogConfig, 'compress'> & { readonly file: NonNullable<LogConfig['file']> };

function jsonFile(options: Options): FileConfig {
  const { 'max-size': size, 'max-file': files, compress = '' } = options;
  let maxSizeBytes: number | null = DEFAULT_MAX_SIZE_BYTES;
  if (size !== undefined && size !== '-1') {
    maxSizeBytes = parseSize(size, 1000) ?? refuseAtStart(`invalid size: '${size}'`);
    if (maxSizeBytes <= 0) refuseAtStart('max-size must be a positive number');
  } else if (size === '-1') {
    maxSizeBytes = null; // Docker's word for "never rotate"
  }
  // Who bounds the size and does not say how many files means one, as Docker does.
  const maxFiles = files === undefined ? (size === undefined ? DEFAULT_MAX_FILES : 1) : requireInteger(files, AT_START);
  if (maxFiles < 1) refuseAtStart('max-file cannot be less than 1');
  const isCompressed = requireBool(compress, AT_START);
  if (isCompressed && (maxFiles < 2 || maxSizeBytes === null))
    refuseAtStart('compress cannot be true when max-file is less than 2 or max-size is not set');
  return { file: { maxSizeBytes, maxFiles }, compress: isCompressed };
}

/** Of Docker's `local`, and with "cache-" in front of the buffers of services: what is not asked is bounded. */
function localFile(options: Options): FileConfig {
  const { 'max-size': size, 'max-file': files, compress = '' } = options;
  const maxSizeBytes =
    size === undefined
      ? LOCAL_MAX_SIZE_BYTES
      : (parseSize(size, 1000) ?? refuseAtStart(`invalid value for max-size: ${size}: invalid size: '${size}'`));
  const maxFiles =
    files === undefined
      ? DEFAULT_MAX_FILES
      : requireInteger(files, `${AT_START}invalid value for max-file: ${files}: `);
  if (maxFiles < 0) refuseAtStart('max file count cannot be less than 0');
  // Unlike Docker's default: packing takes time of the processor that nobody asked for.
  const isCompressed = requireBool(compress, `${AT_START}error reading compress log option: `);
  if (isCompressed && maxFiles <= 1) refuseAtStart('compression cannot be enabled when max file count is 1');
  return { file: { maxSizeBytes: Math.max(1, maxSizeBytes), maxFiles: Math.max(1, maxFiles) }, compress: isCompressed };
}
