/**
 * Taking over a request's connection, in Docker's two ways: with "Upgrade: tcp" Node hands us the socket; without it
 * the answer is a 200 after which the connection is raw as well, which Node has no word for, so its parser is taken off
 * the socket here (the one place that touches Node's internals; hijack.test.ts holds it).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { STATUS_CODES } from 'node:http';
import { Duplex } from 'node:stream';

import { EngineError } from '../core/engine-error.ts';
import { BODY_BYTES_MAX, checkContentType, isEmpty, readText, tooLong } from './body.ts';
import { errorBody, statusOf } from './http-error.ts';
import { sendReply } from './reply.ts';
import type { HijackedConnection } from './route.ts';

export function upgradedConnection(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  headers: Readonly<Record<string, string>>,
): HijackedConnection {
  let rest = head;
  let bodyRead: Promise<string> | null = null;
  const readBody = async (): Promise<string> => {
    const lengthBytes = Number(request.headers['content-length'] ?? 0);
    if (request.headers['transfer-encoding'] !== undefined)
      throw new EngineError('BODY_INVALID', 'a chunked body cannot be read on a connection that is upgraded');
    if (lengthBytes > BODY_BYTES_MAX) throw tooLong();
    rest = await readAtLeast(socket, rest, lengthBytes);
    const body = rest.subarray(0, lengthBytes);
    rest = rest.subarray(lengthBytes);
    return body.toString('utf8');
  };
  const body = (): Promise<string> => (bodyRead ??= readBody());
  return {
    request,
    upgrade: true,
    headers,
    body,
    async take() {
      await body();
      return { socket, early: rest };
    },
    refuse(error) {
      writeHead(socket, statusOf(error), { ...headers, 'Content-Type': 'application/json', Connection: 'close' });
      socket.end(`${JSON.stringify(errorBody(error))}\n`);
      socket.resume();
    },
  };
}

export function plainConnection(
  request: IncomingMessage,
  response: ServerResponse,
  headers: Readonly<Record<string, string>>,
): HijackedConnection {
  return {
    request,
    // Without "Connection: Upgrade" Node does not take it for one; moby asks for "Upgrade" alone.
    upgrade: request.headers.upgrade !== undefined,
    headers,
    body: () => readText(request),
    async take() {
      // A chunked body is how clients that know nothing of hijacking send stdin: it is read as one.
      if (request.headers['transfer-encoding'] !== undefined) {
        const { socket } = request;
        response.detachSocket(socket);
        return { socket: Duplex.from({ readable: request, writable: socket }), early: Buffer.alloc(0) };
      }
      if (!isEmpty(request) && !request.readableEnded) await readText(request);
      return { socket: takeSocket(request, response), early: Buffer.alloc(0) };
    },
    refuse(error) {
      sendReply(response, { status: statusOf(error), json: errorBody(error) });
    },
  };
}

/** Checked and read as the body of any other request. */
export async function readHijackJson(connection: HijackedConnection): Promise<string> {
  checkContentType(connection.request);
  return connection.body();
}

export function writeHead(socket: Duplex, status: number, headers: Readonly<Record<string, string>>): void {
  const reason = status === 101 ? 'UPGRADED' : (STATUS_CODES[status] ?? 'Unknown');
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/1.1 ${status} ${reason}\r\n${lines.join('')}\r\n`);
}

interface Parser {
  socket?: unknown;
  unconsume?(): void;
  remove?(): void;
}

function takeSocket(request: IncomingMessage, response: ServerResponse): Duplex {
  const socket = request.socket as typeof request.socket & { parser?: Parser | null };
  const { parser } = socket;
  response.detachSocket(socket);
  for (const event of ['data', 'end', 'drain', 'error', 'timeout', 'readable']) socket.removeAllListeners(event);
  parser?.unconsume?.(); // else llhttp goes on to read from the descriptor
  parser?.remove?.(); // from the server's list, whose idle connections are ended at its close
  if (parser) parser.socket = null;
  socket.parser = null;
  socket.setTimeout(0);
  return socket;
}

async function readAtLeast(socket: Duplex, first: Buffer, lengthBytes: number): Promise<Buffer> {
  const chunks = [first];
  let sizeBytes = first.length;
  if (sizeBytes >= lengthBytes) return first;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes < lengthBytes) return;
    socket.pause();
    resolve();
  };
  const onEnd = (): void => reject(new EngineError('BODY_INVALID', 'invalid JSON: unexpected EOF'));
  socket.on('data', onData);
  socket.once('end', onEnd);
  socket.once('close', onEnd);
  try {
    await promise;
  } finally {
    socket.off('data', onData);
    socket.off('end', onEnd);
    socket.off('close', onEnd);
  }
  return Buffer.concat(chunks);
}
