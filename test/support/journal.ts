/** A journal for tests, beside the real one: journal.c, compiled once a run. Nothing in Node receives datagrams of AF_UNIX. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class FakeJournal implements AsyncDisposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'lsjournal-'));
  readonly path = join(this.#directory, 'socket');
  readonly #program = join(this.#directory, 'journal');
  #child: ChildProcess | null = null;
  #rest = Buffer.alloc(0);
  #isThere = false;
  #wake = (): void => {};
  /** As they came. */
  readonly entries: Buffer[] = [];

  static async start(): Promise<FakeJournal> {
    const journal = new FakeJournal();
    execFileSync('cc', ['-O1', '-o', journal.#program, join(import.meta.dirname, 'journal.c')]);
    await journal.up();
    return journal;
  }

  async up(): Promise<void> {
    const child = spawn(this.#program, [this.path], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    this.#isThere = false;
    child.stdout.on('data', (chunk: Buffer) => this.#take(chunk));
    await this.#when(() => this.#isThere);
  }

  /** The socket goes, too, as with a journal that is stopped. */
  async down(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.stdin?.end();
    await gone;
    rmSync(this.path, { force: true });
  }

  until(count: number): Promise<void> {
    return this.#when(() => this.entries.length >= count);
  }

  /** Fields of an entry in the journal's native form. */
  fields(index: number): Record<string, string> {
    return parseFields(this.entries[index] ?? Buffer.alloc(0));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #take(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= 4 && this.#rest.length >= 4 + this.#rest.readUInt32LE(0)) {
      const end = 4 + this.#rest.readUInt32LE(0);
      if (this.#isThere) this.entries.push(Buffer.from(this.#rest.subarray(4, end)));
      this.#isThere = true;
      this.#rest = this.#rest.subarray(end);
    }
    this.#wake();
  }

  async #when(isSo: () => boolean): Promise<void> {
    while (!isSo()) await new Promise<void>((resolve) => (this.#wake = resolve)); // oxlint-disable-line no-await-in-loop
  }
}

function parseFields(entry: Buffer): Record<string, string> {
  const fields: Record<string, string> = {};
  for (let at = 0; at < entry.length;) {
    const end = entry.indexOf(0x0a, at);
    const line = entry.toString('utf8', at, end);
    const equals = line.indexOf('=');
    if (equals >= 0) {
      fields[line.slice(0, equals)] = line.slice(equals + 1);
      at = end + 1;
      continue;
    }
    const length = Number(entry.readBigUInt64LE(end + 1));
    fields[line] = entry.toString('utf8', end + 9, end + 9 + length);
    at = end + 9 + length + 1;
  }
  return fields;
}
