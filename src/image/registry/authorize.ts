/**
 * Credentials for a registry: basic, or tokens from the server that the registry names.
 * Source: distribution spec "auth/token", "auth/oauth"; RFC 9110 section 11 (WWW-Authenticate).
 */
import { EngineError } from '../../core/engine-error.ts';

import { isObject } from '../image-config.ts';
import type { RegistryAuth } from '../port.ts';

import { parseChallenges, type Challenge } from './challenge.ts';
import { readBody, sendRequest, unreachable, type HttpRequest } from './http-request.ts';
import { registryError } from './registry-error.ts';
import type { Transport } from './transport.ts';

const CLIENT_ID = 'docker';
/** Tokens that say nothing, or less, live as long: token servers agree on it. */
const LIFE_S_MIN = 60;
/** A token is not used in its last seconds: the request takes some time to arrive. */
const EARLY_MS = 10_000;

export class Authorizer {
  readonly #transport: Transport;
  readonly #auth: RegistryAuth | null;
  #challenges: readonly Challenge[] = [];
  readonly #tokens = new Map<string, { readonly token: string; readonly untilMs: number }>();

  readonly #fetching = new Map<string, Promise<string>>();
  #isIdentityWanted = false;
  #identityToken = '';

  constructor(transport: Transport, auth: RegistryAuth | null) {
    this.#transport = transport;
    this.#auth = auth;
  }

  /** The next token comes with one that stands for the password. */
  wantIdentity(): void {
    this.#isIdentityWanted = true;
  }

  get identityToken(): string {
    return this.#identityToken;
  }

  /** What the registry asks for. Tokens that it has refused are not used again. */
  challenge(header: string | readonly string[] | undefined): void {
    const challenges = parseChallenges(header);
    if (challenges.length > 0) this.#challenges = challenges;
    this.#tokens.clear();
  }

  /** Null when nothing is asked. @throws when it is asked for and not there */
  async header(scopes: readonly string[], request: HttpRequest): Promise<string | null> {
    if (this.#auth !== null && this.#auth.registryToken !== '') return `Bearer ${this.#auth.registryToken}`;
    const bearer = this.#challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer !== undefined) return `Bearer ${await this.#token(bearer, scopes, request.signal)}`;
    if (!this.#challenges.some(({ scheme }) => scheme === 'basic')) return null;
    if (this.#auth === null || this.#auth.username === '' || this.#auth.password === '')
      throw unreachable(request, 'no basic auth credentials');
    return basicHeader(this.#auth).Authorization;
  }

  async #token({ parameters }: Challenge, scopes: readonly string[], signal: AbortSignal): Promise<string> {
    const wanted = [
      ...new Set([
        ...scopes,
        ...(scopes.length === 0 && parameters['scope'] !== undefined ? [parameters['scope']] : []),
      ]),
    ];
    const key = wanted.join(' ');
    const known = this.#tokens.get(key);
    if (known !== undefined && known.untilMs > performance.now()) return known.token;
    // Layers come side by side: one of them asks for all.
    let fetching = this.#fetching.get(key);
    if (fetching === undefined) {
      fetching = this.#fetchToken(parameters, wanted, signal).finally(() => this.#fetching.delete(key));
      this.#fetching.set(key, fetching);
    }
    return await fetching;
  }

  async #fetchToken(
    parameters: Challenge['parameters'],
    wanted: readonly string[],
    signal: AbortSignal,
  ): Promise<string> {
    const { realm = '', service = '' } = parameters;
    if (!URL.canParse(realm) || !/^https?:/.test(realm))
      throw new EngineError(
        'REGISTRY_UNREACHABLE',
        `invalid realm ${JSON.stringify(realm)} in the challenge of the registry`,
      );
    const refresh = this.#auth?.identityToken ?? '';
    const request =
      refresh === ''
        ? this.#tokenGet(realm, service, wanted, signal)
        : this.#tokenPost(realm, service, wanted, refresh, signal);
    const response = await sendRequest(this.#transport, request);
    const body = await readBody(response);
    if (response.status !== 200) throw registryError(response, body, request);
    const answer = tokenAnswer(body);
    const token = answer['token'] || answer['access_token'];
    if (typeof token !== 'string' || token === '')
      throw new EngineError('REGISTRY_UNREACHABLE', 'authorization server did not include a token in the response');
    if (typeof answer['refresh_token'] === 'string') this.#identityToken = answer['refresh_token'];
    const saidS = typeof answer['expires_in'] === 'number' ? answer['expires_in'] : 0;
    this.#tokens.set(wanted.join(' '), {
      token,
      untilMs: performance.now() + Math.max(saidS, LIFE_S_MIN) * 1000 - EARLY_MS,
    });
    return token;
  }

  #tokenGet(realm: string, service: string, scopes: readonly string[], signal: AbortSignal): HttpRequest {
    const url = new URL(realm);
    if (service !== '') url.searchParams.append('service', service);
    for (const scope of scopes) url.searchParams.append('scope', scope);
    if (this.#auth === null || this.#auth.username === '' || this.#auth.password === '')
      return { method: 'GET', url: url.href, signal };
    url.searchParams.append('account', this.#auth.username);
    if (this.#isIdentityWanted) url.searchParams.append('offline_token', 'true');
    url.searchParams.append('client_id', CLIENT_ID);
    return { method: 'GET', url: url.href, headers: basicHeader(this.#auth), signal };
  }

  #tokenPost(
    realm: string,
    service: string,
    scopes: readonly string[],
    refresh: string,
    signal: AbortSignal,
  ): HttpRequest {
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      service,
      client_id: CLIENT_ID,
      scope: scopes.join(' '),
      refresh_token: refresh,
    });
    return {
      method: 'POST',
      url: realm,
      headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      body: Buffer.from(form.toString()),
      signal,
    };
  }
}

export function basicHeader({ username, password }: RegistryAuth): { readonly Authorization: string } {
  return { Authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` };
}

function tokenAnswer(body: Buffer): Readonly<Record<string, unknown>> {
  try {
    const answer: unknown = JSON.parse(body.toString());
    if (isObject(answer)) return answer;
  } catch {
    // said below
  }
  throw new EngineError('REGISTRY_UNREACHABLE', 'unable to decode token response');
}
