/**
 * Variables and quotes in a Dockerfile's arguments: $A, ${A}, ${A:-word}, ${A:+word}, ${A-word}, ${A?message},
 * "double" and 'single' quotes, and the escape character. Pure. Source: buildkit frontend/dockerfile/shell.
 */
import { EngineError } from '../../core/engine-error.ts';

export type Variables = ReadonlyMap<string, string>;

/** One word: quotes are taken off, variables replaced; spaces stay. */
export function expandWord(text: string, variables: Variables, escape = '\\'): string {
  return named(text, () => new Expander(text, variables, escape).run().join(' '));
}

/** As a shell splits: unquoted spaces part words. */
export function expandWords(text: string, variables: Variables, escape = '\\'): string[] {
  return named(text, () => new Expander(text, variables, escape, true).run());
}

/** An error says which text it is about. */
function named<T>(text: string, expand: () => T): T {
  try {
    return expand();
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw new EngineError(error.code, `failed to process ${JSON.stringify(text)}: ${error.message}`, { cause: error });
  }
}

class Expander {
  readonly #text: string;
  readonly #variables: Variables;
  readonly #escape: string;
  readonly #split: boolean;
  #at = 0;

  constructor(text: string, variables: Variables, escape: string, split = false) {
    this.#text = text;
    this.#variables = variables;
    this.#escape = escape;
    this.#split = split;
  }

  run(): string[] {
    const words: string[] = [];
    let word = '';
    let begun = false;
    while (this.#at < this.#text.length) {
      const c = this.#text[this.#at]!;
      if (this.#split && /\s/.test(c)) {
        if (begun) words.push(word);
        [word, begun] = ['', false];
        this.#at++;
        continue;
      }
      begun = true;
      if (c === "'") word += this.#singleQuoted();
      else if (c === '"') word += this.#doubleQuoted();
      else if (c === '$') word += this.#variable();
      else if (c === this.#escape) word += this.#escaped();
      else {
        word += c;
        this.#at++;
      }
    }
    if (begun || !this.#split) words.push(word);
    return words;
  }

  #escaped(): string {
    const c = this.#text[this.#at + 1];
    this.#at += 2;
    return c ?? this.#escape;
  }

  #singleQuoted(): string {
    const end = this.#text.indexOf("'", this.#at + 1);
    if (end === -1) throw wrong('unexpected end of statement while looking for matching single-quote');
    const inner = this.#text.slice(this.#at + 1, end);
    this.#at = end + 1;
    return inner;
  }

  #doubleQuoted(): string {
    let inner = '';
    for (this.#at++; ;) {
      const c = this.#text[this.#at];
      if (c === undefined) throw wrong('unexpected end of statement while looking for matching double-quote');
      if (c === '"') {
        this.#at++;
        return inner;
      }
      if (c === '$') inner += this.#variable();
      else if (c === this.#escape && ['"', '$', this.#escape].includes(this.#text[this.#at + 1] ?? ''))
        inner += this.#escaped();
      else {
        inner += c;
        this.#at++;
      }
    }
  }

  #variable(): string {
    this.#at++;
    if (this.#text[this.#at] === '{') return this.#braced();
    const name = /^(?:[a-zA-Z_]\w*|[0-9@*#?-])/.exec(this.#text.slice(this.#at))?.[0];
    if (name === undefined) return '$';
    this.#at += name.length;
    return this.#variables.get(name) ?? '';
  }

  #braced(): string {
    const match = /^\{([a-zA-Z_]\w*|[0-9])(:?[-+?])?/.exec(this.#text.slice(this.#at));
    if (match === null) throw wrong(`missing ':' in substitution or bad name: ${this.#text.slice(this.#at - 1)}`);
    this.#at += match[0].length;
    const [, name, operator = ''] = match;
    const end = this.#closingBrace();
    const word = this.#text.slice(this.#at, end);
    this.#at = end + 1;
    if (operator === '' && word !== '') throw wrong(`unsupported modifier (${word[0]}) in substitution`);
    const value = this.#variables.get(name!);
    const given = operator.startsWith(':') ? value !== undefined && value !== '' : value !== undefined;
    const other = (): string => new Expander(word, this.#variables, this.#escape).run().join(' ');
    switch (operator.at(-1) ?? '') {
      case '-':
        return given ? value! : other();
      case '+':
        return given ? other() : '';
      case '?':
        if (given) return value!;
        throw wrong(`${name}: ${other() || 'is not allowed to be unset'}`);
      default:
        return value ?? '';
    }
  }

  /** Of this substitution: nested ones have their own. */
  #closingBrace(): number {
    for (let at = this.#at, depth = 1; at < this.#text.length; at++) {
      if (this.#text[at] === this.#escape) at++;
      else if (this.#text.startsWith('${', at)) depth++;
      else if (this.#text[at] === '}' && --depth === 0) return at;
    }
    throw wrong('unexpected end of statement while looking for matching }');
  }
}

function wrong(message: string): EngineError {
  return new EngineError('BODY_INVALID', message);
}

/**
 * "A=1 B='x y'" or the old "A all the rest", for ENV and LABEL; words keep their quotes for expandWord(). `file` is the
 * Dockerfile's name. @throws {EngineError} BODY_INVALID
 */
export function parsePairs(text: string, instruction: string, escape = '\\', file = 'Dockerfile'): [string, string][] {
  const words = quotedWords(text, escape);
  if (!(words[0] ?? '').includes('=')) {
    const match = /^(\S+)\s+([\s\S]+)$/.exec(text);
    if (match === null)
      throw new EngineError('BODY_INVALID', `failed to parse ${file}: ${instruction} must have two arguments`);
    return [[match[1]!, match[2]!]];
  }
  return words.map((word) => {
    const at = word.indexOf('=');
    if (at < 0)
      throw new EngineError(
        'BODY_INVALID',
        `failed to parse ${file}: Syntax error - can't find = in ${JSON.stringify(word)}. Must be of the form: name=value`,
      );
    return [word.slice(0, at), word.slice(at + 1)];
  });
}

/** Words as they are written; a quote that is not closed takes the rest. Source: buildkit parser/line_parsers.go. */
function quotedWords(text: string, escape: string): string[] {
  const words: string[] = [];
  let word = '';
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const c = text[at]!;
    if (quote === '' && /\s/.test(c)) {
      if (word !== '') words.push(word);
      word = '';
      continue;
    }
    word += c;
    if (c === escape && quote !== "'") word += text[++at] ?? '';
    else if (quote === '' && (c === '"' || c === "'")) quote = c;
    else if (c === quote) quote = '';
  }
  return word === '' ? words : [...words, word];
}
