/** Reading request bodies, bounded. Source of the rules: moby api/server/httputils ReadJSON, CheckForJSON (v28). */
import type { IncomingMessage } from 'node:http';

import { EngineError } from '../core/engine-error.ts';

/** Nobody's container config is larger; a larger one would only fill our memory. */
export const BODY_BYTES_MAX = 16 * 1024 * 1024;

const DRAIN_MS = 30_000;
/** What Go's server reads of a body that nobody wanted, before it closes the connection. */
const REST_BYTES_MAX = 256 * 1024;
const REST_MS = 500;

export interface JsonBody {
  readonly text: string;
  /** The request said that it has no body: moby then decodes nothing at all. */
  readonly absent: boolean;
}

/** @throws BODY_INVALID for a Content-Type that is not JSON, or a body that is too long */
export async function readJsonBody(request: IncomingMessage): Promise<JsonBody> {
  checkContentType(request);
  return { absent: isEmpty(request), text: await readText(request) };
}

export function isEmpty(request: IncomingMessage): boolean {
  return request.headers['transfer-encoding'] === undefined && Number(request.headers['content-length'] ?? 0) === 0;
}

export function checkContentType(request: IncomingMessage): void {
  const header = request.headers['content-type'] ?? '';
  if (header === '' && isEmpty(request)) return;
  const mediaType = (header.split(';', 1)[0] ?? '').trim().toLowerCase();
  if (mediaType === '' || !/^[^\s/]+(\/[^\s/]+)?$/.test(mediaType)) {
    const why = mediaType === '' ? 'mime: no media type' : 'mime: expected token after slash';
    throw new EngineError('BODY_INVALID', `malformed Content-Type header (${header}): ${why}`);
  }
  if (mediaType !== 'application/json') {
    throw new EngineError('BODY_INVALID', `unsupported Content-Type header (${header}): must be 'application/json'`);
  }
}

export async function readText(request: IncomingMessage): Promise<string> {
  if (Number(request.headers['content-length'] ?? 0) > BODY_BYTES_MAX) throw tooLong();
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of bodyChunks(request)) {
    sizeBytes += chunk.length;
    if (sizeBytes > BODY_BYTES_MAX) throw tooLong();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/**
 * The body as a stream for those who may stop reading it: breaking off does not end the connection, on which the answer
 * still has to go. What they leave is drained after the answer.
 */
export function bodyChunks(request: IncomingMessage): AsyncIterable<Buffer> {
  return { [Symbol.asyncIterator]: () => request.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer> };
}

/** Reads what is left of a body, so that the client comes to read its answer; not for ever. */
export function drainBody(request: IncomingMessage): void {
  if (request.complete || request.destroyed) return;
  const deadline = setTimeout(() => request.destroy(), DRAIN_MS);
  deadline.unref();
  request.once('close', () => clearTimeout(deadline));
  request.resume();
}

/** Reads the end of a short body, for an answer after which the connection is closed. */
export async function readRest(request: IncomingMessage): Promise<void> {
  if (request.complete || request.destroyed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = REST_BYTES_MAX;
  request.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) resolve();
  });
  request.once('end', resolve).once('close', resolve);
  const deadline = setTimeout(resolve, REST_MS);
  await promise;
  clearTimeout(deadline);
}

export function tooLong(): EngineError {
  return new EngineError('BODY_INVALID', `request body is larger than ${BODY_BYTES_MAX} bytes`);
}
