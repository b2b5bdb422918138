/**
 * What is wrong with an instruction whatever its variables hold. The whole Dockerfile is looked at before the first step,
 * so that nothing was printed yet. Pure. Source: moby/buildkit frontend/dockerfile/instructions.
 */
import { EMPTY_CONFIG } from '../../image/image-config.ts';
import { healthcheck, onBuild } from '../stage.ts';
import { parsePairs } from './expand.ts';
import { parseError, type Instruction } from './parse.ts';

const FLAGS: Readonly<Record<string, readonly string[]>> = {
  ADD: ['chown', 'chmod', 'link', 'keep-git-dir', 'checksum'],
  COPY: ['from', 'chown', 'chmod', 'link'],
  FROM: ['platform'],
  HEALTHCHECK: ['interval', 'timeout', 'start-period', 'start-interval', 'retries'],
  RUN: ['mount', 'network', 'security'],
};

/** @throws {EngineError} BODY_INVALID with the line */
export function checkInstruction(instruction: Instruction): void {
  const { name, flags, line } = instruction;
  const unknown = flags.find((flag) => FLAGS[name]?.includes(flag.name) !== true);
  const complaint = unknown === undefined ? argumentComplaint(instruction) : `unknown flag: --${unknown.name}`;
  if (complaint !== null) throw parseError(line, complaint);
  if (name === 'HEALTHCHECK') healthcheck(EMPTY_CONFIG, instruction);
  if (name === 'ONBUILD') onBuild(EMPTY_CONFIG, instruction);
}

function argumentComplaint({ name, rest, json }: Instruction): string | null {
  const isEmpty = rest === '' || json?.length === 0;
  switch (name) {
    case 'ADD':
    case 'COPY':
      return (json ?? rest.trim().split(/\s+/)).length >= 2
        ? null
        : `${name} requires at least two arguments, but only one was provided. Destination could not be determined`;
    case 'FROM':
      return isEmpty ? 'FROM requires either one or three arguments' : null;
    case 'MAINTAINER':
    case 'STOPSIGNAL':
    case 'USER':
    case 'WORKDIR':
      return isEmpty ? `${name} requires exactly one argument` : null;
    case 'CMD':
    case 'ENTRYPOINT':
      return null;
    case 'RUN':
      return rest === '' ? 'RUN requires at least one argument' : null;
    default:
      return isEmpty ? `${name} requires at least one argument` : blankComplaint(name, rest, json);
  }
}

function blankComplaint(name: string, rest: string, json: readonly string[] | null): string | null {
  switch (name) {
    case 'ARG':
      return /(?:^|\s)=/.test(rest) ? 'ARG names can not be blank' : null;
    case 'ENV':
    case 'LABEL':
      return parsePairs(rest, name).some(([key]) => key === '') ? `${name} names can not be blank` : null;
    case 'SHELL':
      return json === null ? 'SHELL requires the arguments to be in JSON form' : null;
    case 'VOLUME':
      return json?.some((path) => path.trim() === '') === true ? 'VOLUME specified can not be an empty string' : null;
    default:
      return null;
  }
}
