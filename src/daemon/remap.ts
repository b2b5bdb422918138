/**
 * `--userns-remap`: which IDs of the host the IDs of containers become, by the subordinate ranges of a user; and the data root
 * that belongs to them, since files of one map mean nothing under another.
 * Source: moby daemon/daemon_unix.go parseRemappedRoot, setupRemappedRoot, setupDaemonRoot (v28); subuid(5).
 */
import { execFile } from 'node:child_process';
import { chmod, chown, mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { EngineError } from '../core/engine-error.ts';
import { NO_REMAP, rootOf, type IdMap, type IdRange } from '../core/id-map.ts';
import type { Logger } from '../core/log.ts';

/** The user of "default"; made when it is missing, as dockerd makes it. */
const DEFAULT_USER = 'dockremap';
const DEFAULT_RANGE = { start: 100_000, count: 65_536 };
const ID_MAX = 2 ** 32 - 2;

/** Texts of the files that name users, groups and their ranges. */
export interface AccountFiles {
  readonly passwd: string;
  readonly group: string;
  readonly subuid: string;
  readonly subgid: string;
}

/** "" remaps nothing; so does root, with a warning. @throws {EngineError} PARAMETER_INVALID in Docker's words */
export async function resolveRemap(text: string, logger: Logger): Promise<IdMap> {
  if (text === '') return NO_REMAP;
  if (text.split(':')[0] === 'default') await ensureDefaultUser(logger);
  const map = remapOf(text, await readAccounts());
  if (map === null) {
    logger.warn({}, 'User namespaces: root cannot be remapped with itself; user namespaces are OFF');
    return NO_REMAP;
  }
  logger.info({ root: rootOf(map) }, 'User namespaces: containers are remapped');
  return map;
}

/** null: the user is root. */
export function remapOf(text: string, files: AccountFiles): IdMap | null {
  const [userText = '', groupText, more] = text.split(':');
  if (more !== undefined) {
    throw invalid(`Invalid user/group specification in --userns-remap: ${JSON.stringify(text)}`);
  }
  const user = findUser(userText, files.passwd);
  // A group that is named must be there; without one, it is the group of the user's own name (or number).
  const group = findGroup(groupText ?? (isNumber(userText) ? userText : user.name), files.group);
  if (user.name === 'root') return null;
  return {
    uids: rangesOf(files.subuid, [user.name, user.id], `no subuid ranges found for user ${JSON.stringify(user.name)}`),
    gids: rangesOf(
      files.subgid,
      [user.name, user.id, group.name],
      `no subgid ranges found for user ${JSON.stringify(user.name)}`,
    ),
  };
}

/** Of a name, first what stands first; several follow each other in the container. */
function rangesOf(text: string, names: readonly string[], missing: string): IdRange[] {
  const lines = text.split('\n').map((line) => line.trim().split(':'));
  for (const name of names) {
    const ranges: IdRange[] = [];
    let containerId = 0;
    for (const [owner, start = '', length = ''] of lines) {
      if (owner !== name) continue;
      const [hostId, count] = [Number(start), Number(length)];
      if (!isNumber(start) || !isNumber(length) || count === 0 || hostId + count - 1 > ID_MAX) {
        throw invalid(`Can't create ID mappings: invalid range of ${JSON.stringify(name)}: ${start}:${length}`);
      }
      ranges.push({ containerId, hostId, count });
      containerId += count;
    }
    if (ranges.length > 0) return ranges;
  }
  throw invalid(`Can't create ID mappings: ${missing}`);
}

function findUser(text: string, passwd: string): { readonly name: string; readonly id: string } {
  const wanted = text === 'default' ? DEFAULT_USER : text;
  const found = entryOf(passwd, wanted);
  if (found !== null) return found;
  if (isNumber(text)) throw invalid(`Uid ${text} has no entry in /etc/passwd: no matching entries in passwd file`);
  throw invalid(`Error during uid lookup for ${JSON.stringify(wanted)}: no matching entries in passwd file`);
}

function findGroup(text: string, groups: string): { readonly name: string; readonly id: string } {
  const found = entryOf(groups, text === 'default' ? DEFAULT_USER : text);
  if (found !== null) return found;
  if (isNumber(text)) throw invalid(`Gid ${text} has no entry in /etc/group: no matching entries in group file`);
  throw invalid(`Error during gid lookup for ${JSON.stringify(text)}: no matching entries in group file`);
}

/** By its name, or by its number where that is what was given. */
function entryOf(text: string, wanted: string): { readonly name: string; readonly id: string } | null {
  for (const line of text.split('\n')) {
    const [name = '', , id = ''] = line.split(':');
    if (name !== '' && (isNumber(wanted) ? id === wanted : name === wanted)) return { name, id };
  }
  return null;
}

/** Only what root may write decides here, and only at the daemon's start: programs of the host do it, as dockerd has it. */
async function ensureDefaultUser(logger: Logger): Promise<void> {
  const run = promisify(execFile);
  const { passwd, subuid, subgid } = await readAccounts();
  try {
    if (entryOf(passwd, DEFAULT_USER) === null) {
      logger.info({ user: DEFAULT_USER }, 'the user of --userns-remap=default is made');
      await run('useradd', ['--system', '--user-group', '--no-create-home', '--shell', '/bin/false', DEFAULT_USER]);
    }
    const isNamed = (text: string): boolean => text.split('\n').some((line) => line.startsWith(`${DEFAULT_USER}:`));
    if (!isNamed(subuid)) await run('usermod', ['--add-subuids', freeRange(subuid), DEFAULT_USER]);
    if (!isNamed(subgid)) await run('usermod', ['--add-subgids', freeRange(subgid), DEFAULT_USER]);
  } catch (error) {
    const why = (error as { stderr?: string }).stderr?.trim() || (error as Error).message;
    throw invalid(`Error during ${JSON.stringify(DEFAULT_USER)} user creation: ${why}`);
  }
}

/** "100000-165535": above all that is given away. */
export function freeRange(text: string): string {
  const ends = text.split('\n').map((line) => {
    const [, start = '', count = ''] = line.split(':');
    return isNumber(start) && isNumber(count) ? Number(start) + Number(count) : 0;
  });
  const start = Math.max(DEFAULT_RANGE.start, ...ends);
  return `${start}-${start + DEFAULT_RANGE.count - 1}`;
}

/**
 * DATA_ROOT/UID.GID, that a container's root may pass through. Without a map: DATA_ROOT.
 * @throws {EngineError} PARAMETER_INVALID where a directory above keeps it out
 */
export async function remappedDataRoot(dataRoot: string, map: IdMap): Promise<string> {
  if (map === NO_REMAP) return dataRoot;
  const { uid, gid } = rootOf(map);
  await mkdir(dataRoot, { recursive: true, mode: 0o711 });
  await chmod(dataRoot, 0o711);
  const own = join(dataRoot, `${uid}.${gid}`);
  for (const directory of [own, join(own, 'containers')]) {
    await mkdir(directory, { recursive: true, mode: 0o710 });
    await chown(directory, 0, gid);
    await chmod(directory, 0o710);
  }
  for (let directory = dirname(dataRoot); directory !== '/'; directory = dirname(directory)) {
    if (((await stat(directory)).mode & 0o001) !== 0) continue;
    throw invalid(
      `a subdirectory in your graphroot path (${dataRoot}) restricts access to the remapped root uid/gid; please fix by allowing 'o+x' permissions on existing directories`,
    );
  }
  return own;
}

async function readAccounts(): Promise<AccountFiles> {
  const read = async (name: string): Promise<string> => readFile(`/etc/${name}`, 'utf8').catch(() => '');
  const [passwd, group, subuid, subgid] = await Promise.all(['passwd', 'group', 'subuid', 'subgid'].map(read));
  return { passwd: passwd!, group: group!, subuid: subuid!, subgid: subgid! };
}

function isNumber(text: string): boolean {
  return /^\d+$/.test(text);
}

function invalid(message: string): EngineError {
  return new EngineError('PARAMETER_INVALID', message);
}
