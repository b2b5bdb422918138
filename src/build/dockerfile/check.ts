/**
 * What is wrong with an instruction whatever its variables hold. The whole Dockerfile is looked at before the first step,
 * so that nothing was printed yet. Pure. Source: moby/buildkit frontend/dockerfile/instructions (0.20).
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
  const { name, flags, line, rest, json } = instruction;
  const unknown = flags.find((flag) => FLAGS[name]?.includes(flag.name) !== true);
  if (unknown !== undefined) throw parseError(line, `unknown flag: --${unknown.name}`);
  switch (name) {
    case 'ENV':
    case 'LABEL':
      parsePairs(rest, line, name);
      break;
    case 'ADD':
    case 'COPY':
      if ((json ?? rest.trim().split(/\s+/)).length < 2)
        throw parseError(
          line,
          `${name} requires at least two arguments, but only one was provided. Destination could not be determined.`,
        );
      break;
    case 'SHELL':
      if (json === null || json.length === 0) throw parseError(line, 'SHELL requires the arguments to be in JSON form');
      break;
    case 'HEALTHCHECK':
      healthcheck(EMPTY_CONFIG, instruction);
      break;
    case 'ONBUILD':
      onBuild(EMPTY_CONFIG, instruction);
      break;
  }
}
