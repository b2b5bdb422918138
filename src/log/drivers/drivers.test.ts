/** Each driver against a small service of its own kind on loopback or a unix socket: what arrives, and what is acknowledged. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingHttpHeaders } from 'node:http';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gunzipSync, inflateSync } from 'node:zlib';

import { EngineError } from '../../core/engine-error.ts';
import { JsonLineParser } from '../json-line.ts';
import { checkLogOptions, parseLogOptions, tendedLog, type LogSubject } from '../log-options.ts';
import type { LogEntry } from '../port.ts';
import { RefusedForGood, type Destination, type DriverHost } from './driver.ts';
import { SERVICE_DRIVERS } from './drivers.ts';
import { fieldName, formatFields, Journald } from './journald.ts';
import { EventTime, pack } from './msgpack.ts';
import { signAws } from './sigv4.ts';

const ID = 'abcdef0123456789'.repeat(4);
const SUBJECT: LogSubject = {
  containerId: ID,
  containerName: 'web',
  imageId: 'sha256:1',
  imageName: 'bb:1',
  createdAt: '2026-11-22T00:00:00Z',
  labels: { team: 'a' },
  env: ['STAGE=test', 'SECRET=1'],
  command: ['sh', '-c', 'x'],
};
const HOST: DriverHost = {
  hostname: 'host1',
  env: {},
  sendDatagrams: () => Promise.reject(new Error('no such socket')),
};
const NEVER = new AbortController().signal;

function entries(...lines: readonly string[]): LogEntry[] {
  const text = lines
    .map(
      (log, i) =>
        `${JSON.stringify({ log, stream: i % 2 ? 'stderr' : 'stdout', time: `2026-11-22T01:02:03.00400500${i}Z` })}\n`,
    )
    .join('');
  const found: LogEntry[] = [];
  new JsonLineParser().parse(Buffer.from(text), found);
  return found;
}

function open(
  t: TestContext,
  driver: string,
  options: Record<string, string>,
  host: Partial<DriverHost> = {},
): Destination {
  const log = tendedLog({ driver, options }, SUBJECT, '/x');
  assert(log?.service);
  const destination = log.service.driver.open(log.service.source, { ...HOST, ...host });
  t.after(() => destination[Symbol.dispose]());
  return destination;
}

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'lsdriver-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A stream service that keeps what it gets. */
async function streamService(
  t: TestContext,
  path?: string,
): Promise<{ port: number; got: () => Buffer; until: (bytes: number) => Promise<void>; sockets: Socket[] }> {
  let bytes = Buffer.alloc(0);
  let wake = (): void => {};
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      wake();
    });
  });
  await new Promise<void>((resolve) =>
    path === undefined ? server.listen(0, '127.0.0.1', resolve) : server.listen(path, resolve),
  );
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    port: path === undefined ? (server.address() as AddressInfo).port : 0,
    got: () => bytes,
    sockets,
    async until(count) {
      while (bytes.length < count) await new Promise<void>((resolve) => (wake = resolve));
    },
  };
}

