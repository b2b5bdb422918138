/** `docker login`, `docker manifest inspect` and `docker search`. Source: moby v28 registry/auth.go, registry/search.go, daemon/distribution. */
import { EngineError } from '../../core/engine-error.ts';

import { isObject, parseConfigFile, parseJsonObject } from '../image-config.ts';
import { imagesOf, parseManifest } from '../oci.ts';
import type { Digest, Platform, RegistryAuth } from '../port.ts';
import { parseReference, withDefaultTag, type Reference } from '../reference.ts';

import { endpointsOf, REGISTRY_DEFAULTS, type RegistryOptions } from './endpoint.ts';
import { readBody, sendRequest } from './http-request.ts';
import { RegistryClient } from './registry-client.ts';
import { pullError, RegistryError } from './registry-error.ts';

export interface Registries {
  /** Resolves with an identity token or "". @throws REGISTRY_UNAUTHORIZED */
  authenticate(auth: RegistryAuth): Promise<string>;
  /** The manifest that a reference names in its registry. */
  distribution(
    reference: string,
    auth: RegistryAuth | null,
  ): Promise<{
    readonly descriptor: { readonly mediaType: string; readonly digest: Digest; readonly sizeBytes: number };
    readonly platforms: readonly (Platform & { readonly osVersion?: string })[];
  }>;
  /** By the old index API, which few registries have. */
  search(options: {
    readonly term: string;
    readonly limit: number | null;
    readonly auth: RegistryAuth | null;
  }): Promise<readonly SearchResult[]>;
}

export interface SearchResult {
  readonly name: string;
  readonly description: string;
  readonly stars: number;
  readonly official: boolean;
}

const HUB_ADDRESSES: ReadonlySet<string> = new Set([
  '',
  'docker.io',
  'index.docker.io',
  'registry-1.docker.io',
  'registry.hub.docker.com',
]);
const HUB_SEARCH_HOST = 'index.docker.io';
const SEARCH_COUNT_DEFAULT = 25;
const SEARCH_COUNT_MAX = 100;
const TIMEOUT_MS = 60_000;

export function openRegistries(given: Partial<RegistryOptions> = {}): Registries {
  const registry = { ...REGISTRY_DEFAULTS, ...given };
  return {
    authenticate: async (auth) => await authenticate(auth, registry),
    distribution: async (text, auth) => {
      const reference = withDefaultTag(parseReference(text));
      try {
        using client = await RegistryClient.connect(reference, {
          purpose: 'pull',
          auth,
          registry,
          signal: AbortSignal.timeout(TIMEOUT_MS),
        });
        return await inspect(client, reference);
      } catch (error) {
        throw pullError(error, reference);
      }
    },
    search: async ({ term, limit }) => await search(term, limit, registry),
  };
}

async function authenticate(auth: RegistryAuth, registry: RegistryOptions): Promise<string> {
  const host = hostOf(auth.serverAddress);
  const domain = HUB_ADDRESSES.has(host) ? 'docker.io' : host;
  if (auth.username === '' && auth.identityToken === '')
    throw new EngineError('REGISTRY_UNAUTHORIZED', 'no basic auth credentials');
  try {
    using client = await RegistryClient.connect(
      { domain, path: '' },
      { purpose: 'push', auth, registry, signal: AbortSignal.timeout(TIMEOUT_MS) },
    );
    return await client.checkCredentials();
  } catch (error) {
    if (!(error instanceof RegistryError) || (error.status !== 401 && error.status !== 403)) throw error;
    throw new EngineError('REGISTRY_UNAUTHORIZED', `Get "https://${host}/v2/": ${error.message}`, { cause: error });
  }
}

async function inspect(client: RegistryClient, reference: Reference): ReturnType<Registries['distribution']> {
  const fetched = await client.manifest(reference.digest === '' ? reference.tag : reference.digest);
  const manifest = parseManifest(fetched.bytes, fetched.mediaType);
  const descriptor = { mediaType: manifest.mediaType, digest: fetched.digest, sizeBytes: fetched.bytes.length };
  if (manifest.kind === 'index')
    return { descriptor, platforms: imagesOf(manifest.manifests).map(({ platform }) => platform) };
  const { os, architecture, variant, osVersion } = parseConfigFile(await client.blob(manifest.config.digest));
  return { descriptor, platforms: [{ os, architecture, variant, ...(osVersion !== '' && { osVersion }) }] };
}

/** "host:port/term" asks another registry than Docker's. */
async function search(term: string, limit: number | null, registry: RegistryOptions): Promise<SearchResult[]> {
  if (/^https?:\/\//.test(term))
    throw new EngineError('PARAMETER_INVALID', `invalid repository name (${term}), must not have a scheme`);
  const count = limit === null || limit === 0 ? SEARCH_COUNT_DEFAULT : limit;
  if (count > SEARCH_COUNT_MAX)
    throw new EngineError('PARAMETER_INVALID', `limit ${count} is outside the range of [1, ${SEARCH_COUNT_MAX}]`);
  const slash = term.indexOf('/');
  const first = slash === -1 ? '' : term.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === 'localhost';
  const host = isHost ? first : HUB_SEARCH_HOST;
  const query = new URLSearchParams({ q: isHost ? term.slice(slash + 1) : term, n: String(count) });
  const endpoints = await endpointsOf(host, 'push', registry);
  let failure: unknown;
  for (const endpoint of endpoints) {
    using _open = endpoint;
    try {
      const response = await sendRequest(endpoint, {
        method: 'GET',
        url: `${endpoint.baseUrl}/v1/search?${query.toString()}`,
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const body = await readBody(response);
      if (response.status !== 200)
        throw new EngineError('REGISTRY_UNREACHABLE', `Unexpected status code ${response.status}`);
      return resultsOf(body);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

function resultsOf(body: Buffer): SearchResult[] {
  const { results } = parseJsonObject(body, 'search result');
  if (!Array.isArray(results)) return [];
  return results.filter(isObject).map((result) => ({
    name: textOf(result['name']),
    description: textOf(result['description']),
    stars: Number(result['star_count'] ?? 0) || 0,
    official: result['is_official'] === true,
  }));
}

/** "https://index.docker.io/v1/" is index.docker.io. */
function hostOf(serverAddress: string): string {
  return serverAddress.replace(/^https?:\/\//, '').split('/', 1)[0]!;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
