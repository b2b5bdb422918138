/** Gathers small file operations into few round trips to the kernel's worker, with a bound on what waits. */
import type { FileOperation, Files } from '../kernel/port.ts';

const OPERATIONS_MAX = 512;
const CONTENT_BYTES_MAX = 1024 * 1024;
/** Batches on their way: one is made while one is done. More could overtake each other, as a batch lets others through. */
const IN_FLIGHT_MAX = 1;
const LATER_MAX = 1000;

export class FileBatch {
  readonly #files: Files;
  readonly #root: string | undefined;
  readonly #inFlight: Promise<void>[] = [];
  #operations: FileOperation[] = [];
  #contentBytes = 0;
  #later: { readonly path: string; readonly name: string; readonly value: Buffer }[] = [];

  /** With `root`, paths are inside it, resolved as if it were "/". */
  constructor(files: Files, root?: string) {
    this.#files = files;
    this.#root = root;
  }

  async push(operation: FileOperation): Promise<void> {
    this.#operations.push(operation);
    if (operation.kind === 'file') this.#contentBytes += operation.content.length;
    if (this.#operations.length >= OPERATIONS_MAX || this.#contentBytes >= CONTENT_BYTES_MAX) await this.#send();
    if (this.#later.length >= LATER_MAX) await this.drain();
  }

  /** An extended attribute that may be refused by the file system, which Docker lets pass too. */
  later(path: string, name: string, value: Buffer): void {
    this.#later.push({ path, name, value });
  }

  /** Everything asked so far is done. */
  async drain(): Promise<void> {
    if (this.#operations.length > 0) await this.#send();
    while (this.#inFlight.length > 0) await this.#inFlight.shift();
    const later = this.#later;
    this.#later = [];
    for (const { path, name, value } of later) {
      try {
        await this.#files.batch([{ kind: 'xattr', path, name, value }], this.#root);
      } catch (error) {
        if (!isUnsupported(error)) throw error;
      }
    }
  }

  async finish(): Promise<void> {
    await this.drain();
  }

  /** Waits for what is on its way, whatever becomes of it. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#inFlight);
  }

  async #send(): Promise<void> {
    while (this.#inFlight.length >= IN_FLIGHT_MAX) await this.#inFlight.shift();
    const sent = this.#files.batch(this.#operations, this.#root);
    sent.catch(() => {}); // awaited by the next send, drain or settle
    this.#inFlight.push(sent);
    this.#operations = [];
    this.#contentBytes = 0;
  }
}

function isUnsupported(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOTSUP' || error.code === 'EOPNOTSUPP');
}
