/** One repository of one registry. Source: OCI distribution spec v1.1. */
import { STATUS_CODES } from 'node:http';

import { EngineError } from '../../core/engine-error.ts';

import { digestOf } from '../digest.ts';
import { parseJsonObject } from '../image-config.ts';
import { MANIFEST_BYTES_MAX, MEDIA } from '../oci.ts';
import type { Digest, RegistryAuth } from '../port.ts';
import { isDigest, type Reference } from '../reference.ts';

import { Authorizer } from './authorize.ts';
import { endpointsOf, type Endpoint, type RegistryOptions } from './endpoint.ts';
import { bodyOf, readBody, sendRequest, type HttpRequest, type HttpResponse } from './http-request.ts';
import { answerError, registryError, RegistryError } from './registry-error.ts';

export interface FetchedManifest {
  readonly bytes: Buffer;
  readonly mediaType: string;
  readonly digest: Digest;
}

const ACCEPT = [MEDIA.dockerManifest, MEDIA.dockerIndex, MEDIA.ociManifest, MEDIA.ociIndex, 'application/json'].join(
  ', ',
);
const TAG_PAGES_MAX = 1000;
const TAGS_MAX = 100_000;

export class RegistryClient {
  readonly #endpoint: Endpoint;
  readonly #authorizer: Authorizer;
  readonly #path: string;
  readonly #scopes: readonly string[];
  readonly #signal: AbortSignal;
  #hasAnswered = false;

  private constructor(
    endpoint: Endpoint,
    authorizer: Authorizer,
    path: string,
    scopes: readonly string[],
    signal: AbortSignal,
  ) {
    this.#endpoint = endpoint;
    this.#authorizer = authorizer;
    this.#path = path;
    this.#scopes = scopes;
    this.#signal = signal;
  }

  /**
   * Runs `use` at the endpoints of a registry in turn, until one of them can do it. @throws the last one's reason
   * Source: moby v28 distribution/pull.go pullEndpoints(), errors.go continueOnError().
   */
  static async use<T>(
    reference: Pick<Reference, 'domain' | 'path'>,
    options: {
      readonly purpose: 'pull' | 'push';
      readonly auth: RegistryAuth | null;
      readonly registry: RegistryOptions;
      readonly signal: AbortSignal;
    },
    use: (client: RegistryClient) => Promise<T>,
  ): Promise<T> {
    const { purpose, auth, signal } = options;
    const endpoints = await endpointsOf(reference.domain, purpose, options.registry);
    const scopes =
      reference.path === '' ? [] : [`repository:${reference.path}:${purpose === 'push' ? 'push,pull' : 'pull'}`];
    let failure: unknown = new Error(`no endpoints found for ${reference.domain}`);
    /** Who has spoken TLS is not asked without. */
    const secureHosts = new Set<string>();
    for (const endpoint of endpoints) {
      using _opened = endpoint;
      const { protocol, host } = new URL(endpoint.baseUrl);
      if (protocol === 'http:' && secureHosts.has(host)) continue;
      const authorizer = new Authorizer(endpoint.transport, auth);
      const client = new RegistryClient(endpoint, authorizer, reference.path, scopes, signal);
      try {
        await client.#ping();
        return await use(client);
      } catch (error) {
        const isAnswer =
          (error instanceof RegistryError && error.registryCode !== '') ||
          (error instanceof EngineError && error.code === 'REGISTRY_UNAUTHORIZED');
        if (signal.aborted || (isAnswer && !endpoint.isMirror)) throw error;
        if (client.#hasAnswered && protocol === 'https:') secureHosts.add(host);
        failure = error;
      }
    }
    throw failure;
  }

  /**
   * Asks for nothing, with the credentials; an identity token where there are such, else "".
   * @throws REGISTRY_UNAUTHORIZED when a token server does not take them, REGISTRY_UNREACHABLE when the registry does not
   * Source: moby v28 registry/auth.go loginV2().
   */
  async checkCredentials(): Promise<string> {
    this.#authorizer.wantIdentity();
    const url = `${this.#endpoint.baseUrl}/v2/`;
    try {
      await readBody(await this.#send({ method: 'GET', url }));
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      if (error.said !== error.message) throw answerError(error);
      const status = `${error.status} ${STATUS_CODES[error.status] ?? ''}`.trim();
      throw new EngineError('REGISTRY_UNREACHABLE', `login attempt to ${url} failed with status: ${status}`);
    }
    return this.#authorizer.identityToken;
  }

  /** What a tag names, without fetching it (registries count fetches); null where the registry does not tell. */
  async manifestDigest(tag: string): Promise<Digest | null> {
    try {
      const response = await this.#send({
        method: 'HEAD',
        url: this.#url(`manifests/${tag}`),
        headers: { Accept: ACCEPT },
      });
      response.body.resume();
      const digest = String(response.headers['docker-content-digest'] ?? '');
      return isDigest(digest) ? digest : null;
    } catch (error) {
      // A HEAD has no reason in it; the GET that follows will say it.
      if (error instanceof RegistryError && error.said === error.message) return null;
      throw error;
    }
  }

