/**
 * The `tag` of log options: Go's text/template as far as tags go (fields, pipelines, functions, if and with), over Docker's
 * logger.Info. Source: Go text/template, moby daemon/logger/templates and loginfo.go (v28). No range, no variables.
 */
import { hostname } from 'node:os';

import type { LogSubject } from './log-attributes.ts';
import { refuseAtStart } from './option-values.ts';

type Value = string | number | boolean | null | readonly Value[] | { readonly [key: string]: Value };

type Operand =
  | { readonly kind: 'value'; readonly value: Value }
  | { readonly kind: 'function'; readonly name: string }
  | { readonly kind: 'pipe'; readonly pipe: Pipe; readonly path: readonly string[] }
  /** From the dot on. */
  | { readonly kind: 'field'; readonly path: readonly string[] };
/** Commands of operands each. */
type Pipe = readonly (readonly Operand[])[];
type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'pipe'; readonly pipe: Pipe }
  | { readonly kind: 'if' | 'with'; readonly pipe: Pipe; readonly met: Node[]; readonly otherwise: Node[] };

const SHORT = 12;
const FIELDS: Readonly<Record<string, (subject: LogSubject) => Value>> = {
  ID: ({ containerId }) => containerId.slice(0, SHORT),
  FullID: ({ containerId }) => containerId,
  Name: ({ containerName }) => containerName,
  ImageID: ({ imageId }) => imageId.slice(0, SHORT), // of "sha256:…", as Docker's
  ImageFullID: ({ imageId }) => imageId,
  ImageName: ({ imageName }) => imageName,
  Command: ({ command }) => command.join(' '),
  Hostname: () => hostname(),
  DaemonName: () => 'docker',
  ContainerID: ({ containerId }) => containerId,
  ContainerName: ({ containerName }) => `/${containerName}`,
  ContainerEntrypoint: ({ command }) => command[0] ?? '',
  ContainerArgs: ({ command }) => command.slice(1),
  ContainerImageID: ({ imageId }) => imageId,
  ContainerImageName: ({ imageName }) => imageName,
  ContainerCreated: ({ createdAt }) => createdAt,
  ContainerEnv: ({ env }) => env,
  ContainerLabels: ({ labels }) => labels,
};

