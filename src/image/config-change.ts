/**
 * `--change` of docker import and commit: Dockerfile instructions that alter an image's config.
 * Source: moby v28 builder/dockerfile (BuildFromConfig, dispatchers.go) and Dockerfile reference.
 */
import { posix } from 'node:path';

import type { HealthcheckSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import { parseSignal } from '../core/signal.ts';

import type { ImageConfig } from './port.ts';
import { expand, splitWords, unquote } from './shell-word.ts';

const DURATION_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };
const START_INTERVAL_NS_MIN = 1e6;
const DEFAULT_SHELL = ['/bin/sh', '-c'];

/** @throws PARAMETER_INVALID with moby's words where there are some */
export function applyChanges(config: ImageConfig, changes: readonly string[]): ImageConfig {
  let result = config;
  let hasCmd = false; // an ENTRYPOINT forgets the CMD, unless these changes gave one
  for (const line of changes.flatMap(joinedLines)) {
    const match = /^(\S+)(?:\s+(.*))?$/s.exec(line)!;
    const word = match[1]!;
    const rest = (match[2] ?? '').trim();
    result = applyOne(result, word, rest, hasCmd);
    hasCmd ||= word.toUpperCase() === 'CMD';
  }
  return result;
}

function applyOne(config: ImageConfig, word: string, rest: string, hasCmd: boolean): ImageConfig {
  const instruction = word.toUpperCase();
  const needed = (): string => {
    if (rest === '') throw invalid(`${instruction} requires at least one argument`);
    return rest;
  };
  const expanded = (): string => unquote(expand(needed(), lookupIn(config)));
  switch (instruction) {
    case 'CMD':
      return { ...config, cmd: command(config, rest) };
    case 'ENTRYPOINT':
      return { ...config, entrypoint: command(config, rest), cmd: hasCmd ? config.cmd : null };
    case 'ENV':
      return { ...config, env: mergeEnv(config.env, pairs('ENV', needed(), lookupIn(config))) };
    case 'LABEL':
      return {
        ...config,
        labels: { ...config.labels, ...Object.fromEntries(pairs('LABEL', needed(), lookupIn(config))) },
      };
    case 'EXPOSE':
      return {
        ...config,
        exposedPorts: union(config.exposedPorts, words(needed(), config).flatMap(parsePorts).toSorted()),
      };
    case 'USER':
      return { ...config, user: expanded() };
    case 'VOLUME':
      return { ...config, volumes: union(config.volumes, parseVolumes(needed(), config)) };
    case 'WORKDIR': {
      const path = expanded();
      return {
        ...config,
        workingDir: posix.isAbsolute(path) ? posix.normalize(path) : posix.join('/', config.workingDir, path),
      };
    }
    case 'STOPSIGNAL': {
      const signal = expanded();
      parseSignal(signal);
      return { ...config, stopSignal: signal };
    }
    case 'ONBUILD':
      return { ...config, onBuild: [...(config.onBuild ?? []), parseOnBuild(needed())] };
    case 'HEALTHCHECK':
      return { ...config, healthcheck: parseHealthcheck(needed()) };
    default:
      throw invalid(`${word} is not a valid change command`);
  }
}

