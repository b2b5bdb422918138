/**
 * Looks at the host twice and tells what is wrong both times: what is just being made or taken away by a daemon that runs
 * is not a problem. With the daemon down the second look is spared.
 */
import { readdir, realpath } from 'node:fs/promises';
import { dirname, basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import type { Kernel } from '../../kernel/port.ts';
import { checkDirectories, checkMounts } from './file-checks.ts';
import { daemonOf } from './host.ts';
import { checkImages } from './image-checks.ts';
import { checkFirewall, checkInterfaces, checkNamespaces } from './network-checks.ts';
import { checkCgroups, checkLiving, checkShims } from './process-checks.ts';
import { isSame, REPAIR_ORDER, type Problem, type Repair } from './problem.ts';
import { databasePath, readRecords, type Records } from './records.ts';

/** Between the two looks: longer than anything is half done for. */
const PAUSE_MS = 2_000;

export interface Where {
  readonly dataRoot: string;
  readonly execRoot: string;
  /** As the daemon's; "" where it was not given. */
  readonly cgroupParent: string;
  /** Also what the records that were set aside speak of counts as an orphan. */
  readonly forgetSetAside: boolean;
  /** Reading every byte of every image takes its time. */
  readonly images: boolean;
}

/** One look at everything. */
export interface Examined extends Where {
  readonly kernel: Kernel;
  readonly records: Records;
  /** null: it is down. */
  readonly daemonPid: number | null;
  /** Ends whatever is left of a container's run, and removes it. */
  readonly releaseRun: (id: string) => Promise<void>;
  /** The repair of something of this container; null where the records do not allow one. */
  readonly repairs: (id: string, repair: Repair) => Repair | null;
}

export interface Diagnosis {
  readonly daemonPid: number | null;
  readonly problems: readonly Problem[];
}

export interface Tools {
  readonly kernel: Kernel;
  readonly releaseRun: (id: string) => Promise<void>;
  readonly dropSetAside: (collection: string, key: string) => Promise<void>;
}

export async function examine(asked: Where, tools: Tools): Promise<Diagnosis> {
  const where = { ...asked, dataRoot: await real(asked.dataRoot), execRoot: await real(asked.execRoot) };
  const daemonPid = await daemonOf(databasePath(where.dataRoot));
  const first = await look(where, tools, daemonPid);
  if (daemonPid === null || first.length === 0) return { daemonPid, problems: first };
  await sleep(PAUSE_MS);
  const again = await look(where, tools, daemonPid);
  return { daemonPid, problems: again.filter((problem) => first.some((other) => isSame(problem, other))) };
}

/** Mounts and links are named by real paths. */
async function real(path: string): Promise<string> {
  return realpath(path).catch(() => path);
}

async function look(where: Where, tools: Tools, daemonPid: number | null): Promise<Problem[]> {
  const records = readRecords(where.dataRoot);
  const repairs = (id: string, repair: Repair): Repair | null => {
    const standing = records.standing(id);
    return standing === 'live' || (standing === 'set-aside' && !where.forgetSetAside) ? null : repair;
  };
  const examined: Examined = {
    ...where,
    kernel: tools.kernel,
    releaseRun: tools.releaseRun,
    records,
    daemonPid,
    repairs,
  };
  const checks = [
    checkShims,
    checkLiving,
    checkMounts,
    checkNamespaces,
    checkInterfaces,
    checkFirewall,
    checkCgroups,
    checkDirectories,
  ];
  const problems = [...checkRecords(records, where, tools), ...(await checkOldDatabases(where.dataRoot))];
  for (const check of checks) problems.push(...(await check(examined)));
  if (where.images) problems.push(...(await checkImages(examined)));
  return problems;
}

function checkRecords(records: Records, { forgetSetAside }: Where, tools: Tools): Problem[] {
  const aside = records.setAside.map(({ collection, key, why, at }): Problem => ({
    check: 'record',
    subject: `${collection} ${key}`,
    text: `record ${key} of ${collection} cannot be read, and was set aside at ${at}: ${why}`,
    repair: forgetSetAside
      ? { does: 'forget it', order: REPAIR_ORDER.record, run: () => tools.dropSetAside(collection, key) }
      : null,
  }));
  const unreadable = records.unreadable.map(({ collection, key, why }): Problem => ({
    check: 'record',
    subject: `${collection} ${key}`,
    text: `record ${key} of ${collection} cannot be read (the daemon sets it aside at its next start): ${why}`,
    repair: null,
  }));
  return [...aside, ...unreadable];
}

async function checkOldDatabases(dataRoot: string): Promise<Problem[]> {
  const path = databasePath(dataRoot);
  const names = (await readdir(dirname(path))).filter(
    (name) => name.startsWith(`${basename(path)}.corrupt-`) && !/-(wal|shm)$/.test(name),
  );
  return names.map((name) => ({
    check: 'database',
    subject: name,
    text: `${dirname(path)}/${name} was the database; it could not be read, and a new one was begun`,
    repair: null,
  }));
}
