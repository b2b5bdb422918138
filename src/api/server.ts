/**
 * Serves the API on one http.Server: finds the route, checks the version, sets Docker's headers, turns errors into
 * answers. Source: moby api/server/server.go, middleware/version.go (v28).
 */
import {
  createServer,
  STATUS_CODES,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Duplex } from 'node:stream';

import { formatApiVersion, MINOR_MAX, MOBY_VERSION, parseApiVersion } from './api-version.ts';
import { EngineError } from '../core/engine-error.ts';
import { drainBody, readRest } from './body.ts';
import { plainConnection, upgradedConnection } from './hijack.ts';
import { errorBody, isExpected, statusOf } from './http-error.ts';
import type { WatchRequest } from '../telemetry/port.ts';
import type { EngineParts } from './port.ts';
import { Query } from './query.ts';
import { sendReply } from './reply.ts';
import type { AnyRoute, Exchange, HijackedConnection, HijackRoute } from './route.ts';
import { Guard, type Scope } from './scope.ts';
import { cleanPath, Router, type Match } from './router.ts';

export interface TlsOptions {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** With a CA, clients must show a certificate of it. */
  readonly ca: Buffer | null;
}

export interface ServeOptions {
  readonly parts: EngineParts;
  readonly routes: readonly AnyRoute[];
  /** Metrics and traces; nobody watches without it. */
  readonly watch?: WatchRequest | undefined;
}

const SERVER_OPTIONS: ServerOptions = {
  maxHeaderSize: 1024 * 1024, // Go's: X-Registry-Config can be long
  requireHostHeader: false,
  keepAliveTimeout: 0, // dockerd's never ends idle connections, which pools of clients rely on
  requestTimeout: 0, // an image may take an hour to upload
  headersTimeout: 60_000,
};

/** Answers requests; knows nothing of sockets and addresses. */
export class ApiServer {
  readonly #parts: EngineParts;
  readonly #router: Router<AnyRoute>;
  readonly #watch: WatchRequest;
  readonly #headers: Readonly<Record<string, string>>;
  /** Aborted when the server closes, for streams that have no end of their own. */
  readonly #closing = new AbortController();

  constructor({ parts, routes, watch }: ServeOptions) {
    this.#parts = parts;
    this.#router = new Router(routes);
    this.#watch = watch ?? unwatched;
    this.#headers = {
      'Api-Version': formatApiVersion(MINOR_MAX),
      'Docker-Experimental': 'false',
      Ostype: 'linux',
      Server: `Docker/${MOBY_VERSION} (Longshore/${parts.system.version.version} (linux))`,
    };
  }

  /** A server to listen with; `scope` null serves everything. */
  create(tls: TlsOptions | null, scope: Scope | null = null): Server {
    const guard = scope === null ? null : new Guard(scope, this.#parts);
    const options: ServerOptions = { ...SERVER_OPTIONS, shouldUpgradeCallback: (request) => this.#isHijack(request) };
    const listener: RequestListener = (request, response) => void this.#serve(request, response, guard);
    const server =
      tls === null
        ? createServer(options, listener)
        : createTlsServer(
            {
              ...options,
              cert: tls.cert,
              key: tls.key,
              ...(tls.ca === null ? {} : { ca: tls.ca, requestCert: true, rejectUnauthorized: true }),
              minVersion: 'TLSv1.2',
            },
            listener,
          );
    server.on('upgrade', (request, socket, head) => void this.#serveUpgrade(request, socket, head, guard));
    server.on('clientError', (error, socket) => refuseGarbage(error, socket));
    return server;
  }

  /** Ends streams that would go on for ever. */
  endStreams(): void {
    this.#closing.abort(new EngineError('DAEMON_SHUTTING_DOWN', 'the daemon is shutting down'));
  }

  #isHijack(request: IncomingMessage): boolean {
    const match = this.#find(request);
    return match !== null && 'hijack' in match.route;
  }

  /** null also for a path that cannot be decoded. */
  #find(request: IncomingMessage): Match<AnyRoute> | null {
    const path = decodePath(request.url ?? '/');
    return path === null ? null : this.#router.find(request.method ?? 'GET', path);
  }

  async #serve(request: IncomingMessage, response: ServerResponse, guard: Guard | null): Promise<void> {
    for (const [name, value] of Object.entries(this.#headers)) response.setHeader(name, value);
    if (redirected(request, response)) return;
    const match = this.#find(request);
    await this.#watch(watched(request, match), async (answered) => {
      const told = once(answered);
      if (this.#watch !== unwatched) onFirstByte(response, told);
      await this.#answer(match, request, response, told, guard);
    });
  }

  async #answer(
    match: Match<AnyRoute> | null,
    request: IncomingMessage,
    response: ServerResponse,
    answered: (status: number) => void,
    guard: Guard | null,
  ): Promise<void> {
    const gone = new AbortController();
    response.on('close', () => gone.abort());
    try {
      if (match === null) {
        if (request.method === 'OPTIONS') return sendReply(response, { status: 200 });
        throw new EngineError('ROUTE_NOT_FOUND', 'page not found');
      }
      const exchange = this.#exchange(request, response, match, gone.signal, guard);
      if ('hijack' in match.route) {
        const connection = plainConnection(request, response, this.#headers);
        return await this.#hijack(match.route, exchange, tellingConnection(connection, answered));
      }
      const reply = await match.route.handle(exchange);
      if (reply !== undefined) sendReply(response, reply);
    } catch (error) {
      if (gone.signal.aborted) this.#parts.logger.debug({ url: request.url, error }, 'the client went away');
      else {
        // Node closes such a connection with the answer; a client that still sends would see it break instead.
        if (request.headers.connection?.toLowerCase() === 'close') await readRest(request);
        this.#answerError(error, request, response);
      }
    } finally {
      if (response.socket !== null) drainBody(request);
    }
  }

  async #serveUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, guard: Guard | null): Promise<void> {
    const gone = new AbortController();
    socket.on('error', () => {});
    socket.on('close', () => gone.abort());
    const match = this.#find(request);
    await this.#watch(watched(request, match), async (answered) => {
      const connection = tellingConnection(upgradedConnection(request, socket, head, this.#headers), once(answered));
      try {
        if (match === null || !('hijack' in match.route)) throw new EngineError('ROUTE_NOT_FOUND', 'page not found');
        await this.#hijack(match.route, this.#exchange(request, null, match, gone.signal, guard), connection);
      } catch (error) {
        this.#log(error, request);
        connection.refuse(error);
      }
    });
  }

  async #hijack(route: HijackRoute, exchange: Exchange, connection: HijackedConnection): Promise<void> {
    try {
      await route.hijack(exchange, connection);
    } catch (error) {
      this.#log(error, connection.request);
      connection.refuse(error);
    }
  }

  #exchange(
    request: IncomingMessage,
    response: ServerResponse | null,
    match: Match<AnyRoute>,
    gone: AbortSignal,
    guard: Guard | null,
  ): Exchange {
    const url = request.url ?? '/';
    const [path, query = ''] = splitOnce(url, '?');
    const agent = request.headers['user-agent'];
    return {
      parts: guard?.parts ?? this.#parts,
      request,
      // An upgraded request has none, and its handlers (hijack routes) never touch it.
      response: response as ServerResponse,
      params: guard?.admit(match.route, match.params) ?? match.params,
      query: new Query(query),
      minor: parseApiVersion(match.version),
      signal: AbortSignal.any([gone, this.#closing.signal]),
      by: { description: `${request.method ?? 'GET'} ${path}${agent === undefined ? '' : ` from ${agent}`}` },
    };
  }

  #answerError(error: unknown, request: IncomingMessage, response: ServerResponse): void {
    this.#log(error, request);
    if (response.headersSent) response.destroy();
    else sendReply(response, { status: statusOf(error), json: errorBody(error) });
  }

  #log(error: unknown, request: IncomingMessage): void {
    const status = statusOf(error);
    const fields = { method: request.method, url: request.url, status, error };
    if (isExpected(error)) this.#parts.logger.debug(fields, 'request refused');
    else this.#parts.logger.error(fields, 'request failed');
  }
}

