/**
 * Unpacks a layer into a directory of its own that nobody else can reach yet. Everything in it was made by this
 * very archive, so what a name leads to is known without asking the kernel: a parent that is not a directory made
 * here is refused, and no link is ever followed.
 *
 * Whiteouts become overlayfs's own: a character device 0/0, and trusted.overlay.opaque on directories.
 * Source: OCI image spec ("Whiteouts"), overlayfs.rst in the kernel's documentation.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';

import { fsPath } from '../core/file-name.ts';
import type { Files } from '../kernel/port.ts';

import { baseOf, cleanEntryName, cleanLinkTarget, parentOf, refuse } from './archive-path.ts';
import type { ByteSource } from './byte-source.ts';
import { FileBatch } from './file-batch.ts';
import { writeContent } from './file-writer.ts';
import type { RecipeWriter } from './layer-recipe.ts';
import { TarReader, type TarEntry } from './tar-reader.ts';

export interface ExtractedLayer {
  /** Bytes of all regular files. */
  readonly sizeBytes: number;
}

const WHITEOUT = '.wh.';
const WHITEOUT_META = '.wh..wh.';
const OPAQUE = '.wh..wh..opq';
const OVERLAY_OPAQUE = 'trusted.overlay.opaque';
/** overlayfs's own attributes: an archive that brought them could point into other layers. */
const OVERLAY_XATTRS = 'trusted.overlay.';
const SMALL_BYTES_MAX = 256 * 1024;
const S_ISGID = 0o2000;
const S_IFIFO = 0o010000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;

/** `root` exists and is empty. @throws IMAGE_ARCHIVE_INVALID naming the entry; `root` is then to be thrown away */
export async function extractLayer(options: {
  readonly source: ByteSource;
  readonly root: string;
  readonly files: Files;
  readonly recipe: RecipeWriter;
}): Promise<ExtractedLayer> {
  const extraction = new LayerExtraction(options.root, options.files, options.recipe);
  const reader = new TarReader(options.source, (bytes) => options.recipe.raw(bytes));
  try {
    for (let entry; (entry = await reader.next()) !== null;) await extraction.add(entry, reader);
    return await extraction.finish();
  } finally {
    await extraction.settle();
  }
}

type Made = 'directory' | 'file' | 'other';

class LayerExtraction {
  readonly #root: string;
  readonly #recipe: RecipeWriter;
  readonly #batch: FileBatch;
  readonly #made = new Map<string, Made>([['', 'directory']]);
  readonly #directoryTimes = new Map<string, bigint>();
  readonly #whiteouts = new Set<string>();
  readonly #opaque = new Set<string>();
  /** Directories that pass their group on to what is made in them. */
  readonly #setgid = new Set<string>();
  #sizeBytes = 0;

  constructor(root: string, files: Files, recipe: RecipeWriter) {
    this.#root = root;
    this.#recipe = recipe;
    this.#batch = new FileBatch(files);
  }

  async add(entry: TarEntry, reader: TarReader): Promise<void> {
    const name = cleanEntryName(entry.name);
    const base = baseOf(name);
    if (base.startsWith(WHITEOUT)) return await this.#whiteout(entry, name, base);
    await this.#parents(entry, parentOf(name));
    this.#checkNew(entry, name);
    const path = join(this.#root, name);
    switch (entry.type) {
      case 'directory':
        await this.#directory(entry, name, path);
        return;
      case 'file':
        await this.#file(entry, name, path, reader);
        break;
      case 'link':
        await this.#link(entry, name, path);
        return; // shares owner, mode and times with its target
      case 'symlink':
        this.#sizeBytes += Buffer.byteLength(entry.linkName); // as a file system says, and Docker counts
        await this.#batch.push({ kind: 'symlink', path, target: checkedLink(entry) });
        break;
      case 'character':
        await this.#node(path, entry, S_IFCHR);
        break;
      case 'block':
        await this.#node(path, entry, S_IFBLK);
        break;
      case 'fifo':
        await this.#node(path, entry, S_IFIFO);
        break;
      case 'other':
        throw refuse(entry.name, 'is of a type that cannot be unpacked');
    }
    this.#made.set(name, entry.type === 'file' ? 'file' : 'other');
    await this.#attributes(entry, name, path);
    await this.#batch.push({ kind: 'times', path, accessNs: entry.mtimeNs, modifyNs: entry.mtimeNs });
  }

  /** Makes the whiteouts, then sets the times of directories, which filling them has changed. */
  async finish(): Promise<ExtractedLayer> {
    for (const name of this.#whiteouts) {
      const there = this.#made.get(name);
      if (there === undefined)
        await this.#batch.push({ kind: 'node', path: join(this.#root, name), mode: S_IFCHR, major: 0, minor: 0 });
      else if (there === 'directory') this.#opaque.add(name); // removed and made anew in one layer
    }
    for (const name of this.#opaque) {
      await this.#batch.push({
        kind: 'xattr',
        path: join(this.#root, name),
        name: OVERLAY_OPAQUE,
        value: Buffer.from('y'),
      });
    }
    for (const [name, modifyNs] of this.#directoryTimes) {
      await this.#batch.push({ kind: 'times', path: join(this.#root, name), accessNs: modifyNs, modifyNs });
    }
    await this.#batch.finish();
    return { sizeBytes: this.#sizeBytes };
  }

  /** Nothing is written any more when this resolves. */
  async settle(): Promise<void> {
    await this.#batch.settle();
  }

  async #whiteout(entry: TarEntry, name: string, base: string): Promise<void> {
    const parent = parentOf(name);
    await this.#parents(entry, parent);
    if (base === OPAQUE) this.#opaque.add(parent);
    else if (base.startsWith(WHITEOUT_META)) return; // aufs's book-keeping
    else {
      const hidden = base.slice(WHITEOUT.length);
      if (hidden === '' || hidden === '.' || hidden === '..') throw refuse(entry.name, 'is no valid whiteout');
      this.#whiteouts.add(parent === '' ? hidden : `${parent}/${hidden}`);
    }
    if (entry.storedBytes > 0) throw refuse(entry.name, 'is a whiteout with content');
  }

