/**
 * Go's regular expressions, as options of logs have them: RE2's syntax and messages, and its promise that no pattern takes
 * more than linear time, which JavaScript's do not give: whoever may make a container could stop the daemon with one.
 * Loaded when there is one, since that takes some 10 ms.
 */
import { createRequire as requireFrom } from 'node:module';

import type * as Re2 from 're2js';

import { refuse } from './option-values.ts';

export interface GoRegExp {
  /** Whether it matches anywhere in the text. */
  test(text: string): boolean;
}

/** `context`: goes before Go's words. @throws {EngineError} LOG_OPTION_INVALID */
export function compileGoRegExp(pattern: string, context = ''): GoRegExp {
  const { RE2JS } = requireFrom(import.meta.url)('re2js') as typeof Re2;
  try {
    const compiled = RE2JS.compile(pattern);
    return { test: (text) => compiled.matcher(text).find() };
  } catch (error) {
    return refuse(`${context}${(error as Error).message}`);
  }
}
