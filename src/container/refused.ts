/** lifecycle/ says no in words; here they become the error that users see. */
import { EngineError } from '../core/engine-error.ts';
import type { Refusal } from '../lifecycle/words.ts';

export function refused({ code, message }: Refusal): EngineError {
  return new EngineError(code, message);
}

/** The same error with what was being done to what in front, as Docker words it. */
export function inWordsOf(prefix: string, error: unknown): unknown {
  if (!(error instanceof EngineError)) return error;
  return new EngineError(error.code, `${prefix}: ${error.message}`, { cause: error });
}
