/**
 * Every error that the engine reports on purpose. The code is stable, docs/errors.md explains each (a
 * test checks it), and `api/` alone turns a kind into an HTTP status.
 */

/** What a caller can do about an error. Source: moby errdefs (v28). */
export type ErrorKind =
  | 'invalid' // 400: the request is wrong
  | 'unauthorized' // 401: credentials are missing or refused
  | 'forbidden' // 403: the request is right but never allowed
  | 'not-found' // 404
  | 'conflict' // 409: not in this state
  | 'internal' // 500: the host or the runtime said no
  | 'unsupported' // 501: this engine cannot do it
  | 'unavailable'; // 503: not now (also "this node is not a swarm manager")

export const ERROR_KINDS = {
  PARAMETER_INVALID: 'invalid',
  TIME_INVALID: 'internal', // a wrong request, but 500 is what Docker answers
  BODY_INVALID: 'invalid',
  ROUTE_NOT_FOUND: 'not-found',
  API_VERSION_UNSUPPORTED: 'invalid',
  OPTION_UNSUPPORTED: 'invalid',
  FEATURE_UNSUPPORTED: 'unsupported',
  NOT_A_SWARM_MANAGER: 'unavailable',
  SCOPE_FORBIDDEN: 'forbidden',
  PLUGIN_NOT_FOUND: 'not-found',

  CONTAINER_NOT_FOUND: 'not-found',
  CONTAINER_ID_AMBIGUOUS: 'invalid',
  CONTAINER_NAME_INVALID: 'invalid',
  CONTAINER_NAME_TAKEN: 'conflict',
  CONTAINER_SPEC_INVALID: 'invalid',
  CONTAINER_SPEC_CONFLICT: 'conflict', // an update that does not go with what the container has
  CONTAINER_NOT_RUNNING: 'conflict',
  CONTAINER_RUNNING: 'conflict',
  CONTAINER_PAUSED: 'conflict',
  CONTAINER_NOT_PAUSED: 'internal', // dockerd answers 500 here, unlike to its siblings
  CONTAINER_RESTARTING: 'conflict',
  CONTAINER_REMOVING: 'conflict',
  CONTAINER_DEAD: 'conflict',
  CONTAINER_STUCK: 'internal',
  CONTAINER_PATH_NOT_FOUND: 'not-found',
  CONTAINER_PATH_INVALID: 'invalid',

  ID_NOT_MAPPED: 'invalid', // an owner outside of --userns-remap's ranges

  EXEC_NOT_FOUND: 'not-found',
  EXEC_CONFLICT: 'conflict',

  RUNTIME_UNKNOWN: 'invalid',
  RUNTIME_START_FAILED: 'internal', // see RuntimeStartError for the exit code that users see
  RUNTIME_INVALID_COMMAND: 'invalid', // command not found or not executable: Docker answers 400
  RUNTIME_FAILED: 'internal',
  SHIM_FAILED: 'internal',

  IMAGE_NOT_FOUND: 'not-found',
  IMAGE_ID_AMBIGUOUS: 'invalid',
  IMAGE_REFERENCE_INVALID: 'invalid',
  IMAGE_IN_USE: 'conflict',
  IMAGE_ARCHIVE_INVALID: 'invalid',
  IMAGE_CORRUPT: 'internal',
  IMAGE_NAME_RESERVED: 'forbidden',
  REGISTRY_UNAUTHORIZED: 'unauthorized',
  REGISTRY_DENIED: 'forbidden',
  REGISTRY_UNREACHABLE: 'internal',
  REGISTRY_NOT_FOUND: 'not-found',

  NETWORK_NOT_FOUND: 'not-found',
  NETWORK_NAME_TAKEN: 'conflict',
  NETWORK_ID_AMBIGUOUS: 'invalid',
  NETWORK_PREDEFINED: 'forbidden',
  NETWORK_IN_USE: 'forbidden',
  NETWORK_SPEC_INVALID: 'invalid',
  NETWORK_DRIVER_UNKNOWN: 'not-found',
  ENDPOINT_CONFLICT: 'forbidden',
  ENDPOINT_NOT_CONNECTED: 'internal', // a wrong request, but 500 is what Docker answers
  ADDRESS_UNAVAILABLE: 'forbidden',
  PORT_IN_USE: 'internal',

  VOLUME_NOT_FOUND: 'not-found',
  VOLUME_NAME_INVALID: 'invalid',
  VOLUME_NAME_TAKEN: 'conflict',
  VOLUME_IN_USE: 'conflict',
  VOLUME_SPEC_INVALID: 'invalid',
  VOLUME_DRIVER_UNKNOWN: 'not-found',
  MOUNT_INVALID: 'invalid',

  LOG_DRIVER_UNKNOWN: 'invalid',
  LOG_OPTION_INVALID: 'invalid',
  LOG_UNREADABLE: 'unsupported',

  STORE_FAILED: 'internal',
  DAEMON_SHUTTING_DOWN: 'unavailable',
  HOST_UNSUPPORTED: 'internal',
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERROR_KINDS;

/** An expected failure. Bugs are plain `Error` from assert or unreachable(), and are never caught to go on. */
export class EngineError extends Error {
  override readonly name: string = 'EngineError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  get kind(): ErrorKind {
    return ERROR_KINDS[this.code];
  }
}

/** The text to show for anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
