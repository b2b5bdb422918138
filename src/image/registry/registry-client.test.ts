/** Credentials, trust, proxies, mirrors and redirects, against registries and token servers in this process. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request as httpRequest, type IncomingMessage, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';

import type { RegistryAuth } from '../port.ts';
import { parseReference } from '../reference.ts';
import { REGISTRY_DEFAULTS, type RegistryOptions } from './endpoint.ts';
import { FakeRegistry } from './fake-registry.ts';
import { openRegistries } from './registries.ts';
import { RegistryClient } from './registry-client.ts';
import { pullError } from './registry-error.ts';

const scratch = mkdtempSync(join(tmpdir(), 'registry-client-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

const ALICE = { username: 'alice', password: 'secret', identityToken: '', registryToken: '', serverAddress: '' };

async function manifestOf(
  reference: string,
  auth: RegistryAuth | null = null,
  options: Partial<RegistryOptions> = {},
): Promise<string> {
  const parsed = parseReference(reference);
  const registry = { ...REGISTRY_DEFAULTS, certsDirectory: join(scratch, 'none'), ...options };
  try {
    return await RegistryClient.use(
      parsed,
      { purpose: 'pull', auth, registry, signal: AbortSignal.timeout(10_000) },
      async (client) => {
        const digest = await client.manifestDigest(parsed.tag);
        return (await client.manifest(digest ?? parsed.tag)).digest;
      },
    );
  } catch (error) {
    throw pullError(error, parsed);
  }
}

async function listen(t: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A registry that takes the tokens which its token server gives to alice, so many times each. */
async function guarded(t: TestContext): Promise<{
  readonly registry: FakeRegistry;
  readonly asked: { readonly query: URLSearchParams; readonly basic: string | undefined; readonly method: string }[];
  uses: number;
}> {
  const registry = await FakeRegistry.start();
  t.after(() => registry[Symbol.asyncDispose]());
  const tokens = new Map<string, number>();
  const state = {
    registry,
    asked: [] as { query: URLSearchParams; basic: string | undefined; method: string }[],
    uses: Infinity,
  };
  const bodyOf = async (request: IncomingMessage): Promise<string> => {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    return text;
  };
  const port = await listen(
    t,
    createServer((request, response) => {
      void bodyOf(request).then((body) => {
        const query =
          request.method === 'POST' ? new URLSearchParams(body) : new URL(request.url!, 'http://x').searchParams;
        const basic = request.headers.authorization;
        state.asked.push({ query, basic, method: request.method! });
        const isAlice = basic === `Basic ${btoa('alice:secret')}` || query.get('refresh_token') === 'refresh';
        const isGuest =
          basic === undefined && query.getAll('scope').every((scope) => scope.startsWith('repository:public'));
        if (!isAlice && !(isGuest && request.method === 'GET')) {
          response.writeHead(401).end(JSON.stringify({ details: 'incorrect username or password' }));
          return;
        }
        const token = `t${state.asked.length}`;
        tokens.set(token, state.uses);
        const identity = query.get('offline_token') === 'true' ? { refresh_token: 'refresh' } : {};
        response.end(JSON.stringify({ token, expires_in: 300, ...identity }));
      });
    }),
  );
  registry.meddle = (request, response) => {
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    const left = tokens.get(token) ?? 0;
    if (left > 0) {
      tokens.set(token, left - 1);
      return false;
    }
    const challenge = `Bearer realm="http://127.0.0.1:${port}/token",service="the registry"`;
    response.writeHead(401, { 'WWW-Authenticate': challenge }).end();
    return true;
  };
  return state;
}

test('RegistryClient: gets tokens for what it does, once, and anew when the registry no longer takes them', async (t) => {
  const state = await guarded(t);
  const { registry, asked } = state;
  const { digest } = registry.addImage('public/a', '1');
  assert.equal(await manifestOf(`${registry.host}/public/a:1`), digest);
  assert.deepEqual(
    asked.map(({ query }) => [query.get('service'), query.getAll('scope'), query.get('account')]),
    [['the registry', ['repository:public/a:pull'], null]],
  );
  registry.addImage('private/a', '1');
  assert.ok(await manifestOf(`${registry.host}/private/a:1`, ALICE));
  assert.equal(asked.length, 2);
  assert.equal(asked[1]!.query.get('account'), 'alice');
  state.uses = 1;
  assert.ok(await manifestOf(`${registry.host}/private/a:1`, ALICE));
  assert.equal(asked.length, 4);
});

