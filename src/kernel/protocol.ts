/** What passes between the client and its worker: plain values that structured clone keeps whole. */
import { KernelError } from './kernel-error.ts';

export interface Call {
  readonly id: number;
  readonly operation: string;
  readonly arguments: readonly unknown[];
}

export type Answer =
  | { readonly id: number; readonly kind: 'value'; readonly value: unknown }
  | { readonly id: number; readonly kind: 'failure'; readonly failure: Failure };

/** Structured clone would keep an Error's message alone. */
export type Failure =
  | {
      readonly kind: 'kernel';
      readonly syscall: string;
      readonly errno: number;
      readonly detail: string;
      readonly text: string;
    }
  | { readonly kind: 'bug'; readonly message: string; readonly stack: string };

export function encodeFailure(error: unknown): Failure {
  if (error instanceof KernelError) {
    const { syscall, errno, detail, text } = error;
    return { kind: 'kernel', syscall, errno, detail, text };
  }
  if (error instanceof Error) return { kind: 'bug', message: error.message, stack: error.stack ?? '' };
  return { kind: 'bug', message: String(error), stack: '' };
}

export function decodeFailure(failure: Failure): Error {
  if (failure.kind === 'kernel') return new KernelError(failure.syscall, failure.errno, failure.detail, failure.text);
  const error = new Error(`kernel worker: ${failure.message}`);
  if (failure.stack !== '') error.stack = failure.stack;
  return error;
}
