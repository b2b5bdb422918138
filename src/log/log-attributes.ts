/**
 * What of a container goes along with its lines: labels and variables that were asked for, the tag.
 * Source: moby daemon/logger/loginfo.go, loggerutils/log_tag.go (v28).
 */
import { compileGoRegExp, type GoRegExp } from './go-regexp.ts';
import { checkTag, expandTag } from './log-tag.ts';
import { AT_START, type Options } from './option-values.ts';

/** What attributes are taken from. */
export interface LogSubject {
  readonly containerId: string;
  /** Without the slash. */
  readonly containerName: string;
  readonly imageId: string;
  readonly imageName: string;
  /** RFC 3339 */
  readonly createdAt: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly env: readonly string[];
  /** entrypoint and cmd */
  readonly command: readonly string[];
}

/** Which labels and variables of the container become attributes of its lines. */
export interface AttributeSelection {
  readonly labels: readonly string[];
  readonly labelsRegex: GoRegExp | null;
  readonly env: readonly string[];
  readonly envRegex: GoRegExp | null;
  /** A Go template; "": none. */
  readonly tag: string;
}

export const NO_SELECTION: AttributeSelection = { labels: [], labelsRegex: null, env: [], envRegex: null, tag: '' };

/** @throws {EngineError} LOG_OPTION_INVALID */
export function selectionOf(options: Options): AttributeSelection {
  const list = (text = ''): string[] => (text === '' ? [] : text.split(','));
  const regex = (name: string): GoRegExp | null => {
    const text = options[name] ?? '';
    return text === '' ? null : compileGoRegExp(text, AT_START);
  };
  const tag = options['tag'] ?? '';
  if (tag !== '') checkTag(tag);
  return {
    labels: list(options['labels']),
    labelsRegex: regex('labels-regex'),
    env: list(options['env']),
    envRegex: regex('env-regex'),
    tag,
  };
}

/** Source: moby daemon/logger/loginfo.go ExtraAttributes. */
export function logAttributes(selection: AttributeSelection, subject: LogSubject): Record<string, string> {
  const variables = new Map(
    subject.env
      .filter((entry) => entry.includes('='))
      .map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
  );
  const attributes: Record<string, string> = {};
  const labels = new Map(Object.entries(subject.labels));
  pick(attributes, labels, selection.labels, selection.labelsRegex);
  pick(attributes, variables, selection.env, selection.envRegex);
  const tag = selection.tag === '' ? '' : expandTag(selection.tag, subject, attributes);
  if (tag !== '') attributes['tag'] = tag;
  return attributes;
}

function pick(
  into: Record<string, string>,
  from: ReadonlyMap<string, string>,
  names: readonly string[],
  regex: GoRegExp | null,
): void {
  for (const name of names) {
    const value = from.get(name);
    if (value !== undefined) into[name] = value;
  }
  if (regex !== null) for (const [name, value] of from) if (regex.test(name)) into[name] = value;
}
