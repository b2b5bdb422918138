/**
 * Points in time as filters give them: "1h30m" ago, Unix seconds with a fraction, or RFC 3339 with parts left out.
 * Source: moby api/types/time timestamp.go (v28).
 */
import { EngineError } from '../core/engine-error.ts';

const NS_PER_MS = 1_000_000n;
const UNIT_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };
const DURATION = /^([+-]?)((?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))+$/;

/** @throws {EngineError} PARAMETER_INVALID */
export function parseMoment(text: string, nowNs: bigint): bigint {
  if (DURATION.test(text)) return nowNs - durationNs(text);
  const unix = /^(-?\d+)(?:\.(\d{1,9}))?$/.exec(text);
  if (unix !== null) return BigInt(unix[1]!) * 1_000_000_000n + BigInt((unix[2] ?? '').padEnd(9, '0'));
  const date = /^(\d{4}-\d{2}-\d{2})(?:T(\d{2}(?::\d{2})?(?::\d{2})?)(?:\.(\d{1,9}))?)?(Z|[+-]\d{2}:\d{2})?$/.exec(
    text,
  );
  if (date !== null) {
    const [, day, time = '00', fraction = '', zone = ''] = date;
    const full = time.split(':').concat('00', '00').slice(0, 3).join(':');
    const ms = Date.parse(`${day}T${full}${zone}`);
    if (!Number.isNaN(ms)) return BigInt(ms) * NS_PER_MS + BigInt(fraction.padEnd(9, '0'));
  }
  throw new EngineError('PARAMETER_INVALID', `failed to parse value as time or duration: ${JSON.stringify(text)}`);
}

function durationNs(text: string): bigint {
  let ns = 0;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/g)) {
    ns += Number(number) * UNIT_NS[unit!]!;
  }
  return BigInt(Math.round(text.startsWith('-') ? -ns : ns));
}