const FUNCTIONS: Readonly<Record<string, (...values: readonly Value[]) => Value>> = {
  json: (value = null) => JSON.stringify(value),
  split: (text, separator) => shown(text).split(shown(separator)),
  join: (list, separator) => (Array.isArray(list) ? list.map(shown).join(shown(separator)) : fail('join: not a list')),
  title: (text) => shown(text).replace(/(^|[^\p{L}\p{N}_'])(\p{L})/gu, (_, before: string, letter: string) => before + letter.toUpperCase()),
  lower: (text) => shown(text).toLowerCase(),
  upper: (text) => shown(text).toUpperCase(),
  pad: (text, before, after) => (text === '' ? '' : ' '.repeat(Number(before)) + shown(text) + ' '.repeat(Number(after))),
  truncate: (text, length) => shown(text).slice(0, Number(length)),
  index: (from = null, ...keys) => keys.reduce<Value>(elementOf, from),
  len: (value = null) => (typeof value === 'string' ? Buffer.byteLength(value) : Object.keys(value ?? {}).length),
  print: (...values) => sprint(values),
  printf: (format, ...values) => sprintf(shown(format), values),
  println: (...values) => `${values.map(shown).join(' ')}\n`,
  eq: (first, ...others) => others.some((other) => other === first),
  ne: (first, second) => first !== second,
  not: (value = null) => !isTrue(value),
  and: (...values) => values.find((value) => !isTrue(value)) ?? values.at(-1) ?? null,
  or: (...values) => values.find(isTrue) ?? values.at(-1) ?? null,
}; // prettier-ignore

/** @throws {EngineError} LOG_OPTION_INVALID */
export function checkTag(tag: string): void {
  parseTemplate(tag);
}

/** @throws {EngineError} LOG_OPTION_INVALID for what only its values tell: an index that is not there, say */
export function expandTag(tag: string, subject: LogSubject, attributes: Readonly<Record<string, string>> = {}): string {
  const scope = { subject, attributes };
  return parseTemplate(tag).map((node) => render(node, scope, undefined)).join(''); // prettier-ignore
}

interface Scope {
  readonly subject: LogSubject;
  readonly attributes: Readonly<Record<string, string>>;
}

/** `dot`: undefined is the container itself. */
function render(node: Node, scope: Scope, dot: Value | undefined): string {
  if (node.kind === 'text') return node.text;
  const value = evaluate(node.pipe, scope, dot);
  if (node.kind === 'pipe') return shown(value);
  const chosen = isTrue(value) ? node.met : node.otherwise;
  const inner = node.kind === 'with' && isTrue(value) ? value : dot;
  return chosen.map((child) => render(child, scope, inner)).join('');
}

function evaluate(pipe: Pipe, scope: Scope, dot: Value | undefined): Value {
  let piped: Value | undefined;
  for (const command of pipe) {
    const [first, ...rest] = command;
    const values = rest.map((operand) => valueOf(operand, scope, dot));
    if (piped !== undefined) values.push(piped);
    if (first?.kind === 'function') piped = FUNCTIONS[first.name]!(...values);
    else if (first?.kind === 'field' && first.path[0] === 'ExtraAttributes' && dot === undefined)
      piped = first.path.slice(1).reduce<Value>(memberOf, scope.attributes);
    else if (values.length > 0) fail("can't give argument to non-function");
    else piped = valueOf(first as Operand, scope, dot);
  }
  return piped ?? null;
}

function valueOf(operand: Operand, scope: Scope, dot: Value | undefined): Value {
  switch (operand.kind) {
    case 'value':
      return operand.value;
    case 'function':
      return FUNCTIONS[operand.name]!();
    case 'pipe':
      return operand.path.reduce<Value>(memberOf, evaluate(operand.pipe, scope, dot));
    case 'field': {
      if (dot !== undefined) return operand.path.reduce<Value>(memberOf, dot);
      const [name = '', ...path] = operand.path;
      if (name === 'ExtraAttributes') return path.reduce<Value>(memberOf, scope.attributes);
      return path.reduce<Value>(memberOf, name === '' ? {} : FIELDS[name]!(scope.subject));
    }
  }
}

function memberOf(value: Value, name: string): Value {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail(`can't evaluate field ${name}`);
  return Object.hasOwn(value, name) ? ((value as { readonly [key: string]: Value })[name] ?? null) : '';
}

function elementOf(value: Value, key: Value): Value {
  if (!Array.isArray(value)) return memberOf(value, shown(key));
  const element = (value as readonly Value[])[Number(key)];
  return element ?? fail(`error calling index: index out of range: ${shown(key)}`);
}

function isTrue(value: Value): boolean {
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

/** As Go prints it. */
function shown(value: Value | undefined): string {
  if (value === undefined || value === null) return '<no value>';
  if (typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return `[${value.map(shown).join(' ')}]`;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `map[${entries.map(([key, member]) => `${key}:${shown(member)}`).join(' ')}]`;
}

/** Sprint: a space between two of which neither is a string. */
function sprint(values: readonly Value[]): string {
  let text = '';
  for (const [i, value] of values.entries()) {
    const isApart = i > 0 && typeof value !== 'string' && typeof values[i - 1] !== 'string';
    text += `${isApart ? ' ' : ''}${shown(value)}`;
  }
  return text;
}

/** Sprintf of what tags are made of. */
function sprintf(format: string, values: readonly Value[]): string {
  let at = 0;
  return format.replace(/%([\s\S]?)/g, (_, verb: string) => {
    if (verb === '%') return '%';
    if (!['s', 'v', 'd', 'q'].includes(verb)) return fail(`printf: %${verb} is not supported in tags`);
    const value = values[at++];
    return verb === 'q' ? JSON.stringify(shown(value)) : shown(value);
  });
}

function fail(message: string): never {
  return refuseAtStart(`template: log-tag:1: ${message}`);
}

// ---- parsing

const TOKEN = /\s*(?:("(?:[^"\\]|\\.)*"|`[^`]*`)|(-?\d+)|((?:\.[A-Za-z_]\w*)+|\.)|([A-Za-z_]\w*)|([|()]))/y;

type Token =
  | { readonly kind: 'value'; readonly value: Value }
  | { readonly kind: 'path'; readonly path: readonly string[]; readonly isAttached: boolean }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'sign'; readonly sign: string };

function parseTemplate(text: string): Node[] {
  const pieces = text.split(/\{\{(-\s)?((?:"(?:[^"\\]|\\.)*"|`[^`]*`|\/\*[\s\S]*?\*\/|(?!\}\})[\s\S])*?)(\s-)?\}\}/);
  const parser = new Parser();
  for (let i = 0; i < pieces.length; i += 4) {
    let literal = pieces[i] as string;
    if (literal.includes('{{')) fail('unclosed action');
    if (i > 0 && pieces[i - 1] !== undefined) literal = literal.trimStart();
    if (pieces[i + 1] !== undefined) literal = literal.trimEnd();
    parser.text(literal);
    const action = pieces[i + 2];
    if (action !== undefined && !/^\s*\/\*/.test(action)) parser.action(action.trim());
  }
  return parser.end();
}

class Parser {
  readonly #root: Node[] = [];
  /** Blocks that are open, and how many ends each takes: an "else if" is a block in a block. */
  readonly #open: { readonly node: Extract<Node, { met: unknown }>; isElse: boolean; readonly isNested: boolean }[] =
    [];

  text(text: string): void {
    if (text !== '') this.#nodes().push({ kind: 'text', text });
  }

  action(text: string): void {
    const [, word = '', rest = ''] = /^(if|with|else|end|range|define|template|block|break|continue)\b\s*([\s\S]*)$/.exec(text) ?? [];
    if (word === '') this.#nodes().push({ kind: 'pipe', pipe: parsePipe(text, this.#isTop()) });
    else if (word === 'if' || word === 'with') this.#begin(word, rest, false);
    else if (word === 'else') this.#else(rest);
    else if (word === 'end') this.#close();
    else refuseAtStart(`log opt 'tag': {{${word}}} is not supported`);
  } // prettier-ignore

  end(): Node[] {
    if (this.#open.length > 0) fail('unexpected EOF');
    return this.#root;
  }

  /** The dot is the container, and not what a with has made it. */
  #isTop(): boolean {
    return !this.#open.some(({ node, isElse }) => node.kind === 'with' && !isElse);
  }

  #nodes(): Node[] {
    const block = this.#open.at(-1);
    if (block === undefined) return this.#root;
    return block.isElse ? block.node.otherwise : block.node.met;
  }

  #begin(kind: 'if' | 'with', text: string, isNested: boolean): void {
    const node = { kind, pipe: parsePipe(text, this.#isTop()), met: [], otherwise: [] };
    this.#nodes().push(node);
    this.#open.push({ node, isElse: false, isNested });
  }

  #else(rest: string): void {
    const block = this.#open.at(-1);
    if (block === undefined || block.isElse) return fail('unexpected {{else}}');
    block.isElse = true;
    const [, kind, pipe = ''] = /^(if|with)\b\s*([\s\S]*)$/.exec(rest) ?? [];
    if (kind !== undefined) this.#begin(kind as 'if' | 'with', pipe, true);
  }

  #close(): void {
    for (;;) {
      const block = this.#open.pop();
      if (block === undefined) return fail('unexpected {{end}}');
      if (!block.isNested) return;
    }
  }
}

function parsePipe(text: string, isTop: boolean): Pipe {
  if (text === 'nil') fail('nil is not a command');
  const tokens = tokensOf(text);
  const pipe = takePipe(tokens, isTop);
  if (tokens.length > 0) fail(`unexpected ${JSON.stringify(text)} in command`);
  return pipe;
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const from = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (match === null) return fail(`unexpected ${JSON.stringify(text.slice(from).trim())} in operand`);
    const [all, quoted, number, path, name, sign] = match;
    if (quoted !== undefined) tokens.push({ kind: 'value', value: unquote(quoted) });
    else if (number !== undefined) tokens.push({ kind: 'value', value: Number(number) });
    else if (path !== undefined)
      tokens.push({ kind: 'path', path: path.split('.').slice(1).filter(Boolean), isAttached: !/^\s/.test(all) && from > 0 });
    else if (name !== undefined) tokens.push({ kind: 'name', name });
    else tokens.push({ kind: 'sign', sign: sign as string });
  }
  return tokens;
} // prettier-ignore

function takePipe(tokens: Token[], isTop: boolean): Pipe {
  const pipe: Operand[][] = [[]];
  for (let token = tokens[0]; token !== undefined; token = tokens[0]) {
    if (token.kind === 'sign' && token.sign === ')') break;
    tokens.shift();
    if (token.kind === 'sign' && token.sign === '|') pipe.push([]);
    else pipe.at(-1)?.push(operandOf(token, tokens, isTop));
  }
  if (pipe.some((command) => command.length === 0)) fail('missing value for command');
  return pipe;
}

function operandOf(token: Token, tokens: Token[], isTop: boolean): Operand {
  switch (token.kind) {
    case 'value':
      return { kind: 'value', value: token.value };
    case 'path': {
      const [name = ''] = token.path;
      if (isTop && name === '') refuseAtStart("log opt 'tag': {{.}} is not supported");
      if (isTop && name !== '' && name !== 'ExtraAttributes' && !Object.hasOwn(FIELDS, name))
        refuseAtStart(
          `template: log-tag:1:2: executing "log-tag" at <.${name}>: can't evaluate field ${name} in type *logger.Info`,
        );
      return { kind: 'field', path: token.path };
    }
    case 'name': {
      const constant = ({ true: true, false: false, nil: null } as Readonly<Record<string, Value>>)[token.name];
      if (constant !== undefined) return { kind: 'value', value: constant };
      if (!Object.hasOwn(FUNCTIONS, token.name)) fail(`function ${JSON.stringify(token.name)} not defined`);
      return { kind: 'function', name: token.name };
    }
    case 'sign': {
      const pipe = takePipe(tokens, isTop);
      if (tokens.shift() === undefined) fail('unclosed left paren');
      const next = tokens[0];
      if (next?.kind !== 'path' || !next.isAttached) return { kind: 'pipe', pipe, path: [] };
      tokens.shift();
      return { kind: 'pipe', pipe, path: next.path };
    }
  }
}

function unquote(text: string): string {
  if (text.startsWith('`')) return text.slice(1, -1);
  try {
    return JSON.parse(text) as string;
  } catch {
    return fail(`invalid syntax: ${text}`);
  }
}