test('RegistryClient: an identity token is turned into others by POST, a registry token is used as it is', async (t) => {
  const { registry, asked } = await guarded(t);
  registry.addImage('private/a', '1');
  const registries = openRegistries();
  assert.equal(await registries.authenticate({ ...ALICE, serverAddress: registry.host }), 'refresh');
  assert.deepEqual(asked[0]!.query.getAll('scope'), []);
  const identity = { ...ALICE, username: '<token>', password: '', identityToken: 'refresh' };
  assert.ok(await manifestOf(`${registry.host}/private/a:1`, identity));
  assert.deepEqual(
    [asked[1]!.method, asked[1]!.query.get('grant_type'), asked[1]!.query.get('scope')],
    ['POST', 'refresh_token', 'repository:private/a:pull'],
  );
  assert.ok(await manifestOf(`${registry.host}/private/a:1`, { ...ALICE, username: '', registryToken: 't2' }));
  assert.equal(asked.length, 2);
});

test("RegistryClient: what registries and token servers say, in Docker's words", async (t) => {
  const { registry } = await guarded(t);
  const { host } = registry;
  const head = `Head "http://${host}/v2/private/a/manifests/1"`;
  await assert.rejects(manifestOf(`${host}/private/a:1`), {
    message: `${head}: unauthorized: incorrect username or password`,
  });
  await assert.rejects(
    openRegistries().authenticate({ ...ALICE, password: 'x', serverAddress: `http://${host}/v2/` }),
    {
      code: 'REGISTRY_UNAUTHORIZED',
      message: `Get "http://${host}/v2/": unauthorized: incorrect username or password`,
    },
  );
  registry.meddle = (request, response) => {
    if (!/manifests/.test(request.url!)) return false;
    response
      .writeHead(403)
      .end(JSON.stringify({ errors: [{ code: 'DENIED', message: 'requested access to the resource is denied' }] }));
    return true;
  };
  await assert.rejects(manifestOf(`${host}/a:1`), {
    code: 'REGISTRY_NOT_FOUND',
    message: `pull access denied for ${host}/a, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`,
  });
  await assert.rejects(openRegistries().distribution(`${host}/a:1`, null), {
    code: 'REGISTRY_DENIED',
    message: 'denied: requested access to the resource is denied',
  });
  registry.meddle = () => false;
  await assert.rejects(openRegistries().distribution(`${host}/a:1`, null), {
    code: 'REGISTRY_NOT_FOUND',
    message: 'manifest unknown: manifest unknown',
  });
  await assert.rejects(openRegistries().distribution('a'.repeat(64), null), {
    message: 'no manifest found for full image ID',
  });
});

test('sendRequest: credentials do not follow a redirect to another host, and redirects end', async () => {
  await using registry = await FakeRegistry.start();
  await using elsewhere = await FakeRegistry.start();
  const { digest } = elsewhere.addImage('a', '1');
  const seen: (string | undefined)[] = [];
  elsewhere.meddle = (request) => {
    seen.push(request.headers.authorization);
    return false;
  };
  let target = elsewhere.host;
  registry.meddle = (request, response) => {
    if (request.headers.authorization === undefined)
      response.setHeader('WWW-Authenticate', 'Basic realm="x"').writeHead(401).end();
    else if (/manifests/.test(request.url!))
      response.writeHead(307, { Location: `http://${target}${request.url}` }).end();
    else return false;
    return true;
  };
  assert.equal(await manifestOf(`${registry.host}/a:1`, ALICE), digest);
  assert.deepEqual(new Set(seen), new Set([undefined]));
  target = registry.host;
  await assert.rejects(manifestOf(`${registry.host}/a:1`, ALICE), /stopped after 10 redirects/);
});

test('endpointsOf: certs.d says whom to trust and who we are', async (t) => {
  const pki = makeCertificates('127.0.0.1');
  const tls = {
    key: pki('server.key'),
    cert: pki('server.crt'),
    ca: pki('ca.crt'),
    requestCert: true,
    rejectUnauthorized: false,
  };
  const registry = await FakeRegistry.start(tls);
  t.after(() => registry[Symbol.asyncDispose]());
  const { digest } = registry.addImage('a', '1');
  const certsDirectory = join(scratch, 'certs');
  const directory = join(certsDirectory, registry.host);
  mkdirSync(directory, { recursive: true });
  const at = (host: string): Promise<string> => manifestOf(`${host}/a:1`, null, { certsDirectory });
  assert.equal(await at(registry.host), digest);
  let cn = '';
  registry.meddle = (request) => {
    cn =
      (request.socket as unknown as { getPeerCertificate(): { subject?: { CN: string } } }).getPeerCertificate().subject
        ?.CN ?? '';
    return false;
  };
  cpSync(join(scratch, 'client.crt'), join(directory, 'us.cert'));
  await assert.rejects(at(registry.host), {
    message: 'missing key us.key for client certificate us.cert. CA certificates must use the extension .crt',
  });
  cpSync(join(scratch, 'client.key'), join(directory, 'us.key'));
  assert.equal(await at(registry.host), digest);
  assert.equal(cn, 'us');
  rmSync(join(directory, 'us.cert'));
  await assert.rejects(at(registry.host), { message: 'missing client certificate us.cert for key us.key' });
});

