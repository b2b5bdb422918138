/** Where and as whose COPY and ADD write: their flags, the owner, and the directories on the way. */
import { posix } from 'node:path';

import { pack } from 'tar-stream';

import { EngineError } from '../core/engine-error.ts';
import type { TreeArchive } from '../image/port.ts';
import { copyTar, type CopyPart, type Ownership } from './copy-source.ts';
import { expandWord } from './dockerfile/expand.ts';
import { parseError, type Instruction } from './dockerfile/parse.ts';

/** "" where a flag was not given. */
export interface CopyFlags {
  readonly from: string;
  readonly chown: string;
  readonly chmod: string;
}

/** Numbers of a user and group named by --chown, looked up in the root file system. */
export type LookUpOwner = (root: string, text: string) => Promise<{ readonly uid: number; readonly gid: number }>;

/** os.ModeDir in Go's FileMode, as PathStat has it. */
const GO_MODE_DIR = 0x80000000;

export function copyFlags(instruction: Instruction, known: ReadonlyMap<string, string>, escape: string): CopyFlags {
  const flags = { from: '', chown: '', chmod: '' };
  for (const { name, value } of instruction.flags) {
    if (name === 'link') continue; // shares layers between builds, which is BuildKit's; the files are the same
    if (!(name in flags) || (name === 'from' && instruction.name === 'ADD'))
      throw new EngineError(
        'OPTION_UNSUPPORTED',
        `${instruction.name} --${name}: unknown flag, or it requires BuildKit`,
      );
    flags[name as keyof typeof flags] = expandWord(value, known, escape);
  }
  return flags;
}

/** @throws BODY_INVALID for a mode that is none, and what `lookUpOwner` throws */
export async function ownership(
  { lookUpOwner }: { readonly lookUpOwner: LookUpOwner },
  root: string,
  { from, chown, chmod }: CopyFlags,
  instruction: Instruction,
): Promise<Ownership> {
  if (chmod !== '' && !/^[0-7]{1,4}$/.test(chmod))
    throw parseError(
      instruction.line,
      `invalid chmod parameter: '${chmod}'. it should be octal string and between 0 and 07777`,
    );
  const mode = chmod === '' ? null : Number.parseInt(chmod, 8);
  // What comes from a stage or an image keeps its owner; what comes from the context is root's.
  const owner =
    chown !== '' ? await lookUpOwner(root, chown) : from === '' ? { uid: 0, gid: 0 } : { uid: null, gid: null };
  return { ...owner, mode };
}

/** Writes one part below `root`; `destination` is absolute in it. */
export async function unpackPart(
  treeArchive: TreeArchive,
  root: string,
  part: CopyPart,
  {
    destination: asked,
    asDirectory,
    owner,
  }: { readonly destination: string; readonly asDirectory: boolean; readonly owner: Ownership },
): Promise<void> {
  const destination = await followLinks(treeArchive, root, asked);
  if (part.unpack !== null) {
    await makeDirectory(treeArchive, root, destination, owner);
    return treeArchive.write(root, destination, part.unpack.tar(), {
      noOverwriteDirNonDir: false,
      copyUidGid: false,
    });
  }
  const isDirectory =
    asDirectory ||
    part.items.some((item) => item.isDirectory) ||
    ((await treeArchive.stat(root, destination).catch(() => null))?.goMode ?? 0) >= GO_MODE_DIR;
  await makeDirectory(treeArchive, root, isDirectory ? destination : posix.dirname(destination), owner);
  await treeArchive.write(root, '/', copyTar(part.source, part.items, destination, isDirectory, owner), {
    noOverwriteDirNonDir: false,
    copyUidGid: false,
  });
}

/** Where `path` leads in the tree: of its links, also those to what is not there yet. */
async function followLinks(treeArchive: TreeArchive, root: string, path: string): Promise<string> {
  let at = '/';
  for (const part of path.split('/').filter((text) => text !== '')) {
    const next = posix.join(at, part);
    at = (await treeArchive.stat(root, next).catch(() => null))?.linkTarget || next;
  }
  return at;
}

/** WORKDIR's, as root's. @throws BODY_INVALID when something else is there */
export async function makeWorkdir(treeArchive: TreeArchive, root: string, asked: string): Promise<void> {
  const path = await followLinks(treeArchive, root, asked);
  const stat = await treeArchive.stat(root, path).catch(() => null);
  if (stat !== null && stat.goMode < GO_MODE_DIR)
    throw new EngineError('BODY_INVALID', `Cannot mkdir: ${asked} is not a directory`);
  await makeDirectory(treeArchive, root, path, { uid: 0, gid: 0, mode: null });
}

/** What is missing on the way, as root's (or --chown's) with mode 755. */
async function makeDirectory(treeArchive: TreeArchive, root: string, path: string, owner: Ownership): Promise<void> {
  const missing: string[] = [];
  for (
    let at = path;
    at !== '/' && (await treeArchive.stat(root, at).catch(() => null)) === null;
    at = posix.dirname(at)
  )
    missing.unshift(at);
  if (missing.length === 0) return;
  const tar = pack();
  for (const directory of missing)
    tar.entry({
      name: `${directory.slice(1)}/`,
      type: 'directory',
      mode: 0o755,
      uid: owner.uid ?? 0,
      gid: owner.gid ?? 0,
      mtime: new Date(),
    });
  tar.finalize();
  await treeArchive.write(root, '/', tar as unknown as AsyncIterable<Uint8Array>, {
    noOverwriteDirNonDir: false,
    copyUidGid: false,
  });
}
