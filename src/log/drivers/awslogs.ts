/**
 * Amazon CloudWatch Logs. Source: moby daemon/logger/awslogs (v28), the CloudWatch Logs API reference. What becomes an event
 * is in awslogs-events.ts, whose name it is sent in aws-credentials.ts.
 */
import type { GoRegExp } from '../go-regexp.ts';
import { flag, refuse, requireBool, type Options } from '../option-values.ts';
import type { LogEntry } from '../port.ts';
import { AwsIdentity } from './aws-credentials.ts';
import {
  assembleEvents,
  closed,
  lineEvents,
  multilinePattern,
  requestsOf,
  type AwsEvent,
  type OpenEvent,
} from './awslogs-events.ts';
import type { Destination, DriverHost, LogDriver, MessageSource, Sent } from './driver.ts';
import { HttpClient, type HttpAnswer } from './http-client.ts';
import { signAws } from './sigv4.ts';

const LINGER_MS = 1000;
/** How long Docker waits for more of an event. */
const EVENT_AGE_MS = 5000;
const EMF = 'json/emf';
const FORBIDDEN = [
  'ExpiredTokenException',
  'UnrecognizedClientException',
  'InvalidSignatureException',
  'AccessDeniedException',
];

export const awslogs: LogDriver = {
  name: 'awslogs',
  options: [
    'awslogs-group', 'awslogs-stream', 'awslogs-create-group', 'awslogs-create-stream', 'awslogs-region',
    'awslogs-endpoint', 'awslogs-credentials-endpoint', 'awslogs-force-flush-interval-seconds',
    'awslogs-max-buffered-events', 'awslogs-datetime-format', 'awslogs-multiline-pattern', 'awslogs-format', 'tag',
  ], // prettier-ignore
  unknown: (option) => `unknown log opt '${option}' for awslogs log driver`,
  check,
  open: (source, host) => new AwsLogs(source, host),
};

function check(options: Options): void {
  if ((options['awslogs-group'] ?? '') === '') refuse("must specify a value for log opt 'awslogs-group'");
  for (const name of ['awslogs-create-group', 'awslogs-create-stream'])
    requireBool(options[name] ?? '', `must specify valid value for log opt '${name}': `);
  for (const name of ['awslogs-force-flush-interval-seconds', 'awslogs-max-buffered-events']) {
    const text = options[name] ?? '';
    if (text !== '' && (!/^\+?\d+$/.test(text) || Number(text) < 1))
      refuse(`must specify a positive integer for log opt '${name}': ${text}`);
  }
  const [datetime, pattern, format] = ['awslogs-datetime-format', 'awslogs-multiline-pattern', 'awslogs-format'];
  const isMultiline = options[datetime!] !== undefined || options[pattern!] !== undefined;
  if (options[datetime!] !== undefined && options[pattern!] !== undefined)
    refuse(`you cannot configure log opt '${datetime}' and '${pattern}' at the same time`);
  const asked = options[format!] ?? '';
  if (asked !== '' && asked !== EMF) refuse(`unsupported log format '${asked}'`);
  if (asked !== '' && isMultiline)
    refuse(`you cannot configure log opt '${datetime}' or '${pattern}' when log opt '${format}' is set to '${EMF}'`);
  multilinePattern(options);
  const endpoint = options['awslogs-endpoint'] ?? '';
  if (endpoint !== '' && !URL.canParse(endpoint)) refuse(`invalid awslogs-endpoint ${JSON.stringify(endpoint)}`);
}

class AwsLogs implements Destination {
  readonly confirms = 'answer';
  readonly lingerMs: number;
  readonly isBroken = false;
  readonly #options: Options;
  readonly #group: string;
  readonly #stream: string;
  readonly #pattern: GoRegExp | null;
  readonly #eventAgeMs: number;
  readonly #client = new HttpClient();
  readonly #identity: AwsIdentity;
  #open: OpenEvent | null = null;
  #isStreamThere = false;
  /** Services of old want one. */
  #sequenceToken = '';

  constructor({ options, subject, tag }: MessageSource, { env }: DriverHost) {
    this.#options = options;
    this.#group = options['awslogs-group'] ?? '';
    // moby: the container's ID, or the expanded tag if there is one; ":" and "*" are not allowed in it.
    const tagged = (options['tag'] ?? '') === '' ? subject.containerId : tag;
    this.#stream = (options['awslogs-stream'] || tagged).replace(/[:*]/g, '_');
    this.#pattern = multilinePattern(options);
    const seconds = Number(options['awslogs-force-flush-interval-seconds'] || 0);
    this.#eventAgeMs = seconds > 0 ? seconds * 1000 : EVENT_AGE_MS;
    this.lingerMs = seconds > 0 ? seconds * 1000 : this.#pattern === null ? LINGER_MS : EVENT_AGE_MS;
    this.#identity = new AwsIdentity(options, env, this.#client);
  }

