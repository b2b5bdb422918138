/** One repository of one registry. Source: OCI distribution spec v1.1. */
import { EngineError } from '../../core/engine-error.ts';

import { checkSame, digestOf } from '../digest.ts';
import { MANIFEST_BYTES_MAX, MEDIA } from '../oci.ts';
import type { Digest, RegistryAuth } from '../port.ts';
import type { Reference } from '../reference.ts';

import { Authorizer } from './authorize.ts';
import { endpointsOf, type Endpoint, type RegistryOptions } from './endpoint.ts';
import { readBody, sendRequest, unreachable, type HttpRequest, type HttpResponse } from './http-request.ts';
import { registryError, RegistryError } from './registry-error.ts';

export interface FetchedManifest {
  readonly bytes: Buffer;
  readonly mediaType: string;
  readonly digest: Digest;
}

const ACCEPT = [MEDIA.dockerManifest, MEDIA.dockerIndex, MEDIA.ociManifest, MEDIA.ociIndex, 'application/json'].join(
  ', ',
);
const TAG_PAGES_MAX = 1000;

export class RegistryClient implements Disposable {
  readonly #endpoint: Endpoint;
  readonly #authorizer: Authorizer;
  readonly #path: string;
  readonly #scopes: readonly string[];
  readonly #signal: AbortSignal;

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

  /** The first endpoint that answers. @throws REGISTRY_UNREACHABLE with the last one's reason */
  static async connect(
    reference: Pick<Reference, 'domain' | 'path'>,
    options: {
      readonly purpose: 'pull' | 'push';
      readonly auth: RegistryAuth | null;
      readonly registry: RegistryOptions;
      readonly signal: AbortSignal;
    },
  ): Promise<RegistryClient> {
    const { purpose, auth, signal } = options;
    const endpoints = await endpointsOf(reference.domain, purpose, options.registry);
    let failure: unknown = new Error(`no endpoint for ${reference.domain}`);
    for (const [i, endpoint] of endpoints.entries()) {
      const authorizer = new Authorizer(endpoint, auth);
      try {
        await ping(endpoint, authorizer, signal);
        for (const other of endpoints) if (other !== endpoint) other[Symbol.dispose]();
        const scopes =
          reference.path === '' ? [] : [`repository:${reference.path}:${purpose === 'push' ? 'pull,push' : 'pull'}`];
        return new RegistryClient(endpoint, authorizer, reference.path, scopes, signal);
      } catch (error) {
        if (signal.aborted) throw error;
        failure = error;
        if (i + 1 === endpoints.length) for (const other of endpoints) other[Symbol.dispose]();
      }
    }
    throw failure;
  }

  [Symbol.dispose](): void {
    this.#endpoint[Symbol.dispose]();
  }

  /** Asks for nothing, with the credentials; an identity token where there are such, else "". @throws when they are not taken */
  async checkCredentials(): Promise<string> {
    this.#authorizer.wantIdentity();
    await readBody(await this.#send({ method: 'GET', url: `${this.#endpoint.baseUrl}/v2/` }));
    return this.#authorizer.identityToken;
  }

  /** By tag or digest; a digest is verified. */
  async manifest(tagOrDigest: string): Promise<FetchedManifest> {
    const response = await this.#send({
      method: 'GET',
      url: this.#url(`manifests/${tagOrDigest}`),
      headers: { Accept: ACCEPT },
    });
    const bytes = await readBody(response);
    if (bytes.length > MANIFEST_BYTES_MAX) throw new EngineError('REGISTRY_UNREACHABLE', 'the manifest is too large');
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
      const answer = JSON.parse((await readBody(response)).toString()) as { tags?: unknown };
      if (Array.isArray(answer.tags)) tags.push(...answer.tags.filter((tag): tag is string => typeof tag === 'string'));
      const next: string | undefined = /<([^>]+)>\s*;\s*rel="?next"?/.exec(String(response.headers['link'] ?? ''))?.[1];
      url = next === undefined ? null : new URL(next, url).href;
    }
    return tags;
  }

  /** A small blob, verified. */
  async blob(digest: Digest): Promise<Buffer> {
    const bytes = await readBody(await this.#send({ method: 'GET', url: this.#url(`blobs/${digest}`) }));
    checkSame('blob', digest, digestOf(bytes));
    return bytes;
  }

  /** From `offset` on where the registry can; `offset` of the answer says. The caller verifies. */
  async openBlob(
    digest: Digest,
    offset: number,
  ): Promise<{ readonly offset: number; readonly body: AsyncIterable<Uint8Array> }> {
    const headers = offset > 0 ? { Range: `bytes=${offset}-` } : {};
    const response = await this.#send({ method: 'GET', url: this.#url(`blobs/${digest}`), headers });
    const from =
      response.status === 206 ? Number(/^bytes (\d+)-/.exec(response.headers['content-range'] ?? '')?.[1] ?? -1) : 0;
    if (from !== 0 && from !== offset) {
      response.body.destroy();
      throw new EngineError(
        'REGISTRY_UNREACHABLE',
        `the registry answered from byte ${from} where ${offset} was asked`,
      );
    }
    return { offset: from, body: response.body };
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
      const authorization = isOwn ? await this.#authorizer.header([...this.#scopes, ...extraScopes], request) : null;
      const headers = { ...request.headers, ...(authorization !== null && { Authorization: authorization }) };
      const response = await sendRequest(this.#endpoint, { ...request, headers });
      if (response.status < 400) return response;
      const body = await readBody(response);
      const canRepeat = request.body === undefined || Buffer.isBuffer(request.body);
      if (response.status !== 401 || attempt > 0 || !canRepeat) throw registryError(response, body, request);
      this.#authorizer.challenge(response.headers['www-authenticate']);
    }
  }
}

/** Whether there is a registry, and what it asks for. */
async function ping(endpoint: Endpoint, authorizer: Authorizer, signal: AbortSignal): Promise<void> {
  const request: HttpRequest = { method: 'GET', url: `${endpoint.baseUrl}/v2/`, signal };
  const response = await sendRequest(endpoint, request);
  await readBody(response);
  if (response.status === 401) authorizer.challenge(response.headers['www-authenticate']);
  else if (response.status >= 500) throw unreachable(request, `received unexpected HTTP status: ${response.status}`);
}
