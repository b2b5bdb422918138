/** One HTTP request, with redirects, and with errors in Go's words, which users of Docker know. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { EngineError } from '../../core/engine-error.ts';

import type { Transport } from './transport.ts';

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | AsyncIterable<Uint8Array>;
  readonly signal: AbortSignal;
}

/** Its body is to be read or destroyed. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: IncomingMessage;
}

const PLAIN_ANSWER = 'http: server gave HTTP response to HTTPS client';
const REDIRECTS_MAX = 10;
/** More than this is not read to keep the connection. */
const REDIRECT_BODY_BYTES_MAX = 64 * 1024;
/** Nothing at all heard for this long. */
const SILENCE_MS_MAX = 60_000;
const BODY_BYTES_MAX = 8 * 1024 * 1024;

/** @throws REGISTRY_UNREACHABLE when there is no answer */
export async function sendRequest(transport: Transport, asked: HttpRequest): Promise<HttpResponse> {
  let request = asked;
  for (let i = 0; ; i++) {
    const response = await sendOnce(transport, request);
    const location = response.headers.location;
    if (location === undefined || !isFollowed(response.status, request)) return response;
    if (Number(response.headers['content-length'] ?? Infinity) <= REDIRECT_BODY_BYTES_MAX) response.body.resume();
    else response.body.destroy();
    if (i === REDIRECTS_MAX) throw unreachable(asked, `stopped after ${REDIRECTS_MAX} redirects`);
    request = redirected(request, location);
  }
}

/** What was sent can be sent again only where it is still there, and where the answer says that it should be. */
function isFollowed(status: number, { method, body }: HttpRequest): boolean {
  if (method === 'GET' || method === 'HEAD') return [301, 302, 303, 307, 308].includes(status);
  return (status === 307 || status === 308) && (body === undefined || Buffer.isBuffer(body));
}

/** The credentials are for the host that was asked, not for the one that it names. */
function redirected(request: HttpRequest, location: string): HttpRequest {
  if (!URL.canParse(location, request.url))
    throw unreachable(request, `failed to parse Location header ${JSON.stringify(location)}`);
  const url = new URL(location, request.url);
  const from = new URL(request.url);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw unreachable(request, `unsupported protocol scheme "${url.protocol.slice(0, -1)}"`);
  const isSafer = url.protocol === 'https:' && from.protocol === 'http:' && url.hostname === from.hostname;
  if (url.origin === from.origin || isSafer) return { ...request, url: url.href };
  const { Authorization: _, ...headers } = request.headers ?? {};
  return { ...request, url: url.href, headers };
}

async function sendOnce(transport: Transport, request: HttpRequest): Promise<HttpResponse> {
  const { method, url, headers, body, signal } = request;
  const isSecure = url.startsWith('https:');
  const length =
    body === undefined
      ? {}
      : Buffer.isBuffer(body)
        ? { 'Content-Length': String(body.length) }
        : { 'Transfer-Encoding': 'chunked' };
  const outgoing = (isSecure ? httpsRequest : httpRequest)(url, {
    method,
    headers: { 'User-Agent': 'longshore', ...headers, ...length },
    signal,
    agent: transport.agentFor(new URL(url)),
  });
  outgoing.setTimeout(SILENCE_MS_MAX, () => outgoing.destroy(new Error('net/http: timeout awaiting response headers')));
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
  });
  answered.catch(() => {});
  try {
    if (body === undefined || Buffer.isBuffer(body)) outgoing.end(body);
    else await Promise.race([pipeline(Readable.from(body, { objectMode: false }), outgoing), answered]); // a refusal may come before all is sent
    const incoming = await answered;
    return { status: incoming.statusCode ?? 0, headers: incoming.headers, body: incoming };
  } catch (error) {
    outgoing.destroy();
    if (signal.aborted) throw signal.reason ?? error;
    if (error instanceof EngineError) throw error;
    throw unreachable(request, explain(error, request), error);
  }
}

