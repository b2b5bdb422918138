/** Writing answers: JSON at once, and streams of lines with back pressure. */
import type { ServerResponse } from 'node:http';
import { once } from 'node:events';

import type { Reply } from './route.ts';

export function sendReply(response: ServerResponse, reply: Reply): void {
  for (const [name, value] of Object.entries(reply.headers ?? {})) response.setHeader(name, value);
  const text = reply.jsonText ?? (reply.json === undefined ? null : JSON.stringify(reply.json));
  if (text === null) {
    if (reply.status !== 204 && reply.status !== 304) response.setHeader('Content-Length', '0');
    response.writeHead(reply.status).end();
    return;
  }
  const body = Buffer.from(`${text}\n`);
  response.setHeader('Content-Type', 'application/json');
  response.setHeader('Content-Length', String(body.length));
  response.writeHead(reply.status).end(body);
}

/** Writes a chunk and waits while the client is slow. Throws nothing when the client has gone: see `gone`. */
export async function writeSlowly(response: ServerResponse, chunk: Buffer | string, gone: AbortSignal): Promise<void> {
  if (gone.aborted || response.write(chunk)) return;
  await once(response, 'drain', { signal: gone }).catch(() => {});
}

/**
 * Streams `chunks` as the body. The status and headers are sent with the first chunk, so that an error before it still
 * gets its proper status; an error after it is given to `onLateError`, whose text (if any) ends the stream.
 */
export async function sendChunks(
  response: ServerResponse,
  chunks: AsyncIterable<Buffer | Uint8Array | string>,
  options: {
    readonly contentType: string;
    readonly signal: AbortSignal;
    readonly headers?: Readonly<Record<string, string>>;
    /** Send the headers before the first chunk is there. */
    readonly headersFirst?: boolean;
    readonly onLateError?: (error: unknown) => string | null;
  },
): Promise<void> {
  const begin = (): void => {
    if (response.headersSent) return;
    for (const [name, value] of Object.entries(options.headers ?? {})) response.setHeader(name, value);
    response.setHeader('Content-Type', options.contentType);
    response.writeHead(200);
    response.flushHeaders();
  };
  if (options.headersFirst === true) begin();
  try {
    for await (const chunk of chunks) {
      if (options.signal.aborted) return;
      begin();
      await writeSlowly(
        response,
        Buffer.isBuffer(chunk) || typeof chunk === 'string'
          ? chunk
          : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength),
        options.signal,
      );
    }
    begin();
    response.end();
  } catch (error) {
    if (options.signal.aborted) return;
    if (!response.headersSent) throw error;
    const text = options.onLateError?.(error) ?? null;
    // Without words of our own for it the client must see a broken stream, not a short one that looks whole.
    if (text === null) response.destroy();
    else response.end(text);
  }
}
