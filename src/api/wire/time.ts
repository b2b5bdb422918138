/**
 * Times as clients give them: Unix seconds with a fraction, RFC 3339, or a Go duration before now; and durations as
 * Docker shows them. Source: moby api/types/time/timestamp.go (v28), docker/go-units duration.go.
 */
import { EngineError } from '../../core/engine-error.ts';

const NS_PER_SECOND = 1_000_000_000n;

/** Nanoseconds since 1970. Docker's API takes the seconds only; the other forms are its CLI's. @throws TIME_INVALID */
export function parseTime(text: string, nowNs: bigint): bigint {
  const unix = /^([-+]?\d{1,19})(?:\.(\d+))?$/.exec(text);
  if (unix !== null && BigInt.asIntN(64, BigInt(unix[1]!)) === BigInt(unix[1]!)) {
    const fraction = (unix[2] ?? '').padEnd(9, '0').slice(0, 9);
    const ns = BigInt(unix[1]!) * NS_PER_SECOND;
    return text.startsWith('-') ? ns - BigInt(fraction) : ns + BigInt(fraction);
  }
  const durationNs = parseGoDuration(text);
  if (durationNs !== null) return nowNs - durationNs;
  const date = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[-+]\d\d:\d\d)?)?$/.exec(text);
  if (date !== null) {
    const [, day, hour = '00', minute = '00', second = '00', fraction = '', zone = 'Z'] = date;
    const ms = Date.parse(`${day}T${hour}:${minute}:${second}${zone}`);
    if (!Number.isNaN(ms)) return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, '0'));
  }
  const [seconds = '', ...fraction] = text.split('.');
  const wrong = /^[-+]?\d+$/.test(seconds) ? fraction.join('.') : seconds;
  const why = /^[-+]?\d{19,}$/.test(seconds)
    ? `${JSON.stringify(seconds)}: value out of range`
    : `${JSON.stringify(wrong)}: invalid syntax`;
  throw new EngineError('TIME_INVALID', `strconv.ParseInt: parsing ${why}`);
}

/** A filter's time. Source: moby v28 api/types/time GetTimestamp(). @throws TIME_INVALID in its words */
export function parseFilterTime(text: string, nowNs: bigint): bigint {
  try {
    return parseTime(text, nowNs);
  } catch (error) {
    if (!(error instanceof EngineError) || text.includes('-')) throw error;
    throw new EngineError('TIME_INVALID', `failed to parse value as time or duration: ${JSON.stringify(text)}`);
  }
}

const UNIT_NS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** Go's time.ParseDuration: "1h30m", "-1.5s"; null when it is not one. */
export function parseGoDuration(text: string): bigint | null {
  const match = /^([-+]?)((?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.exec(text);
  if (match === null) return null;
  let ns = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g))
    ns += Number(amount) * UNIT_NS[unit!]!;
  return BigInt(Math.round(match[1] === '-' ? -ns : ns));
}

/** As `docker ps` shows ages: "Less than a second", "About a minute", "3 hours". */
export function humanDuration(durationMs: number): string {
  const seconds = Math.floor(durationMs / 1000);
  if (seconds < 1) return 'Less than a second';
  if (seconds === 1) return '1 second';
  if (seconds < 60) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  if (minutes === 1) return 'About a minute';
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.floor(minutes / 60 + 0.5);
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  if (hours < 24 * 7 * 2) return `${Math.floor(hours / 24)} days`;
  if (hours < 24 * 30 * 2) return `${Math.floor(hours / 24 / 7)} weeks`;
  if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`;
  return `${Math.floor(durationMs / 3_600_000 / 24 / 365)} years`;
}
