/**
 * The daemon's log on stderr: lines for people (logfmt after the message), or JSON. Forty lines of our own: a
 * logging library costs more memory and start time than all of it, and dockerd's two formats are this simple.
 */
import { formatTime, type Clock } from '../core/clock.ts';
import type { Logger } from '../core/log.ts';

const LEVELS = { debug: 0, info: 1, warn: 2, error: 3, fatal: 4 } as const;
export type Level = keyof typeof LEVELS;

/** Lines waiting for a reader of stderr that has stopped; further ones are dropped and counted. */
const WAITING_BYTES_MAX = 1 << 20;

export function createLogger({
  level,
  format,
  clock,
  output = process.stderr,
}: {
  readonly level: Level;
  readonly format: 'text' | 'json';
  readonly clock: Clock;
  readonly output?: NodeJS.WritableStream & { readonly writableLength: number };
}): Logger {
  let dropped = 0;
  const write = (at: Level, fields: object, message: string): void => {
    if (LEVELS[at] < LEVELS[level]) return;
    if (output.writableLength > WAITING_BYTES_MAX) return void dropped++;
    const time = formatTime(clock.wallNs());
    const all = dropped > 0 ? { ...fields, droppedLines: dropped } : fields;
    dropped = 0;
    output.write(
      format === 'json'
        ? `${JSON.stringify({ time, level: at, message, ...all })}\n`
        : `${time.slice(0, 23).padEnd(23, '0')}Z ${at.padEnd(5)} ${oneLine(message)}${logfmt(all)}\n`,
    );
  };
  return {
    debug: (fields, message) => write('debug', fields, message),
    info: (fields, message) => write('info', fields, message),
    warn: (fields, message) => write('warn', fields, message),
    error: (fields, message) => write('error', fields, message),
  };
}

function logfmt(fields: object): string {
  let text = '';
  for (const [name, value] of Object.entries(fields)) {
    const shown = typeof value === 'string' ? value : value instanceof Error ? value.message : JSON.stringify(value);
    text += ` ${name}=${/^[\w./:@+-]+$/.test(shown ?? '') ? shown : JSON.stringify(shown)}`;
  }
  return text;
}

/** A container's name or message may hold a newline: it must not forge a line of the log. */
function oneLine(text: string): string {
  // oxlint-disable-next-line no-control-regex -- they are what is looked for
  return text.replace(/[\x00-\x1f\x7f]/g, (character) => JSON.stringify(character).slice(1, -1));
}
