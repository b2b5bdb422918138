/**
 * What a COPY or ADD takes, as one stream of tar entries under their new names; and its digest for the cache. The
 * source is a directory tree that a stranger filled (a context, another stage): every path in it goes through
 * TreeArchive, which never leaves the tree.
 */
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { posix } from 'node:path';
import { Readable } from 'node:stream';

import * as tar from 'tar-stream';

import { EngineError } from '../core/engine-error.ts';
import type { TreeArchive } from '../image/port.ts';
import { globToRegExp } from './dockerfile/ignore.ts';

/** os.ModeDir in Go's FileMode, as PathStat has it. */
const GO_MODE_DIR = 0x80000000;

export interface CopySource {
  readonly archive: TreeArchive;
  /** On the host. */
  readonly root: string;
  /** Files of a context that are not copied, by their path: the Dockerfile and .dockerignore, where that excludes them. */
  readonly hidden: ReadonlySet<string>;
  readonly isContext: boolean;
}

export interface CopyItem {
  /** In the source, without a leading slash; a link is what it leads to. */
  readonly path: string;
  /** As it was asked for: its last part is what it is called where it goes. */
  readonly name: string;
  readonly isDirectory: boolean;
}

export interface CopyPart {
  readonly source: CopySource;
  readonly items: readonly CopyItem[];
  /** ADD of a local archive: its content instead of itself. */
  readonly unpack: { readonly digest: string; readonly tar: () => AsyncIterable<Uint8Array> } | null;
}

export interface Ownership {
  /** null keeps what the entry says, as below. */
  readonly uid: number | null;
  readonly gid: number | null;
  /** null keeps what the entry says. */
  readonly mode: number | null;
}

/**
 * Patterns to what they name, sorted within a pattern.
 * @throws {EngineError} BODY_INVALID for a name of nothing; a pattern may fit nothing
 */
