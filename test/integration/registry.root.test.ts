/**
 * The docker CLI with Debian's docker-registry: TLS under an own CA, passwords, a mirror. And archives from here to dockerd
 * and podman, and back.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { FakeRegistry } from '../../src/image/registry/fake-registry.ts';
import { eventually, run, TestDaemon } from '../support/daemon.ts';

/** "secret" */
const PASSWORD_HASH = '$2b$04$yvIelouwHgR/K5d0I/qI6.eiIIUWpGyStfSA7riggspdLFt3fh7rG';

const scratch = mkdtempSync(join(tmpdir(), 'longshore-registry-'));
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(scratch, { recursive: true, force: true });
});

async function startRegistry(name: string, address: string, more: string): Promise<string> {
  const probe = createServer().listen(0, address);
  await new Promise((resolve) => probe.once('listening', resolve));
  const host = `${address}:${(probe.address() as AddressInfo).port}`;
  await new Promise((resolve) => probe.close(resolve));
  const storage = `storage: {filesystem: {rootdirectory: ${scratch}/${name}}}`;
  writeFileSync(
    join(scratch, `${name}.yml`),
    `version: 0.1\nlog: {level: error}\n${storage}\n${more.replace('HOST', host)}\n`,
  );
  children.push(spawn('docker-registry', ['serve', join(scratch, `${name}.yml`)], { stdio: 'ignore' }));
  const curl = ['-sk', '-o', '/dev/null', '-w', '%{http_code}'];
  const url = `${more.includes('tls') ? 'https' : 'http'}://${host}/v2/`;
  await eventually(`${name} answers`, async () => /^(200|401)$/.test((await run('curl', [...curl, url])).stdout));
  return host;
}

