/** `longshore doctor`: what is wrong with an engine's records and what it left on the host; `--repair` puts it right. */
import { EngineError, messageOf } from '../core/engine-error.ts';
import { silent } from '../core/log.ts';
import { nativeProgram } from '../daemon/native-program.ts';
import { openKernel } from '../kernel/kernel.ts';
import { detectRuntimes } from '../runtime/detect.ts';
import { openRuntime } from '../runtime/oci-runtime.ts';
import { dropSetAside } from '../store/set-aside.ts';
import { examine, type Diagnosis, type Tools, type Where } from './doctor/examine.ts';
import type { Problem } from './doctor/problem.ts';
import { databasePath } from './doctor/records.ts';

const HELP = `Usage: longshore doctor [OPTIONS]

Compares an engine's records with the host: records that could not be read and were set aside; processes, mounts, network
namespaces, interfaces, published ports, cgroups and directories that no container has; images whose files are not what
they should be. Works with the daemon up or down, and changes nothing unless told to. What other engines on this host made
is not looked at.

      --data-root PATH      As the daemon's (default /var/lib/longshore)
      --exec-root PATH      As the daemon's (default /run/longshore)
      --cgroup-parent PATH  As the daemon's, where it was given
      --repair              Remove what no container has. The daemon must be down: containers run on without it
      --forget-set-aside    With --repair: also records that were set aside, and what is left of their containers
      --skip-images         Do not read through all images
      --json                As JSON

Exit status: 0 all is well (or was repaired), 1 something is wrong.
`;

interface Asked extends Where {
  readonly repair: boolean;
  readonly json: boolean;
  readonly help: boolean;
}

/** A problem, and what became of it. */
type Outcome = Omit<Problem, 'repair'> & {
  readonly repair: string | null;
  readonly repaired: boolean;
  readonly error: string | null;
};

export async function doctorCommand(argv: readonly string[]): Promise<number> {
  const asked = parse(argv);
  if (asked.help) {
    process.stdout.write(HELP);
    return 0;
  }
  await using kernel = await openKernel();
  const tools: Tools = {
    kernel,
    releaseRun: async (id) => {
      const { runtimes } = await detectRuntimes();
      const shimPath = nativeProgram('shim');
      const options = { execRoot: asked.execRoot, kernel, shimPath, execHelperPath: null, runtimes, logger: silent };
      const runtime = await openRuntime(options);
      await runtime.release(id);
    },
    dropSetAside: async (collection, key) => dropSetAside(databasePath(asked.dataRoot), collection, key),
  };
  const diagnosis = await examine(asked, tools);
  if (asked.repair && diagnosis.daemonPid !== null) {
    throw new EngineError(
      'CONTAINER_SPEC_CONFLICT',
      `the daemon runs (process ${diagnosis.daemonPid}): what looks left over may be in the making. Stop it first; containers run on`,
    );
  }
  const outcomes = asked.repair
    ? await repairAll(diagnosis.problems)
    : diagnosis.problems.map((problem) => outcomeOf(problem, false, null));
  process.stdout.write(asked.json ? formatJson(diagnosis, outcomes) : formatText(diagnosis, outcomes, asked));
  return outcomes.every(({ repaired }) => repaired) ? 0 : 1;
}

async function repairAll(problems: readonly Problem[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const problem of problems.toSorted((a, b) => (a.repair?.order ?? 0) - (b.repair?.order ?? 0))) {
    try {
      await problem.repair?.run();
      outcomes.push(outcomeOf(problem, problem.repair !== null, null));
    } catch (error) {
      outcomes.push(outcomeOf(problem, false, messageOf(error)));
    }
  }
  return outcomes;
}

function outcomeOf({ repair, ...problem }: Problem, repaired: boolean, error: string | null): Outcome {
  return { ...problem, repair: repair?.does ?? null, repaired, error };
}

function formatText({ daemonPid }: Diagnosis, outcomes: readonly Outcome[], { dataRoot, repair }: Asked): string {
  const lines = [`Engine in ${dataRoot}, daemon ${daemonPid === null ? 'down' : `up (process ${daemonPid})`}.`];
  for (const outcome of outcomes) {
    lines.push(`${outcome.repaired ? 'repaired' : 'problem '}  ${outcome.check.padEnd(9)}  ${outcome.text}`);
    if (outcome.error !== null) lines.push(`                     the repair failed: ${outcome.error}`);
  }
  const left = outcomes.filter(({ repaired }) => !repaired).length;
  const repairable = repair ? 0 : outcomes.filter(({ repair: does }) => does !== null).length;
  lines.push(
    left === 0
      ? 'All is well.'
      : `${left} problem${left === 1 ? '' : 's'}${repairable > 0 ? `; --repair removes ${repairable} of them (with the daemon down)` : ''}.`,
  );
  return `${lines.join('\n')}\n`;
}

function formatJson({ daemonPid }: Diagnosis, outcomes: readonly Outcome[]): string {
  return `${JSON.stringify({ daemonPid, problems: outcomes }, null, 2)}\n`;
}

function parse(argv: readonly string[]): Asked {
  const texts = new Map([
    ['--data-root', '/var/lib/longshore'],
    ['--exec-root', '/run/longshore'],
    ['--cgroup-parent', ''],
  ]);
  const flags = new Set<string>();
  const rest = [...argv];
  for (let word; (word = rest.shift()) !== undefined;) {
    const [flag = '', attached] = word.split(/=(.*)/s);
    if (texts.has(flag)) {
      const value = attached ?? rest.shift();
      if (value === undefined) throw new EngineError('PARAMETER_INVALID', `flag needs an argument: ${flag}`);
      texts.set(flag, flag === '--cgroup-parent' ? value : value.replace(/(.)\/+$/, '$1'));
    } else if (['--repair', '--json', '--help', '-h', '--skip-images', '--forget-set-aside'].includes(word))
      flags.add(word);
    else throw new EngineError('PARAMETER_INVALID', `unknown flag: ${word} (see longshore doctor --help)`);
  }
  return {
    dataRoot: texts.get('--data-root')!,
    execRoot: texts.get('--exec-root')!,
    cgroupParent: texts.get('--cgroup-parent')!,
    repair: flags.has('--repair'),
    json: flags.has('--json'),
    help: flags.has('--help') || flags.has('-h'),
    images: !flags.has('--skip-images'),
    forgetSetAside: flags.has('--forget-set-aside'),
  };
}
