/**
 * Amazon CloudWatch Logs. Source: moby daemon/logger/awslogs (v28), the CloudWatch Logs API reference. Credentials: the
 * daemon's environment, the container credentials endpoint, ~/.aws/credentials. Not of the instance (IMDS), and not
 * multi-line events: those options are refused.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { EngineError } from '../../core/engine-error.ts';
import type { LogEntry } from '../port.ts';
import {
  flag,
  parseBool,
  refuse,
  RefusedForGood,
  textOf,
  type Destination,
  type DriverHost,
  type LogDriver,
  type MessageSource,
  type Options,
} from './driver.ts';
import { HttpClient, type HttpAnswer } from './http-client.ts';
import { signAws, type AwsCredentials } from './sigv4.ts';

const LINGER_MS = 1000;
/** Of one request: 1 MiB with 26 bytes for each event, 10,000 events, 24 hours. */
const EVENT_OVERHEAD_BYTES = 26;
const REQUEST_BYTES_MAX = 1_048_576;
const EVENTS_MAX = 10_000;
const SPAN_MS_MAX = 24 * 3_600_000 - 1;
const CREDENTIALS_ADDRESS = 'http://169.254.170.2';
const CREDENTIALS_MS_MAX = 5 * 60_000;
const UNSUPPORTED = ['awslogs-datetime-format', 'awslogs-multiline-pattern', 'awslogs-format'];

export const awslogs: LogDriver = {
  name: 'awslogs',
  options: [
    'awslogs-group', 'awslogs-stream', 'awslogs-create-group', 'awslogs-create-stream', 'awslogs-region',
    'awslogs-endpoint', 'awslogs-credentials-endpoint', 'awslogs-force-flush-interval-seconds',
    'awslogs-max-buffered-events', 'tag', ...UNSUPPORTED,
  ], // prettier-ignore
  unknown: (option) => `unknown log opt '${option}' for awslogs log driver`,
  check(options) {
    const unsupported = UNSUPPORTED.find((name) => options[name] !== undefined);
    if (unsupported !== undefined)
      throw new EngineError(
        'OPTION_UNSUPPORTED',
        `log opt '${unsupported}' of awslogs is not supported: each line is an event`,
      );
    if ((options['awslogs-group'] ?? '') === '') refuse("must specify a value for log opt 'awslogs-group'");
    for (const name of ['awslogs-create-group', 'awslogs-create-stream']) {
      const text = options[name] ?? '';
      if (text !== '' && parseBool(text) === null)
        refuse(
          `must specify valid value for log opt '${name}': strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`,
        );
    }
    for (const name of ['awslogs-force-flush-interval-seconds', 'awslogs-max-buffered-events']) {
      const text = options[name];
      if (text !== undefined && (!/^\d+$/.test(text) || Number(text) < 1))
        refuse(`must specify a positive integer for log opt '${name}': ${text}`);
    }
    const endpoint = options['awslogs-endpoint'];
    if (endpoint !== undefined && !URL.canParse(endpoint))
      refuse(`invalid awslogs-endpoint ${JSON.stringify(endpoint)}`);
  },
  open: (source, host) => new AwsLogs(source, host),
};

class AwsLogs implements Destination {
  readonly confirms = 'answer';
  readonly lingerMs: number;
  readonly isBroken = false;
  readonly #options: Options;
  readonly #group: string;
  readonly #stream: string;
  readonly #env: DriverHost['env'];
  readonly #client = new HttpClient();
  #credentials: { readonly value: AwsCredentials; readonly untilMs: number } | null = null;
  #isStreamThere = false;

