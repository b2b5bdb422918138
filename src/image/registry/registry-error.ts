/** What a registry says when it refuses. Source: OCI distribution spec "Error Codes"; moby v28 distribution/errors.go. */
import { EngineError } from '../../core/engine-error.ts';

import { isObject } from '../image-config.ts';
import { familiarName, familiarReference, type Reference } from '../reference.ts';

import type { HttpRequest, HttpResponse } from './http-request.ts';

/** `registryCode`: "DENIED", "MANIFEST_UNKNOWN", …; "" when it gave none. */
export class RegistryError extends EngineError {
  readonly registryCode: string;
  readonly status: number;

  constructor(message: string, registryCode: string, status: number) {
    super('REGISTRY_UNREACHABLE', message);
    this.registryCode = registryCode;
    this.status = status;
  }
}

const STATUS_TEXT: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};
const TEXT_LENGTH_MAX = 512;

export function registryError(response: HttpResponse, body: Buffer, request: HttpRequest): RegistryError {
  const { status } = response;
  const first = firstError(body);
  if (first !== null)
    return new RegistryError(`${first.code.toLowerCase().replaceAll('_', ' ')}: ${first.message}`, first.code, status);
  if (status === 401) return new RegistryError('unauthorized: authentication required', 'UNAUTHORIZED', status);
  if (status === 404 && request.method === 'HEAD') return new RegistryError('not found', 'NOT_FOUND', status);
  if (status >= 500 || status < 400)
    return new RegistryError(
      `received unexpected HTTP status: ${status} ${STATUS_TEXT[status] ?? ''}`.trim(),
      '',
      status,
    );
  const text = JSON.stringify(body.toString().slice(0, TEXT_LENGTH_MAX));
  return new RegistryError(`error parsing HTTP ${status} response body: ${text}`, '', status);
}

/** What Docker makes of a refused pull. */
export function pullError(error: unknown, reference: Reference): unknown {
  if (!(error instanceof RegistryError)) return error;
  const { message, registryCode } = error;
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

function notFound(message: string, cause: RegistryError): EngineError {
  return new EngineError('REGISTRY_NOT_FOUND', message, { cause });
}

function firstError(body: Buffer): { readonly code: string; readonly message: string } | null {
  let value: unknown;
  try {
    value = JSON.parse(body.toString());
  } catch {
    return null;
  }
  const errors: unknown = isObject(value) ? value['errors'] : undefined;
  const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
  if (!isObject(first) || typeof first['code'] !== 'string') return null;
  return {
    code: first['code'],
    message:
      typeof first['message'] === 'string' && first['message'] !== ''
        ? first['message']
        : first['code'].toLowerCase().replaceAll('_', ' '),
  };
}
