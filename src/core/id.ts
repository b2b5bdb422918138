/** Identifiers: 64 lower-case hexadecimal digits, as Docker's, for containers, execs, networks and anonymous volumes. */
import { randomBytes } from 'node:crypto';

export const ID_LENGTH = 64;
export const SHORT_ID_LENGTH = 12;

/** Never all digits in its short form, which would be taken for a number (moby pkg/stringid). */
export function newId(): string {
  for (;;) {
    const id = randomBytes(32).toString('hex');
    if (!/^\d+$/.test(id.slice(0, SHORT_ID_LENGTH))) return id;
  }
}

export function shortId(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, SHORT_ID_LENGTH);
}
