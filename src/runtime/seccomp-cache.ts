/**
 * Compiled seccomp filters. Compiling one costs 18-20 ms, more than the rest of a start: each profile is compiled once,
 * kept in memory, and in EXEC_ROOT for the next daemon on this boot.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';

import type { Seccomp } from '../kernel/port.ts';

/** Profiles of their own per container are legal; the memory for them is bounded. */
const KEPT_MAX = 64;
/** Filters that an earlier daemon compiled another way are not taken. */
const COMPILER = '2';
/** A classic BPF instruction. */
const INSTRUCTION_BYTES = 8;

export class SeccompCache {
  readonly #seccomp: Seccomp;
  readonly #directory: string;
  readonly #kept = new Map<string, Promise<string>>();

  constructor(seccomp: Seccomp, directory: string) {
    this.#seccomp = seccomp;
    this.#directory = directory;
  }

  get available(): boolean {
    return this.#seccomp.available;
  }

  /** The filter in base64, as crun's annotation takes it. `profile` is an OCI linux.seccomp object. */
  async filter(profile: object): Promise<string> {
    const key = createHash('sha256')
      .update(`${COMPILER}${JSON.stringify(profile)}`)
      .digest('hex');
    const known = this.#kept.get(key);
    if (known !== undefined) return known;
    const made = this.#make(key, profile);
    this.#kept.set(key, made);
    if (this.#kept.size > KEPT_MAX) this.#kept.delete(this.#kept.keys().next().value as string);
    try {
      return await made;
    } catch (error) {
      this.#kept.delete(key);
      throw error;
    }
  }

  async #make(key: string, profile: object): Promise<string> {
    const path = `${this.#directory}/${key}.bpf`;
    const saved = await readFile(path).catch(() => null);
    if (saved !== null && saved.length > 0 && saved.length % INSTRUCTION_BYTES === 0) return saved.toString('base64');
    const filter = await this.#seccomp.compile(profile);
    // A cache: when the disk is full the next daemon compiles again.
    await this.#save(path, filter).catch(() => {});
    return filter.toString('base64');
  }

  async #save(path: string, filter: Buffer): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeFile(`${path}.new`, filter, { mode: 0o600 });
    await rename(`${path}.new`, path);
  }
}

/** How a filter is loaded is not in the filter. */
export function hasFlags(profile: { readonly flags?: readonly string[] }): boolean {
  return (profile.flags ?? []).length > 0;
}
