/** Shims, processes and cgroups against the records. */
import { rm } from 'node:fs/promises';

import type { Container } from '../../lifecycle/container.ts';
import { isLive } from '../../lifecycle/state.ts';
import type { Examined } from './examine.ts';
import { isAlive, namesIn, shimsOf } from './host.ts';
import { REPAIR_ORDER, type Problem, type Repair } from './problem.ts';
import type { Standing } from './records.ts';

const ID = /^[0-9a-f]{64}$/;
const CGROUP_PARENT = '/longshore';

/** Why something of that ID should not be there; null: it may. */
export function whyOrphan(standing: Standing): string | null {
  switch (standing) {
    case 'live':
      return null;
    case 'set-aside':
      return 'its container’s record cannot be read';
    case 'at-rest':
      return 'its container does not run';
    case 'removed':
      return 'its container was removed';
    case 'unknown':
      return 'there is no such container';
  }
}

export async function checkShims({ execRoot, records, releaseRun, repairs }: Examined): Promise<Problem[]> {
  const shims = await shimsOf(execRoot);
  const problems: Problem[] = [];
  const seen = new Set<string>();
  for (const { pid, id } of shims) {
    const why = whyOrphan(records.standing(id));
    if (seen.has(id))
      problems.push({
        check: 'shim',
        subject: `${pid}`,
        text: `shim ${pid} is a second one of container ${id}`,
        repair: null,
      });
    else if (why !== null) {
      const repair = repairs(id, {
        does: 'end it, with the process that it watches',
        order: REPAIR_ORDER.process,
        run: () => releaseRun(id),
      });
      problems.push({ check: 'shim', subject: `${pid}`, text: `shim ${pid} of ${id}: ${why}`, repair });
    }
    seen.add(id);
  }
  for (const id of await namesIn(`${execRoot}/shim`)) {
    const why = whyOrphan(records.standing(id));
    if (seen.has(id) || why === null) continue;
    const repair = ID.test(id)
      ? repairs(id, {
          does: 'end what is left of the run, and remove it',
          order: REPAIR_ORDER.process,
          run: () => releaseRun(id),
        })
      : null;
    problems.push({
      check: 'directory',
      subject: `${execRoot}/shim/${id}`,
      text: `run directory ${execRoot}/shim/${id}: ${why}`,
      repair,
    });
  }
  for (const runtime of ['crun', 'runc'])
    problems.push(...(await checkRuntimeState(`${execRoot}/${runtime}`, { records, repairs })));
  return problems;
}

async function checkRuntimeState(
  root: string,
  { records, repairs }: Pick<Examined, 'records' | 'repairs'>,
): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const id of (await namesIn(root)).filter((name) => ID.test(name))) {
    const why = whyOrphan(records.standing(id));
    if (why === null) continue;
    const path = `${root}/${id}`;
    const repair = repairs(id, {
      does: 'remove it',
      order: REPAIR_ORDER.directory,
      run: () => rm(path, { recursive: true, force: true }),
    });
    problems.push({ check: 'directory', subject: path, text: `state of the OCI runtime in ${path}: ${why}`, repair });
  }
  return problems;
}

/** Only with the daemon up: else an end that nobody has looked at yet is no problem. */
export async function checkLiving({ records, daemonPid }: Examined): Promise<Problem[]> {
  if (daemonPid === null) return [];
  const problems: Problem[] = [];
  for (const { id, name, state } of records.containers.values()) {
    if (!isLive(state) || (await isAlive(state.pid))) continue;
    const text = `container ${name} (${id.slice(0, 12)}) is ${state.at} by its record, but process ${state.pid} is gone`;
    problems.push({ check: 'process', subject: id, text, repair: null });
  }
  return problems;
}

/** Containers of other engines on this host may have the same parent: only IDs that were ever ours count. */
export async function checkCgroups({ kernel, records, repairs, cgroupParent }: Examined): Promise<Problem[]> {
  const { cgroups } = kernel;
  const parents = new Set([
    CGROUP_PARENT,
    ...(cgroupParent === '' ? [] : [cgroupParent]),
    ...parentsAsked(records.containers.values()),
  ]);
  const paths = new Map<string, string>();
  for (const parent of parents) {
    for (const controller of cgroups.version === 'v2' ? [''] : cgroups.controllers) {
      for (const id of await namesIn(cgroups.directory(controller, parent))) {
        if (ID.test(id) && records.isOurs(id)) paths.set(`${parent}/${id}`, id);
      }
    }
  }
  const problems: Problem[] = [];
  for (const [path, id] of paths) {
    const why = whyOrphan(records.standing(id));
    if (why === null) continue;
    const processes = await cgroups.processes(path).catch(() => []);
    const text = `cgroup ${path}${processes.length === 0 ? '' : ` with process ${processes.join(', ')}`}: ${why}`;
    const repair: Repair = {
      does: 'kill what is in it, and remove it',
      order: REPAIR_ORDER.cgroup,
      run: () => cgroups.remove(path),
    };
    problems.push({ check: 'cgroup', subject: path, text, repair: repairs(id, repair) });
  }
  return problems;
}

function* parentsAsked(containers: Iterable<Container>): Generator<string> {
  for (const { spec } of containers) {
    const parent = spec.host.resources.cgroupParent;
    if (parent !== '' && parent !== '/')
      yield `/${parent
        .split('/')
        .filter((part) => part !== '' && part !== '.' && part !== '..')
        .join('/')}`;
  }
}
