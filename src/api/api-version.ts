/** API versions of Docker: moby 28 speaks 1.51 and still 1.24. A version is kept as its minor number: 1.44 is 44. */
import type { ApiVersion } from '../container/port.ts';
import { EngineError } from '../core/engine-error.ts';

export const MINOR_MAX = 51;
export const MINOR_MIN = 24;
/** The moby release that this API equals; shown where clients expect an engine's version. */
export const MOBY_VERSION = '28.5.1';

export function formatApiVersion(minor: number): ApiVersion {
  return `1.${minor}`;
}

/**
 * The minor version of a path's prefix ("1.44"); "" is the newest. Compared part by part as moby's versions.compare.
 * @throws API_VERSION_UNSUPPORTED with moby's words, which clients parse when they negotiate
 */
export function parseApiVersion(text: string): number {
  if (text === '') return MINOR_MAX;
  const [major = 0, minor = 0, ...rest] = text.split('.').map(Number);
  const tooNew =
    major > 1 || (major === 1 && (minor > MINOR_MAX || (minor === MINOR_MAX && rest.some((part) => part > 0))));
  if (tooNew) {
    throw new EngineError(
      'API_VERSION_UNSUPPORTED',
      `client version ${text} is too new. Maximum supported API version is ${formatApiVersion(MINOR_MAX)}`,
    );
  }
  if (major < 1 || minor < MINOR_MIN) {
    throw new EngineError(
      'API_VERSION_UNSUPPORTED',
      `client version ${text} is too old. Minimum supported API version is ${formatApiVersion(MINOR_MIN)}, please upgrade your client to a newer version`,
    );
  }
  return minor;
}
