/** docker attach: which streams, how framed, what stdin's end means, WebSockets, and a daemon that comes back. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { WebSocket } from 'ws';

import { eventually, TestDaemon } from '../support/daemon.ts';
import { Hijacked } from '../support/hijacked.ts';

let d: TestDaemon;
before(async () => {
  d = await TestDaemon.start();
  await d.image();
});
after(() => d[Symbol.asyncDispose]());

async function create(config: object): Promise<string> {
  const { status, json, text } = await d.api('POST', '/v1.47/containers/create', { Image: 'bb:1', ...config });
  assert.equal(status, 201, text);
  return json.Id;
}
const start = async (id: string): Promise<void> =>
  assert.equal((await d.api('POST', `/v1.47/containers/${id}/start`)).status, 204);

test('attach: every mix of streams, framed by version and by terminal, to many clients at once', async () => {
  const id = await create({ Cmd: ['sh', '-c', 'echo out; echo err >&2; read x; echo "got $x"'], OpenStdin: true });
  const attached = new Map<string, Hijacked>();
  for (const mix of ['', 'stdout', 'stderr', 'stdin', 'stdout stderr', 'stdin stdout', 'stdin stdout stderr']) {
    const query = ['stream', ...mix.split(' ')].map((name) => `${name}=1`).join('&');
    const client = await Hijacked.open(d, `/containers/${id}/attach?${query}`, null, 'upgrade');
    assert.match(client.head, /application\/vnd\.docker\.multiplexed-stream/);
    attached.set(mix, client);
  }
  const old = await Hijacked.open(d, `/containers/${id}/attach?stream=1&stdout=1`, null, 'upgrade', {
    version: '1.41',
  });
  assert.match(old.head, /application\/vnd\.docker\.raw-stream/);
  await start(id);
  await eventually('the first line', () => attached.get('stdout')!.demuxed().stdout === 'out\n');
  for (const client of attached.values()) client.socket.write('?\n'); // Of those without stdin nothing is heard.
  for (const [mix, client] of [...attached, ['stdout', old] as const]) {
    await client.end();
    const { stdout, stderr } = client.demuxed();
    assert.deepEqual(
      [stdout, stderr],
      [mix.includes('stdout') ? 'out\ngot ?\n' : '', mix.includes('stderr') ? 'err\n' : ''],
      mix,
    );
  }
  await d.ok('rm', id);

  const terminal = await create({ Cmd: ['sh', '-c', 'tty; tty >&2'], Tty: true });
  const raw = await Hijacked.open(d, `/containers/${terminal}/attach?stream=1&stdout=1`, null, 'plain');
  await start(terminal);
  await raw.end();
  assert.equal(raw.raw, '/dev/pts/0\r\n/dev/pts/0\r\n');
  await d.ok('rm', terminal);
});

test('attach: the end of stdin ends it for the container only with StdinOnce', async () => {
  for (const once of [true, false]) {
    const id = await create({ Cmd: ['sh', '-c', 'cat; echo end'], OpenStdin: true, StdinOnce: once });
    await start(id);
    const first = await Hijacked.open(d, `/containers/${id}/attach?stream=1&stdin=1&stdout=1`, null, 'upgrade');
    first.socket.end('one\n');
    await first.end();
    if (once) assert.equal(first.demuxed().stdout, 'one\nend\n');
    else {
      const second = await Hijacked.open(d, `/containers/${id}/attach?stream=1&stdin=1&stdout=1`, null, 'upgrade');
      second.socket.write('two\n');
      await eventually('its echo', () => second.demuxed().stdout.endsWith('two\n'));
      second.socket.destroy();
      assert.equal(await d.inspect(id, '{{.State.Running}}'), 'true');
    }
    await d.ok('rm', '-f', id);
  }
});

test('attach: what is not there, bad detach keys, a container that is paused', async () => {
  const id = await d.ok('run', '-dt', '--name', 'attached', 'bb:1', 'cat');
  const refused = async (path: string, status: number, text: string): Promise<void> => {
    const client = await Hijacked.open(d, path, null, 'plain');
    await client.end();
    assert.deepEqual([client.status, client.raw], [status, text]);
  };
  await refused('/containers/missing/attach?stream=1', 404, 'No such container: missing\r\n');
  await refused('/containers/attached/attach?stream=1&detachKeys=x-y', 400, 'Invalid detach keys (x-y) provided\r\n');
  await d.ok('pause', id);
  const paused = 'container attached is paused, unpause the container before attach\r\n';
  await refused('/containers/attached/attach?stream=1', 409, paused);
  const past = await Hijacked.open(d, `/containers/${id}/attach?logs=1&stdout=1`, null, 'plain');
  assert.equal(past.status, 409);
  await d.ok('unpause', id);
  await d.ok('rm', '-f', id);
});

test('attach/ws: text and binary in, chosen streams out, detach keys, again after the daemon was killed', async () => {
  const id = await create({ Cmd: ['sh', '-c', 'while read x; do echo "got $x"; echo err >&2; done'], OpenStdin: true });
  await start(id);
  const open = async (query: string): Promise<{ ws: WebSocket; text: () => string; closed: Promise<unknown> }> => {
    const ws = new WebSocket(`ws+unix://${d.socket}:/v1.47/containers/${id}/attach/ws?stream=1&${query}`);
    let text = '';
    ws.on('message', (data: Buffer) => (text += String(data)));
    ws.on('error', () => {});
    const closed = new Promise((resolve) => ws.once('close', resolve));
    await new Promise((resolve, reject) => ws.once('open', resolve).once('error', reject));
    return { ws, text: () => text, closed };
  };
  const all = await open('stdin=1&stdout=1&stderr=1');
  const errors = await open('stderr=1');
  all.ws.send('text\n');
  all.ws.send(Buffer.from('binary \xe4\n', 'utf8'));
  await eventually('both', () => all.text().includes('got binary ä') && all.text().includes('got text'));
  await eventually('the other stream', () => errors.text() === 'err\nerr\n');
  await d.down('SIGKILL');
  await Promise.all([all.closed, errors.closed]);
  await d.up();
  const again = await open('stdin=1&stdout=1');
  again.ws.send('again\n');
  await eventually('the echo', () => again.text() === 'got again\n');
  await d.ok('kill', id);
  await again.closed;
  await d.ok('rm', '-f', id);

  const terminal = await d.ok('run', '-dti', 'bb:1', 'cat');
  const ws = new WebSocket(
    `ws+unix://${d.socket}:/v1.47/containers/${terminal}/attach/ws?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,q`,
  );
  await new Promise((resolve, reject) => ws.once('open', resolve).once('error', reject));
  ws.send('x\x01');
  ws.send('q');
  await new Promise((resolve) => ws.once('close', resolve));
  assert.equal(await d.inspect(terminal, '{{.State.Running}}'), 'true');
  await d.ok('rm', '-f', terminal);
});
