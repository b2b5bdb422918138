/** The "platform" parameter as OCI JSON. Source: moby DecodePlatform (v28). */
import { EngineError, messageOf } from '../../core/engine-error.ts';
import { parsePlatform } from '../../image/platform-text.ts';
import type { Platform } from '../../image/port.ts';
import { isObject } from './decode.ts';

/** The OCI JSON of newer parameters; text is taken too. */
export function parsePlatformJson(text: string): Platform | null {
  if (text === '') return null;
  if (!text.trimStart().startsWith('{')) return parsePlatform(text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(`failed to parse platform: ${messageOf(error)}`);
  }
  if (!isObject(value)) throw invalid('failed to parse platform');
  const field = (name: string): string => {
    const found = Object.entries(value).find(([key]) => key.toLowerCase() === name)?.[1] ?? '';
    if (typeof found !== 'string')
      throw invalid(
        `failed to parse platform: json: cannot unmarshal ${typeof found} into Go struct field Platform.${name} of type string`,
      );
    return found;
  };
  const platform = { os: field('os'), architecture: field('architecture'), variant: field('variant') };
  if (platform.os === '' && platform.architecture === '' && platform.variant !== '')
    throw invalid('optional platform fields provided, but OS and Architecture are missing');
  if (platform.os === '' || platform.architecture === '') throw invalid('both OS and Architecture must be provided');
  return platform;
}

function invalid(message: string): EngineError {
  return new EngineError('PARAMETER_INVALID', message);
}
