/** The one place where an error becomes an HTTP status. Source: moby errdefs and api/server/httpstatus (v28). */
import { EngineError, messageOf, type ErrorKind } from '../core/engine-error.ts';

const STATUS_BY_KIND: Record<ErrorKind, number> = {
  invalid: 400,
  unauthorized: 401,
  forbidden: 403,
  'not-found': 404,
  conflict: 409,
  internal: 500,
  unsupported: 501,
  unavailable: 503,
};

export function statusOf(error: unknown): number {
  return error instanceof EngineError ? STATUS_BY_KIND[error.kind] : 500;
}

/** What the client reads. A bug's text is shown too, as dockerd does: it is all that a user can report. */
export function errorBody(error: unknown): { readonly message: string } {
  return { message: messageOf(error) };
}

/** True for what should not be in the daemon's log as a failure of ours. */
export function isExpected(error: unknown): boolean {
  return error instanceof EngineError;
}