/** Forwards what it is asked, and notes it. */
async function startProxy(
  t: TestContext,
  registry: FakeRegistry,
): Promise<{ readonly url: string; readonly seen: string[] }> {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    const { pathname } = new URL(request.url!);
    request.pipe(
      httpRequest({ host: '127.0.0.1', port: registry.port, path: pathname, method: request.method }, (answer) => {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
      }),
    );
  }).on('connect', (request: IncomingMessage, socket) => {
    seen.push(`CONNECT ${request.url}`);
    const onward = connect(registry.port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      onward.pipe(socket).pipe(onward);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  });
  return { url: `http://127.0.0.1:${await listen(t, server)}`, seen };
}

test('openTransport: goes through proxies, with TLS to the registry behind them, and around them where told', async (t) => {
  const pki = makeCertificates('registry.test');
  await using secure = await FakeRegistry.start({ key: pki('server.key'), cert: pki('server.crt') });
  const { digest } = secure.addImage('a', '1');
  const proxy = await startProxy(t, secure);
  const certsDirectory = join(scratch, 'proxy-certs');
  mkdirSync(join(certsDirectory, 'registry.test:5443'), { recursive: true });
  const proxies = { http: proxy.url, https: proxy.url, no: '' };
  const at = (options: Partial<RegistryOptions>): Promise<string> =>
    manifestOf('registry.test:5443/a:1', null, { certsDirectory, ...options });
  await assert.rejects(at({ proxies }), /failed to verify certificate: x509: certificate signed by unknown authority/);
  writeFileSync(join(certsDirectory, 'registry.test:5443', 'ca.crt'), pki('ca.crt'));
  assert.equal(await at({ proxies }), digest);
  assert.deepEqual(new Set(proxy.seen), new Set(['CONNECT registry.test:5443']));
  await assert.rejects(
    at({ proxies: { ...proxies, no: '.test' } }),
    /no such host|Temporary failure in name resolution/,
  );

  await using plain = await FakeRegistry.start();
  const image = plain.addImage('library/a', '1');
  const other = await startProxy(t, plain);
  const mirrors = ['http://mirror.test:80/'];
  assert.equal(
    await manifestOf('a:1', null, { mirrors, proxies: { http: other.url, https: '', no: '' } }),
    image.digest,
  );
  assert.deepEqual(other.seen[0], 'GET http://mirror.test/v2/');
});

test('RegistryClient: asks mirrors first, and who they mirror where they fail', async () => {
  await using mirror = await FakeRegistry.start();
  await using hub = await FakeRegistry.start();
  const options = { mirrors: ['http://127.0.0.1:1', `http://${mirror.host}/`], hubUrl: `http://${hub.host}` };
  const here = mirror.addImage('library/a', '1');
  const there = hub.addImage('library/b', '1');
  assert.equal(await manifestOf('a:1', ALICE, options), here.digest);
  assert.deepEqual(hub.requests, []);
  assert.equal(await manifestOf('b:1', null, options), there.digest);
  await assert.rejects(manifestOf('c:1', null, options), {
    message: 'manifest for c:1 not found: manifest unknown: manifest unknown',
  });
  mirror.meddle = (_, response) => Boolean(response.writeHead(503).end());
  hub.addManifest('library/a', '1', Buffer.from('{}'), 'x');
  assert.notEqual(await manifestOf('a:1', null, options), here.digest);
});

/** A CA, a server's and a client's certificate. */
function makeCertificates(host: string): (name: string) => Buffer {
  const directory = scratch;
  const ssl = (...argv: string[]): void => void execFileSync('openssl', argv, { cwd: directory, stdio: 'ignore' });
  const name = /^[\d.]+$/.test(host) ? `IP:${host}` : `DNS:${host}`;
  ssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-subj',
    '/CN=test CA',
    '-days',
    '2',
  );
  for (const [who, subject] of [
    ['server', host],
    ['client', 'us'],
  ] as const) {
    ssl(
      'req',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      `${who}.key`,
      '-out',
      `${who}.csr`,
      '-subj',
      `/CN=${subject}`,
    );
    writeFileSync(join(directory, 'ext'), `subjectAltName=${name}`);
    ssl(
      'x509',
      '-req',
      '-in',
      `${who}.csr`,
      '-CA',
      'ca.crt',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-out',
      `${who}.crt`,
      '-days',
      '2',
      '-extfile',
      'ext',
    );
  }
  return (file) => readFileSync(join(directory, file));
}