  /** By tag or digest; a digest is verified. */
  async manifest(tagOrDigest: string): Promise<FetchedManifest> {
    const response = await this.#send({
      method: 'GET',
      url: this.#url(`manifests/${tagOrDigest}`),
      headers: { Accept: ACCEPT },
    });
    const bytes = await readBody(response, MANIFEST_BYTES_MAX);
    const digest = digestOf(bytes);
    if (tagOrDigest.includes(':') && tagOrDigest !== digest)
      throw new EngineError('IMAGE_CORRUPT', `manifest verification failed for digest ${tagOrDigest}`);
    return { bytes, digest, mediaType: response.headers['content-type'] ?? '' };
  }

  async putManifest(tag: string, bytes: Buffer, mediaType: string): Promise<void> {
    const response = await this.#send({
      method: 'PUT',
      url: this.#url(`manifests/${tag}`),
      headers: { 'Content-Type': mediaType },
      body: bytes,
    });
    await readBody(response);
  }

  async tags(): Promise<string[]> {
    const tags: string[] = [];
    let url: string | null = this.#url('tags/list');
    for (let page = 0; url !== null && page < TAG_PAGES_MAX; page++) {
      const response: HttpResponse = await this.#send({ method: 'GET', url });
      const answer = parseJsonObject(await readBody(response), 'list of tags') as { tags?: unknown };
      if (Array.isArray(answer.tags)) tags.push(...answer.tags.filter((tag): tag is string => typeof tag === 'string'));
      if (tags.length > TAGS_MAX) throw new EngineError('IMAGE_CORRUPT', `the registry has more than ${TAGS_MAX} tags`);
      const next: string | undefined = /<([^>]+)>\s*;\s*rel="?next"?/.exec(String(response.headers['link'] ?? ''))?.[1];
      url = next === undefined || !URL.canParse(next, url) ? null : new URL(next, url).href;
    }
    return tags;
  }

  /** A small blob, verified. */
  async blob(digest: Digest): Promise<Buffer> {
    const bytes = await readBody(await this.#send({ method: 'GET', url: this.#url(`blobs/${digest}`) }));
    if (digestOf(bytes) !== digest)
      throw new EngineError('IMAGE_CORRUPT', `image config verification failed for digest ${digest}`);
    return bytes;
  }

  /**
   * From `offset` on where the registry can; `offset` of the answer says. `sizeBytes` is of the whole, null where the
   * registry does not tell. The caller verifies.
   */
  async openBlob(
    digest: Digest,
    offset: number,
  ): Promise<{
    readonly offset: number;
    readonly sizeBytes: number | null;
    readonly body: AsyncIterable<Uint8Array>;
  }> {
    const headers = offset > 0 ? { Range: `bytes=${offset}-` } : {};
    let response: HttpResponse;
    try {
      response = await this.#send({ method: 'GET', url: this.#url(`blobs/${digest}`), headers });
    } catch (error) {
      if (offset > 0 && error instanceof RegistryError && error.status === 416) return await this.openBlob(digest, 0);
      throw error;
    }
    const length = response.headers['content-length'];
    if (response.status !== 206)
      return { offset: 0, sizeBytes: length === undefined ? null : Number(length), body: bodyOf(response) };
    const range = /^bytes (\d+)-\d+\/(\d+|\*)/.exec(response.headers['content-range'] ?? '');
    const from = Number(range?.[1] ?? -1);
    if (from !== offset) {
      response.body.destroy();
      throw new EngineError(
        'REGISTRY_UNREACHABLE',
        `the registry answered from byte ${from} where ${offset} was asked`,
      );
    }
    return { offset, sizeBytes: range?.[2] === '*' ? null : Number(range?.[2]), body: bodyOf(response) };
  }

  /** Its size; null when the repository does not have it. */
  async blobSize(digest: Digest): Promise<number | null> {
    try {
      const response = await this.#send({ method: 'HEAD', url: this.#url(`blobs/${digest}`) });
      response.body.resume();
      return Number(response.headers['content-length'] ?? 0);
    } catch (error) {
      if (error instanceof RegistryError && error.status === 404) return null;
      throw error;
    }
  }

  /** Takes a blob over from another repository of the registry; false when it will not. */
  async mountBlob(digest: Digest, from: string): Promise<boolean> {
    const query = new URLSearchParams({ mount: digest, from });
    const response = await this.#send({
      method: 'POST',
      url: this.#url(`blobs/uploads/?${query.toString()}`),
      extraScopes: [`repository:${from}:pull`],
    });
    await readBody(response);
    if (response.status === 201) return true;
    const location = response.headers.location;
    if (location !== undefined) await this.#cancelUpload(location);
    return false;
  }

  /** Sends a blob whose digest is known when all of it was sent. */
  async upload(content: AsyncIterable<Uint8Array>, digest: () => Digest): Promise<void> {
    const started = await this.#send({ method: 'POST', url: this.#url('blobs/uploads/') });
    await readBody(started);
    const sent = await this.#send({
      method: 'PATCH',
      url: this.#location(started),
      headers: { 'Content-Type': 'application/octet-stream' },
      body: content,
    });
    await readBody(sent);
    const url = new URL(this.#location(sent));
    url.searchParams.set('digest', digest());
    await readBody(await this.#send({ method: 'PUT', url: url.href, body: Buffer.alloc(0) }));
  }

  async #cancelUpload(location: string): Promise<void> {
    try {
      await readBody(await this.#send({ method: 'DELETE', url: new URL(location, this.#endpoint.baseUrl).href }));
    } catch {
      // the registry forgets it by itself
    }
  }

  #location(response: HttpResponse): string {
    const { location } = response.headers;
    if (location === undefined)
      throw new EngineError('REGISTRY_UNREACHABLE', 'the registry did not say where to upload');
    return new URL(location, `${this.#endpoint.baseUrl}/`).href;
  }

  #url(rest: string): string {
    return `${this.#endpoint.baseUrl}/v2/${this.#path}/${rest}`;
  }

  /** With credentials, asked for anew once. @throws RegistryError for answers from 400 on */
  async #send(
    draft: Omit<HttpRequest, 'signal'> & { readonly extraScopes?: readonly string[] },
  ): Promise<HttpResponse> {
    const { extraScopes = [], ...rest } = draft;
    const request: HttpRequest = { ...rest, signal: this.#signal };
    for (let attempt = 0; ; attempt++) {
      // Where a registry sends uploads to another host, the credentials stay here.
      const isOwn = request.url.startsWith(`${this.#endpoint.baseUrl}/`);
      const authorization = isOwn ? await this.#authorize([...this.#scopes, ...extraScopes], request) : null;
      const headers = { ...request.headers, ...(authorization !== null && { Authorization: authorization }) };
      const response = await sendRequest(this.#endpoint.transport, { ...request, headers });
      if (response.status < 400) return response;
      const body = await readBody(response);
      const canRepeat = request.body === undefined || Buffer.isBuffer(request.body);
      if (response.status !== 401 || attempt > 0 || !canRepeat) throw registryError(response, body, request);
      this.#authorizer.challenge(response.headers['www-authenticate']);
    }
  }

  async #authorize(scopes: readonly string[], request: HttpRequest): Promise<string | null> {
    try {
      return await this.#authorizer.header(scopes, request);
    } catch (error) {
      throw error instanceof RegistryError ? error.during(request) : error;
    }
  }

  /** Whether there is a registry, and what it asks for. */
  async #ping(): Promise<void> {
    const request: HttpRequest = { method: 'GET', url: `${this.#endpoint.baseUrl}/v2/`, signal: this.#signal };
    const response = await sendRequest(this.#endpoint.transport, request);
    this.#hasAnswered = true;
    const body = await readBody(response);
    if (response.status === 401) this.#authorizer.challenge(response.headers['www-authenticate']);
    else if (response.status >= 500) throw registryError(response, body, request);
  }
}