/** A change may itself be several lines, some continued. */
function joinedLines(change: string): string[] {
  return change
    .replace(/\\[ \t]*\r?\n/g, '')
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

/** The exec form is JSON; whatever is none is for the shell. */
function command(config: ImageConfig, rest: string): string[] {
  const exec = jsonWords(rest);
  if (exec !== null) return exec;
  return rest === '' ? [] : [...(config.shell ?? DEFAULT_SHELL), rest];
}

function jsonWords(rest: string): string[] | null {
  if (!rest.startsWith('[')) return null;
  try {
    const value: unknown = JSON.parse(rest);
    return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : null;
  } catch {
    return null;
  }
}

function words(rest: string, config: ImageConfig): string[] {
  return splitWords(rest).map((word) => unquote(expand(word, lookupIn(config))));
}

function parseVolumes(rest: string, config: ImageConfig): string[] {
  const paths = jsonWords(rest)?.map((path) => expand(path, lookupIn(config))) ?? words(rest, config);
  if (paths.some((path) => path.trim() === '')) throw invalid('VOLUME specified can not be an empty string');
  return paths;
}

/** "K=V K2='a b'", or the old "K the rest". */
function pairs(instruction: string, rest: string, lookup: (name: string) => string | null): [string, string][] {
  const parts = splitWords(rest);
  if (!parts[0]!.includes('=')) {
    const match = /^(\S+)\s+(.*)$/s.exec(rest);
    if (match === null) throw invalid(`${instruction} must have two arguments`);
    return [[match[1]!, unquote(expand(match[2]!, lookup))]];
  }
  return parts.map((part) => {
    const equals = part.indexOf('=');
    if (equals === -1)
      throw invalid(`Syntax error - can't find = in ${JSON.stringify(part)}. Must be of the form: name=value`);
    const name = unquote(expand(part.slice(0, equals), lookup));
    if (name === '') throw invalid(`${instruction} names can not be blank`);
    return [name, unquote(expand(part.slice(equals + 1), lookup))];
  });
}

function mergeEnv(env: readonly string[] | null, added: readonly [string, string][]): string[] {
  const merged = [...(env ?? [])];
  for (const [name, value] of added) {
    const at = merged.findIndex((line) => line.split('=', 1)[0] === name);
    if (at === -1) merged.push(`${name}=${value}`);
    else merged[at] = `${name}=${value}`;
  }
  return merged;
}

/** "80", "80/udp", "8000-8002/tcp". Source: docker/go-connections nat.ParsePortSpec. */
function parsePorts(spec: string): string[] {
  const match = /^(\d+)(?:-(\d+))?(?:\/(tcp|udp|sctp))?$/i.exec(spec);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (match === null || first > 65535 || last > 65535 || last < first) throw invalid(`Invalid containerPort: ${spec}`);
  const protocol = (match[3] ?? 'tcp').toLowerCase();
  return Array.from({ length: last - first + 1 }, (_, i) => `${first + i}/${protocol}`);
}

function parseOnBuild(rest: string): string {
  const trigger = rest.split(/\s/, 1)[0]!.toUpperCase();
  if (trigger === 'ONBUILD') throw invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (trigger === 'MAINTAINER' || trigger === 'FROM') throw invalid(`${trigger} isn't allowed as an ONBUILD trigger`);
  return rest;
}

function parseHealthcheck(rest: string): HealthcheckSpec {
  const spec = {
    test: null as string[] | null,
    intervalNs: 0,
    timeoutNs: 0,
    startPeriodNs: 0,
    startIntervalNs: 0,
    retries: 0,
  };
  let left = rest;
  for (let flag; (flag = /^--([a-z-]+)(?:=(\S*))?\s*/.exec(left)) !== null; left = left.slice(flag[0].length)) {
    const [, name = '', value = ''] = flag;
    if (name === 'interval') spec.intervalNs = duration(name, value);
    else if (name === 'timeout') spec.timeoutNs = duration(name, value);
    else if (name === 'start-period') spec.startPeriodNs = duration(name, value);
    else if (name === 'start-interval') spec.startIntervalNs = duration(name, value);
    else if (name === 'retries') spec.retries = retries(value);
    else throw invalid(`unknown flag: --${name}`);
  }
  const match = /^(\S+)(?:\s+(.*))?$/s.exec(left);
  const type = match?.[1]?.toUpperCase() ?? '';
  const argument = match?.[2] ?? '';
  if (type === 'NONE') {
    if (argument !== '') throw invalid('HEALTHCHECK NONE takes no arguments');
    return { ...spec, test: ['NONE'] };
  }
  if (type !== 'CMD') throw invalid(`Unknown type "${type}" in HEALTHCHECK (try CMD)`);
  const exec = jsonWords(argument);
  if (argument === '' || exec?.length === 0) throw invalid('Missing command after HEALTHCHECK CMD');
  return { ...spec, test: exec === null ? ['CMD-SHELL', argument] : ['CMD', ...exec] };
}

/** Go's time.ParseDuration, positive ones. */
function duration(flag: string, text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)/g)];
  if (text === '0') return 0;
  if (text === '' || parts.map((part) => part[0]).join('') !== text)
    throw invalid(`time: invalid duration ${JSON.stringify(text)}`);
  const ns = Math.round(parts.reduce((sum, part) => sum + Number(part[1]) * DURATION_NS[part[2]!]!, 0));
  if (ns !== 0 && ns < START_INTERVAL_NS_MIN) throw invalid(`Interval "${flag}" cannot be less than 1ms`);
  return ns;
}

function retries(text: string): number {
  if (!/^-?\d{1,9}$/.test(text)) throw invalid(`--retries must be a number (${JSON.stringify(text)})`);
  if (Number(text) < 0) throw invalid(`--retries cannot be negative (${Number(text)})`);
  return Number(text);
}

function union(known: readonly string[] | null, added: readonly string[]): string[] {
  return [...new Set([...(known ?? []), ...added])];
}

function lookupIn(config: ImageConfig): (name: string) => string | null {
  return (name) => {
    const line = config.env?.findLast((variable) => variable.startsWith(`${name}=`));
    return line === undefined ? null : line.slice(name.length + 1);
  };
}

function invalid(message: string): EngineError {
  return new EngineError('PARAMETER_INVALID', message);
}
