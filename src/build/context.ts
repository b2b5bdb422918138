/** What a build is made of: its context, unpacked in a directory of its own, and the Dockerfile in it. */
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { Readable } from 'node:stream';

import { extract } from 'tar-stream';

import { EngineError } from '../core/engine-error.ts';
import type { TreeArchive } from '../image/port.ts';
import type { CopySource } from './copy-source.ts';
import { isIgnored, parseIgnore } from './dockerfile/ignore.ts';
import { parseDockerfile, type Dockerfile } from './dockerfile/parse.ts';
import { remoteContext, type Fetch } from './download.ts';
import type { BuildRequest } from './port.ts';

const DOCKERFILE = 'Dockerfile';
const IGNORE_FILE = '.dockerignore';

interface ContextNeeds {
  readonly treeArchive: TreeArchive;
  readonly scratchDir: string;
  readonly removeTree: (path: string) => Promise<void>;
  readonly fetch: Fetch;
}

/** The directory goes with `cleanup`. */
export async function openContext(
  needs: ContextNeeds,
  request: BuildRequest,
  cleanup: AsyncDisposableStack,
): Promise<{ readonly context: CopySource; readonly dockerfile: Dockerfile }> {
  const root = await mkdtemp(join(needs.scratchDir, 'context-'));
  cleanup.defer(() => needs.removeTree(root));
  const asked = await fillContext(needs, request, root);
  const archive = needs.treeArchive;
  const { name, text } = await readDockerfile(archive, root, asked);
  const rules = parseIgnore((await readTextFile(archive, root, IGNORE_FILE)) ?? '');
  // What else it excludes the client did not send: moby takes out no more than these two.
  const paths = [IGNORE_FILE, posix.resolve('/', name).slice(1)];
  const hidden = new Set(paths.filter((path) => isIgnored(rules, path)));
  return { context: { archive, root, hidden, isContext: true }, dockerfile: parseDockerfile(text, asked) };
}

/** Returns what its Dockerfile is called. */
async function fillContext({ fetch, treeArchive }: ContextNeeds, request: BuildRequest, root: string): Promise<string> {
  const { remote } = request;
  const found = remote === '' ? null : await remoteContext(fetch, remote);
  if (found?.isDockerfile === true) {
    await writeFile(join(root, DOCKERFILE), found.chunks, { mode: 0o600, flag: 'wx' });
    return DOCKERFILE; // whatever name was asked for: it is all there is
  }
  const tar = found?.chunks ?? request.context;
  await treeArchive.write(root, '/', tar, { noOverwriteDirNonDir: false, copyUidGid: false });
  return request.dockerfile || DOCKERFILE;
}

async function readDockerfile(
  archive: TreeArchive,
  root: string,
  asked: string,
): Promise<{ readonly name: string; readonly text: string }> {
  // Read through the archive: a Dockerfile that is a link to the host's files must not be followed.
  // "dockerfile" will do where nobody named one, as moby has it.
  for (const name of asked === DOCKERFILE ? [asked, asked.toLowerCase()] : [asked]) {
    const text = await readTextFile(archive, root, name);
    if (text !== null) return { name, text };
  }
  throw new EngineError('BODY_INVALID', `Cannot locate specified Dockerfile: ${asked}`);
}

/** null when there is no such file. */
async function readTextFile(archive: TreeArchive, root: string, path: string): Promise<string | null> {
  const read = await archive.read(root, posix.resolve('/', path)).catch(() => null);
  if (read === null) return null;
  const entries = extract();
  Readable.from(read.tar)
    .on('error', (error) => entries.destroy(error))
    .pipe(entries);
  for await (const entry of entries) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of entry) chunks.push(chunk as Uint8Array);
    return Buffer.concat(chunks).toString('utf8');
  }
  return null;
}
