/** What a registry says when it refuses. Source: OCI distribution spec "Error Codes"; moby v28 distribution/errors.go. */
import { STATUS_CODES } from 'node:http';

import { EngineError, type ErrorCode } from '../../core/engine-error.ts';

import { isObject } from '../image-config.ts';
import { familiarName, familiarReference, type Reference } from '../reference.ts';

import { parseChallenges } from './challenge.ts';
import { unreachable, type HttpRequest, type HttpResponse } from './http-request.ts';

/** `registryCode`: "DENIED", "MANIFEST_UNKNOWN", …; "" when it gave none. */
export class RegistryError extends EngineError {
  readonly registryCode: string;
  readonly status: number;
  /** What the registry said, without the request that it was said to. */
  readonly said: string;

  constructor(message: string, registryCode: string, status: number, said: string = message) {
    super('REGISTRY_UNREACHABLE', message);
    this.registryCode = registryCode;
    this.status = status;
    this.said = said;
  }

  /** Refused by the token server while `request` was to be made: Go's client names the request. */
  during(request: Pick<HttpRequest, 'method' | 'url'>): RegistryError {
    return new RegistryError(unreachable(request, this.said).message, this.registryCode, this.status, this.said);
  }
}

const TEXT_LENGTH_MAX = 512;
/** Others are "unknown". Source: distribution registry/api/errcode, registry/api/v2/errors.go. */
const CODES: ReadonlySet<string> = new Set([
  'UNSUPPORTED',
  'UNAUTHORIZED',
  'DENIED',
  'UNAVAILABLE',
  'TOOMANYREQUESTS',
  'DIGEST_INVALID',
  'SIZE_INVALID',
  'NAME_INVALID',
  'TAG_INVALID',
  'NAME_UNKNOWN',
  'MANIFEST_UNKNOWN',
  'MANIFEST_INVALID',
  'MANIFEST_UNVERIFIED',
  'MANIFEST_BLOB_UNKNOWN',
  'BLOB_UNKNOWN',
  'BLOB_UPLOAD_UNKNOWN',
  'BLOB_UPLOAD_INVALID',
  'RANGE_INVALID',
  'PAGINATION_NUMBER_INVALID',
]);
/** Where the header of an answer says why. Source: RFC 6750 section 3.1. */
const CODE_OF_BEARER: Readonly<Record<string, string>> = {
  invalid_token: 'UNAUTHORIZED',
  insufficient_scope: 'DENIED',
};

/** Source: distribution registry/client/errors.go HandleErrorResponse() */
export function registryError(response: HttpResponse, body: Buffer, request: HttpRequest): RegistryError {
  const { status } = response;
  if (status >= 500 || status < 400) {
    const message = `received unexpected HTTP status: ${status} ${STATUS_CODES[status] ?? ''}`.trim();
    return new RegistryError(message, '', status);
  }
  if (status === 404 && request.method === 'HEAD') return new RegistryError('not found', 'NOT_FOUND', status);
  const said = bearerError(response) ?? bodyError(body, status);
  if (said !== null) return new RegistryError(`${wordsOf(said.code)}: ${said.message}`, said.code, status);
  if (status === 401) return new RegistryError('unauthorized: authentication required', 'UNAUTHORIZED', status);
  const text = body.toString();
  const shown = JSON.stringify(text.slice(0, TEXT_LENGTH_MAX));
  return new RegistryError(`error parsing HTTP ${status} response body: ${whyUnreadable(text)}: ${shown}`, '', status);
}

/** Not worth another try. Source: moby v28 distribution/errors.go retryOnError(). */
export function isFinal(error: unknown): boolean {
  if (error instanceof RegistryError) return error.status < 500 || error.registryCode === 'UNSUPPORTED';
  if (error instanceof EngineError) return error.code !== 'REGISTRY_UNREACHABLE' || /no basic auth/.test(error.message);
  return (error as { code?: string }).code === 'ENOSPC';
}

/** What Docker makes of a refused pull. */
export function pullError(error: unknown, reference: Reference): unknown {
  if (!(error instanceof RegistryError)) return error;
  const { said: message, registryCode } = error;
  switch (registryCode) {
    case 'DENIED':
      return notFound(
        `pull access denied for ${familiarName(reference)}, repository does not exist or may require 'docker login': ${message}`,
        error,
      );
    case 'MANIFEST_UNKNOWN':
      return notFound(`manifest for ${familiarReference(reference)} not found: ${message}`, error);
    case 'NAME_UNKNOWN':
      return notFound(`repository ${familiarName(reference)} not found: ${message}`, error);
    default:
      return error;
  }
}

/** What a registry's own words mean. Source: moby v28 daemon/server/httpstatus statusCodeFromDistributionError(). */
export function answerError(error: unknown): unknown {
  if (!(error instanceof RegistryError)) return error;
  const said = (code: ErrorCode): EngineError => new EngineError(code, error.message, { cause: error });
  if (error.registryCode === 'UNAUTHORIZED') return said('REGISTRY_UNAUTHORIZED');
  if (error.registryCode === 'DENIED') return said('REGISTRY_DENIED');
  return error.registryCode.endsWith('_UNKNOWN') ? said('REGISTRY_NOT_FOUND') : error;
}

function notFound(message: string, cause: RegistryError): EngineError {
  return new EngineError('REGISTRY_NOT_FOUND', message, { cause });
}

interface Said {
  readonly code: string;
  readonly message: string;
}

function wordsOf(code: string): string {
  return code.toLowerCase().replaceAll('_', ' ');
}

function bearerError({ headers }: HttpResponse): Said | null {
  const bearer = parseChallenges(headers['www-authenticate']).find(({ scheme }) => scheme === 'bearer');
  const code = CODE_OF_BEARER[bearer?.parameters['error'] ?? ''];
  if (code === undefined) return null;
  const message = code === 'DENIED' ? 'requested access to the resource is denied' : 'authentication required';
  return { code, message: bearer?.parameters['error_description'] || message };
}

/** The first of its errors; token servers say "details". */
function bodyError(body: Buffer, status: number): Said | null {
  const value = parsed(body.toString());
  if (!isObject(value)) return null;
  const { details, errors } = value;
  if (typeof details === 'string' && details !== '')
    return { code: status === 401 ? 'UNAUTHORIZED' : status === 429 ? 'TOOMANYREQUESTS' : 'UNKNOWN', message: details };
  const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
  if (!isObject(first) || typeof first['code'] !== 'string') return null;
  const code = CODES.has(first['code']) ? first['code'] : 'UNKNOWN';
  return {
    code,
    message: typeof first['message'] === 'string' && first['message'] !== '' ? first['message'] : wordsOf(code),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** In the words of Go's JSON reader. */
function whyUnreadable(text: string): string {
  if (parsed(text) !== undefined) return 'no error details found in HTTP response body';
  const first = text.trimStart().slice(0, 1);
  return first === '' || /[[{"\d-]/.test(first)
    ? 'unexpected end of JSON input'
    : `invalid character '${first}' looking for beginning of value`;
}
