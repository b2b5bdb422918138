/** "user:group" of a container against the passwd and group files in its rootfs. Source: moby/sys user (v28). */
import { EngineError } from '../../core/engine-error.ts';
import type { ResolvedUser } from './input.ts';

const ID_MAX = 2 ** 31 - 1;

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/**
 * A missing file is an empty text. A number is an ID first and a name never.
 * @throws {EngineError} RUNTIME_START_FAILED "unable to find user x: no matching entries in passwd file"
 */
export function resolveUser(
  passwdText: string,
  groupText: string,
  user: string,
  groupAdd: readonly string[] | null,
): ResolvedUser {
  const colon = user.indexOf(':');
  const userPart = colon < 0 ? user : user.slice(0, colon);
  const groupPart = colon < 0 ? '' : (user.slice(colon + 1).split(':')[0] ?? '');
  const groups = parseGroup(groupText);

  const found = findUser(parsePasswd(passwdText), userPart);
  let gid = found.gid;
  let supplementary: number[] = [];
  if (groupPart !== '') gid = findGroup(groups, groupPart);
  else if (found.name !== '') supplementary = groups.filter((g) => g.members.includes(found.name)).map((g) => g.gid);

  const added = (groupAdd ?? []).map((name) => findAdditionalGroup(groups, name));
  return {
    uid: found.uid,
    gid,
    additionalGids: [...new Set([gid, ...supplementary, ...added])],
    home: found.home === '' ? '/' : found.home,
  };
}

function findUser(entries: readonly PasswdEntry[], wanted: string): PasswdEntry {
  const uid = wanted === '' ? 0 : parseId(wanted);
  const match = entries.find((entry) => (uid === null ? entry.name === wanted : entry.uid === uid));
  if (match) return match;
  if (uid === null) {
    throw new EngineError('RUNTIME_START_FAILED', `unable to find user ${wanted}: no matching entries in passwd file`);
  }
  return { name: '', uid: checkRange(uid), gid: 0, home: '' };
}

function findGroup(groups: readonly GroupEntry[], wanted: string): number {
  const gid = parseId(wanted);
  const match = groups.find((group) => (gid === null ? group.name === wanted : group.gid === gid));
  if (match) return match.gid;
  if (gid === null) {
    throw new EngineError('RUNTIME_START_FAILED', `unable to find group ${wanted}: no matching entries in group file`);
  }
  return checkRange(gid);
}

/** Unlike the group of "user:group", a number may be a name here. */
function findAdditionalGroup(groups: readonly GroupEntry[], wanted: string): number {
  const named = groups.find((group) => group.name === wanted);
  return named ? named.gid : findGroup(groups, wanted);
}

function checkRange(id: number): number {
  if (id < 0 || id > ID_MAX) {
    throw new EngineError('RUNTIME_START_FAILED', `uids and gids must be in range 0-${ID_MAX}`);
  }
  return id;
}

/** Go's strconv.Atoi. */
function parseId(text: string): number | null {
  return /^[+-]?\d+$/.test(text) ? Number(text) : null;
}

function parsePasswd(text: string): PasswdEntry[] {
  return fieldsOf(text).map(([name = '', , uid = '', gid = '', , home = '']) => ({
    name,
    uid: parseId(uid) ?? 0,
    gid: parseId(gid) ?? 0,
    home,
  }));
}

function parseGroup(text: string): GroupEntry[] {
  return fieldsOf(text).map(([name = '', , gid = '', members = '']) => ({
    name,
    gid: parseId(gid) ?? 0,
    members: members === '' ? [] : members.split(','),
  }));
}

/** Empty lines, comments and NIS entries ("+::::") are none. */
function fieldsOf(text: string): string[][] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#') && !line.startsWith('+'))
    .map((line) => line.split(':'));
}
