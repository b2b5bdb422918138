/** Log drivers of services end to end: a service that is down delays nothing, gets all of it once it is up, also over daemons. */
import assert from 'node:assert/strict';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { after, before, test } from 'node:test';

import { eventually, TestDaemon } from '../support/daemon.ts';
import { FakeJournal } from '../support/journal.ts';

let d: TestDaemon;
let journal: FakeJournal;
before(async () => {
  journal = await FakeJournal.start();
  process.env['LONGSHORE_JOURNAL_SOCKET'] = journal.path; // the daemon inherits it
  d = await TestDaemon.start();
  await d.image();
});
after(async () => {
  await journal[Symbol.asyncDispose]();
  await d[Symbol.asyncDispose]();
});

/** A syslog server on a port of its own that goes down and up. */
class Syslog implements AsyncDisposable {
  #server: Server | null = null;
  readonly #sockets = new Set<Socket>();
  #port = 0;
  text = '';

  async up(): Promise<void> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => (this.text += chunk.toString()));
      socket.on('close', () => this.#sockets.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  async down(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => (this.#server === null ? resolve(null) : this.#server.close(resolve)));
    this.#server = null;
  }

  get options(): string[] {
    return [
      '--log-driver',
      'syslog',
      '--log-opt',
      `syslog-address=tcp://127.0.0.1:${this.#port}`,
      '--log-opt',
      'syslog-format=rfc5424',
      '--log-opt',
      'tag={{.Name}}',
    ];
  }

  /** What containers said, in order. */
  lines(): string[] {
    return this.text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.replace(/^\S+ \S+ \S+ (\S+) \d+ \S+ - /, '$1:'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
  }
}

test('info: lists the log drivers that there are', async () => {
  const { json } = await d.api('GET', '/info');
  assert.deepEqual(json.Plugins.Log, [
    'awslogs',
    'fluentd',
    'gcplogs',
    'gelf',
    'journald',
    'json-file',
    'local',
    'splunk',
    'syslog',
  ]);
});

test('create: a wrong option is refused with Docker’s words, before anything is made', async () => {
  const refused = await d.docker('create', '--log-driver', 'syslog', '--log-opt', 'x=y', 'bb:1');
  assert.match(refused.stderr, /unknown log opt 'x' for syslog log driver/);
  const unknown = await d.docker('create', '--log-driver', 'nope', 'bb:1');
  assert.match(unknown.stderr, /no log driver named 'nope' is registered/);
  assert.equal(await d.ok('ps', '-aq'), '');
});

test('syslog: what --rm containers said arrives though they are gone', async () => {
  await using service = new Syslog();
  await service.up();
  assert.equal(
    await d.ok('run', '--rm', '--name', 'brief', ...service.options, 'bb:1', 'sh', '-c', 'echo one; echo two >&2'),
    'one',
  );
  await eventually('both lines', () => service.lines().length === 2);
  assert.deepEqual(service.lines().toSorted(), ['brief:one', 'brief:two']);
});

test('syslog: a service that is down delays nothing; all comes when it is up, also what a killed daemon left; docker logs works', async () => {
  await using service = new Syslog();
  await service.up();
  await service.down();
  const beganMs = Date.now();
  const id = await d.ok(
    'run',
    '-d',
    '--name',
    'steady',
    ...service.options,
    'bb:1',
    'sh',
    '-c',
    'i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); [ $((i % 100)) = 0 ] && sleep 0.1; done; echo end',
  );
  assert(Date.now() - beganMs < 10_000, 'the start waited for the service');
  await eventually('some lines', async () => (await d.ok('logs', '--tail', '1', id)) > '200');
  await d.down('SIGKILL');
  await service.up();
  await d.up();
  await eventually('lines at the service', () => service.lines().length > 100, 30_000);
  await service.down();
  await eventually(
    'the end of the container',
    async () => (await d.inspect(id, '{{.State.Status}}')) === 'exited',
    30_000,
  );
  assert.equal((await d.ok('logs', id)).split('\n').length, 2001);
  await d.down('SIGTERM');
  await service.up();
  await d.up();
  await eventually('the last line', () => service.lines().includes('steady:end'), 40_000);
  const expected = [...Array.from({ length: 2000 }, (_, i) => String(i)), 'end'];
  const said = service.lines().map((line) => line.replace('steady:', ''));
  let next = 0;
  for (const line of said) {
    const at = expected.indexOf(line);
    assert(at <= next, `${expected[next]} is missing before ${line}`);
    if (at === next) next++;
  }
  assert.equal(next, expected.length);
  await d.ok('rm', id);
});

test('journald: Docker’s fields, a label too large for a datagram, and all of it after the journal was away', async () => {
  const large = 'x'.repeat(300_000);
  const script =
    'echo one; echo two >&2; head -c 20000 /dev/zero | tr "\\0" y; echo; while ! [ -e /go ]; do sleep 0.1; done; seq 60';
  const { json } = await d.api('POST', '/containers/create?name=journaled', {
    Image: 'bb:1',
    Cmd: ['sh', '-c', script],
    Labels: { 'com.example.big': large, team: 'a' },
    HostConfig: { LogConfig: { Type: 'journald', Config: { labels: 'team,com.example.big', tag: '{{.Name}}' } } },
  });
  await d.api('POST', '/containers/journaled/start');
  await journal.until(4);
  const fields = Array.from({ length: 4 }, (_, i) => journal.fields(i)).toSorted((a, b) =>
    (a['MESSAGE'] ?? '').localeCompare(b['MESSAGE'] ?? ''),
  );
  assert.deepEqual(
    fields.map(({ MESSAGE: message = '', PRIORITY: priority, TEAM: team, COM_EXAMPLE_BIG: big, SYSLOG_IDENTIFIER: tag }) => [
      message.slice(0, 3), message.length, priority, team, big?.length, tag,
    ]),
    [['one', 3, '6', 'a', 300_000, 'journaled'], ['two', 3, '3', 'a', 300_000, 'journaled'],
     ['yyy', 3616, '6', 'a', 300_000, 'journaled'], ['yyy', 16_384, '6', 'a', 300_000, 'journaled']],
  ); // prettier-ignore
  const pieces = fields.filter(({ CONTAINER_PARTIAL_ID: id }) => id !== undefined);
  assert.deepEqual(
    pieces.map((one) => [one['CONTAINER_PARTIAL_ORDINAL'], one['CONTAINER_PARTIAL_LAST'], one['CONTAINER_PARTIAL_ID'] === pieces[0]?.['CONTAINER_PARTIAL_ID']]),
    [['2', 'true', true], ['1', 'false', true]],
  ); // prettier-ignore
  await journal.down();
  await d.ok('exec', 'journaled', 'touch', '/go');
  await d.ok('wait', 'journaled');
  await journal.up();
  await journal.until(64);
  const ordinals = Array.from({ length: 64 }, (_, i) => journal.fields(i)['CONTAINER_LOG_ORDINAL']);
  assert.deepEqual(
    ordinals,
    Array.from({ length: 64 }, (_, i) => String(i + 1)),
  );
  assert.equal(journal.fields(63)['MESSAGE'], '60');
  assert.equal(journal.fields(0)['CONTAINER_ID_FULL'], json.Id);
  await d.ok('rm', json.Id);
});

test('none: nothing is kept, and logs are refused', async () => {
  const id = await d.ok('run', '-d', '--log-driver', 'none', 'bb:1', 'echo', 'x');
  const { code, stderr } = await d.docker('logs', id);
  assert.deepEqual([code, /does not support reading/.test(stderr)], [1, true]);
  await d.ok('rm', '-f', id);
});
