/** What a build takes from a URL: files of ADD, and contexts. Bounded, whatever the other side says of its length. */
import { EngineError } from '../core/engine-error.ts';
import { explain } from '../image/registry/http-request.ts';

export type Fetch = (url: string) => Promise<Response>;

const BYTES_MAX = 2 ** 32;
/** moby: a Dockerfile, or an archive; octet-stream is what servers say of what they do not know. */
const CONTEXT_TYPES =
  /^(?:text\/plain|application\/(?:octet-stream|x-tar|tar|gzip|x-gzip|bzip2|x-bzip2|x-xz|xz|zstd|x-compressed-tar))$/;

export interface Download {
  readonly headers: Headers;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** @throws BODY_INVALID, also while the chunks are read */
export async function download(fetch: Fetch, url: string): Promise<Download> {
  const answer = await fetch(url).catch((error: unknown) => {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw new EngineError('BODY_INVALID', `Get ${JSON.stringify(url)}: ${explain(cause, { url })}`, { cause: error });
  });
  if (!answer.ok)
    throw new EngineError(
      'BODY_INVALID',
      `failed to GET ${url} with status ${answer.status} ${answer.statusText}: ${(await answer.text()).slice(0, 500)}`,
    );
  return { headers: answer.headers, chunks: bounded(url, answer.body) };
}

/** `remote` of POST /build. A Dockerfile is all there is when the answer is text. */
export async function remoteContext(fetch: Fetch, url: string): Promise<Download & { readonly isDockerfile: boolean }> {
  if (!/^https?:\/\//.test(url))
    throw new EngineError('FEATURE_UNSUPPORTED', `remote context ${url} is not supported: http:// and https:// are`);
  if (/\.git(?:#.*)?$/.test(url))
    throw new EngineError('FEATURE_UNSUPPORTED', `remote context ${url}: git repositories are not supported`);
  const found = await download(fetch, url);
  const type = (found.headers.get('content-type') ?? 'application/octet-stream').split(';', 1)[0]!.trim();
  if (!CONTEXT_TYPES.test(type))
    throw new EngineError('BODY_INVALID', `unsupported Content-Type ${JSON.stringify(type)} of remote context ${url}`);
  return { ...found, isDockerfile: type === 'text/plain' };
}

async function* bounded(url: string, body: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array> {
  let left = BYTES_MAX;
  for await (const chunk of body ?? []) {
    left -= chunk.length;
    if (left < 0) throw new EngineError('BODY_INVALID', `${url} is larger than ${BYTES_MAX} bytes`);
    yield chunk;
  }
}
