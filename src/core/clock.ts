/** Time, as everything in the engine sees it. The daemon passes `systemClock`; tests pass sim/clock.ts. */
export interface Clock {
  /** Monotonic milliseconds; only differences mean anything. */
  nowMs(): number;
  /** Wall clock in nanoseconds since 1970, for what users read. May jump. */
  wallNs(): bigint;
  /** Calls `run` once after `delayMs`, unless disposed before. Delays over 2^31-1 ms are honoured. */
  setTimer(delayMs: number, run: () => void): Disposable;
}

const TIMEOUT_MS_MAX = 2 ** 31 - 1; // what setTimeout can hold; above it fires at once

/** performance.now() gives the sub-millisecond part that Date lacks. */
const wallOriginNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallNs: () => {
    const drifted = wallOriginNs + process.hrtime.bigint();
    const coarse = BigInt(Date.now()) * 1_000_000n;
    // The monotonic clock does not follow a wall clock that was set: beyond 1 s apart, believe the wall.
    const apart = drifted > coarse ? drifted - coarse : coarse - drifted;
    return apart > 1_000_000_000n ? coarse : drifted;
  },
  setTimer(delayMs, run) {
    let timer: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      timer = setTimeout(
        () => (leftMs > TIMEOUT_MS_MAX ? arm(leftMs - TIMEOUT_MS_MAX) : run()),
        Math.min(leftMs, TIMEOUT_MS_MAX),
      );
    };
    arm(Math.max(0, delayMs));
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};

/** RFC 3339 with nanoseconds and trailing zeros cut, as Go prints it: 2026-11-22T04:09:49.123456789Z. */
export function formatTime(wallNs: bigint): string {
  const seconds = wallNs / 1_000_000_000n;
  const nanos = wallNs % 1_000_000_000n;
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  if (nanos === 0n) return `${whole}Z`;
  return `${whole}.${nanos.toString().padStart(9, '0').replace(/0+$/, '')}Z`;
}

/** The inverse of formatTime(); NaN-free: text that is no time is 0n. */
export function parseTime(text: string): bigint {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z$/.exec(text);
  if (match === null) return 0n;
  const ms = Date.parse(`${match[1]}Z`);
  return Number.isNaN(ms) ? 0n : BigInt(ms) * 1_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'));
}

/** What Docker prints for "never": Go's zero time. */
export const ZERO_TIME = '0001-01-01T00:00:00Z';
