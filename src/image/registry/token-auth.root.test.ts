/** Debian's docker-registry behind a token server, which signs what each client may do: as Docker Hub and most others. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPrivateKey, randomUUID, sign, X509Certificate, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import type { RegistryAuth } from '../port.ts';
import { DEFAULTS, Fixture, importFile, linesOf } from './fixture.ts';
import { openRegistries } from './registries.ts';

let fixture: Fixture;
let tokens: Server;
let host: string;
/** Scopes that were asked for, in order. */
const asked: string[][] = [];
/** Tokens that are signed from now on are old already. */
let isStale = false;

before(async () => {
  fixture = await Fixture.make();
  const { scratch } = fixture;
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'key.pem'];
  execFileSync('openssl', ['req', '-x509', ...key, '-out', 'cert.pem', '-subj', '/CN=tokens', '-days', '2'], {
    cwd: scratch,
    stdio: 'ignore',
  });
  const signer = createPrivateKey(readFileSync(join(scratch, 'key.pem')));
  const certificate = new X509Certificate(readFileSync(join(scratch, 'cert.pem'))).raw.toString('base64');
  tokens = createServer((request, response) => {
    const { searchParams } = new URL(request.url!, 'http://x');
    const scopes = searchParams.getAll('scope').flatMap((scope) => scope.split(' '));
    asked.push(scopes);
    const isAlice = request.headers.authorization === `Basic ${btoa('alice:secret')}`;
    if (request.headers.authorization !== undefined && !isAlice) {
      response.writeHead(401).end('{"details":"incorrect username or password"}');
      return;
    }
    const access = scopes.map((scope) => grant(scope, isAlice)).filter(({ actions }) => actions.length > 0);
    response.end(JSON.stringify({ token: tokenOf(signer, certificate, access), expires_in: 60 }));
  });
  await new Promise<void>((resolve) => tokens.listen(0, '127.0.0.1', resolve));
  const realm = `http://127.0.0.1:${(tokens.address() as AddressInfo).port}/token`;
  const token = `{realm: "${realm}", service: registry, issuer: tokens, rootcertbundle: ${scratch}/cert.pem}`;
  host = `127.0.0.1:${await fixture.startRegistry('tokens', `auth: {token: ${token}}`)}`;
});
after(async () => {
  tokens.close();
  await fixture[Symbol.asyncDispose]();
});

interface Access {
  readonly type: string;
  readonly name: string;
  readonly actions: readonly string[];
}

/** Alice may do everything, others may pull what is public. */
function grant(scope: string, isAlice: boolean): Access {
  const [type = '', name = '', actions = ''] = scope.split(':');
  const may = (action: string): boolean => isAlice || (action === 'pull' && name.startsWith('public/'));
  return { type, name, actions: actions.split(',').filter(may) };
}

function tokenOf(key: KeyObject, certificate: string, access: readonly Access[]): string {
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const nowS = Math.floor(Date.now() / 1000) - (isStale ? 3600 : 0);
  const claims = {
    iss: 'tokens',
    sub: '',
    aud: 'registry',
    exp: nowS + 60,
    nbf: nowS - 10,
    iat: nowS,
    jti: randomUUID(),
  };
  const signed = `${encode({ typ: 'JWT', alg: 'ES256', x5c: [certificate] })}.${encode({ ...claims, access })}`;
  return `${signed}.${sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

const ALICE: RegistryAuth = {
  username: 'alice',
  password: 'secret',
  identityToken: '',
  registryToken: '',
  serverAddress: '',
};

test('push, pull: with tokens for what each of them needs, and no more', async () => {
  const images = await fixture.open('a');
  const id = await importFile(images, `${host}/public/app:1`, 'hello');
  const push = async (reference: string, auth: RegistryAuth | null): Promise<string[]> =>
    await linesOf(images.push({ ...DEFAULTS, reference, auth }));
  await assert.rejects(push(`${host}/public/app:1`, null), /denied: requested access to the resource is denied/);
  asked.length = 0;
  await push(`${host}/public/app:1`, ALICE);
  assert.deepEqual(asked, [['repository:public/app:push,pull']]);

  asked.length = 0;
  await images.tag(id, `${host}/private/app:1`);
  assert.ok((await push(`${host}/private/app:1`, ALICE)).some((line) => line.endsWith('Mounted from public/app')));
  assert.deepEqual(asked, [
    ['repository:private/app:push,pull'],
    ['repository:private/app:push,pull', 'repository:public/app:pull'],
  ]);

  const other = await fixture.open('b');
  const pull = async (reference: string, auth: RegistryAuth | null): Promise<string[]> =>
    await linesOf(other.pull({ ...DEFAULTS, reference, auth }));
  asked.length = 0;
  await pull(`${host}/public/app:1`, null);
  assert.deepEqual(asked, [['repository:public/app:pull']]);
  assert.equal(other.resolve(`${host}/public/app:1`).id, id);
  await assert.rejects(pull(`${host}/private/app:1`, null), {
    code: 'REGISTRY_NOT_FOUND',
    message: `pull access denied for ${host}/private/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`,
  });
  await pull(`${host}/private/app:1`, ALICE);
  await assert.rejects(pull(`${host}/private/app:1`, { ...ALICE, password: 'x' }), {
    message: `Head "http://${host}/v2/private/app/manifests/1": unauthorized: incorrect username or password`,
  });
});

test('authenticate: a token server takes the credentials, or not', async () => {
  const registries = openRegistries();
  assert.equal(await registries.authenticate({ ...ALICE, serverAddress: host }), '');
  await assert.rejects(registries.authenticate({ ...ALICE, password: 'x', serverAddress: host }), {
    code: 'REGISTRY_UNAUTHORIZED',
    message: `Get "http://${host}/v2/": unauthorized: incorrect username or password`,
  });
});

test('pull: a token that the registry finds too old is asked for anew, once', async () => {
  const images = await fixture.open('c');
  isStale = true;
  asked.length = 0;
  await assert.rejects(
    linesOf(images.pull({ ...DEFAULTS, reference: `${host}/public/app:1` })),
    /unauthorized: authentication required|denied/,
  );
  assert.ok(asked.length <= 4, `${asked.length} tokens`);
  isStale = false;
  await linesOf(images.pull({ ...DEFAULTS, reference: `${host}/public/app:1` }));
});