function makeCertificate(address: string): void {
  const ssl = (...argv: string[]): void => void execFileSync('openssl', argv, { cwd: scratch, stdio: 'ignore' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  ssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=a CA', '-days', '2');
  ssl('req', ...key, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=registry');
  writeFileSync(join(scratch, 'ext'), `subjectAltName=IP:${address}`);
  const by = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'ext', '-days', '2'];
  ssl('x509', '-req', '-in', 'server.csr', '-out', 'server.crt', ...by);
}

test(
  'docker login, push, pull: a registry with a password, and with TLS under a CA of its own',
  { timeout: 60_000 },
  async () => {
    const certs = join(scratch, 'certs.d');
    await using daemon = await TestDaemon.start('--registry-certs-dir', certs);
    await daemon.image();
    // Not a loopback address: those need no trust.
    const address = await daemon.ok('network', 'inspect', '--format', '{{(index .IPAM.Config 0).Gateway}}', 'bridge');
    makeCertificate(address);
    writeFileSync(join(scratch, 'htpasswd'), `alice:${PASSWORD_HASH}\n`);
    const host = await startRegistry(
      'tls',
      address,
      `http: {addr: "HOST", tls: {certificate: ${scratch}/server.crt, key: ${scratch}/server.key}}\nauth: {htpasswd: {realm: x, path: ${scratch}/htpasswd}}`,
    );
    const name = `${host}/team/bb:1`;
    await daemon.ok('tag', 'bb:1', name);
    const fails = async (pattern: RegExp, ...argv: string[]): Promise<void> => {
      const { code, stderr, stdout } = await daemon.docker(...argv);
      assert.notEqual(code, 0, `docker ${argv.join(' ')}`);
      assert.match(stderr + stdout, pattern);
    };
    const login = ['login', '-u', 'alice', host, '-p'];
    await fails(/tls: failed to verify certificate: x509: certificate signed by unknown authority/, 'pull', name);
    mkdirSync(join(certs, host), { recursive: true });
    copyFileSync(join(scratch, 'ca.crt'), join(certs, host, 'ca.crt'));
    await fails(/no basic auth credentials/, 'push', name);
    await fails(
      new RegExp(`login attempt to https://${host}/v2/ failed with status: 401 Unauthorized`),
      ...login,
      'wrong',
    );
    assert.match(await daemon.ok(...login, 'secret'), /Login Succeeded/);
    const pushed = /sha256:\w+/.exec(await daemon.ok('push', name))![0];
    const id = await daemon.ok('inspect', '--format', '{{.Id}}', 'bb:1');
    await daemon.ok('rmi', '-f', id);
    await daemon.ok('logout', host);
    await fails(/no basic auth credentials/, 'pull', name);
    await daemon.ok(...login, 'secret');
    assert.match(await daemon.ok('pull', name), /Status: Downloaded newer image/);
    assert.equal(
      await daemon.ok('inspect', '--format', '{{.Id}} {{index .RepoDigests 0}}', name),
      `${id} ${host}/team/bb@${pushed}`,
    );
    assert.equal(await daemon.ok('run', '--rm', name, 'echo', 'pulled'), 'pulled');
    // What a registry has not, and says so in JSON.
    await fails(new RegExp(`manifest for ${host}/team/bb:2 not found: manifest unknown`), 'pull', `${host}/team/bb:2`);
    assert.match(await daemon.ok('manifest', 'inspect', '--insecure', name), /schemaVersion/);
  },
);

test('docker pull: names of Docker Hub come from a mirror, also by a proxy', { timeout: 60_000 }, async () => {
  const host = await startRegistry('mirror', '127.0.0.1', 'http: {addr: "HOST"}');
  await using daemon = await TestDaemon.start('--registry-mirror', `http://${host}`, '--max-concurrent-downloads', '1');
  await daemon.image();
  await daemon.ok('tag', 'bb:1', `${host}/library/mirrored:1`);
  await daemon.ok('push', '-q', `${host}/library/mirrored:1`);
  const id = await daemon.ok('inspect', '--format', '{{.Id}}', 'bb:1');
  await daemon.ok('rmi', '-f', id);
  assert.match(await daemon.ok('pull', 'mirrored:1'), /Status: Downloaded newer image for mirrored:1/);
  assert.equal(await daemon.ok('inspect', '--format', '{{.Id}} {{.RepoTags}}', 'mirrored:1'), `${id} [mirrored:1]`);
  const { json } = await daemon.api('GET', '/v1.51/info');
  assert.deepEqual(json.RegistryConfig.Mirrors, [`http://${host}/`]);

  await using proxied = await TestDaemon.start(
    '--registry-mirror',
    'http://mirror.invalid',
    '--http-proxy',
    `http://user:pass@${host}`,
    '--max-download-attempts',
    '1',
  );
  // The registry is no proxy, but it answers what a proxy is asked.
  assert.match(await proxied.ok('pull', 'mirrored:1'), /Status: Downloaded newer image for mirrored:1/);
  const info = (await proxied.api('GET', '/v1.51/info')).json;
  assert.equal(info.HttpProxy, `http://xxxxx:xxxxx@${host}`);
});

test(
  'images/create: when the client goes away its pull ends, and the next one goes on',
  { timeout: 60_000 },
  async () => {
    await using registry = await FakeRegistry.start();
    await using daemon = await TestDaemon.start();
    const { layers } = registry.addImage('slow', '1', [500_000, 400_000]);
    registry.slowly = { pieceBytes: 5000, pauseMs: 20, onSent: () => {} };
    const name = `${registry.host}/slow`;
    const pulling = request({
      socketPath: daemon.socket,
      method: 'POST',
      path: `/v1.51/images/create?fromImage=${name}&tag=1`,
    });
    pulling.on('error', () => {});
    const downloading = new Promise<void>((resolve) => {
      pulling.on('response', (answer) => {
        answer.on('error', () => {});
        answer.on('data', (chunk: Buffer) => chunk.includes('Downloading') && resolve());
      });
    });
    pulling.end();
    await downloading;
    assert.ok(registry.now > 0);
    pulling.destroy();
    await eventually('the daemon has left the registry', () => registry.now === 0);
    const sentBytes = registry.sentBytes;
    registry.slowly = null;
    registry.requests.length = 0;
    await daemon.ok('pull', `${name}:1`);
    assert.ok(sentBytes > 0 && sentBytes < layers.reduce((sum, { size }) => sum + size, 0), String(sentBytes));
    // From where they were: by range.
    assert.ok(registry.ranges.length > 0);
  },
);

const DOCKERD = ['/usr/sbin/dockerd', '/usr/bin/dockerd'].find((path) => existsSync(path));

test(
  'docker save, load: archives go to dockerd and podman and come back as the same image',
  { timeout: 120_000 },
  async (t) => {
    await using daemon = await TestDaemon.start();
    await daemon.image();
    await daemon.ok(
      'run',
      '--name',
      'made',
      'bb:1',
      'sh',
      '-c',
      'mkdir /d && echo x > /d/f && ln /d/f /d/g && rm /bin/awk',
    );
    await daemon.ok('commit', '-c', 'LABEL a=b', 'made', 'two:1');
    const id = await daemon.ok('inspect', '--format', '{{.Id}}', 'two:1');
    const save = (file: string): Promise<string> => daemon.ok('save', '-o', file, 'two:1');
    const comesBack = async (file: string): Promise<void> => {
      await daemon.ok('rm', '-f', 'made');
      await daemon.ok('rmi', '-f', 'two:1', 'bb:1');
      await daemon.ok('load', '-i', file);
      assert.equal(
        await daemon.ok('run', '--rm', id, 'sh', '-c', 'cat /d/g; test -e /bin/awk || echo gone'),
        'x\ngone',
      );
    };
    await save(join(scratch, 'ours.tar'));

    const podman = async (...argv: string[]): Promise<string> => {
      const roots = [
        '--root',
        join(scratch, 'podman'),
        '--runroot',
        join(scratch, 'podman-run'),
        '--storage-driver',
        'vfs',
      ];
      const { code, stdout, stderr } = await run('podman', [...roots, ...argv]);
      assert.equal(code, 0, `podman ${argv.join(' ')}: ${stderr}`);
      return stdout.trim();
    };
    await podman('load', '-q', '-i', join(scratch, 'ours.tar'));
    assert.equal(`sha256:${await podman('inspect', '--format', '{{.Id}}', 'two:1')}`, id);
    for (const format of ['docker-archive', 'oci-archive']) {
      await podman('save', '-q', '--format', format, '-o', join(scratch, `${format}.tar`), 'two:1');
      await comesBack(join(scratch, `${format}.tar`));
    }

    if (DOCKERD === undefined) return t.diagnostic('dockerd is not installed: not asked');
    const socket = join(scratch, 'dockerd.sock');
    const options = [
      '-H',
      `unix://${socket}`,
      '--data-root',
      join(scratch, 'dockerd'),
      '--exec-root',
      join(scratch, 'dockerd-exec'),
    ];
    const more = [
      '--pidfile',
      join(scratch, 'dockerd.pid'),
      '--storage-driver',
      'vfs',
      '--bridge',
      'none',
      '--iptables=false',
    ];
    const dockerd = spawn('unshare', ['-n', DOCKERD, ...options, ...more, '--ip-forward=false'], { stdio: 'ignore' });
    const ended = new Promise((resolve) => dockerd.once('exit', resolve));
    try {
      const docker = async (...argv: string[]): Promise<string> => {
        const { code, stdout, stderr } = await run('docker', ['-H', `unix://${socket}`, ...argv]);
        assert.equal(code, 0, `docker ${argv.join(' ')}: ${stderr}`);
        return stdout.trim();
      };
      await eventually(
        'dockerd answers',
        async () => (await run('docker', ['-H', `unix://${socket}`, 'version'])).code === 0,
        30_000,
      );
      await docker('load', '-q', '-i', join(scratch, 'ours.tar'));
      assert.equal(await docker('inspect', '--format', '{{.Id}}', 'two:1'), id);
      await docker('save', '-o', join(scratch, 'theirs.tar'), 'two:1');
      await comesBack(join(scratch, 'theirs.tar'));
    } finally {
      dockerd.kill('SIGTERM');
      await ended;
    }
  },
);
