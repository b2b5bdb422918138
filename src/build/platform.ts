/** FROM --platform. */
import { EngineError, messageOf } from '../core/engine-error.ts';
import { HOST_PLATFORM } from '../image/image-stores.ts';
import { parsePlatform } from '../image/platform-text.ts';
import type { Platform } from '../image/port.ts';
import { expandWord } from './dockerfile/expand.ts';

/**
 * BUILDPLATFORM and TARGETPLATFORM are known here, as in BuildKit: moby's classic builder fails where nobody set them,
 * and half of all Dockerfiles name them.
 */
export function stagePlatform(
  text: string,
  globals: ReadonlyMap<string, string>,
  escape: string,
  target: Platform | null,
): Platform {
  const known = new Map([
    ['BUILDPLATFORM', formatPlatform(HOST_PLATFORM)],
    ['TARGETPLATFORM', formatPlatform(target ?? HOST_PLATFORM)],
    ...globals,
  ]);
  const expanded = expandWord(text, known, escape);
  try {
    const platform = parsePlatform(expanded);
    if (platform !== null) return platform;
    throw new EngineError('PARAMETER_INVALID', '"" is an invalid component of "": invalid argument');
  } catch (error) {
    throw new EngineError('BODY_INVALID', `failed to parse platform ${expanded}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter((part) => part !== '').join('/');
}