const unwatched: WatchRequest = (_request, serve) => serve(() => {});

function watched(request: IncomingMessage, match: Match<AnyRoute> | null): Parameters<WatchRequest>[0] {
  return { method: request.method ?? '', route: match?.route.path ?? '', headers: request.headers };
}

/** An answer that goes on (logs, events) says how fast the engine is only with its first byte. */
function onFirstByte(response: ServerResponse, answered: (status: number) => void): void {
  const writeHead = response.writeHead.bind(response) as (...args: unknown[]) => ServerResponse;
  response.writeHead = ((...args: unknown[]) => {
    const written = writeHead(...args);
    answered(response.statusCode);
    return written;
  }) as ServerResponse['writeHead'];
}

function once(answered: (status: number) => void): (status: number) => void {
  let told = false;
  return (status) => {
    if (!told) answered(status);
    told = true;
  };
}

function tellingConnection(connection: HijackedConnection, answered: (status: number) => void): HijackedConnection {
  return {
    request: connection.request,
    upgrade: connection.upgrade,
    headers: connection.headers,
    body: () => connection.body(),
    take: () => {
      answered(connection.upgrade ? 101 : 200);
      return connection.take();
    },
    refuse: (error) => {
      answered(statusOf(error));
      connection.refuse(error);
    },
  };
}

/** gorilla redirects paths that are not clean ("//", "/../"). */
function redirected(request: IncomingMessage, response: ServerResponse): boolean {
  const [path, query] = splitOnce(request.url ?? '/', '?');
  const clean = cleanPath(path);
  if (clean === path || !path.startsWith('/')) return false;
  response.writeHead(301, { Location: query === undefined ? clean : `${clean}?${query}`, 'Content-Length': '0' }).end();
  return true;
}

function decodePath(url: string): string | null {
  const [path] = splitOnce(url, '?');
  try {
    return path.includes('%') ? decodeURIComponent(path) : path;
  } catch {
    return null;
  }
}

function splitOnce(text: string, separator: string): readonly [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

/** What is no HTTP gets Go's answer to it. */
function refuseGarbage(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400;
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]!}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n${status} ${STATUS_CODES[status]!}`,
  );
}
