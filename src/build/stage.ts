/** One FROM … of a build while it is worked on, and the pure part of its instructions: what each makes of the config. */
import { posix } from 'node:path';

import type { HealthcheckSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import { goDuration } from '../core/go-duration.ts';
import { parseSignal } from '../core/signal.ts';
import type { Digest, ImageConfig, Platform } from '../image/port.ts';
import type { StepCache } from './cache.ts';
import { expandWord, expandWords, parsePairs, type Variables } from './dockerfile/expand.ts';
import { parseError, parseJsonForm, type Instruction } from './dockerfile/parse.ts';

export interface Stage {
  /** From 0. */
  readonly index: number;
  /** AS name, lower case; "" for none. */
  readonly name: string;
  /** "" while it is FROM scratch without a step. */
  imageId: Digest;
  config: ImageConfig;
  author: string;
  /** null once a step was not in it: all that follow are made anew. */
  cache: StepCache | null;
  /** Asked for by --platform, of FROM or of the build; null: what there is. */
  readonly platform: Platform | null;
  /** Values of ARG in this stage, by name; null: declared without a value. */
  readonly args: Map<string, string | null>;
  /** A CMD of this stage: an ENTRYPOINT that follows keeps it. */
  ownCmd: boolean;
}

export const DEFAULT_SHELL: readonly string[] = ['/bin/sh', '-c'];

/** ARGs that need no declaration. Source: Dockerfile reference, "Predefined ARGs". */
export const PREDEFINED: ReadonlySet<string> = new Set([
  'HTTP_PROXY',
  'http_proxy',
  'HTTPS_PROXY',
  'https_proxy',
  'FTP_PROXY',
  'ftp_proxy',
  'NO_PROXY',
  'no_proxy',
  'ALL_PROXY',
  'all_proxy',
]);

/** What $NAME stands for in this stage: the environment wins over build arguments. */
export function variables(stage: Stage): Variables {
  const all = new Map<string, string>();
  for (const [name, value] of stage.args) if (value !== null) all.set(name, value);
  for (const entry of stage.config.env ?? []) {
    const at = entry.indexOf('=');
    all.set(entry.slice(0, at), entry.slice(at + 1));
  }
  return all;
}

/** Build arguments as a RUN sees them: the declared and the predefined, unless ENV has the name. "NAME=value", sorted. */
export function runArguments(stage: Stage, given: Readonly<Record<string, string | null>>): string[] {
  const inEnvironment = new Set((stage.config.env ?? []).map((entry) => entry.split('=', 1)[0]));
  const all = new Map(stage.args);
  for (const [name, value] of Object.entries(given)) if (PREDEFINED.has(name) && !all.has(name)) all.set(name, value);
  return [...all]
    .filter(([name, value]) => value !== null && !inEnvironment.has(name))
    .map(([name, value]) => `${name}=${value}`)
    .toSorted();
}

/** In the cache key (and the image's history) the predefined ones, such as proxies, do not count. */
export function keyArguments(stage: Stage, given: Readonly<Record<string, string | null>>): string[] {
  return runArguments(stage, given).filter((entry) => {
    const name = entry.split('=', 1)[0]!;
    return stage.args.has(name) || !PREDEFINED.has(name);
  });
}

/** Instructions that only change the config. `comment` goes into the history: "CMD [\"sh\"]". */
export interface ConfigStep {
  readonly config: ImageConfig;
  readonly comment: string;
}

export function configStep(stage: Stage, instruction: Instruction, escape: string): ConfigStep {
  const { config } = stage;
  const known = variables(stage);
  const word = (text: string): string => expandWord(text, known, escape);
  const words = (): readonly string[] =>
    instruction.json === null
      ? expandWords(instruction.rest, known, escape)
      : instruction.json.map((text) => expandWord(text, known, escape));
  switch (instruction.name) {
    case 'ENV': {
      const pairs = parsePairs(instruction.rest, 'ENV', escape).map(
        ([name, value]) => [word(name), word(value)] as const,
      );
      return {
        config: { ...config, env: setEnv(config.env, pairs) },
        comment: `ENV ${pairs.map(([name, value]) => `${name}=${value}`).join(' ')}`,
      };
    }
    case 'LABEL': {
      const pairs = parsePairs(instruction.rest, 'LABEL', escape).map(
        ([name, value]) => [word(name), word(value)] as const,
      );
      return {
        config: { ...config, labels: { ...config.labels, ...Object.fromEntries(pairs) } },
        comment: `LABEL ${pairs.map(([name, value]) => `${name}=${value}`).join(' ')}`,
      };
    }
    case 'WORKDIR': {
      const asked = word(instruction.rest);
      const path = asked.startsWith('/') ? asked : posix.resolve('/', config.workingDir, asked);
      return { config: { ...config, workingDir: path }, comment: `WORKDIR ${path}` };
    }
    case 'USER': {
      const user = word(instruction.rest);
      return { config: { ...config, user }, comment: `USER ${user}` };
    }
    case 'EXPOSE': {
      const ports = words()
        .flatMap((text) => text.split(/\s+/).filter((part) => part !== ''))
        .flatMap((text) => exposedPorts(text))
        .toSorted();
      return {
        config: { ...config, exposedPorts: [...new Set([...(config.exposedPorts ?? []), ...ports])] },
        comment: `EXPOSE ${ports.map((port) => port.replace(/\/tcp$/, '')).join(' ')}`,
      };
    }
    case 'VOLUME': {
      const paths = words();
      if (paths.some((path) => path.trim() === ''))
        throw new EngineError('BODY_INVALID', 'VOLUME specified can not be an empty string');
      return {
        config: { ...config, volumes: [...new Set([...(config.volumes ?? []), ...paths])] },
        comment: `VOLUME [${paths.join(' ')}]`,
      };
    }
    case 'STOPSIGNAL': {
      const signal = word(instruction.rest);
      parseSignal(signal);
      return { config: { ...config, stopSignal: signal }, comment: `STOPSIGNAL ${signal}` };
    }
    case 'CMD': {
      const cmd = commandLine(instruction, config);
      return { config: { ...config, cmd }, comment: `CMD ${goWords(cmd)}` };
    }
    case 'ENTRYPOINT': {
      const entrypoint = commandLine(instruction, config);
      return {
        config: { ...config, entrypoint, cmd: stage.ownCmd ? config.cmd : null },
        comment: `ENTRYPOINT ${goWords(entrypoint)}`,
      };
    }
    case 'SHELL':
      return { config: { ...config, shell: instruction.json }, comment: `SHELL [${instruction.json!.join(' ')}]` };
    case 'MAINTAINER':
      return { config, comment: `MAINTAINER ${instruction.rest}` };
    case 'HEALTHCHECK':
      return healthcheck(config, instruction);
    case 'ONBUILD':
      return onBuild(config, instruction);
    default:
      throw new Error(`not an instruction that changes the config only: ${instruction.name}`);
  }
}

function setEnv(env: readonly string[] | null, pairs: readonly (readonly [string, string])[]): string[] {
  const all = [...(env ?? [])];
  for (const [name, value] of pairs) {
    const at = all.findIndex((entry) => entry.startsWith(`${name}=`));
    all.splice(at === -1 ? all.length : at, 1, `${name}=${value}`);
  }
  return all;
}

function exposedPorts(text: string): string[] {
  const [ports = '', protocol = 'tcp', ...more] = text.split('/');
  if (more.length > 0 || !['tcp', 'udp', 'sctp'].includes(protocol.toLowerCase()))
    throw new EngineError('BODY_INVALID', `invalid proto: ${[protocol, ...more].join('/')}`);
  const match = /^(\d+)(?:-(\d+))?$/.exec(ports);
  const [first, last] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])];
  if (match === null || first < 1 || last > 65535 || first > last)
    throw new EngineError('BODY_INVALID', `invalid containerPort: ${ports}`);
  return Array.from({ length: last - first + 1 }, (_, n) => `${first + n}/${protocol.toLowerCase()}`);
}

