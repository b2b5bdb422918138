/**
 * JSON texts as Go's encoding/json reads them: one value, then nothing. JSON.parse does the work; only when it refuses
 * is the text scanned again, for the words that Go (and so moby) says, because clients' tests read them.
 * Source: Go encoding/json scanner.go, moby api/server/httputils ReadJSON (v28).
 */
import { EngineError } from '../../core/engine-error.ts';

/** @throws BODY_INVALID "invalid JSON: …", "unexpected content after JSON" */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const { end, problem } = scanValue(text);
    if (problem === 'EOF') throw new EngineError('BODY_INVALID', 'invalid JSON: got EOF while reading request body');
    if (problem !== null) throw new EngineError('BODY_INVALID', `invalid JSON: ${problem}`);
    const next = text.slice(end).trimStart()[0];
    // Go's Decoder.More() takes a closing bracket for the end of something and lets it pass.
    if (next !== undefined && next !== ']' && next !== '}')
      throw new EngineError('BODY_INVALID', 'unexpected content after JSON');
    try {
      return JSON.parse(text.slice(0, end));
    } catch (error) {
      throw new EngineError('BODY_INVALID', `invalid JSON: ${String(error)}`, { cause: error });
    }
  }
}

const DEPTH_MAX = 10_000; // Go's own limit

/** The first value of `text`: where it ends, or what is wrong with it in Go's words ("EOF" for nothing at all). */
function scanValue(text: string): { readonly end: number; readonly problem: string | null } {
  const open: ('{' | '[')[] = [];
  let at = 0;
  const skipSpace = (): void => {
    while (at < text.length && ' \t\r\n'.includes(text[at]!)) at++;
  };
  const fail = (context: string): { end: number; problem: string } => ({
    end: at,
    problem: at >= text.length ? 'unexpected EOF' : `invalid character ${quoteCharacter(text, at)} ${context}`,
  });

  skipSpace();
  if (at >= text.length) return { end: at, problem: 'EOF' };
  for (;;) {
    // A value begins here.
    skipSpace();
    const character = text[at];
    if (character === '{' || character === '[') {
      if (open.length >= DEPTH_MAX) return { end: at, problem: 'exceeded max depth' };
      at++;
      skipSpace();
      if (text[at] === (character === '{' ? '}' : ']')) at++;
      else {
        open.push(character);
        if (character === '[') continue;
        const problem = scanKey();
        if (problem !== null) return problem;
        continue;
      }
    } else {
      const problem = scanScalar();
      if (problem !== null) return problem;
    }
    // A value has ended: close what ends with it.
    for (;;) {
      const container = open.at(-1);
      if (container === undefined) return { end: at, problem: null };
      skipSpace();
      if (text[at] === ',') {
        at++;
        if (container === '[') break;
        skipSpace();
        const problem = scanKey();
        if (problem !== null) return problem;
        break;
      }
      if (text[at] !== (container === '{' ? '}' : ']'))
        return fail(container === '{' ? 'after object key:value pair' : 'after array element');
      at++;
      open.pop();
    }
  }

  function scanKey(): { end: number; problem: string } | null {
    if (text[at] !== '"') return fail('looking for beginning of object key string');
    const problem = scanString();
    if (problem !== null) return problem;
    skipSpace();
    if (text[at] !== ':') return fail('after object key');
    at++;
    return null;
  }

  function scanString(): { end: number; problem: string } | null {
    for (at++; at < text.length; at++) {
      const character = text[at]!;
      if (character === '"') {
        at++;
        return null;
      }
      if (character < ' ') return fail('in string literal');
      if (character !== '\\') continue;
      at++;
      if (text[at] === 'u') {
        for (let digit = 0; digit < 4; digit++) {
          at++;
          if (!/[0-9a-fA-F]/.test(text[at] ?? '')) return fail('in \\u hexadecimal character escape');
        }
      } else if (at >= text.length || !'"\\/bfnrt'.includes(text[at]!)) return fail('in string escape code');
    }
    return fail('in string literal');
  }

  function scanScalar(): { end: number; problem: string } | null {
    const character = text[at] ?? '';
    if (character === '"') return scanString();
    for (const word of ['true', 'false', 'null']) {
      if (character !== word[0]) continue;
      for (let index = 1; index < word.length; index++) {
        at++;
        if (text[at] !== word[index]) return fail(`in literal ${word} (expecting '${word[index]!}')`);
      }
      at++;
      return null;
    }
    const number = /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?/.exec(text.slice(at, at + 400));
    if (number === null) {
      if (character !== '-') return fail('looking for beginning of value');
      at++;
      return fail('in numeric literal');
    }
    at += number[0].length;
    return null;
  }
}

function quoteCharacter(text: string, at: number): string {
  const character = String.fromCodePoint(text.codePointAt(at) ?? 0);
  if (character === "'") return String.raw`'\''`;
  if (character === '"') return `'"'`;
  return `'${JSON.stringify(character).slice(1, -1)}'`;
}
