/** Which stages there are, which of them the target needs, and the ARGs before the first FROM. Pure. */
import { EngineError } from '../core/engine-error.ts';
import { expandWords } from './dockerfile/expand.ts';
import { parseError, type Dockerfile, type Instruction } from './dockerfile/parse.ts';
import type { BuildRequest } from './port.ts';

export interface PlannedStage {
  readonly index: number;
  readonly name: string;
  /** As written after FROM, variables and all. */
  readonly base: string;
  /** --platform as written; null for none. */
  readonly platform: string | null;
  readonly from: Instruction;
  readonly instructions: readonly Instruction[];
}

export interface Plan {
  /** In order, up to and with the target: the classic builder makes them all. */
  readonly stages: readonly PlannedStage[];
  readonly globals: { readonly values: ReadonlyMap<string, string>; readonly count: number };
}

export function planStages(
  { instructions, escape }: Dockerfile,
  request: Pick<BuildRequest, 'target' | 'buildArgs'>,
): Plan {
  const values = new Map<string, string>();
  let count = 0;
  const stages: (PlannedStage & { instructions: Instruction[] })[] = [];
  for (const instruction of instructions) {
    if (instruction.name === 'FROM') stages.push(stageOf(instruction, stages.length));
    else if (stages.length > 0) stages.at(-1)!.instructions.push(instruction);
    else if (instruction.name === 'ARG') {
      count++;
      for (const text of expandWords(instruction.rest, values, escape)) {
        const [, name = '', fallback] = /^([^=]*)(?:=([\s\S]*))?$/.exec(text)!;
        const value = request.buildArgs[name] ?? fallback;
        if (value !== undefined) values.set(name, value);
      }
    } else throw new EngineError('BODY_INVALID', 'no build stage in current context');
  }
  if (stages.length === 0) throw new EngineError('BODY_INVALID', 'no build stage in current context');
  const target = targetIndex(stages, request.target);
  return { stages: stages.slice(0, target + 1), globals: { values, count } };
}

function stageOf(from: Instruction, index: number): PlannedStage & { instructions: Instruction[] } {
  const match = /^(\S+)(?:\s+as\s+(\S+))?$/i.exec(from.rest.trim());
  if (match === null) throw parseError(from.line, 'FROM requires either one or three arguments');
  const name = (match[2] ?? '').toLowerCase();
  if (name !== '' && !/^[a-z][a-z0-9-_.]*$/.test(name))
    throw parseError(
      from.line,
      `invalid name for build stage: ${JSON.stringify(match[2])}, name can't start with a number or contain symbols`,
    );
  const platform = from.flags.find((flag) => flag.name === 'platform')?.value ?? null;
  return { index, name, base: match[1]!, platform, from, instructions: [] };
}

function targetIndex(stages: readonly PlannedStage[], target: string): number {
  if (target === '') return stages.length - 1;
  const found = stages.findIndex(({ name, index }) => name === target.toLowerCase() || String(index) === target);
  if (found === -1) throw new EngineError('BODY_INVALID', `target stage ${JSON.stringify(target)} could not be found`);
  return found;
}
