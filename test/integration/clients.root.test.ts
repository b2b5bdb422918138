/** What well-known clients and their test suites (docker-py, moby, dockerode) rely on beyond the reference, by the raw API. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { extract } from 'tar-stream';

import { eventually, TestDaemon } from '../support/daemon.ts';

let daemon: TestDaemon;
before(async () => {
  daemon = await TestDaemon.start();
  await daemon.image();
});
after(() => daemon[Symbol.asyncDispose]());

async function create(body: object): Promise<string> {
  const { status, json, text } = await daemon.api('POST', '/v1.51/containers/create', { Image: 'bb:1', ...body });
  assert.equal(status, 201, text);
  return json.Id;
}

async function start(body: object): Promise<string> {
  const id = await create(body);
  const { status, text } = await daemon.api('POST', `/v1.51/containers/${id}/start`);
  assert.equal(status, 204, text);
  return id;
}

async function run(body: object): Promise<string> {
  const id = await start(body);
  await daemon.api('POST', `/v1.51/containers/${id}/wait`);
  return id;
}

/** An upgraded request; what came together with the head is the last of `chunks` read when `head` is. */
async function upgraded(path: string, body = ''): Promise<{ socket: Socket; first: string; rest: () => string }> {
  const socket = connect(daemon.socket);
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  socket.on('error', () => {});
  socket.write(
    `POST /v1.51${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  const first = await new Promise<string>((resolve) => socket.once('data', (chunk: Buffer) => resolve(String(chunk))));
  return { socket, first, rest: () => text.slice(first.length) };
}

test('diff: tells of what the container did, and of nothing that the engine did', async () => {
  const id = await run({ Cmd: ['touch', '/test'] });
  assert.deepEqual((await daemon.api('GET', `/v1.51/containers/${id}/changes`)).json, [{ Path: '/test', Kind: 1 }]);
  const idle = await run({ Cmd: ['test', '-e', '/.dockerenv'] });
  assert.equal((await daemon.api('GET', `/v1.51/containers/${idle}/changes`)).json, null);
  assert.equal((await daemon.api('GET', `/v1.51/containers/${idle}/json`)).json.State.ExitCode, 0);
});

test('exec start, attach with logs: the head comes alone, since docker-py loses what comes with it', async () => {
  const id = await start({ Cmd: ['sh', '-c', 'echo past; sleep 6000'] });
  const exec = await daemon.api('POST', `/v1.51/containers/${id}/exec`, { Cmd: ['echo', 'out'], AttachStdout: true });
  const started = await upgraded(`/exec/${exec.json.Id}/start`, '{"Detach":false}');
  assert.match(started.first, /^HTTP\/1.1 101 [^]*\r\n\r\n$/);
  await eventually('the output', () => started.rest() === '\x01\0\0\0\0\0\0\x04out\n');
  const attached = await upgraded(`/containers/${id}/attach?logs=1&stdout=1`);
  assert.match(attached.first, /^HTTP\/1.1 101 [^]*\r\n\r\n$/);
  await eventually('the past', () => attached.rest() === '\x01\0\0\0\0\0\0\x05past\n');
  await daemon.api('DELETE', `/v1.51/containers/${id}?force=1`);
});

test('attach: detach keys end the connection in both directions', async () => {
  const id = await start({ Cmd: ['cat'], Tty: true, OpenStdin: true });
  const { socket } = await upgraded(`/containers/${id}/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-x`);
  socket.write('\x18');
  let failed = false;
  socket.on('error', () => (failed = true));
  socket.on('close', () => (failed = true));
  await eventually('that it cannot be written to', () => failed || !socket.write('x'), 2000);
  assert.equal((await daemon.api('GET', `/v1.51/containers/${id}/json`)).json.State.Running, true);
  await daemon.api('DELETE', `/v1.51/containers/${id}?force=1`);
});

test('top: right after a start it shows the command and not the runtime', async () => {
  for (let i = 0; i < 8; i++) {
    const id = await start({ Cmd: ['sleep', '6000'] });
    const { Processes } = (await daemon.api('GET', `/v1.51/containers/${id}/top`)).json;
    assert.deepEqual(
      Processes.map((row: string[]) => row.at(-1)),
      ['sleep 6000'],
    );
    await daemon.api('DELETE', `/v1.51/containers/${id}?force=1`);
  }
});

test('restart: FinishedAt is the end of the run before', async () => {
  const id = await start({ Cmd: ['sleep', '6000'] });
  await daemon.api('POST', `/v1.51/containers/${id}/restart?t=0`);
  const { State } = (await daemon.api('GET', `/v1.51/containers/${id}/json`)).json;
  assert.equal(State.Running, true);
  assert(State.FinishedAt > '2020' && State.FinishedAt < State.StartedAt, JSON.stringify(State));
  await daemon.api('DELETE', `/v1.51/containers/${id}?force=1`);
});

test('stop, kill and wait, remove: what was published and joined is free when they are answered', async () => {
  const host = { NetworkMode: 'free', PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '0' }] } };
  await daemon.api('POST', '/v1.51/networks/create', { Name: 'free' });
  const first = await start({ Cmd: ['sleep', '6000'], HostConfig: host });
  const { json } = await daemon.api('GET', `/v1.51/containers/${first}/json`);
  const port: string = json.NetworkSettings.Ports['80/tcp'][0].HostPort;
  const body = {
    Cmd: ['sleep', '6000'],
    HostConfig: { ...host, PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: port }] } },
  };
  await daemon.api('POST', `/v1.51/containers/${first}/stop?t=0`);
  const second = await start(body);
  await daemon.api('POST', `/v1.51/containers/${second}/kill`);
  await daemon.api('POST', `/v1.51/containers/${second}/wait`);
  const third = await start(body);
  await daemon.api('DELETE', `/v1.51/containers/${third}?force=1`);
  assert.equal((await daemon.api('DELETE', '/v1.51/networks/free')).status, 204);
});

test('commit: of a container that is just ending', async () => {
  for (let i = 0; i < 5; i++) {
    const id = await start({ Cmd: ['sh', '-c', `usleep ${i * 4000}`] });
    const { status, text } = await daemon.api('POST', `/v1.51/commit?container=${id}`);
    assert.equal(status, 201, text);
    await sleep(50);
  }
});

test('archive: entries are named by what was asked for, and a stat is the same by HEAD and GET', async () => {
  const script =
    'mkdir -p /bar/quux; echo -n hello >/foo; echo -n world >/bar/quux/baz; ln -s quux /bar/dirsymlink; ln -s / /bar/root; ln -s quux/baz /bar/file';
  const id = await run({ Cmd: ['sh', '-c', script] });
  const cases = [
    ['/', '/', '/bar/quux/baz'],
    ['.', '.', './bar/quux/baz'],
    ['/.', '.', './bar/quux/baz'],
    ['./', '.', './bar/quux/baz'],
    ['/bar/root', 'root', 'root'],
    ['/bar/root/', 'root', 'root/bar/quux/baz'],
    ['/bar/root/.', '.', './bar/quux/baz'],
    ['bar/quux', 'quux', 'quux/baz'],
    ['bar/quux/.', '.', './baz'],
    ['bar/dirsymlink', 'dirsymlink', 'dirsymlink'],
    ['bar/dirsymlink/', 'dirsymlink', 'dirsymlink/baz'],
    ['bar/dirsymlink/.', '.', './baz'],
    ['bar/file', 'file', 'file'],
  ] as const;
  const statOf = (header: unknown): { name: string; linkTarget: string } =>
    JSON.parse(Buffer.from(String(header), 'base64').toString()) as { name: string; linkTarget: string };
  for (const [path, name, entry] of cases) {
    const url = `/v1.51/containers/${id}/archive?path=${encodeURIComponent(path)}`;
    const response = await fetchTar(url);
    const stat = statOf(response.stat);
    assert.equal(stat.name, name, path);
    assert.deepEqual(statOf((await daemon.api('HEAD', url)).headers['x-docker-container-path-stat']), stat, path);
    assert(response.names.includes(entry), `${path}: ${response.names.slice(0, 8).join(' ')}`);
    if (path === 'bar/file') assert.equal(stat.linkTarget, '/bar/quux/baz');
  }
  for (const method of ['GET', 'PUT']) {
    const { text } = await daemon.api(
      method,
      `/v1.51/containers/${id}/archive?path=%2Ffoo%2F`,
      method === 'PUT' ? '' : undefined,
    );
    assert.match(text, /not a directory/);
  }
});

async function fetchTar(path: string): Promise<{ readonly stat: unknown; readonly names: readonly string[] }> {
  const { request } = await import('node:http');
  const names: string[] = [];
  return new Promise((resolve, reject) => {
    request({ socketPath: daemon.socket, path }, (answer) => {
      const reader = extract();
      reader.on('entry', (header, content, next) => {
        names.push(header.name);
        content.resume().on('end', next);
      });
      reader.on('finish', () => resolve({ stat: answer.headers['x-docker-container-path-stat'], names }));
      reader.on('error', reject);
      answer.pipe(reader);
    })
      .on('error', reject)
      .end();
  });
}

test('networks: an IPv6 subnet where IPv6 is off is kept and shown, and its addresses may be named', async () => {
  const Config = [{ Subnet: '2001:db8:389::/64', IPRange: '2001:db8:389::/96', Gateway: '2001:db8:389::1' }];
  const made = await daemon.api('POST', '/networks/create', { Name: 'six-off', IPAM: { Driver: 'default', Config } });
  assert.equal(made.status, 201, made.text);
  const { json } = await daemon.api('GET', '/networks/six-off');
  const { IPAM, EnableIPv6 } = json as { IPAM: { Config: object[] }; EnableIPv6: boolean };
  assert.deepEqual([EnableIPv6, IPAM.Config.length, IPAM.Config[1]], [false, 2, Config[0]]);
  const id = await daemon.ok('create', '--network', 'six-off', '--ip6', '2001:db8:389::f00d', 'bb:1', 'sleep', '1000');
  await daemon.ok('start', id);
  const format =
    '{{with index .NetworkSettings.Networks "six-off"}}{{.IPAMConfig.IPv6Address}} [{{.GlobalIPv6Address}}]{{end}}';
  assert.equal(await daemon.inspect(id, format), '2001:db8:389::f00d []');
  const elsewhere = await daemon.docker('create', '--network', 'six-off', '--ip6', '2001:db8::1', 'bb:1');
  assert.match(elsewhere.stderr, /no configured subnet or ip-range contain the IP address 2001:db8::1/);
  await daemon.ok('rm', '-f', id);
  await daemon.ok('network', 'rm', 'six-off');
});
