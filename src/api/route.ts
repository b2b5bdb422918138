/** What a route is, and what its handler is given. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

import type { Request } from '../container/port.ts';
import type { EngineParts } from './port.ts';
import type { Query } from './query.ts';

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE' | 'OPTIONS';

export interface Route {
  readonly method: Method;
  /** As moby writes it: "/containers/{name}/json"; a name may hold slashes. */
  readonly path: string;
  readonly handle: (exchange: Exchange) => Promise<Reply | void> | Reply | void;
}

/** A route whose connection becomes a raw stream (attach, exec start). */
export interface HijackRoute extends Omit<Route, 'handle'> {
  readonly hijack: (exchange: Exchange, connection: HijackedConnection) => Promise<void>;
}

export type AnyRoute = Route | HijackRoute;

/** One request. A handler that returns nothing has written (or is writing) the response itself. */
export interface Exchange {
  readonly parts: EngineParts;
  readonly request: IncomingMessage;
  /** Absent on an upgraded connection. */
  readonly response: ServerResponse;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Query;
  /** API 1.44 is 44. */
  readonly minor: number;
  /** Aborted when the client has gone or the server closes. */
  readonly signal: AbortSignal;
  readonly by: Request;
}

export interface Reply {
  readonly status: number;
  /** Sent as JSON with a newline, as Go's encoder does. */
  readonly json?: unknown;
  /** JSON that is made already. */
  readonly jsonText?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A connection that is about to be hijacked. */
export interface HijackedConnection {
  readonly request: IncomingMessage;
  /** The client sent "Upgrade": it is answered 101, else 200. */
  readonly upgrade: boolean;
  /** Those that every answer has. */
  readonly headers: Readonly<Record<string, string>>;
  /** Takes the raw connection. `early` are bytes that came after the request's body already. */
  take(): Promise<{ readonly socket: Duplex; readonly early: Buffer }>;
  /** The request's body, at most as long as its Content-Length. */
  body(): Promise<string>;
  /** Answers an error before the connection was taken. */
  refuse(error: unknown): void;
}

export function param(exchange: Exchange, name: string): string {
  const value = exchange.params[name];
  if (value === undefined) throw new Error(`route has no parameter ${name}`);
  return value;
}
