/**
 * The matching rules of the API's filters. Source: moby api/types/filters (v28).
 */
import { createContext, Script } from 'node:vm';

import { EngineError } from '../core/engine-error.ts';
import type { Filters } from './port.ts';

/** How long a pattern with nested repetition may try; Go's engine is linear, V8's is not. */
const PATTERN_MS_MAX = 100;

/** @throws {EngineError} PARAMETER_INVALID "invalid filter 'x'" */
export function checkFilterNames(filters: Filters, accepted: readonly string[]): void {
  for (const name of filters.keys()) if (!accepted.includes(name)) throw invalidFilter(name);
}

export function invalidFilter(name: string, values?: readonly string[]): EngineError {
  const value = values === undefined ? '' : `=[${values.join(' ')}]`;
  return new EngineError('PARAMETER_INVALID', `invalid filter '${name}${value}'`);
}

export function valuesOf(filters: Filters, name: string): readonly string[] {
  return filters.get(name) ?? [];
}

/** null: not asked. @throws {EngineError} PARAMETER_INVALID */
export function booleanOf(filters: Filters, name: string): boolean | null {
  const values = valuesOf(filters, name);
  if (values.length === 0) return null;
  const truths = new Set(values.map((value) => ({ '1': true, true: true, '0': false, false: false })[value]));
  const [truth] = truths;
  if (truths.size !== 1 || truth === undefined) throw invalidFilter(name, values);
  return truth;
}

/** "key" and "key=value", all of which must hold. */
export function matchesLabels(wanted: readonly string[], labels: Readonly<Record<string, string>>): boolean {
  return wanted.every((want) => {
    const at = want.indexOf('=');
    const key = at < 0 ? want : want.slice(0, at);
    if (!Object.hasOwn(labels, key)) return false;
    return at < 0 || labels[key] === want.slice(at + 1);
  });
}

/** No values match everything; a value matches as a whole or as a regular expression (a broken one only as a whole). */
export function matcherOf(values: readonly string[]): (text: string) => boolean {
  if (values.length === 0) return () => true;
  const whole = new Set(values);
  const patterns = values.flatMap((value) => compile(value) ?? []);
  return (text) => whole.has(text) || patterns.some((matches) => matches(text));
}

function compile(source: string): ((text: string) => boolean) | null {
  let pattern: RegExp;
  try {
    pattern = new RegExp(source);
  } catch {
    return null;
  }
  const repeats = source.match(/[*+?{]/g)?.length ?? 0;
  if (repeats <= 1) return (text) => pattern.test(text);
  const context = createContext({ pattern, text: '' });
  const script = new Script('pattern.test(text)');
  return (text) => {
    context['text'] = text;
    try {
      return script.runInContext(context, { timeout: PATTERN_MS_MAX }) === true;
    } catch (cause) {
      throw new EngineError(
        'PARAMETER_INVALID',
        `invalid filter: the pattern ${JSON.stringify(source)} takes too long`,
        { cause },
      );
    }
  };
}
