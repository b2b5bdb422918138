/** The main thread's side of the worker: starts it at the first call, matches answers to calls. */
import { Worker } from 'node:worker_threads';

import type { OperationName, Operations } from './operations.ts';
import { decodeFailure, type Answer, type Call } from './protocol.ts';

/** The worker keeps next to nothing in its heap; the figures bound what a bug could take. */
const RESOURCE_LIMITS = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 64, stackSizeMb: 1 } as const;
/** Calls on their way at a time. Beyond it something has hung, and queueing more would only hide it. */
const PENDING_MAX = 100_000;

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class WorkerClient implements AsyncDisposable {
  readonly #pending = new Map<number, Pending>();
  readonly #onFatal: (error: Error) => void;
  #worker: Worker | null = null;
  #ended: Error | null = null;
  #nextId = 1;

  constructor(onFatal: (error: Error) => void) {
    this.#onFatal = onFatal;
  }

  /** Starts the worker without waiting for it; calls do so themselves. */
  start(): void {
    if (this.#ended === null) this.#worker ??= this.#startWorker();
  }

  call<Name extends OperationName>(
    operation: Name,
    ...values: Parameters<Operations[Name]>
  ): Promise<Awaited<ReturnType<Operations[Name]>>> {
    return this.callWith([], operation, ...values);
  }

  /** The memory in `given` goes to the worker without being copied, and is gone here. */
  callWith<Name extends OperationName>(
    given: readonly ArrayBuffer[],
    operation: Name,
    ...values: Parameters<Operations[Name]>
  ): Promise<Awaited<ReturnType<Operations[Name]>>> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    if (this.#pending.size >= PENDING_MAX)
      return Promise.reject(new Error(`kernel worker: ${PENDING_MAX} calls are waiting`));
    const worker = (this.#worker ??= this.#startWorker());
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      worker.postMessage({ id, operation, arguments: values } satisfies Call, given); // throws for what cannot be cloned
      if (this.#pending.size === 0) worker.ref();
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended !== null) return;
    const worker = this.#worker;
    if (worker !== null) await this.call('close');
    this.#end(new Error('the kernel is closed'));
    await worker?.terminate();
  }

  #startWorker(): Worker {
    // Run from source it is .ts, compiled it is .js, as this file.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const worker = new Worker(new URL(`./worker.${extension}`, import.meta.url), {
      name: 'kernel',
      resourceLimits: RESOURCE_LIMITS,
    });
    worker.unref(); // it counts only while a call is on its way
    worker.on('message', (answer: Answer) => this.#answered(answer));
    worker.on('error', (error) => this.#died(error instanceof Error ? error : new Error(String(error))));
    worker.on('exit', (code) => this.#died(new Error(`exit code ${code}`)));
    return worker;
  }

  #answered(answer: Answer): void {
    const pending = this.#pending.get(answer.id);
    this.#pending.delete(answer.id);
    if (this.#pending.size === 0) this.#worker?.unref();
    if (answer.kind === 'value') pending?.resolve(answer.value);
    else pending?.reject(decodeFailure(answer.failure));
  }

  #died(cause: Error): void {
    if (this.#ended !== null) return;
    const error = new Error(`kernel worker ended: ${cause.message}`, { cause });
    this.#end(error);
    this.#onFatal(error);
  }

  #end(error: Error): void {
    this.#ended = error;
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }
}
