/**
 * The services behind HTTP and fluentd's protocol as they fail: busy, throttled, broken off, taken and not said so. What
 * arrives is all of it, in order, and twice only what may be: a batch that failed on its way.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { generateKeyPairSync } from 'node:crypto';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gunzipSync } from 'node:zlib';

import { httpService, SUBJECT, HOST, type Asked } from '../../../test/support/log-services.ts';
import { Random } from '../../../test/support/random.ts';
import { systemClock, type Clock } from '../../core/clock.ts';
import { silent } from '../../core/log.ts';
import { CursorFile } from '../cursor.ts';
import { Forwarder, newTally } from '../forwarder.ts';
import { tendedLog } from '../log-options.ts';

const LINES = 10_000;

/** An answer may take 0.15 s instead of 30 s, and so on: one that is late under load is one more fault. */
const hasty: Clock = {
  nowMs: () => systemClock.nowMs(),
  wallNs: () => systemClock.wallNs(),
  setTimer: (delayMs, run) => systemClock.setTimer(delayMs / 200, run),
};

/** Forwards a log of LINES lines, "0" to the last, until `received` has the last. */
async function forwardAll(
  t: TestContext,
  driver: string,
  options: Record<string, string>,
  env: Record<string, string>,
  isDone: () => boolean,
  text: (line: number) => string = String,
): Promise<Forwarder> {
  const directory = mkdtempSync(join(tmpdir(), 'lsfault-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'x-json.log');
  const line = (i: number): string =>
    JSON.stringify({ log: `${text(i)}\n`, stream: 'stdout', time: new Date(1_795_305_600_000 + i).toISOString() });
  writeFileSync(path, `${Array.from({ length: LINES }, (_, i) => line(i)).join('\n')}\n`);
  const log = tendedLog({ driver, options }, SUBJECT, path);
  assert(log?.service);
  const forwarder = new Forwarder({
    containerId: 'c',
    driver,
    file: log.file,
    destination: log.service.driver.open(log.service.source, { ...HOST, env }),
    cursor: new CursorFile(join(directory, 'cursor')),
    clock: hasty,
    logger: silent,
    tally: newTally(),
  });
  t.after(() => forwarder.close());
  forwarder.begin();
  forwarder.end();
  await forwarder.settled();
  assert(isDone(), 'not all arrived');
  return forwarder;
}

/** Each number from 0 on comes before the next one; `repeats`: how many came again. */
function checkOrder(received: readonly string[], total = LINES): number {
  let next = 0;
  for (const text of received) {
    const number = Number(text);
    assert(number <= next, `${next} is missing before ${number}`);
    if (number === next) next++;
  }
  assert.equal(next, total);
  return received.length - total;
}

/** A service that takes a request, or fails in one of the ways that such services do. */
function faulty(random: Random, take: (asked: Asked) => unknown, busy: readonly { status: number; body?: unknown }[]) {
  return (asked: Asked): { status: number; body?: unknown } => {
    const chance = random.below(10);
    if (chance < 4) return { status: 200, body: take(asked) };
    if (chance < 5) {
      take(asked); // and its answer does not come to us
      return { status: 0 };
    }
    return random.pick(busy);
  };
}

const CREDENTIALS = { AWS_ACCESS_KEY_ID: 'k', AWS_SECRET_ACCESS_KEY: 's', AWS_REGION: 'eu-west-1' };
const SEEDS = [1, 2, Math.trunc(Math.random() * 1e9)];

test('splunk: busy, broken, compressed: all arrives in order, and twice only what was not acknowledged', async (t) => {
  for (const seed of SEEDS) {
    const received: string[] = [];
    let unsaid = 0;
    const { url } = await httpService(
      t,
      faulty(
        new Random(seed),
        ({ body }) => {
          const events = gunzipSync(body).toString().split(/(?<=\})(?=\{"event")/).map((one) => JSON.parse(one).event.line as string);
          received.push(...events);
          unsaid = Math.max(unsaid, events.length);
          return { text: 'Success', code: 0 };
        },
        [{ status: 503, body: { text: 'Server is busy', code: 9 } }, { status: 500 }, { status: 429 }, { status: 403 }],
      ),
    ); // prettier-ignore
    const options = {
      'splunk-url': url,
      'splunk-token': 't',
      'splunk-gzip': 'true',
      'splunk-verify-connection': 'false',
    };
    const forwarder = await forwardAll(t, 'splunk', options, {}, () => received.at(-1) === String(LINES - 1));
    checkOrder(received);
    assert.equal(forwarder.status.refusedLines, 0, `seed ${seed}`);
  }
});

test('awslogs: throttling, sequence tokens, broken answers, a part of a request rejected: all is there or counted', async (t) => {
  let [rejected, counted] = [0, 0];
  for (const seed of SEEDS) {
    const received: string[] = [];
    let [token, hasStream] = ['1', false];
    const random = new Random(seed);
    const { url } = await httpService(t, (asked) => {
      const operation = String(asked.headers['x-amz-target']).split('.')[1];
      if (operation === 'CreateLogStream') {
        hasStream = true;
        return { status: 200 };
      }
      const input = JSON.parse(asked.body.toString()) as { sequenceToken?: string; logEvents: { message: string }[] };
      if (input.sequenceToken !== undefined && input.sequenceToken !== token)
        return { status: 400, body: { __type: 'InvalidSequenceTokenException', expectedSequenceToken: token } };
      return faulty(random, () => {
        token = String(Number(token) + 1);
        const lost = random.below(4) === 0 ? Math.min(2, input.logEvents.length - 1) : 0;
        rejected += lost;
        received.push(...input.logEvents.map(({ message }) => message));
        return {
          nextSequenceToken: token,
          ...(lost > 0 && { rejectedLogEventsInfo: { tooOldLogEventEndIndex: lost } }),
        };
      }, [
        { status: 400, body: { __type: 'ThrottlingException', message: 'Rate exceeded' } },
        { status: 503, body: { __type: 'ServiceUnavailableException' } },
        { status: 500 },
      ])(asked);
    });
    const options = { 'awslogs-group': 'g', 'awslogs-endpoint': url };
    const forwarder = await forwardAll(t, 'awslogs', options, CREDENTIALS, () => received.at(-1) === String(LINES - 1));
    checkOrder(received);
    assert(hasStream);
    counted += forwarder.status.refusedLines;
  }
  // An answer that did not come was not counted.
  assert(counted > 0 && counted <= rejected, `${counted} of ${rejected} rejected lines are counted`);
});

test('awslogs: several lines are one event, whole over batches and failures', async (t) => {
  const received: string[] = [];
  const { url } = await httpService(
    t,
    faulty(
      new Random(3),
      (asked) => {
        const { logEvents } = JSON.parse(asked.body.toString()) as { logEvents?: { message: string }[] };
        received.push(...(logEvents ?? []).map(({ message }) => message));
        return {};
      },
      [{ status: 400, body: { __type: 'ThrottlingException' } }],
    ),
  );
  const options = { 'awslogs-group': 'g', 'awslogs-endpoint': url, 'awslogs-datetime-format': '%Y-%m-%d' };
  const text = (i: number): string => (i % 7 === 0 ? `2026-01-02 ${i / 7}` : `  at ${i} ${'x'.repeat(40)}`);
  await forwardAll(
    t,
    'awslogs',
    options,
    CREDENTIALS,
    () => received.at(-1)?.includes(`  at ${LINES - 1} `) === true,
    text,
  );
  for (const [i, event] of received.entries()) {
    const lines = event.split('\n');
    assert.equal(lines.pop(), '');
    const number = Number(/^2026-01-02 (\d+)$/.exec(lines[0] ?? '')?.[1]);
    assert.equal(
      lines.length,
      number === Math.floor((LINES - 1) / 7) ? ((LINES - 1) % 7) + 1 : 7,
      `event ${i}: ${event}`,
    );
  }
  checkOrder(
    received.map((event) => /\d+$/m.exec(event.slice(11))![0]),
    Math.ceil(LINES / 7),
  );
});

test('gcplogs: busy, quota, a line that is refused: the others arrive in order', async (t) => {
  const received: string[] = [];
  const refused = '17';
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const key = join(mkdtempSync(join(tmpdir(), 'lsfault-')), 'key.json');
  t.after(() => rmSync(join(key, '..'), { recursive: true }));
  const random = new Random(4);
  const { url } = await httpService(t, (asked) => {
    if (asked.path === '/token') return { status: 200, body: { access_token: 'tok', expires_in: 3600 } };
    const { entries } = JSON.parse(asked.body.toString()) as { entries: { jsonPayload: { message: string } }[] };
    const lines = entries.map(({ jsonPayload }) => jsonPayload.message);
    if (lines.includes(refused)) return { status: 400, body: { error: { status: 'INVALID_ARGUMENT' } } };
    const busy = [{ status: 429, body: { error: { status: 'RESOURCE_EXHAUSTED' } } }, { status: 503 }, { status: 401 }];
    return faulty(random, () => void received.push(...lines), busy)(asked);
  });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  const account = {
    project_id: 'p',
    private_key_id: 'k',
    private_key: pem,
    client_email: 'a@b',
    token_uri: `${url}/token`,
  };
  writeFileSync(key, JSON.stringify(account));
  const env = { GOOGLE_APPLICATION_CREDENTIALS: key, LONGSHORE_GCPLOGS_ENDPOINT: url };
  const forwarder = await forwardAll(t, 'gcplogs', {}, env, () => received.at(-1) === String(LINES - 1));
  assert.equal(forwarder.status.refusedLines, 1);
  checkOrder(
    received.map((text) => (Number(text) > 17 ? String(Number(text) - 1) : text)),
    LINES - 1,
  );
});

test('fluentd: connections that break before and after a batch was taken: with acknowledgements nothing is missing', async (t) => {
  const received: string[] = [];
  const random = new Random(5);
  const server = createServer((socket) => {
    let bytes = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      const text = bytes.toString('latin1');
      const ack = /\xa5chunk\xb8([A-Za-z0-9+/=]{24})$/.exec(text);
      if (ack === null) return;
      bytes = Buffer.alloc(0);
      const chance = random.below(6);
      if (chance === 0) return void socket.destroy();
      received.push(...[...text.matchAll(/\xa3log[\xa1-\xa5](\d{1,5})/g)].map(([, line]) => line as string));
      if (chance === 1) return void socket.destroy();
      socket.write(
        Buffer.concat([
          Buffer.from([0x81, 0xa3]),
          Buffer.from('ack'),
          Buffer.from([0xb8]),
          Buffer.from(ack[1] as string),
        ]),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const options = { 'fluentd-address': address, 'fluentd-request-ack': 'true' };
  await forwardAll(t, 'fluentd', options, {}, () => received.at(-1) === String(LINES - 1));
  checkOrder(received);
});
