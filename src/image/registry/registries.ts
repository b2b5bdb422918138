/** `docker login`, `docker manifest inspect` and `docker search`. Source: moby v28 registry/auth.go, registry/search.go, daemon/distribution. */
import { EngineError } from '../../core/engine-error.ts';

import { isObject, parseConfigFile, parseJsonObject } from '../image-config.ts';
import { parseManifest } from '../oci.ts';
import type { Digest, Platform, RegistryAuth } from '../port.ts';
import { parseAnyReference, withDefaultTag, type Reference } from '../reference.ts';

import { basicHeader } from './authorize.ts';
import { endpointsOf, REGISTRY_DEFAULTS, type RegistryOptions } from './endpoint.ts';
import { readBody, sendRequest } from './http-request.ts';
import { RegistryClient } from './registry-client.ts';
import { answerError } from './registry-error.ts';
import { openUrl, type RemoteFile } from './remote-file.ts';

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
  /** What is at a URL, through the same proxies. @throws REGISTRY_UNREACHABLE, REGISTRY_NOT_FOUND, … by its status */
  open(url: string, signal: AbortSignal): Promise<RemoteFile>;
}

export interface SearchResult {
  readonly name: string;
  readonly description: string;
  readonly stars: number;
  readonly official: boolean;
}

/** What the login of Docker's own registry is known by. */
const HUB_HOSTS: ReadonlySet<string> = new Set(['', 'docker.io', 'index.docker.io']);
const SEARCH_COUNT_DEFAULT = 25;
const SEARCH_COUNT_MAX = 100;
const TIMEOUT_MS = 60_000;
const NO_PLATFORM: Platform = { os: '', architecture: '', variant: '' };

export function openRegistries(given: Partial<RegistryOptions> = {}): Registries {
  const registry = { ...REGISTRY_DEFAULTS, ...given };
  return {
    authenticate: async (auth) => {
      const host = hostOf(auth.serverAddress);
      return await RegistryClient.use(
        { domain: HUB_HOSTS.has(host) ? 'docker.io' : host, path: '' },
        { purpose: 'push', auth, registry, signal: AbortSignal.timeout(TIMEOUT_MS) },
        (client) => client.checkCredentials(),
      );
    },
    distribution: async (text, auth) => {
      const any = parseAnyReference(text);
      if (any.kind === 'id') throw new EngineError('REGISTRY_UNREACHABLE', 'no manifest found for full image ID');
      const reference = withDefaultTag(any.reference);
      try {
        return await RegistryClient.use(
          reference,
          { purpose: 'pull', auth, registry, signal: AbortSignal.timeout(TIMEOUT_MS) },
          (client) => inspect(client, reference),
        );
      } catch (error) {
        throw answerError(error);
      }
    },
    search: async (options) => await search(options, registry),
    open: async (url, signal) => await openUrl(url, registry, signal),
  };
}

async function inspect(client: RegistryClient, reference: Reference): ReturnType<Registries['distribution']> {
  const fetched = await client.manifest(reference.digest === '' ? reference.tag : reference.digest);
  const manifest = parseManifest(fetched.bytes, fetched.mediaType);
  const descriptor = { mediaType: manifest.mediaType, digest: fetched.digest, sizeBytes: fetched.bytes.length };
  if (manifest.kind === 'index')
    return { descriptor, platforms: manifest.manifests.map(({ platform }) => platform ?? NO_PLATFORM) };
  const { os, architecture, variant, osVersion } = parseConfigFile(await client.blob(manifest.config.digest));
  return { descriptor, platforms: [{ os, architecture, variant, ...(osVersion !== '' && { osVersion }) }] };
}

/** "host:port/term" asks another registry than Docker's. Source: moby v28 registry/search.go, search_session.go. */
async function search(
  { term, limit, auth }: Parameters<Registries['search']>[0],
  registry: RegistryOptions,
): Promise<SearchResult[]> {
  if (/^https?:\/\//.test(term))
    throw invalid(`invalid repository name: repository name (${term}) should not have a scheme`);
  const count = limit === null || limit === 0 ? SEARCH_COUNT_DEFAULT : limit;
  if (count > SEARCH_COUNT_MAX) throw invalid(`limit ${count} is outside the range of [1, ${SEARCH_COUNT_MAX}]`);
  const slash = term.indexOf('/');
  const first = slash === -1 ? '' : term.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === 'localhost';
  const query = new URLSearchParams({
    q: isHost ? term.slice(slash + 1) : term.replace(/^library\//, ''),
    n: String(count),
  });
  let failure: unknown;
  for (const endpoint of await endpointsOf(isHost ? first : registry.searchHost, 'push', registry)) {
    using _open = endpoint;
    try {
      const response = await sendRequest(endpoint.transport, {
        method: 'GET',
        url: `${endpoint.baseUrl}/v1/search?${query.toString()}`,
        headers: { 'X-Docker-Token': 'true', ...(auth !== null && auth.username !== '' && basicHeader(auth)) },
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

function invalid(message: string): EngineError {
  return new EngineError('PARAMETER_INVALID', message);
}
