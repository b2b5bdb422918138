/**
 * Text of a Dockerfile to instructions: directives, comments, continuation lines, here-documents, flags, and the
 * JSON form. Pure. Source: Dockerfile reference; moby/buildkit frontend/dockerfile/parser.
 */
import { EngineError } from '../../core/engine-error.ts';
import { parsePairs } from './expand.ts';

export interface Instruction {
  /** Upper case: "RUN". */
  readonly name: string;
  /** As written, continuation lines joined: what `docker build` prints. */
  readonly original: string;
  /** After name and flags. */
  readonly rest: string;
  readonly flags: readonly { readonly name: string; readonly value: string }[];
  /** The arguments when they are a JSON array of strings. */
  readonly json: readonly string[] | null;
  readonly heredocs: readonly Heredoc[];
  /** From 1. */
  readonly line: number;
}

export interface Heredoc {
  readonly name: string;
  readonly content: string;
  /** Variables are expanded in it unless its word was quoted. */
  readonly expand: boolean;
}

export interface Dockerfile {
  readonly escape: '\\' | '`';
  readonly instructions: readonly Instruction[];
  /** What it prints before the first step, without an end of line. */
  readonly warnings: readonly string[];
}

const NAMES = new Set([
  'ADD',
  'ARG',
  'CMD',
  'COPY',
  'ENTRYPOINT',
  'ENV',
  'EXPOSE',
  'FROM',
  'HEALTHCHECK',
  'LABEL',
  'MAINTAINER',
  'ONBUILD',
  'RUN',
  'SHELL',
  'STOPSIGNAL',
  'USER',
  'VOLUME',
  'WORKDIR',
]);
const WITH_HEREDOC = new Set(['ADD', 'COPY', 'RUN']);
const WITH_JSON = new Set(['ADD', 'CMD', 'COPY', 'ENTRYPOINT', 'RUN', 'SHELL', 'VOLUME']);

export function parseError(line: number, message: string): EngineError {
  return new EngineError('BODY_INVALID', `dockerfile parse error on line ${line}: ${message}`);
}

/** What the file is no Dockerfile for, whatever its instructions mean: `name` is the file's. */
function syntaxError(name: string, message: string): EngineError {
  return new EngineError('BODY_INVALID', `failed to parse ${name}: ${message}`);
}

export function parseDockerfile(text: string, name = 'Dockerfile'): Dockerfile {
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  if (text === '') throw new EngineError('BODY_INVALID', `the Dockerfile (${name}) cannot be empty`);
  const escape = escapeDirective(lines, name);
  const instructions: Instruction[] = [];
  const warnings: string[] = [];
  for (let at = 0; at < lines.length;) {
    const first = at;
    const { joined, next, skippedEmpty } = joinLines(lines, at, escape);
    at = next;
    if (joined.trim() === '') continue;
    if (skippedEmpty) warnings.push(`[WARNING]: Empty continuation line found in: ${joined}`);
    const instruction = parseInstruction(joined.trim(), first + 1);
    if (['ENV', 'LABEL'].includes(instruction.name) && instruction.rest !== '')
      parsePairs(instruction.rest, instruction.name, escape, name);
    const words = WITH_HEREDOC.has(instruction.name) && instruction.json === null ? heredocWords(instruction.rest) : [];
    const heredocs: Heredoc[] = [];
    for (const word of words) {
      const end = lines.findIndex(
        (line, index) => index >= at && (word.chomp ? line.replace(/^\t+/, '') : line) === word.name,
      );
      if (end === -1) throw syntaxError(name, 'unterminated heredoc');
      const body = lines.slice(at, end).map((line) => (word.chomp ? line.replace(/^\t+/, '') : line));
      heredocs.push({ name: word.name, expand: word.expand, content: body.map((line) => `${line}\n`).join('') });
      at = end + 1;
    }
    instructions.push({ ...instruction, heredocs });
  }
  if (instructions.length === 0) throw syntaxError(name, 'file with no instructions');
  if (warnings.length > 0) warnings.push('[WARNING]: Empty continuation lines will become errors in a future release.');
  return { escape, instructions, warnings };
}

/** ONBUILD's triggers are instructions too, stored without a file around them. */
export function parseInstruction(text: string, line: number): Instruction {
  const match = /^(\S+)(?:\s+([\s\S]*))?$/.exec(text)!;
  const name = match[1]!.toUpperCase();
  if (!NAMES.has(name)) throw parseError(line, `unknown instruction: ${match[1]}`);
  const { flags, rest } = takeFlags(match[2] ?? '', line);
  return {
    name,
    original: text,
    rest,
    flags,
    json: WITH_JSON.has(name) ? parseJsonForm(rest) : null,
    heredocs: [],
    line,
  };
}

/** `# escape=` counts only before anything that is not a directive. */
function escapeDirective(lines: readonly string[], name: string): '\\' | '`' {
  for (const line of lines) {
    const match = /^#\s*([a-z][a-z0-9]*)\s*=\s*(\S.*?)\s*$/i.exec(line.trim());
    if (match === null) return '\\';
    if (match[1]!.toLowerCase() !== 'escape') continue;
    if (match[2] !== '\\' && match[2] !== '`')
      throw syntaxError(name, `invalid escape token '${match[2]}' does not match \` or \\`);
    return match[2];
  }
  return '\\';
}

/** Comment lines inside a continued instruction vanish; empty ones too, with a warning. */
function joinLines(
  lines: readonly string[],
  start: number,
  escape: string,
): { joined: string; next: number; skippedEmpty: boolean } {
  let joined = '';
  let skippedEmpty = false;
  let at = start;
  for (let continued = true; continued && at < lines.length; at++) {
    const line = lines[at]!;
    if (/^\s*#/.test(line)) {
      if (joined === '') return { joined: '', next: at + 1, skippedEmpty };
      continue;
    }
    if (joined !== '' && line.trim() === '') {
      skippedEmpty = true;
      continue;
    }
    const cut = new RegExp(`^(.*?)${escape === '\\' ? '\\\\' : '`'}[ \\t]*$`).exec(line);
    continued = cut !== null;
    joined += cut === null ? line : cut[1]!;
  }
  return { joined, next: at, skippedEmpty };
}

function takeFlags(text: string, line: number): { flags: Instruction['flags']; rest: string } {
  const flags: { name: string; value: string }[] = [];
  let rest = text.trimStart();
  for (let match; (match = /^--([a-zA-Z][\w-]*)(?:=((?:"[^"]*"|'[^']*'|\\.|[^\s])*))?(?=\s|$)/.exec(rest)) !== null;) {
    if (flags.some(({ name }) => name === match![1])) throw parseError(line, `duplicate flag specified: --${match[1]}`);
    flags.push({ name: match[1]!, value: (match[2] ?? '').replace(/^(["'])(.*)\1$/s, '$2') });
    rest = rest.slice(match[0].length).trimStart();
  }
  return { flags, rest };
}

/** Anything that is no array of strings is the shell form, as Docker has it. */
export function parseJsonForm(text: string): readonly string[] | null {
  if (!text.startsWith('[')) return null;
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : null;
  } catch {
    return null;
  }
}

function heredocWords(text: string): { name: string; expand: boolean; chomp: boolean }[] {
  return [...text.matchAll(/(?:^|\s)\d*<<(-?)\s*(["']?)([a-zA-Z_][\w.]*)\2/g)].map(([, dash, quote, name]) => ({
    name: name!,
    expand: quote === '',
    chomp: dash === '-',
  }));
}
