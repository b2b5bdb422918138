/** Values of log options as Go reads them, and its words for those that it does not. */
import { EngineError } from '../core/engine-error.ts';

export type Options = Readonly<Record<string, string>>;

const DURATION = /^([+-]?)((?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/;
const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

export function refuse(message: string): never {
  throw new EngineError('LOG_OPTION_INVALID', message);
}

/**
 * What Docker finds out when the container starts, in its words of then. Here it is told when the container is made: `docker
 * run` says the same, and no container is left that cannot start.
 */
export const AT_START = 'failed to initialize logging driver: ';

export function refuseAtStart(message: string): never {
  return refuse(`${AT_START}${message}`);
}

/** strconv.ParseBool. null: not one. */
export function parseBool(text: string): boolean | null {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true;
  return ['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text) ? false : null;
}

/** "": false. `context`: goes before Go's words. @throws {EngineError} LOG_OPTION_INVALID */
export function requireBool(text: string, context = ''): boolean {
  if (text === '') return false;
  return parseBool(text) ?? refuse(`${context}strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`);
}

/** Of an option that was checked before. */
export function flag(options: Options, name: string): boolean {
  return parseBool(options[name] ?? '') ?? false;
}

export function checkBool(options: Options, name: string): void {
  requireBool(options[name] ?? '');
}

/** strconv.Atoi. `context`: goes before Go's words. @throws {EngineError} LOG_OPTION_INVALID */
export function requireInteger(text: string, context = ''): number {
  const value = Number(text);
  if (/^[+-]?\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  const because = /^[+-]?\d+$/.test(text) ? 'value out of range' : 'invalid syntax';
  return refuse(`${context}strconv.Atoi: parsing ${JSON.stringify(text)}: ${because}`);
}

/** time.ParseDuration, in milliseconds. `context`: goes before Go's words. @throws {EngineError} LOG_OPTION_INVALID */
export function requireDurationMs(text: string, context = ''): number {
  if (/^[+-]?0$/.test(text)) return 0;
  const match = DURATION.exec(text);
  if (match === null) {
    const isNumber = /^[+-]?(?:\d+\.?\d*|\.\d+)$/.test(text);
    refuse(`${context}time: ${isNumber ? 'missing unit in' : 'invalid'} duration ${JSON.stringify(text)}`);
  }
  let ms = 0;
  for (const [, amount, unit = ''] of text.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g))
    ms += Number(amount) * (UNIT_MS[unit] ?? 0);
  return match[1] === '-' ? -ms : ms;
}

/** What no disk has: above, numbers of bytes are not exact any more, and the shim reads 64 bits. */
const SIZE_MAX = Number.MAX_SAFE_INTEGER;

/** go-units FromHumanSize (1000) and RAMInBytes (1024). null: not a size. */
export function parseSize(text: string, base: 1000 | 1024): number | null {
  const match = /^(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?$/i.exec(text);
  if (!match) return null;
  const bytes = Number(match[1]) * base ** ' kmgtp'.indexOf((match[2] || ' ').toLowerCase());
  return Math.min(Math.trunc(bytes), SIZE_MAX);
}