/** A step that runs nothing, as the history has it; moby puts two spaces in front of most. */
export function commentLine(config: ImageConfig, comment: string, spaces: ' ' | '  '): readonly string[] {
  const words = spaces === ' ' ? [`#(nop) ${comment}`] : ['#(nop) ', comment];
  return [...(config.shell ?? DEFAULT_SHELL), ...words];
}

/** What RUN executes: a here-document is the script itself, or the standard input of the command before it. */
export function runCommand(instruction: Instruction, config: ImageConfig): readonly string[] {
  const [heredoc] = instruction.heredocs;
  if (heredoc === undefined) return commandLine(instruction, config);
  const script = /^<<-?\s*["']?[\w.]+["']?$/.test(instruction.rest.trim())
    ? heredoc.content
    : `${instruction.rest}\n${instruction.heredocs.map(({ content, name }) => `${content}${name}`).join('\n')}`;
  return commandLine({ ...instruction, rest: script }, config);
}

/** The JSON form as it is; the shell form behind the shell. */
export function commandLine(instruction: Instruction, config: ImageConfig): readonly string[] {
  if (instruction.json !== null) return instruction.json;
  return instruction.rest === '' ? [] : [...(config.shell ?? DEFAULT_SHELL), instruction.rest];
}

export function healthcheck(config: ImageConfig, instruction: Instruction): ConfigStep {
  const [kind = ''] = instruction.rest.split(/\s/, 1);
  const rest = instruction.rest.slice(kind.length).trim();
  const flag = (name: string): string => instruction.flags.find((flag) => flag.name === name)?.value ?? '';
  let test: readonly string[];
  switch (kind.toUpperCase()) {
    case 'NONE':
      if (rest !== '') throw parseError(instruction.line, 'HEALTHCHECK NONE takes no arguments');
      test = ['NONE'];
      break;
    case 'CMD': {
      if (rest === '') throw parseError(instruction.line, 'Missing command after HEALTHCHECK CMD');
      const json = parseJsonForm(rest);
      test = json === null ? ['CMD-SHELL', rest] : ['CMD', ...json];
      break;
    }
    default:
      throw parseError(instruction.line, `Unknown type ${JSON.stringify(kind.toUpperCase())} in HEALTHCHECK (try CMD)`);
  }
  const retries = flag('retries');
  if (retries !== '' && !/^[+-]?\d+$/.test(retries))
    throw parseError(instruction.line, `strconv.ParseInt: parsing ${JSON.stringify(retries)}: invalid syntax`);
  if (Number(retries) < 0) throw parseError(instruction.line, `--retries cannot be negative (${retries})`);
  const duration = (name: string): number => durationNs(flag(name), name, instruction.line);
  const healthcheck = {
    test,
    intervalNs: duration('interval'),
    timeoutNs: duration('timeout'),
    startPeriodNs: duration('start-period'),
    startIntervalNs: duration('start-interval'),
    retries: Number(retries || 0),
  };
  return { config: { ...config, healthcheck }, comment: `HEALTHCHECK ${goHealthcheck(healthcheck)}` };
}

/** Go's %q of a list of words. */
function goWords(words: readonly string[]): string {
  return `[${words.map((word) => JSON.stringify(word)).join(' ')}]`;
}

/** Go's %q of moby's HealthConfig, where a number is the character that it stands for. */
function goHealthcheck(spec: HealthcheckSpec): string {
  const { intervalNs, timeoutNs, startPeriodNs, startIntervalNs } = spec;
  const times = [intervalNs, timeoutNs, startPeriodNs, startIntervalNs].map((ns) => `"${goDuration(ns / 1e6)}"`);
  return `&{${goWords(spec.test ?? [])} ${times.join(' ')} ${goCharacter(spec.retries)}}`;
}

const GO_ESCAPES: Readonly<Record<number, string>> = {
  7: '\\a',
  8: '\\b',
  9: '\\t',
  10: '\\n',
  11: '\\v',
  12: '\\f',
  13: '\\r',
  39: "\\'",
  92: '\\\\',
};

/** ASCII alone: nobody retries more often. */
function goCharacter(code: number): string {
  const plain = code >= 0x20 && code < 0x7f ? String.fromCharCode(code) : `\\x${code.toString(16).padStart(2, '0')}`;
  return `'${GO_ESCAPES[code] ?? plain}'`;
}

const UNIT_NS = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 } as const;

/** Go's time.ParseDuration: "1m30s"; "" is 0. */
function durationNs(text: string, name: string, line: number): number {
  if (text === '' || text === '0') return 0;
  if (!/^(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+$/.test(text))
    throw parseError(line, `time: invalid duration ${JSON.stringify(text)}`);
  let sum = 0;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)/g))
    sum += Number(number) * UNIT_NS[unit as keyof typeof UNIT_NS];
  if (sum > 0 && sum < 1e6) throw parseError(line, `Interval ${JSON.stringify(name)} cannot be less than 1ms`);
  return Math.round(sum);
}

export function onBuild(config: ImageConfig, instruction: Instruction): ConfigStep {
  const trigger = instruction.rest.split(/\s/, 1)[0]!.toUpperCase();
  if (trigger === 'ONBUILD') throw parseError(instruction.line, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (['MAINTAINER', 'FROM'].includes(trigger))
    throw parseError(instruction.line, `${trigger} isn't allowed as an ONBUILD trigger`);
  return {
    config: { ...config, onBuild: [...(config.onBuild ?? []), instruction.rest] },
    comment: `ONBUILD ${instruction.rest}`,
  };
}
