/** Mounts and directories below the engine's roots against the records. */
import { stat } from 'node:fs/promises';

import type { Examined } from './examine.ts';
import { namesIn } from './host.ts';
import { REPAIR_ORDER, type Problem } from './problem.ts';
import { whyOrphan } from './process-checks.ts';
import { snapshotOwner } from './records.ts';

const ID = /^[0-9a-f]{64}$/;
const REMOVING = '.removing';

/**
 * Mounts that no container's run holds. With the daemon up, a copy or an export mounts the tree of a container that does
 * not run for as long as it takes, so those do not count then.
 */
export async function checkMounts({
  kernel,
  dataRoot,
  execRoot,
  records,
  repairs,
  daemonPid,
}: Examined): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const root of [dataRoot, execRoot]) {
    for (const path of await kernel.mounts.below(root)) {
      const owner = path === root ? null : ownerOf(path.slice(root.length + 1));
      if (owner === null) continue; // the root itself, a volume's own mount, something of the user's
      const standing = records.standing(owner);
      const why = whyOrphan(standing);
      if (why === null || (standing === 'at-rest' && daemonPid !== null)) continue;
      const run = async (): Promise<void> => void (await kernel.mounts.unmount(path));
      const repair = repairs(owner, { does: 'unmount it', order: REPAIR_ORDER.mount, run });
      problems.push({ check: 'mount', subject: path, text: `mount ${path}: ${why}`, repair });
    }
  }
  return problems;
}

/** The container whose mount it is, by the path below a root; namespaces have their own check. */
function ownerOf(path: string): string | null {
  const [kind = '', name = '', inner = ''] = path.split('/');
  if (kind === 'snapshot' && inner === 'merged') return snapshotOwner(name);
  return kind === 'containers' && ID.test(name) ? name : null;
}

export async function checkDirectories({ kernel, dataRoot, records, repairs }: Examined): Promise<Problem[]> {
  const problems: Problem[] = [];
  const orphan = (path: string, id: string, what: string): void => {
    const standing = records.standing(id);
    if (standing === 'live' || standing === 'at-rest') return;
    const run = (): Promise<void> => kernel.files.removeTree(path);
    const repair = repairs(id, { does: 'remove it', order: REPAIR_ORDER.directory, run });
    problems.push({ check: 'directory', subject: path, text: `${what} ${path}: ${whyOrphan(standing) ?? ''}`, repair });
  };
  for (const name of await namesIn(`${dataRoot}/snapshot`)) {
    orphan(`${dataRoot}/snapshot/${name}`, snapshotOwner(name), 'writable layer');
  }
  for (const name of await namesIn(`${dataRoot}/containers`))
    orphan(`${dataRoot}/containers/${name}`, name, 'directory');
  for (const name of await namesIn(`${dataRoot}/volumes`)) {
    if (records.volumeNames.has(name) || name === REMOVING) continue; // what is in the latter goes at the next start
    const path = `${dataRoot}/volumes/${name}`;
    if (
      !(await stat(path).then(
        (entry) => entry.isDirectory(),
        () => false,
      ))
    )
      continue;
    problems.push({
      check: 'directory',
      subject: path,
      text: `volume directory ${path}: there is no such volume; look at what is in it`,
      repair: null,
    });
  }
  for (const id of records.containers.keys()) {
    const path = `${dataRoot}/snapshot/${id}`;
    if (records.snapshotNames.has(id) && (await stat(path).catch(() => null)) !== null) continue;
    problems.push({
      check: 'directory',
      subject: path,
      text: `container ${id.slice(0, 12)} has lost its writable layer (${path})`,
      repair: null,
    });
  }
  return problems;
}