export async function findItems(source: CopySource, patterns: readonly string[]): Promise<CopyItem[]> {
  const items: CopyItem[] = [];
  for (const pattern of patterns) {
    const path = posix.normalize(`/${pattern}`).slice(1);
    const paths = /[*?[\\]/.test(path) ? await glob(source.root, path) : [path];
    const found: CopyItem[] = [];
    for (const candidate of paths) {
      if (source.hidden.has(candidate)) continue;
      const stat = await source.archive.stat(source.root, `/${candidate}`).catch(() => null);
      if (stat === null) continue;
      const path = stat.linkTarget === '' ? candidate : stat.linkTarget.slice(1);
      const real =
        stat.linkTarget === '' ? stat : await source.archive.stat(source.root, stat.linkTarget).catch(() => null);
      if (real !== null)
        found.push({ path, name: candidate, isDirectory: Math.floor(real.goMode / GO_MODE_DIR) % 2 === 1 });
    }
    if (found.length === 0 && !/[*?[]/.test(path)) {
      const where = source.isContext ? 'file not found in build context or excluded by .dockerignore: ' : '';
      const shown = pattern.replace(/^\//, '').replace(/^\.\//, '');
      throw new EngineError('BODY_INVALID', `${where}stat ${shown}: file does not exist`);
    }
    items.push(...found);
  }
  return items;
}

async function glob(root: string, pattern: string): Promise<string[]> {
  const parts = pattern.split('/');
  let found = [''];
  for (const [depth, part] of parts.entries()) {
    const matches = globToRegExp(part);
    const next: string[] = [];
    for (const base of found) {
      const entries = await readdir(posix.join(root, base), { withFileTypes: true }).catch(() => []);
      for (const entry of entries) {
        // Links are never walked through here: what they name is not in the tree for sure.
        if (matches.test(entry.name) && (depth === parts.length - 1 || entry.isDirectory()))
          next.push(posix.join(base, entry.name));
      }
    }
    found = next;
  }
  return found.toSorted();
}

/**
 * The entries of all items, named for `destination` (absolute; `asDirectory`: items go into it under their base
 * names; a directory's content goes into it always), as a tar to be unpacked at "/".
 */
export async function* copyTar(
  source: CopySource,
  items: readonly CopyItem[],
  destination: string,
  asDirectory: boolean,
  owner: Ownership | null,
): AsyncGenerator<Uint8Array> {
  const pack = tar.pack();
  const writing = (async () => {
    for (const item of items) {
      const into = item.isDirectory
        ? destination
        : asDirectory
          ? posix.join(destination, posix.basename(item.name))
          : destination;
      await appendItem(pack, source, item, into, owner);
    }
    pack.finalize();
  })().catch((error: unknown) => pack.destroy(error as Error));
  yield* pack as unknown as AsyncIterable<Uint8Array>;
  await writing;
}

async function appendItem(
  pack: tar.Pack,
  source: CopySource,
  item: CopyItem,
  into: string,
  owner: Ownership | null,
): Promise<void> {
  const { tar: stream } = await source.archive.read(source.root, `/${item.path}`);
  const extract = tar.extract();
  const piping = Readable.from(stream)
    .on('error', (error) => extract.destroy(error))
    .pipe(extract);
  let base: string | null = null;
  try {
    for await (const entry of extract) {
      const { header } = entry;
      const name = header.name.replace(/\/$/, '');
      base ??= name; // the first entry is the item itself
      const inside = name === base ? '' : name.slice(base.length + 1);
      const ignored = inside !== '' && source.hidden.has(posix.join(item.path, inside));
      if (ignored || (inside === '' && item.isDirectory)) {
        entry.resume();
        continue;
      }
      const renamed: tar.Header = {
        ...header,
        name: posix.join(into, inside).slice(1),
        ...(header.type === 'link' &&
          header.linkname !== undefined &&
          header.linkname !== null && { linkname: posix.join(into, header.linkname.slice(base.length + 1)).slice(1) }),
        ...(owner !== null &&
          owner.uid !== null &&
          owner.gid !== null && { uid: owner.uid, gid: owner.gid, uname: '', gname: '' }),
        ...(owner !== null && owner.mode !== null && header.type !== 'symlink' && { mode: owner.mode }),
      };
      if (header.type === 'file' && (header.size ?? 0) > 0) {
        const sink = pack.entry(renamed);
        for await (const chunk of entry)
          if (!sink.write(chunk)) await new Promise<void>((resolve) => sink.once('drain', () => resolve()));
        await new Promise<void>((resolve) => {
          sink.once('finish', () => resolve());
          sink.end(undefined);
        });
      } else {
        // With its content, though it is empty: a file's entry is open until it is ended, and the archive with it.
        pack.entry({ ...renamed, size: 0 }, '');
        entry.resume();
      }
    }
  } finally {
    piping.destroy();
  }
}

/** "file:…", "dir:…" or "multi:…" as Docker's history has it. Times do not count, so that a fresh checkout still hits. */
export async function copyDigest(parts: readonly CopyPart[]): Promise<string> {
  const digests = await Promise.all(parts.map(async (part) => part.unpack?.digest ?? (await partDigest(part))));
  if (digests.length === 1) return digests[0]!;
  return `multi:${createHash('sha256').update(digests.join(',')).digest('hex')}`;
}

async function partDigest({ source, items }: CopyPart): Promise<string> {
  const hash = createHash('sha256');
  const extract = tar.extract();
  Readable.from(copyTar(source, items, '/x', items.length > 1, null))
    .on('error', (error) => extract.destroy(error))
    .pipe(extract);
  const lines: string[] = [];
  for await (const entry of extract) {
    const content = createHash('sha256');
    for await (const chunk of entry) content.update(chunk as Uint8Array);
    const { name, mode, uid, gid, size, type, linkname, devmajor, devminor } = entry.header;
    const { pax } = entry.header as { pax?: Record<string, string> };
    const attributes = Object.entries(pax ?? {}).filter(([key]) => key.startsWith('SCHILY.xattr.'));
    lines.push(
      JSON.stringify([
        name,
        mode,
        uid,
        gid,
        size,
        type,
        linkname,
        devmajor,
        devminor,
        attributes,
        content.digest('hex'),
      ]),
    );
  }
  for (const line of lines.toSorted()) hash.update(`${line}\n`);
  const kind = items.length > 1 ? 'multi' : items[0]?.isDirectory === true ? 'dir' : 'file';
  return `${kind}:${hash.digest('hex')}`;
}
