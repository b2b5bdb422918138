/**
 * The "filters" parameter: a JSON object of name → set of values, in the form of today {"name":{"a":true}} and in the
 * old one {"name":["a"]}. And the ways in which moby matches values. Source: moby api/types/filters/parse.go (v28).
 */
import type { Filters } from '../../container/port.ts';
import { EngineError } from '../../core/engine-error.ts';
import { isObject } from './decode.ts';

/** @throws PARAMETER_INVALID "invalid filter" */
export function parseFilters(text: string): Filters {
  if (text === '') return new Map();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new EngineError('PARAMETER_INVALID', 'invalid filter', { cause: error });
  }
  if (value === null) return new Map();
  if (!isObject(value)) throw new EngineError('PARAMETER_INVALID', 'invalid filter');
  const entries = Object.entries(value);
  const filters = new Map<string, readonly string[]>();
  const old = entries.some(([, values]) => Array.isArray(values));
  for (const [name, values] of entries) filters.set(name, old ? listValues(values) : setValues(values));
  return filters;
}

function setValues(values: unknown): string[] {
  if (values === null) return [];
  if (!isObject(values) || Object.values(values).some((value) => typeof value !== 'boolean'))
    throw new EngineError('PARAMETER_INVALID', 'invalid filter');
  return Object.keys(values);
}

function listValues(values: unknown): string[] {
  if (values === null) return [];
  if (!Array.isArray(values) || values.some((value) => typeof value !== 'string'))
    throw new EngineError('PARAMETER_INVALID', 'invalid filter');
  return [...new Set(values as string[])];
}

/** @throws PARAMETER_INVALID "invalid filter 'x'" for a name that is not in `known` */
export function checkFilterNames(filters: Filters, known: readonly string[]): void {
  for (const name of filters.keys()) {
    if (!known.includes(name)) throw new EngineError('PARAMETER_INVALID', `invalid filter '${name}'`);
  }
}

/** null when the filter is not given. @throws PARAMETER_INVALID "invalid filter 'dangling=[maybe]'" */
export function flagFilter(filters: Filters, name: string): boolean | null {
  const values = filters.get(name);
  if (values === undefined) return null;
  const no = values.includes('0') || values.includes('false');
  const yes = values.includes('1') || values.includes('true');
  if (no === yes)
    throw new EngineError(
      'PARAMETER_INVALID',
      values.length === 0 ? `invalid filter '${name}'` : `invalid filter '${name}=[${values.join(' ')}]'`,
    );
  return yes;
}

/** One of the values, or no values at all. */
export function matchesExactly(filters: Filters, name: string, value: string): boolean {
  const values = filters.get(name);
  return values === undefined || values.length === 0 || values.includes(value);
}

/** One of the values is the value or its beginning. */
export function matchesPrefix(filters: Filters, name: string, value: string): boolean {
  return matchesExactly(filters, name, value) || (filters.get(name) ?? []).some((prefix) => value.startsWith(prefix));
}

/** One of the values is a regular expression that is found in the value (Go's syntax is near enough to ours). */
export function matchesPattern(filters: Filters, name: string, value: string): boolean {
  if (matchesExactly(filters, name, value)) return true;
  return (filters.get(name) ?? []).some((pattern) => {
    // A pattern from a client runs on names of at most some hundred characters; longer patterns are not worth a risk.
    if (pattern.length > 256) return false;
    try {
      return new RegExp(pattern).test(value);
    } catch {
      return false;
    }
  });
}

/** All of the values "key" or "key=value" are among the labels. */
export function matchesLabels(
  filters: Filters,
  name: string,
  labels: Readonly<Record<string, string>> | null,
): boolean {
  return (filters.get(name) ?? []).every((wanted) => {
    const [key, value] = cut(wanted, '=');
    return labels !== null && Object.hasOwn(labels, key) && (value === null || labels[key] === value);
  });
}

/** For prune: as matchesLabels, and none of the "label!" values (moby: matchLabels). */
export function matchesPruneLabels(filters: Filters, labels: Readonly<Record<string, string>> | null): boolean {
  if (!matchesLabels(filters, 'label', labels)) return false;
  const unwanted = filters.get('label!') ?? [];
  return unwanted.length === 0 || !matchesLabels(filters, 'label!', labels);
}

export function cut(text: string, separator: string): readonly [string, string | null] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, null] : [text.slice(0, at), text.slice(at + separator.length)];
}
