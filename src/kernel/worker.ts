/**
 * The one thread that makes native calls. Calls that are synchronous run in the order in which they came; those that
 * take long run on libuv's pool and answer when they are done.
 */
import { parentPort } from 'node:worker_threads';

import { checkAsync, native } from './libc.ts';
import { operations, type OperationName } from './operations.ts';
import { encodeFailure, type Answer, type Call } from './protocol.ts';

if (parentPort === null) throw new Error('kernel/worker.ts runs as a worker thread only');
const port = parentPort;

// SAFETY: libuv's pool threads belong to the namespace in which they are first needed. Make them now, in the host's.
await checkAsync(
  'getpid',
  () => '',
  (done) => native.getpid.async(done),
);

port.on('message', (call: Call) => {
  try {
    const operation = operations[call.operation as OperationName] as (...values: readonly unknown[]) => unknown;
    const value = operation(...call.arguments);
    if (value instanceof Promise)
      value.then(
        (late: unknown) => answer(call.id, late),
        (error: unknown) => fail(call.id, error),
      );
    else answer(call.id, value);
  } catch (error) {
    fail(call.id, error);
  }
});

function answer(id: number, value: unknown): void {
  port.postMessage({ id, kind: 'value', value } satisfies Answer);
}

function fail(id: number, error: unknown): void {
  port.postMessage({ id, kind: 'failure', failure: encodeFailure(error) } satisfies Answer);
}
