/** Testcontainers for Node.js, as its users call it: waiting for log lines, followed logs, exec, copies, ports. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import type * as Testcontainers from 'testcontainers';

import { eventually, TestDaemon } from '../support/daemon.ts';

let daemon: TestDaemon;
let library: typeof Testcontainers;
before(async () => {
  daemon = await TestDaemon.start();
  await daemon.image();
  // Read when the library is loaded. Its reaper is an image, and there is no registry here.
  process.env['DOCKER_HOST'] = daemon.host;
  process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';
  process.env['TESTCONTAINERS_HOST_OVERRIDE'] = '127.0.0.1';
  library = await import('testcontainers');
});
after(() => daemon[Symbol.asyncDispose]());

const SERVER = `
echo to stderr >&2
i=0; while [ $i -lt 3 ]; do i=$((i+1)); echo "line $i"; done
mkdir -p /www; echo hello > /www/index.html; httpd -p 8080 -h /www
echo ready to serve
while :; do sleep 0.1; [ -e /more ] && echo more && rm /more; done`;

test('testcontainers: Wait.forLogMessage, withLogConsumer, logs, exec, copies, ports, stop', async () => {
  const { GenericContainer, Wait } = library;
  const consumed: string[] = [];
  const container = await new GenericContainer('bb:1')
    .withCommand(['sh', '-c', SERVER])
    .withExposedPorts(8080)
    .withEnvironment({ A: 'b c' })
    .withCopyContentToContainer([{ content: 'copied\n', target: '/in/copied.txt' }])
    .withLogConsumer((stream) => {
      stream.on('data', (line: Buffer | string) => consumed.push(String(line)));
    })
    .withWaitStrategy(Wait.forAll([Wait.forLogMessage(/ready to (\w+)/), Wait.forListeningPorts()]))
    .withStartupTimeout(30_000)
    .start();
  try {
    const page = await fetch(`http://${container.getHost()}:${container.getMappedPort(8080)}/`);
    assert.equal(await page.text(), 'hello\n');

    const ran = await container.exec(['sh', '-c', 'cat /in/copied.txt; echo "$A $B" >&2; id -u; pwd; exit 3'], {
      env: { B: 'c' },
      user: '1000',
      workingDir: '/tmp',
    });
    assert.deepEqual(
      [ran.exitCode, ran.stdout, ran.stderr, ran.output.split('\n').toSorted()],
      [3, 'copied\n1000\n/tmp\n', 'b c c\n', ['', '/tmp', '1000', 'b c c', 'copied']],
    ); // prettier-ignore
    assert.equal((await container.exec('nope')).exitCode, 127);
    const many = await Promise.all(Array.from({ length: 20 }, (_, i) => container.exec(['sh', '-c', `exit ${i}`])));
    assert.deepEqual(many.map(({ exitCode }) => exitCode), Array.from({ length: 20 }, (_, i) => i)); // prettier-ignore

    await container.copyContentToContainer([{ content: 'later', target: '/later', mode: 0o600 }]);
    assert.equal((await container.exec(['stat', '-c', '%a %s', '/later'])).stdout, '600 5\n');
    const archive = await container.copyArchiveFromContainer('/later');
    let sizeBytes = 0;
    for await (const chunk of archive) sizeBytes += (chunk as Buffer).length;
    assert.equal(sizeBytes % 512, 0);

    await container.exec(['touch', '/more']);
    await eventually('the consumer to hear of it', () => consumed.join('').includes('more'));
    const text = consumed.join('');
    for (const word of ['to stderr', 'line 1', 'line 3', 'ready to serve']) assert.ok(text.includes(word), word);
    const tail = await container.logs({ tail: 1 });
    const last = await new Promise<string>((resolve) => tail.once('data', (line: Buffer) => resolve(String(line))));
    assert.match(last, /more/);
    await container.restart();
    assert.equal((await container.exec('true')).exitCode, 0);
  } finally {
    await container.stop();
  }
  assert.equal((await daemon.api('GET', `/containers/${container.getId()}/json`)).status, 404);
});

test('testcontainers: Wait.forHealthCheck, forSuccessfulCommand, forOneShotStartup; a start that fails tells its log', async () => {
  const { GenericContainer, Wait } = library;
  await using healthy = await new GenericContainer('bb:1')
    .withCommand(['sh', '-c', 'sleep 0.5; touch /ok; sleep 1000'])
    .withHealthCheck({ test: ['CMD-SHELL', 'test -e /ok'], interval: 200, timeout: 5000, retries: 50 })
    .withWaitStrategy(Wait.forAll([Wait.forHealthCheck(), Wait.forSuccessfulCommand('test -e /ok')]))
    .start();
  assert.equal((await healthy.exec(['test', '-e', '/ok'])).exitCode, 0);
  await using once = await new GenericContainer('bb:1')
    .withCommand(['true'])
    .withWaitStrategy(Wait.forOneShotStartup())
    .start();
  assert.ok(once.getId());
  await assert.rejects(
    new GenericContainer('bb:1')
      .withCommand(['sh', '-c', 'echo broken; exit 1'])
      .withWaitStrategy(Wait.forLogMessage('never'))
      .withStartupTimeout(5000)
      .start(),
    /never/,
  );
});
