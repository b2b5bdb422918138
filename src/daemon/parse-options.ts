/** Reads the daemon's options from its arguments and from daemon.json, and shows them. */
import { EngineError } from '../core/engine-error.ts';
import { OPTIONS, type Option, type OptionKind, type Values } from './options.ts';

const SECTIONS: ReadonlySet<string> = new Set((OPTIONS as readonly Option[]).flatMap(({ section = [] }) => section));

/** What daemon.json cannot say. */
const FLAGS_ONLY: ReadonlySet<string> = new Set(['config-file', 'validate']);

const invalid = (message: string): EngineError => new EngineError('PARAMETER_INVALID', message);

/**
 * Reads flags in dockerd's manner: --name value, --name=value, -n value, -nvalue; a switch may be --name or
 * --name=false. (node:util's parseArgs knows no --switch=false, which dockerd's users write.)
 * @throws {EngineError} PARAMETER_INVALID naming the flag
 */
export function parseFlags(argv: readonly string[]): Values {
  const values: Values = {};
  const rest = [...argv];
  for (let word; (word = rest.shift()) !== undefined;) {
    const match = /^--([^=]+)(?:=(.*))?$/s.exec(word) ?? /^-(\w)=?(.+)?$/s.exec(word);
    if (match === null) throw invalid(`unexpected argument: ${word}`);
    const [, name, attached] = match;
    const option: Option | undefined = OPTIONS.find(
      (option: Option) => option.flag === name || (!word.startsWith('--') && option.short === name),
    );
    if (option === undefined)
      throw invalid(`unknown flag: ${word.replace(/=.*/s, '')} (longshore daemon --help lists what is honoured)`);
    const text = attached ?? (option.kind === 'flag' ? 'true' : rest.shift());
    if (text === undefined) throw invalid(`flag needs an argument: --${option.flag}`);
    addValue(values, option, text);
  }
  return values;
}

function addValue(values: Values, option: Option, text: string): void {
  const { flag, kind } = option;
  switch (kind) {
    case 'text':
      values[flag] = text;
      return;
    case 'flag':
      if (!/^(true|false|1|0|t|f)$/i.test(text))
        throw invalid(`invalid argument "${text}" for "--${flag}" flag: true or false is needed`);
      values[flag] = /^(true|1|t)$/i.test(text);
      return;
    case 'number':
      if (!/^\d+$/.test(text)) throw invalid(`invalid argument "${text}" for "--${flag}" flag: a number is needed`);
      values[flag] = Number(text);
      return;
    case 'integer':
      if (!/^-?\d+$/.test(text)) throw invalid(`invalid argument "${text}" for "--${flag}" flag: an integer is needed`);
      values[flag] = Number(text);
      return;
    case 'list':
      values[flag] = [...((values[flag] as string[] | undefined) ?? []), text];
      return;
    case 'maps': {
      const [, name, key, value] = /^([^=]+)=([^=]+)=(.*)$/s.exec(text) ?? [];
      if (name === undefined || key === undefined)
        throw invalid(`invalid argument "${text}" for "--${flag}" flag: name=key=value is needed`);
      const before = (values[flag] ?? {}) as Record<string, object>;
      values[flag] = { ...before, [name]: { ...before[name], [key]: value } };
      return;
    }
    case 'map': {
      const at = text.indexOf('=');
      if (at < 1) throw invalid(`invalid argument "${text}" for "--${flag}" flag: name=value is needed`);
      values[flag] = { ...(values[flag] as object | undefined), [text.slice(0, at)]: text.slice(at + 1) };
    }
  }
}

/** Checks daemon.json's content; keys that are not known are refused, as dockerd does. */
export function parseConfig(config: unknown, path: string): Values {
  if (typeof config !== 'object' || config === null || Array.isArray(config))
    throw invalid(`${path}: an object is needed`);
  const values: Values = {};
  const unknown: string[] = [];
  const read = (entries: object, section: string | undefined): void => {
    for (const [key, value] of Object.entries(entries)) {
      if (section === undefined && SECTIONS.has(key) && fits('map', value)) {
        read(value as object, key);
        continue;
      }
      const option: Option | undefined = OPTIONS.find(
        (option: Option) =>
          option.section === section && (option.key ?? option.flag) === key && !FLAGS_ONLY.has(option.flag),
      );
      const shown = section === undefined ? key : `${section}.${key}`;
      if (option === undefined) unknown.push(shown);
      else if (!fits(option.kind, value))
        throw invalid(`${path}: "${shown}" must be a ${option.kind === 'flag' ? 'boolean' : option.kind}`);
      else values[option.flag] = value;
    }
  };
  read(config, undefined);
  if (unknown.length > 0)
    throw invalid(`the following directives don't match any configuration option: ${unknown.join(', ')} (in ${path})`);
  return values;
}

function fits(kind: OptionKind, value: unknown): boolean {
  switch (kind) {
    case 'text':
      return typeof value === 'string';
    case 'flag':
      return typeof value === 'boolean';
    case 'number':
      return Number.isSafeInteger(value) && (value as number) >= 0;
    case 'integer':
      return Number.isSafeInteger(value);
    case 'list':
      return Array.isArray(value);
    case 'map':
    case 'maps':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
  }
}

/** The text of `longshore daemon --help`. */
export function optionsHelp(): string {
  const lines: string[] = [];
  for (const group of ['Where', 'Access', 'Running containers', 'Network', 'Images', 'Logs'] as const) {
    lines.push('', `${group}:`);
    for (const option of OPTIONS as readonly Option[]) {
      if (option.group !== group) continue;
      const value = option.kind === 'flag' ? '' : ` ${option.kind}`;
      const name = `  ${option.short === undefined ? '   ' : `-${option.short},`} --${option.flag}${value}`;
      const shown =
        typeof option.fallback === 'string' || typeof option.fallback === 'number' || option.fallback === true
          ? String(option.fallback)
          : '';
      const fallback = shown === '' ? '' : ` (default ${shown})`;
      lines.push(`${name.padEnd(38)}${option.help}${fallback}`);
    }
  }
  return lines.join('\n');
}