  constructor({ options, subject, tag }: MessageSource, { env }: DriverHost) {
    this.#options = options;
    this.#group = options['awslogs-group'] ?? '';
    // moby: the container's ID, or the expanded tag if there is one; ":" and "*" are not allowed in it.
    this.#stream = (options['awslogs-stream'] ?? ((options['tag'] ?? '') === '' ? subject.containerId : tag)).replace(
      /[:*]/g,
      '_',
    );
    this.#env = env;
    const seconds = Number(options['awslogs-force-flush-interval-seconds'] ?? 0);
    this.lingerMs = seconds > 0 ? seconds * 1000 : LINGER_MS;
  }

  async send(batch: readonly LogEntry[], signal: AbortSignal): Promise<void> {
    if (!this.#isStreamThere) await this.#ensureStream(signal);
    for (const events of requestsOf(batch)) await this.#put(events, signal); // oxlint-disable-line no-await-in-loop
  }

  async #put(logEvents: readonly Event[], signal: AbortSignal): Promise<void> {
    if (logEvents.length === 0) return;
    const answer = await this.#call(
      'PutLogEvents',
      { logGroupName: this.#group, logStreamName: this.#stream, logEvents },
      signal,
    );
    if (answer.status === 200) return;
    const kind = errorKind(answer);
    if (kind === 'DataAlreadyAcceptedException') return;
    if (kind === 'ResourceNotFoundException') this.#isStreamThere = false; // removed meanwhile: made again at the next try
    if (kind === 'InvalidParameterException') throw new RefusedForGood(describe('PutLogEvents', answer));
    throw new Error(describe('PutLogEvents', answer));
  }

  async #ensureStream(signal: AbortSignal): Promise<void> {
    const group = { logGroupName: this.#group };
    const mayCreate = flag({ create: this.#options['awslogs-create-stream'] || 'true' }, 'create');
    if (mayCreate) {
      const stream = { ...group, logStreamName: this.#stream };
      let answer = await this.#call('CreateLogStream', stream, signal);
      if (errorKind(answer) === 'ResourceNotFoundException' && flag(this.#options, 'awslogs-create-group')) {
        const made = await this.#call('CreateLogGroup', group, signal);
        if (made.status !== 200 && errorKind(made) !== 'ResourceAlreadyExistsException')
          throw new Error(describe('CreateLogGroup', made));
        answer = await this.#call('CreateLogStream', stream, signal);
      }
      if (answer.status !== 200 && errorKind(answer) !== 'ResourceAlreadyExistsException')
        throw new Error(describe('CreateLogStream', answer));
    }
    this.#isStreamThere = true;
  }

  async #call(operation: string, input: object, signal: AbortSignal): Promise<HttpAnswer> {
    const region = this.#options['awslogs-region'] || this.#env['AWS_REGION'] || this.#env['AWS_DEFAULT_REGION'] || '';
    const endpoint = this.#options['awslogs-endpoint'] || `https://logs.${region}.amazonaws.com/`;
    if (region === '') throw new Error('awslogs: no region: set awslogs-region, or AWS_REGION of the daemon');
    const body = Buffer.from(JSON.stringify(input));
    const headers = signAws({
      url: new URL(endpoint),
      service: 'logs',
      region,
      headers: { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `Logs_20140328.${operation}` },
      body,
      at: new Date(),
      credentials: await this.#credentialsNow(signal),
    });
    return this.#client.send('POST', new URL(endpoint), headers, body, signal);
  }

  async #credentialsNow(signal: AbortSignal): Promise<AwsCredentials> {
    if (this.#credentials !== null && Date.now() < this.#credentials.untilMs) return this.#credentials.value;
    const value = await this.#findCredentials(signal);
    this.#credentials = { value, untilMs: Date.now() + CREDENTIALS_MS_MAX };
    return value;
  }

  async #findCredentials(signal: AbortSignal): Promise<AwsCredentials> {
    const env = this.#env;
    const endpoint = this.#options['awslogs-credentials-endpoint'] || env['AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'];
    if (
      this.#options['awslogs-credentials-endpoint'] === undefined &&
      env['AWS_ACCESS_KEY_ID'] &&
      env['AWS_SECRET_ACCESS_KEY']
    )
      return {
        accessKeyId: env['AWS_ACCESS_KEY_ID'],
        secretAccessKey: env['AWS_SECRET_ACCESS_KEY'],
        sessionToken: env['AWS_SESSION_TOKEN'] ?? '',
      };
    if (endpoint) {
      const { status, body } = await this.#client.send('GET', new URL(endpoint, CREDENTIALS_ADDRESS), {}, null, signal);
      const found = status === 200 ? (JSON.parse(body) as Record<string, string | undefined>) : {};
      if (found['AccessKeyId'] && found['SecretAccessKey'])
        return {
          accessKeyId: found['AccessKeyId'],
          secretAccessKey: found['SecretAccessKey'],
          sessionToken: found['Token'] ?? '',
        };
    }
    const path = env['AWS_SHARED_CREDENTIALS_FILE'] || join(env['HOME'] ?? '/root', '.aws/credentials');
    const text = await readFile(path, 'utf8').catch(() => '');
    const found = sectionOf(text, env['AWS_PROFILE'] || 'default');
    if (found['aws_access_key_id'] && found['aws_secret_access_key'])
      return {
        accessKeyId: found['aws_access_key_id'],
        secretAccessKey: found['aws_secret_access_key'],
        sessionToken: found['aws_session_token'] ?? '',
      };
    throw new Error('NoCredentialProviders: no valid providers in chain');
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }
}

interface Event {
  readonly timestamp: number;
  readonly message: string;
}

/** As many events a request as the service takes, in the order of their times. Empty lines are no events. */
function* requestsOf(batch: readonly LogEntry[]): Generator<Event[]> {
  const events = batch
    .map((entry) => ({ timestamp: Number(entry.timeNs / 1_000_000n), message: textOf(entry) }))
    .filter(({ message }) => message !== '')
    .toSorted((a, b) => a.timestamp - b.timestamp);
  let request: Event[] = [];
  let sizeBytes = 0;
  for (const event of events) {
    const bytes = Buffer.byteLength(event.message) + EVENT_OVERHEAD_BYTES;
    const first = request[0];
    if (
      first !== undefined &&
      (sizeBytes + bytes > REQUEST_BYTES_MAX ||
        request.length === EVENTS_MAX ||
        event.timestamp - first.timestamp > SPAN_MS_MAX)
    ) {
      yield request;
      request = [];
      sizeBytes = 0;
    }
    request.push(event);
    sizeBytes += bytes;
  }
  yield request;
}

function errorKind({ status, body }: HttpAnswer): string {
  if (status === 200) return '';
  try {
    const type = (JSON.parse(body) as { readonly __type?: unknown }).__type;
    return typeof type === 'string' ? (type.split('#').at(-1) ?? '') : '';
  } catch {
    return '';
  }
}

function describe(operation: string, { status, body }: HttpAnswer): string {
  return `awslogs: ${operation}: ${status} ${body.slice(0, 500)}`;
}

/** One section of an INI file. */
function sectionOf(text: string, name: string): Record<string, string> {
  const found: Record<string, string> = {};
  let isIn = false;
  for (const line of text.split('\n')) {
    const header = /^\s*\[([^\]]*)\]/.exec(line);
    if (header !== null) isIn = header[1]?.trim() === name;
    const pair = /^\s*([\w-]+)\s*=\s*(.*?)\s*$/.exec(line);
    if (isIn && pair !== null) found[pair[1] as string] = pair[2] as string;
  }
  return found;
}