  async #parents(entry: TarEntry, parent: string): Promise<void> {
    const there = this.#made.get(parent);
    if (there === 'directory') return;
    if (there !== undefined) throw refuse(entry.name, `lies below ${JSON.stringify(parent)}, which is not a directory`);
    await this.#parents(entry, parentOf(parent));
    const path = join(this.#root, parent);
    this.#made.set(parent, 'directory');
    await this.#batch.push({ kind: 'mkdir', path, mode: 0o755 });
    await this.#batch.push({ kind: 'chmod', path, mode: 0o755 });
  }

  /** Docker's layers cannot hold a path twice either; directories may be told of again. */
  #checkNew(entry: TarEntry, name: string): void {
    const there = this.#made.get(name);
    if (there === undefined || (there === 'directory' && entry.type === 'directory')) return;
    throw refuse(entry.name, 'is in the archive twice: duplicates of file paths not supported');
  }

  async #directory(entry: TarEntry, name: string, path: string): Promise<void> {
    const isNew = !this.#made.has(name);
    if (isNew) await this.#batch.push({ kind: 'mkdir', path, mode: this.#firstMode(entry, name) });
    this.#made.set(name, 'directory');
    // As dockerd (asked: 20.10): the root directory itself stays root's with mode 755. `tar -C "$(mktemp -d)" -c .` says 700,
    // and no user but root could run anything in such an image.
    if (name === '') return;
    if ((entry.mode & S_ISGID) === 0) this.#setgid.delete(name);
    else this.#setgid.add(name);
    this.#directoryTimes.set(name, entry.mtimeNs);
    await this.#attributes(entry, name, path, isNew);
  }

  /** Whether what is made is root's already, with the mode it was made with. */
  #isOwnedWhenMade({ uid, gid }: TarEntry, name: string): boolean {
    return uid === 0 && gid === 0 && !this.#setgid.has(parentOf(name));
  }

  #firstMode(entry: TarEntry, name: string): number {
    return this.#isOwnedWhenMade(entry, name) ? entry.mode : 0o600;
  }

  async #file(entry: TarEntry, name: string, path: string, reader: TarReader): Promise<void> {
    this.#sizeBytes += entry.sizeBytes;
    if (entry.sparse === null) {
      const wait = this.#recipe.file(name, entry.storedBytes);
      if (wait !== undefined) await wait;
    }
    if (isSmall(entry)) {
      await this.#batch.push({ kind: 'file', path, mode: this.#firstMode(entry, name), content: await reader.bytes() });
      return;
    }
    await this.#batch.drain(); // the directory must be there
    const file = await open(fsPath(path), 'wx', 0o600);
    try {
      // Of a sparse file the archive holds less than the file: its bytes go into the recipe as they are.
      await writeContent(file.fd, entry, reader, (piece) => this.#recipe.raw(piece));
    } finally {
      await file.close();
    }
  }

  async #link(entry: TarEntry, name: string, path: string): Promise<void> {
    const target = cleanLinkTarget(entry.name, entry.linkName);
    const there = this.#made.get(target);
    if (there === undefined || there === 'directory') {
      throw refuse(
        entry.name,
        `is a hard link to ${JSON.stringify(entry.linkName)}, which this archive does not hold as a file before it`,
      );
    }
    this.#made.set(name, there);
    await this.#batch.push({ kind: 'link', path, target: join(this.#root, target) });
  }

  async #node(path: string, entry: TarEntry, format: number): Promise<void> {
    await this.#batch.push({ kind: 'node', path, mode: format | 0o600, major: entry.major, minor: entry.minor });
  }

  /** Owner first: changing it takes setuid bits and capabilities away. */
  async #attributes(entry: TarEntry, name: string, path: string, hasMode = this.#hasFirstMode(entry)): Promise<void> {
    const isOwned = hasMode && this.#isOwnedWhenMade(entry, name);
    if (!isOwned) await this.#batch.push({ kind: 'chown', path, uid: entry.uid, gid: entry.gid });
    if (!isOwned && entry.type !== 'symlink') await this.#batch.push({ kind: 'chmod', path, mode: entry.mode });
    for (const [key, value] of entry.xattrs) {
      if (!key.startsWith(OVERLAY_XATTRS)) this.#batch.later(path, key, value);
    }
  }

  /** Small files are made with their mode; large ones, nodes and links get it afterwards. */
  #hasFirstMode(entry: TarEntry): boolean {
    return entry.type === 'file' && isSmall(entry);
  }
}

function isSmall(entry: TarEntry): boolean {
  return entry.sparse === null && entry.sizeBytes <= SMALL_BYTES_MAX;
}

function checkedLink(entry: TarEntry): string {
  if (entry.linkName === '') throw refuse(entry.name, 'is a symbolic link to nothing');
  return entry.linkName;
}
