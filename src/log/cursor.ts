/**
 * How far a log was sent, kept beside it. One small record that is overwritten in place by a single write, so that a
 * daemon that is killed leaves the old or the new one; a record that is damaged (power cut) reads as none, and the log is
 * sent again from its oldest line.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readFile, type FileHandle } from 'node:fs/promises';

import { isMissing } from './missing.ts';

const RECORD_BYTES = 512;

export interface Cursor {
  /** Of the file that `offset` is in: it keeps it over renames and compression. "": nothing was sent yet. */
  readonly signature: string;
  readonly offset: number;
  /** Of the log, that rotation took before it was sent: at least this much. */
  readonly droppedBytes: number;
  /** How often it did. */
  readonly gaps: number;
}

export const START: Cursor = { signature: '', offset: 0, droppedBytes: 0, gaps: 0 };

export class CursorFile {
  readonly #path: string;
  #handle: FileHandle | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  async load(): Promise<Cursor> {
    try {
      return parse(await readFile(this.#path, 'utf8')) ?? START;
    } catch (error) {
      if (isMissing(error)) return START;
      throw error;
    }
  }

  async save(cursor: Cursor): Promise<void> {
    this.#handle ??= await open(this.#path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o640);
    const text = JSON.stringify(cursor);
    const record = Buffer.alloc(RECORD_BYTES, ' ');
    record.write(`${digest(text)} ${text}\n`);
    await this.#handle.write(record, 0, RECORD_BYTES, 0);
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = null;
    await handle?.close();
  }
}

function parse(text: string): Cursor | null {
  const at = text.indexOf(' ');
  const body = text.slice(at + 1).trimEnd();
  if (at < 0 || digest(body) !== text.slice(0, at)) return null;
  return JSON.parse(body) as Cursor;
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
