/** Linux signal names and numbers, as the docker CLI and images write them: "SIGTERM", "term", "15", "RTMIN+3". */
import { constants } from 'node:os';

import { EngineError } from './engine-error.ts';

const SIGRTMIN = 34; // as glibc and Go's moby/sys/signal number them
const SIGRTMAX = 64;

const NUMBER_BY_NAME = new Map<string, number>(
  Object.entries(constants.signals).map(([name, number]) => [name.replace(/^SIG/, ''), number]),
);
for (let n = SIGRTMIN; n <= SIGRTMAX; n++) {
  const up = n - SIGRTMIN;
  NUMBER_BY_NAME.set(up === 0 ? 'RTMIN' : `RTMIN+${up}`, n);
  const down = SIGRTMAX - n;
  NUMBER_BY_NAME.set(down === 0 ? 'RTMAX' : `RTMAX-${down}`, n);
}

/** @throws {EngineError} PARAMETER_INVALID "invalid signal: x" */
export function parseSignal(text: string): number {
  if (/^\d+$/.test(text)) {
    const number = Number(text);
    if (number >= 1 && number <= SIGRTMAX) return number;
  }
  const number = NUMBER_BY_NAME.get(text.toUpperCase().replace(/^SIG/, ''));
  if (number === undefined) throw new EngineError('PARAMETER_INVALID', `invalid signal: ${text}`);
  return number;
}

const NAME_BY_NUMBER = new Map<number, string>();
// The first name of a number wins ("SIGABRT" before "SIGIOT").
for (const [name, number] of NUMBER_BY_NAME) if (!NAME_BY_NUMBER.has(number)) NAME_BY_NUMBER.set(number, `SIG${name}`);

/** "SIGTERM"; "signal 99" where there is no name. */
export function signalName(number: number): string {
  return NAME_BY_NUMBER.get(number) ?? `signal ${number}`;
}
