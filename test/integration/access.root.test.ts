/** Who gets in, and how far: sockets, TLS with client certificates, scoped listeners; with the real docker CLI. */
import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { run, TestDaemon, type Ran } from '../support/daemon.ts';

let d: TestDaemon;
let certs: string;
let port: number;
const sockets = { reader: '', blue: '', blueReader: '' };

before(async () => {
  d = await TestDaemon.start();
  certs = d.directory;
  await makeCertificates(certs);
  port = await freePort();
  for (const name of ['reader', 'blue', 'blueReader'] as const) sockets[name] = join(d.directory, `${name}.sock`);
  // Options are read at start: it is started again, as it will be once there are certificates.
  await d.down();
  const argv =
    `--scoped-host unix://${sockets.reader},read-only,group=1234 --scoped-host ${sockets.blue},label=team=blue ` +
    `--scoped-host unix://${sockets.blueReader},label=team=blue,read-only --host tcp://0.0.0.0:${port} --tlsverify ` +
    `--tlscacert ${certs}/ca.pem --tlscert ${certs}/server.pem --tlskey ${certs}/server-key.pem`;
  await d.upWith(argv.split(' '));
  await d.image();
  await d.ok('run', '-d', '--name', 'blue', '--label', 'team=blue', 'bb:1', 'sleep', '600');
  await d.ok('run', '-d', '--name', 'red', '--label', 'team=red', 'bb:1', 'sleep', '600');
});
after(() => d[Symbol.asyncDispose]());

const on = (socket: string, ...argv: string[]): Promise<Ran> =>
  run('docker', argv, { env: { DOCKER_HOST: `unix://${socket}`, DOCKER_CONFIG: join(d.directory, 'cli') } });

async function makeCertificates(directory: string): Promise<void> {
  const openssl = async (argv: string): Promise<void> => {
    const { code, stderr } = await run('openssl', argv.split(' '));
    assert.equal(code, 0, stderr);
  };
  const at = (name: string): string => join(directory, name);
  const newKey = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes';
  for (const ca of ['ca', 'other-ca'])
    await openssl(`req -x509 ${newKey} -days 2 -subj /CN=${ca} -keyout ${at(`${ca}-key.pem`)} -out ${at(`${ca}.pem`)}`);
  writeFileSync(at('san.cnf'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  for (const [name, ca] of [
    ['server', 'ca'],
    ['client', 'ca'],
    ['stranger', 'other-ca'],
  ] as const) {
    const [csr, signer] = [at(`${name}.csr`), `-CA ${at(`${ca}.pem`)} -CAkey ${at(`${ca}-key.pem`)} -CAcreateserial`];
    await openssl(`req ${newKey} -subj /CN=${name} -keyout ${at(`${name}-key.pem`)} -out ${csr}`);
    await openssl(`x509 -req -in ${csr} ${signer} -days 2 -extfile ${at('san.cnf')} -out ${at(`${name}.pem`)}`);
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  assert(address !== null && typeof address === 'object');
  return address.port;
}

test('--host: the socket is for root and its group alone, and a scoped one may have another group', () => {
  const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);
  assert.deepEqual(
    [d.socket, sockets.reader, sockets.blue].map((path) => [mode(path), statSync(path).uid]),
    [
      ['660', 0],
      ['660', 0],
      ['660', 0],
    ],
  );
  assert.equal(statSync(sockets.reader).gid, 1234);
  assert.notEqual(statSync(d.socket).gid, 1234);
});

test('--tlsverify: a certificate of the CA opens the door, no other and none', async () => {
  const tls = (who: string | null): Promise<Ran> => {
    const shown = who === null ? '' : ` --tlscert ${join(certs, who)}.pem --tlskey ${join(certs, who)}-key.pem`;
    const argv = `--tlsverify --tlscacert ${join(certs, 'ca.pem')}${shown} ps -q --filter name=blue`;
    const env = { DOCKER_HOST: `tcp://127.0.0.1:${port}`, DOCKER_CONFIG: join(d.directory, 'cli') };
    return run('docker', argv.split(' '), { env });
  };
  const client = await tls('client');
  assert.equal(client.code, 0, client.stderr);
  assert.match(client.stdout, /^[0-9a-f]{12}\n$/);
  for (const who of ['stranger', null]) {
    const refused = await tls(who);
    assert.notEqual(refused.code, 0, `${who} was let in`);
  }
  const plain = await run('docker', ['ps'], { env: { DOCKER_HOST: `tcp://127.0.0.1:${port}` } });
  assert.match(plain.stderr, /HTTP request to an HTTPS server|malformed HTTP|400|EOF|reset/i);
});

test('--scoped-host read-only: docker sees all and changes nothing', async () => {
  const seen = await on(sockets.reader, 'ps', '--format', '{{.Names}}');
  assert.deepEqual(seen.stdout.split('\n').sort().join(' ').trim(), 'blue red');
  assert.equal((await on(sockets.reader, 'logs', 'blue')).code, 0);
  assert.equal((await on(sockets.reader, 'info', '--format', '{{.Containers}}')).stdout, '2\n');
  for (const argv of [
    ['stop', 'blue'],
    ['exec', 'blue', 'true'],
    ['run', '--rm', 'bb:1', 'true'],
    ['rm', '-f', 'red'],
    ['network', 'create', 'x'],
  ]) {
    const { code, stderr } = await on(sockets.reader, ...argv);
    assert.notEqual(code, 0, argv.join(' '));
    assert.match(stderr, /this socket is read-only/, argv.join(' '));
  }
  assert.match((await on(sockets.reader, 'attach', 'blue')).stderr, /403/);
  assert.equal(await d.inspect('blue', '{{.State.Running}}'), 'true');
});

test('--scoped-host label: docker works with its containers, and the others are not there', async () => {
  assert.equal((await on(sockets.blue, 'ps', '--format', '{{.Names}}')).stdout, 'blue\n');
  assert.equal((await on(sockets.blue, 'exec', 'blue', 'echo', 'in')).stdout, 'in\n');
  assert.equal((await on(sockets.blue, 'restart', '-t', '0', 'blue')).code, 0);
  for (const argv of [
    ['stop', 'red'],
    ['exec', 'red', 'true'],
    ['container', 'inspect', 'red'],
    ['rm', 'red'],
  ]) {
    const { code, stderr } = await on(sockets.blue, ...argv);
    assert.notEqual(code, 0, argv.join(' '));
    assert.match(stderr, /[Nn]o such (container|object): red/, argv.join(' '));
  }
  const created = await on(sockets.blue, 'create', '--label', 'team=blue', '-v', '/:/host', 'bb:1');
  assert.match(created.stderr, /limited to containers with the label team=blue/);
  assert.match((await on(sockets.blue, 'exec', '--privileged', 'blue', 'true')).stderr, /privileged execs/);
  assert.equal((await on(sockets.blueReader, 'ps', '--format', '{{.Names}}')).stdout, 'blue\n');
  assert.match((await on(sockets.blueReader, 'stop', 'blue')).stderr, /and read-only/);
  assert.equal(await d.inspect('red', '{{.State.Running}}'), 'true');
});