async function udpService(t: TestContext): Promise<{ port: number; next: () => Promise<Buffer> }> {
  const socket = createSocket('udp4');
  const queue: Buffer[] = [];
  let wake = (): void => {};
  socket.on('message', (message) => {
    queue.push(message);
    wake();
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  t.after(() => socket.close());
  return {
    port: socket.address().port,
    async next() {
      while (queue.length === 0) await new Promise<void>((resolve) => (wake = resolve));
      return queue.shift() as Buffer;
    },
  };
}

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

async function httpService(
  t: TestContext,
  answer: (asked: Asked) => { status: number; body?: unknown },
): Promise<{ url: string; asked: Asked[] }> {
  const asked: Asked[] = [];
  const server = createHttpServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const one = {
        method: request.method ?? '',
        path: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks),
      };
      asked.push(one);
      const { status, body = {} } = answer(one);
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

const refusalOf = (driver: string, options: Record<string, string>): string => {
  try {
    checkLogOptions({ driver, options }, { driver: 'json-file', options: {} });
  } catch (error) {
    assert(error instanceof EngineError);
    return error.message;
  }
  return '';
};

test('LogDriver.check: Docker’s words for what is wrong', () => {
  const gelf = { 'gelf-address': 'udp://h:1' };
  const splunk = { 'splunk-url': 'http://h:1', 'splunk-token': 't' };
  const table: [string, Record<string, string>, string][] = [
    ['syslog', { x: '1' }, "unknown log opt 'x' for syslog log driver"],
    ['syslog', { 'max-size': '1m' }, "unknown log opt 'max-size' for syslog log driver"],
    ['syslog', { 'syslog-address': 'h:1' }, 'syslog-address should be in form proto://address, got h:1'],
    ['syslog', { 'syslog-address': 'unix:///no/such' }, 'stat /no/such: no such file or directory'],
    ['syslog', { 'syslog-facility': 'x' }, 'invalid syslog facility'],
    ['syslog', { 'syslog-facility': '24' }, 'invalid syslog facility'],
    ['syslog', { 'syslog-format': 'x' }, 'Invalid syslog format'],
    ['gelf', {}, 'gelf-address is a required parameter'],
    ['gelf', { ...gelf, x: '1' }, 'unknown log opt "x" for gelf log driver'],
    ['gelf', { 'gelf-address': 'http://h:1' }, 'gelf-address should be in form proto://address, got http://h:1'],
    ['gelf', { 'gelf-address': 'unix:///h' }, 'gelf: endpoint needs to be TCP or UDP'],
    ['gelf', { 'gelf-address': 'udp://h' }, 'gelf: please provide gelf-address as proto://host:port'],
    [
      'gelf',
      { ...gelf, 'gelf-compression-type': 'x' },
      'unknown value "x" for log opt "gelf-compression-type" for gelf log driver',
    ],
    ['gelf', { ...gelf, 'gelf-tcp-max-reconnect': '1' }, '"gelf-tcp-max-reconnect" is only valid for TCP'],
    ['fluentd', { x: '1' }, "unknown log opt 'x' for fluentd log driver"],
    ['fluentd', { 'fluentd-retry-wait': 'x' }, 'time: invalid duration "x"'],
    ['fluentd', { 'fluentd-async': 'x' }, 'strconv.ParseBool: parsing "x": invalid syntax'],
    ['splunk', {}, 'splunk: splunk-url is expected'],
    ['splunk', { 'splunk-url': 'http://h:1' }, 'splunk: splunk-token is expected'],
    ['splunk', { ...splunk, x: '1' }, "unknown log opt 'x' for splunk log driver"],
    [
      'splunk',
      { ...splunk, 'splunk-url': 'http://h/x' },
      'splunk: expected format scheme://dns_name_or_ip:port for splunk-url',
    ],
    ['awslogs', {}, "must specify a value for log opt 'awslogs-group'"],
    ['awslogs', { x: '1', 'awslogs-group': 'g' }, "unknown log opt 'x' for awslogs log driver"],
    [
      'awslogs',
      { 'awslogs-group': 'g', 'awslogs-multiline-pattern': 'x' },
      "log opt 'awslogs-multiline-pattern' of awslogs is not supported: each line is an event",
    ],
    ['gcplogs', { x: '1' }, '"x" is not a valid option for the gcplogs driver'],
    ['syslog', { mode: 'x' }, 'logger: logging mode not supported: x'],
    [
      'syslog',
      { 'max-buffer-size': '1m' },
      "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ],
    ['syslog', { 'cache-disabled': 'x' }, 'invalid value for option cache-disabled: x'],
  ];
  assert.deepEqual(
    table.map(([driver, options]) => refusalOf(driver, options)),
    table.map(([, , message]) => message),
  );
  assert.equal(
    refusalOf('syslog', {
      mode: 'non-blocking',
      'max-buffer-size': '4m',
      'cache-max-size': '1m',
      'cache-max-file': '2',
    }),
    '',
  );
});

test('parseLogOptions: the buffer of a service is a bounded local file, readable unless asked otherwise', () => {
  const parse = (options: Record<string, string>): unknown => {
    const { file, isReadable } = parseLogOptions({ driver: 'syslog', options }, { driver: '', options: {} });
    return { file, isReadable };
  };
  assert.deepEqual(parse({}), { file: { maxSizeBytes: 20_000_000, maxFiles: 5 }, isReadable: true });
  assert.deepEqual(parse({ 'cache-max-size': '1m', 'cache-max-file': '2', 'cache-disabled': 'true' }), {
    file: { maxSizeBytes: 1_000_000, maxFiles: 2 },
    isReadable: false,
  });
});

test('syslog: the three formats, over udp and tcp, with the time and the severity of the line', async (t) => {
  const { port, next } = await udpService(t);
  const options = {
    'syslog-address': `udp://127.0.0.1:${port}`,
    'syslog-format': 'rfc5424micro',
    tag: '{{.Name}}',
    'syslog-facility': 'local3',
  };
  await open(t, 'syslog', options).send(entries('one\n', 'two\n'), NEVER);
  const time = (await next()).toString();
  assert.match(
    time,
    new RegExp(`^<158>1 2026-11-22T\\d\\d:\\d\\d:03\\.004005\\S* host1 web ${process.pid} web - one\n$`),
  );
  assert.match((await next()).toString(), /^<155>1 \S+ host1 web \d+ web - two\n$/);

  const tcp = await streamService(t);
  await open(t, 'syslog', { 'syslog-address': `tcp://127.0.0.1:${tcp.port}`, 'syslog-format': 'rfc3164' }).send(
    entries('one\n', 'two'),
    NEVER,
  );
  await tcp.until(90);
  assert.match(
    tcp.got().toString(),
    new RegExp(`^<30>Nov 2\\d \\d\\d:\\d\\d:03 host1 abcdef012345\\[${process.pid}\\]: one\n<27>.* two\n$`),
  );

  const path = join(directory(t), 's.sock');
  const unix = await streamService(t, path);
  await open(t, 'syslog', { 'syslog-address': `unix://${path}` }).send(entries('x\n'), NEVER);
  await unix.until(40);
  assert.match(unix.got().toString(), /^<30>Nov .* host1 abcdef012345\[\d+\]: x\n$/);
});

test('syslog: a datagram socket that is full takes a part, and the rest goes with the next try', async (t) => {
  const path = join(directory(t), 's.sock');
  await streamService(t, path); // only to be there
  const taken: string[] = [];
  let room = 1;
  const sendDatagrams: DriverHost['sendDatagrams'] = async (_path, messages) => {
    const some = messages.slice(0, room);
    taken.push(...some.map((message) => Buffer.from(message).toString().trim().split(' ').at(-1) as string));
    return some.length;
  };
  const destination = open(t, 'syslog', { 'syslog-address': `unixgram://${path}` }, { sendDatagrams });
  const batch = entries('1\n', '2\n', '3\n');
  await assert.rejects(destination.send(batch, NEVER));
  room = 9;
  await destination.send(batch, NEVER);
  assert.deepEqual(taken, ['1', '2', '3']);
});

test('StreamConnection: a service that is gone is an error, and found again when it is back', async (t) => {
  const service = await streamService(t);
  const destination = open(t, 'gelf', { 'gelf-address': `tcp://127.0.0.1:${service.port}` });
  await destination.send(entries('a\n'), NEVER);
  await service.until(10);
  const before = service.got().length;
  for (const socket of service.sockets) socket.destroy();
  while (!destination.isBroken) await new Promise((resolve) => setImmediate(resolve));
  await destination.send(entries('b\n'), NEVER);
  assert.equal(destination.isBroken, false);
  await service.until(before + 10);
});

test('gelf: over tcp NUL-terminated, over udp compressed and in chunks', async (t) => {
  const tcp = await streamService(t);
  await open(t, 'gelf', { 'gelf-address': `tcp://127.0.0.1:${tcp.port}`, labels: 'team', env: 'STAGE' }).send(
    entries('a\n', 'b\n'),
    NEVER,
  );
  while (tcp.got().filter((byte) => byte === 0).length < 2) await tcp.until(tcp.got().length + 1);
  const [first] = tcp.got().toString().split('\0');
  assert.deepEqual(JSON.parse(first as string), {
    version: '1.1', host: 'host1', short_message: 'a', timestamp: Date.parse('2026-11-22T01:02:03.004Z') / 1000, level: 6,
    _command: 'sh -c x', _container_id: ID, _container_name: 'web', _created: '2026-11-22T00:00:00Z', _image_id: 'sha256:1',
    _image_name: 'bb:1', _tag: 'abcdef012345', _team: 'a', _STAGE: 'test',
  }); // prettier-ignore

  const { port, next } = await udpService(t);
  const address = { 'gelf-address': `udp://127.0.0.1:${port}` };
  await open(t, 'gelf', address).send(entries('x\n'), NEVER);
  assert.equal(JSON.parse(gunzipSync(await next()).toString()).short_message, 'x');
  await open(t, 'gelf', { ...address, 'gelf-compression-type': 'zlib' }).send(entries('y\n'), NEVER);
  assert.equal(JSON.parse(inflateSync(await next()).toString()).short_message, 'y');
  const long = 'z'.repeat(16_384);
  await open(t, 'gelf', { ...address, 'gelf-compression-type': 'none' }).send(entries(long), NEVER);
  const chunks = [await next()];
  while (chunks.length < (chunks[0]?.[11] ?? 0)) chunks.push(await next());
  assert(
    chunks.length > 10 &&
      chunks.every((chunk, i) => chunk.length <= 1420 && chunk[0] === 0x1e && chunk[1] === 0x0f && chunk[10] === i),
  );
  assert.equal(JSON.parse(Buffer.concat(chunks.map((chunk) => chunk.subarray(12))).toString()).short_message, long);
});

test('pack: as the specification has it', () => {
  const hex = (value: Parameters<typeof pack>[0]): string => pack(value).toString('hex');
  assert.deepEqual(
    [
      null,
      true,
      5,
      200,
      2 ** 32,
      'a',
      'b'.repeat(40).slice(0, 33),
      [1],
      { a: 1 },
      new EventTime(1_000_000_002n),
      Buffer.of(1),
    ].map((value) => hex(value).slice(0, 24)),
    [
      'c0',
      'c3',
      '05',
      'ce000000c8',
      'cf0000000100000000',
      'a161',
      'd92162626262626262626262',
      '9101',
      '81a16101',
      'd7000000000100000002',
      'c40101',
    ],
  );
  assert.equal(hex('x'.repeat(300)).slice(0, 6), 'da012c');
  assert.equal(hex('x'.repeat(70_000)).slice(0, 10), 'db00011170');
});

test('fluentd: one message a batch; pieces of a long line say so', async (t) => {
  const service = await streamService(t);
  const destination = open(t, 'fluentd', {
    'fluentd-address': `127.0.0.1:${service.port}`,
    tag: 't',
    'fluentd-sub-second-precision': 'true',
  });
  const batch = entries('one\n', 'half');
  await destination.send(batch, NEVER);
  const common = { container_id: ID, container_name: '/web' };
  const times = batch.map(({ timeNs }) => new EventTime(timeNs));
  const head = pack(['t', [[times[0] as EventTime, { ...common, source: 'stdout', log: 'one' }]]]).subarray(0, -1);
  await service.until(200);
  assert.equal(service.got()[0], 0x93);
  assert(service.got().includes(head.subarray(4)), 'the first event');
  assert.match(service.got().toString('latin1'), /partial_message.*partial_ordinal\xa11\xacpartial_last\xa5false/s);
});

test('fluentd: with an acknowledgement a batch counts when the server says so', async (t) => {
  const service = await streamService(t);
  const options = { 'fluentd-address': `tcp://127.0.0.1:${service.port}`, 'fluentd-request-ack': 'true' };
  const destination = open(t, 'fluentd', options);
  let isDone = false;
  const sent = destination.send(entries('a\n'), NEVER).then(() => (isDone = true));
  await service.until(150);
  const text = service.got().toString('latin1');
  const chunk = text.slice(text.indexOf('\xa5chunk') + 7, text.indexOf('\xa5chunk') + 7 + 24);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(isDone, false);
  service.sockets[0]?.write(pack({ ack: chunk }));
  await sent;
  await assert.rejects(destination.send(entries('b\n'), AbortSignal.timeout(50)), /acknowledge/);
});

test('journald: refused where there is no journal; fields as its protocol has them', async (t) => {
  if (refusalOf('journald', {}) !== '') assert.equal(refusalOf('journald', {}), 'journald is not enabled on this host');
  assert.equal(fieldName('_com.example-x'), 'COM_EXAMPLE_X');
  assert.equal(formatFields({ A: 'b', C: 'd\ne' }).toString('latin1'), 'A=b\nC\n\x03\0\0\0\0\0\0\0d\ne\n');
  const got: string[] = [];
  const sendDatagrams: DriverHost['sendDatagrams'] = async (_path, messages) => {
    got.push(...messages.map((message) => Buffer.from(message).toString()));
    return messages.length;
  };
  const journal = new Journald(
    { options: {}, subject: SUBJECT, tag: 'tag1', attributes: { team: 'a' } },
    sendDatagrams,
    '/s',
  );
  t.after(() => journal[Symbol.dispose]());
  await journal.send(entries('one\n', 'half'));
  assert.deepEqual(got[0]?.split('\n'), [
    'CONTAINER_ID=abcdef012345', `CONTAINER_ID_FULL=${ID}`, 'CONTAINER_NAME=web', 'CONTAINER_TAG=tag1', 'IMAGE_NAME=bb:1',
    'SYSLOG_IDENTIFIER=tag1', 'TEAM=a', 'MESSAGE=one', 'PRIORITY=6', 'SYSLOG_TIMESTAMP=2026-11-22T01:02:03.004005000Z',
    'CONTAINER_LOG_ORDINAL=1', '',
  ]); // prettier-ignore
  assert.match(got[1] ?? '', /PRIORITY=3\n.*CONTAINER_PARTIAL_MESSAGE=true\n$/s);
});

test('splunk: the event collector’s format; 503 is tried again, 400 never', async (t) => {
  let status = 200;
  const { url, asked } = await httpService(t, () => ({ status }));
  const options = {
    'splunk-url': url,
    'splunk-token': 'tok',
    'splunk-gzip': 'true',
    'splunk-index': 'main',
    labels: 'team',
    'splunk-format': 'json',
  };
  const destination = open(t, 'splunk', options);
  await destination.send(entries('{"a":1}\n', 'plain\n'), NEVER);
  assert.equal(asked[0]?.path, '/services/collector/event/1.0');
  assert.equal(asked[0]?.headers.authorization, 'Splunk tok');
  const events = gunzipSync(asked[0]?.body as Buffer)
    .toString()
    .split(/(?<=\})(?=\{"event")/)
    .map((text) => JSON.parse(text) as unknown);
  const common = { tag: 'abcdef012345', attrs: { team: 'a' } };
  const time = `${Date.parse('2026-11-22T01:02:03Z') / 1000}.004005`;
  assert.deepEqual(events, [
    { event: { line: { a: 1 }, source: 'stdout', ...common }, time, host: 'host1', index: 'main' },
    { event: { line: 'plain', source: 'stderr', ...common }, time, host: 'host1', index: 'main' },
  ]);
  status = 503;
  await assert.rejects(destination.send(entries('x\n'), NEVER), (error) => !(error instanceof RefusedForGood));
  status = 400;
  await assert.rejects(destination.send(entries('x\n'), NEVER), RefusedForGood);
});

test('signAws: post-vanilla of AWS’s signature test suite', () => {
  const { authorization } = signAws({
    url: new URL('https://example.amazonaws.com/'),
    service: 'service',
    region: 'us-east-1',
    headers: {},
    body: new Uint8Array(),
    at: new Date('2015-08-30T12:36:00Z'),
    credentials: {
      accessKeyId: 'AKIDEXAMPLE',
      secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
      sessionToken: '',
    },
  });
  assert.equal(
    authorization,
    'AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b',
  );
});

test('awslogs: makes the group and the stream, and puts events in the order of their times', async (t) => {
  let hasGroup = false;
  const { url, asked } = await httpService(t, ({ headers }) => {
    const operation = String(headers['x-amz-target']).split('.')[1];
    if (operation === 'CreateLogStream' && !hasGroup)
      return { status: 400, body: { __type: 'ResourceNotFoundException' } };
    if (operation === 'CreateLogGroup') hasGroup = true;
    return { status: 200 };
  });
  const options = {
    'awslogs-group': 'g',
    'awslogs-create-group': 'true',
    'awslogs-region': 'eu-west-1',
    'awslogs-endpoint': url,
  };
  const env = { AWS_ACCESS_KEY_ID: 'k', AWS_SECRET_ACCESS_KEY: 's' };
  const destination = open(t, 'awslogs', options, { env });
  await destination.send(entries('one\n', '\n', 'three\n'), NEVER);
  assert.deepEqual(
    asked.map(({ headers }) => String(headers['x-amz-target']).split('.')[1]),
    ['CreateLogStream', 'CreateLogGroup', 'CreateLogStream', 'PutLogEvents'],
  );
  const timestamp = Date.parse('2026-11-22T01:02:03.004Z');
  assert.deepEqual(JSON.parse(String(asked.at(-1)?.body)), {
    logGroupName: 'g', logStreamName: ID, logEvents: [{ timestamp, message: 'one' }, { timestamp, message: 'three' }],
  }); // prettier-ignore
  assert.match(asked.at(-1)?.headers.authorization ?? '', /Credential=k\/\d{8}\/eu-west-1\/logs\//);
  await assert.rejects(
    open(t, 'awslogs', options, { env: { HOME: '/nonexistent' } }).send(entries('x\n'), NEVER),
    /NoCredentialProviders/,
  );
});

test('gcplogs: a token by the key file, and entries with it', async (t) => {
  const { url, asked } = await httpService(t, ({ path }) => ({
    status: 200,
    body: path === '/token' ? { access_token: 'tok', expires_in: 3600 } : {},
  }));
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const path = join(directory(t), 'key.json');
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' });
  writeFileSync(
    path,
    JSON.stringify({
      project_id: 'p1',
      private_key_id: 'k',
      private_key: key,
      client_email: 'a@b',
      token_uri: `${url}/token`,
    }),
  );
  const env = { GOOGLE_APPLICATION_CREDENTIALS: path, LONGSHORE_GCPLOGS_ENDPOINT: url };
  const destination = open(t, 'gcplogs', { 'gcp-meta-zone': 'z', 'gcp-log-cmd': 'true' }, { env });
  await destination.send(entries('one\n'), NEVER);
  await destination.send(entries('two\n'), NEVER);
  assert.deepEqual(
    asked.map((one) => one.path),
    ['/token', '/v2/entries:write', '/v2/entries:write'],
  );
  assert.equal(asked[1]?.headers.authorization, 'Bearer tok');
  assert.deepEqual(JSON.parse(String(asked[1]?.body)), {
    entries: [{
      logName: 'projects/p1/logs/gcplogs-docker-driver',
      resource: { type: 'gce_instance', labels: { instance_id: '', zone: 'z' } },
      timestamp: '2026-11-22T01:02:03.004005000Z',
      jsonPayload: {
        instance: { zone: 'z' },
        container: { name: '/web', id: ID, imageName: 'bb:1', imageId: 'sha256:1', created: '2026-11-22T00:00:00Z', command: 'sh -c x' },
        message: 'one',
      },
    }],
  }); // prettier-ignore
});

test('SERVICE_DRIVERS: every driver that Docker has for a service', () => {
  assert.deepEqual([...SERVICE_DRIVERS.keys()].toSorted(), [
    'awslogs',
    'fluentd',
    'gcplogs',
    'gelf',
    'journald',
    'splunk',
    'syslog',
  ]);
});