/** A small body. @throws IMAGE_CORRUPT for a large one */
export async function readBody(response: HttpResponse, bytesMax: number = BODY_BYTES_MAX): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of bodyOf(response)) {
    parts.push(part);
    bytes += part.length;
    if (bytes > bytesMax) {
      response.body.destroy();
      throw new EngineError('IMAGE_CORRUPT', 'the registry answered with more than can be taken');
    }
  }
  return Buffer.concat(parts);
}

/** What is left of a body. @throws REGISTRY_UNREACHABLE when it ends too early */
export async function* bodyOf({ body }: HttpResponse): AsyncGenerator<Buffer> {
  try {
    yield* body as AsyncIterable<Buffer>;
  } catch (error) {
    throw new EngineError('REGISTRY_UNREACHABLE', 'unexpected EOF', { cause: error });
  }
}

export function unreachable(
  { method, url }: Pick<HttpRequest, 'method' | 'url'>,
  why: string,
  cause?: unknown,
): EngineError {
  const verb = method.slice(0, 1) + method.slice(1).toLowerCase();
  return new EngineError('REGISTRY_UNREACHABLE', `${verb} "${url}": ${why}`, { cause });
}

/** In Go's words, as Docker's users know them. */
export function explain(error: unknown, { url }: Pick<HttpRequest, 'url'>): string {
  const { hostname, port, protocol } = new URL(url);
  const {
    code = '',
    message = String(error),
    address,
    errors,
  } = error as { code?: string; message?: string; address?: string; errors?: { address?: string; code?: string }[] };
  const where = `${address ?? errors?.[0]?.address ?? hostname}:${port || (protocol === 'https:' ? '443' : '80')}`;
  switch (code) {
    case 'ECONNREFUSED':
      return `dial tcp ${where}: connect: connection refused`;
    case 'EHOSTUNREACH':
      return `dial tcp ${where}: connect: no route to host`;
    case 'ENETUNREACH':
      return `dial tcp ${where}: connect: network is unreachable`;
    case 'ETIMEDOUT':
      return `dial tcp ${where}: i/o timeout`;
    case 'ENOTFOUND':
      return `dial tcp: lookup ${hostname}: no such host`;
    case 'EAI_AGAIN':
      return `dial tcp: lookup ${hostname}: Temporary failure in name resolution`;
    case 'ECONNRESET':
      return 'EOF';
    case 'EPIPE':
      return 'write: broken pipe';
    case 'EPROTO':
      return /alert/i.test(message) ? `remote error: tls: ${tlsAlert(message)}` : PLAIN_ANSWER;
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
      return PLAIN_ANSWER;
    case 'CERT_HAS_EXPIRED':
    case 'CERT_NOT_YET_VALID':
      return 'tls: failed to verify certificate: x509: certificate has expired or is not yet valid';
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return `tls: failed to verify certificate: x509: ${otherNames(error, hostname)}`;
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
      return 'tls: failed to verify certificate: x509: certificate signed by unknown authority';
    default:
      return code.startsWith('ERR_SSL_TLSV') || /alert/i.test(message)
        ? `remote error: tls: ${tlsAlert(message)}`
        : message;
  }
}

/** OpenSSL's "…:SSL alert number 116" or "…tlsv13 alert certificate required:…" in a word. */
function tlsAlert(message: string): string {
  return /alert ([a-z ]+)/i.exec(message.replace(/SSL alert number/i, ''))?.[1]?.trim() ?? 'handshake failure';
}

/** Go's x509.HostnameError. */
function otherNames(error: unknown, hostname: string): string {
  const names = (error as { cert?: { subjectaltname?: string } }).cert?.subjectaltname ?? '';
  if (isIP(hostname) !== 0 && !names.includes('IP Address:'))
    return `cannot validate certificate for ${hostname} because it doesn't contain any IP SANs`;
  return `certificate is valid for ${names.replace(/(?:DNS|IP Address):/g, '') || 'other names'}, not ${hostname}`;
}
