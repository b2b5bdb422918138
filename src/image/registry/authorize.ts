/**
 * Credentials for a registry: basic, or tokens from the server that the registry names.
 * Source: distribution spec "auth/token", "auth/oauth"; RFC 9110 section 11 (WWW-Authenticate).
 */
import { EngineError } from '../../core/engine-error.ts';

import { isObject } from '../image-config.ts';
import type { RegistryAuth } from '../port.ts';

import type { Endpoint } from './endpoint.ts';
import { readBody, sendRequest, unreachable, type HttpRequest } from './http-request.ts';
import { registryError } from './registry-error.ts';

export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, string>>;
}

const CLIENT_ID = 'docker';

/** Several challenges may come in one header or in several. */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const challenges: Challenge[] = [];
  for (const line of header === undefined ? [] : typeof header === 'string' ? [header] : header) {
    let current: { scheme: string; parameters: Record<string, string> } | null = null;
    for (const match of line.matchAll(/([A-Za-z0-9_-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/g)) {
      const [, word = '', quoted, plain] = match;
      const value = quoted?.replace(/\\(.)/g, '$1') ?? plain;
      if (value === undefined) {
        current = { scheme: word.toLowerCase(), parameters: {} };
        challenges.push(current);
      } else if (current !== null) current.parameters[word.toLowerCase()] = value;
    }
  }
  return challenges;
}

export class Authorizer {
  readonly #endpoint: Endpoint;
  readonly #auth: RegistryAuth | null;
  #challenges: readonly Challenge[] = [];
  readonly #tokens = new Map<string, { readonly token: string; readonly untilMs: number }>();

  #isIdentityWanted = false;
  #identityToken = '';

  constructor(endpoint: Endpoint, auth: RegistryAuth | null) {
    this.#endpoint = endpoint;
    this.#auth = auth;
  }

  /** The next token comes with one that stands for the password. */
  wantIdentity(): void {
    this.#isIdentityWanted = true;
  }

  get identityToken(): string {
    return this.#identityToken;
  }

  /** What the registry asks for. */
  challenge(header: string | readonly string[] | undefined): void {
    this.#challenges = parseChallenges(header);
    this.#tokens.clear();
  }

  /** Null when nothing is asked. @throws when it is asked for and not there */
  async header(scopes: readonly string[], request: HttpRequest): Promise<string | null> {
    if (this.#auth !== null && this.#auth.registryToken !== '') return `Bearer ${this.#auth.registryToken}`;
    const bearer = this.#challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer !== undefined) return `Bearer ${await this.#token(bearer, scopes, request.signal)}`;
    if (!this.#challenges.some(({ scheme }) => scheme === 'basic')) return null;
    if (this.#auth === null || this.#auth.username === '') throw unreachable(request, 'no basic auth credentials');
    return this.#basic(this.#auth);
  }

  #basic({ username, password }: RegistryAuth): string {
    return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
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
    const response = await sendRequest(this.#endpoint, request);
    const body = await readBody(response);
    if (response.status !== 200) throw registryError(response, body, request);
    const answer: unknown = JSON.parse(body.toString());
    const token = isObject(answer) ? (answer['token'] ?? answer['access_token']) : undefined;
    if (typeof token !== 'string' || token === '')
      throw new EngineError('REGISTRY_UNREACHABLE', 'authorization server did not include a token in the response');
    if (isObject(answer) && typeof answer['refresh_token'] === 'string') this.#identityToken = answer['refresh_token'];
    const lifeS =
      isObject(answer) && typeof answer['expires_in'] === 'number' ? Math.max(60, answer['expires_in']) : 60;
    this.#tokens.set(key, { token, untilMs: performance.now() + lifeS * 1000 - 10_000 });
    return token;
  }

  #tokenGet(realm: string, service: string, scopes: readonly string[], signal: AbortSignal): HttpRequest {
    const url = new URL(realm);
    if (service !== '') url.searchParams.append('service', service);
    for (const scope of scopes) url.searchParams.append('scope', scope);
    if (this.#auth === null || this.#auth.username === '') return { method: 'GET', url: url.href, signal };
    url.searchParams.append('account', this.#auth.username);
    if (this.#isIdentityWanted) url.searchParams.append('offline_token', 'true');
    url.searchParams.append('client_id', CLIENT_ID);
    return { method: 'GET', url: url.href, headers: { Authorization: this.#basic(this.#auth) }, signal };
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
