/** A file at a URL, for `docker import`. Source: moby v28 builder/remotecontext GetWithStatusError(). */
import { STATUS_CODES } from 'node:http';

import { EngineError, type ErrorCode } from '../../core/engine-error.ts';

import type { RegistryOptions } from './endpoint.ts';
import { bodyOf, readBody, sendRequest } from './http-request.ts';
import { openTransport } from './transport.ts';

export interface RemoteFile {
  /** null where the server does not say. */
  readonly sizeBytes: number | null;
  /** To be read to its end, or stopped. */
  readonly content: AsyncIterable<Uint8Array>;
}

const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'PARAMETER_INVALID',
  401: 'REGISTRY_UNAUTHORIZED',
  403: 'REGISTRY_DENIED',
  404: 'REGISTRY_NOT_FOUND',
};

/** "host/path" is http://host/path, as in Docker. */
export async function openUrl(text: string, options: RegistryOptions, signal: AbortSignal): Promise<RemoteFile> {
  const url = text.includes('://') ? text : `http://${text}`;
  if (text === '') throw new EngineError('REGISTRY_UNREACHABLE', 'Get "http:": http: no Host in request URL');
  if (!URL.canParse(url)) throw new EngineError('PARAMETER_INVALID', `parse ${JSON.stringify(url)}: invalid URL`);
  const { protocol } = new URL(url);
  if (protocol !== 'http:' && protocol !== 'https:')
    throw new EngineError(
      'REGISTRY_UNREACHABLE',
      `Get "${url}": unsupported protocol scheme "${protocol.slice(0, -1)}"`,
    );
  const transport = openTransport({ proxies: options.proxies, certificates: {}, isVerified: true });
  try {
    const response = await sendRequest(transport, { method: 'GET', url, signal });
    const { status } = response;
    if (status >= 400) {
      const said = (await readBody(response)).toString().trim();
      const code = CODE_OF_STATUS[status] ?? 'REGISTRY_UNREACHABLE';
      throw new EngineError(code, `failed to GET ${url} with status ${status} ${STATUS_CODES[status] ?? ''}: ${said}`);
    }
    const length = response.headers['content-length'];
    const content = async function* (): AsyncGenerator<Uint8Array> {
      using _open = transport;
      yield* bodyOf(response);
    };
    return { sizeBytes: length === undefined ? null : Number(length), content: content() };
  } catch (error) {
    transport[Symbol.dispose]();
    throw error;
  }
}