  async send(batch: readonly LogEntry[], signal: AbortSignal): Promise<Sent> {
    if (this.#pattern === null) return { refused: await this.#sendEvents(lineEvents(batch), signal) };
    const { events, next, heldFrom } = assembleEvents(batch, this.#pattern, this.#eventAgeMs, this.#open);
    const refused = await this.#sendEvents(events, signal);
    this.#open = next;
    return { refused, heldFrom };
  }

  async flush(signal: AbortSignal): Promise<Sent> {
    const refused = this.#open === null ? 0 : await this.#sendEvents([closed(this.#open)], signal);
    this.#open = null;
    return { refused };
  }

  discard(): void {
    this.#open = null;
  }

  /** Lines that were refused for good. */
  async #sendEvents(events: readonly AwsEvent[], signal: AbortSignal): Promise<number> {
    if (events.length === 0) return 0;
    if (!this.#isStreamThere) await this.#ensureStream(signal);
    let refused = 0;
    for (const request of requestsOf(events)) refused += await this.#put(request, signal); // oxlint-disable-line no-await-in-loop
    return refused;
  }

  async #put(events: readonly AwsEvent[], signal: AbortSignal): Promise<number> {
    let answer = await this.#putOnce(events, signal);
    if (errorKind(answer) === 'InvalidSequenceTokenException') {
      this.#sequenceToken = tokenOf(answer);
      answer = await this.#putOnce(events, signal);
    }
    if (answer.status === 200) {
      const { nextSequenceToken, rejectedLogEventsInfo } = parse(answer);
      if (typeof nextSequenceToken === 'string') this.#sequenceToken = nextSequenceToken;
      return rejectedLines(events, rejectedLogEventsInfo);
    }
    const kind = errorKind(answer);
    if (kind === 'DataAlreadyAcceptedException') {
      this.#sequenceToken = tokenOf(answer);
      return 0;
    }
    if (kind === 'InvalidParameterException' || kind === 'SerializationException') {
      if (events.length === 1) return events[0]!.lines;
      const half = events.length >> 1;
      return (await this.#put(events.slice(0, half), signal)) + (await this.#put(events.slice(half), signal));
    }
    if (kind === 'ResourceNotFoundException') this.#isStreamThere = false; // removed meanwhile: made again at the next try
    throw new Error(describe('PutLogEvents', answer));
  }

  #putOnce(events: readonly AwsEvent[], signal: AbortSignal): Promise<HttpAnswer> {
    const format = this.#options['awslogs-format'];
    return this.#call(
      'PutLogEvents',
      {
        logGroupName: this.#group,
        logStreamName: this.#stream,
        logEvents: events.map(({ timestampMs, message }) => ({ timestamp: timestampMs, message })),
        ...(this.#sequenceToken !== '' && { sequenceToken: this.#sequenceToken }),
      },
      signal,
      format ? { 'x-amzn-logs-format': format } : {},
    );
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

  async #call(
    operation: string,
    input: object,
    signal: AbortSignal,
    extra: Readonly<Record<string, string>> = {},
  ): Promise<HttpAnswer> {
    const region = await this.#identity.region(signal);
    const url = new URL(this.#options['awslogs-endpoint'] || `https://logs.${region}.amazonaws.com/`);
    const body = Buffer.from(JSON.stringify(input));
    const target = { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `Logs_20140328.${operation}` };
    const headers = signAws({
      url,
      service: 'logs',
      region,
      headers: { ...target, ...extra },
      body,
      at: new Date(),
      credentials: await this.#identity.credentials(signal),
    });
    const answer = await this.#client.send('POST', url, headers, body, signal);
    if (answer.status === 403 || FORBIDDEN.includes(errorKind(answer))) this.#identity.forget();
    return answer;
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }
}

/** The service takes a request and leaves out what is too old, too new or beyond its retention; indexes in its order. */
function rejectedLines(events: readonly AwsEvent[], info: unknown): number {
  if (typeof info !== 'object' || info === null) return 0;
  const index = (name: string): number | undefined => {
    const value = (info as Readonly<Record<string, unknown>>)[name];
    return typeof value === 'number' ? value : undefined;
  };
  const begin = Math.max(index('tooOldLogEventEndIndex') ?? 0, index('expiredLogEventEndIndex') ?? 0);
  const end = index('tooNewLogEventStartIndex') ?? events.length;
  return events.reduce((lines, event, i) => (i < begin || i >= end ? lines + event.lines : lines), 0);
}

function parse({ body }: HttpAnswer): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  } catch {
    return {};
  }
}

function errorKind(answer: HttpAnswer): string {
  if (answer.status === 200) return '';
  const { __type: type } = parse(answer);
  return typeof type === 'string' ? (type.split('#').at(-1) ?? '') : '';
}

function tokenOf(answer: HttpAnswer): string {
  const { expectedSequenceToken: token } = parse(answer);
  return typeof token === 'string' ? token : '';
}

function describe(operation: string, { status, body }: HttpAnswer): string {
  return `awslogs: ${operation}: ${status} ${body.slice(0, 500)}`;
}
