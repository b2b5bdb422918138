/**
 * User namespaces of containers with --userns-remap. A network namespace must be made inside of its container's user
 * namespace, or the container's root would have no say in it; so both are made ahead of the runtime, which joins them.
 * A small program holds them while the daemon writes the ID maps and binds them (native/holder.c).
 * Source: user_namespaces(7).
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { Socket } from 'node:net';

import { EngineError } from '../core/engine-error.ts';
import type { IdMap, IdRange } from '../core/id-map.ts';
import type { Kernel } from '../kernel/port.ts';

const MS_BIND = 0x1000;

export interface HeldNamespaces extends AsyncDisposable {
  /** Leads to the network namespace until this is disposed of. */
  readonly networkSource: string;
}

export class UserNamespaces {
  readonly #kernel: Pick<Kernel, 'processes' | 'mounts'>;
  readonly #holder: string;
  readonly #directory: string;

  constructor(options: {
    readonly kernel: Pick<Kernel, 'processes' | 'mounts'>;
    /** The program that is built of native/holder.c. */
    readonly holder: string;
    readonly execRoot: string;
  }) {
    this.#kernel = options.kernel;
    this.#holder = options.holder;
    this.#directory = `${options.execRoot}/userns`;
  }

  /** Where a container's own is bound. */
  path(id: string): string {
    return `${this.#directory}/${id}`;
  }

  /** A user namespace for the container, bound at path(), and a network namespace in it. */
  async create(id: string, map: IdMap): Promise<HeldNamespaces> {
    await this.remove(id); // of a run that was not given back
    const { pid, ...held } = await this.#hold([]);
    try {
      await writeFile(`/proc/${pid}/uid_map`, formatMap(map.uids));
      await writeFile(`/proc/${pid}/gid_map`, formatMap(map.gids));
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await writeFile(this.path(id), '', { mode: 0o444 });
      const target = this.path(id);
      await this.#kernel.mounts.mount({ source: `/proc/${pid}/ns/user`, target, type: '', flags: MS_BIND, data: '' });
    } catch (error) {
      await held[Symbol.asyncDispose]();
      await this.remove(id);
      throw error;
    }
    return held;
  }

  /** A network namespace in a user namespace that is there already. */
  async join(userNamespace: string): Promise<HeldNamespaces> {
    return this.#hold([userNamespace]);
  }

  /** Idempotent. */
  async remove(id: string): Promise<void> {
    await this.#kernel.mounts.unmount(this.path(id));
    await rm(this.path(id), { force: true });
  }

  async #hold(argv: readonly string[]): Promise<HeldNamespaces & { readonly pid: number }> {
    const { processes } = this.#kernel;
    const [mine, theirs] = await processes.socketPair();
    const control = new Socket({ fd: mine });
    try {
      const path = this.#holder;
      const { pid } = await processes.spawn({ path, argv: [path, ...argv], env: [], descriptors: [theirs] });
      const release = async (): Promise<void> => {
        control.destroy();
        await processes.reap(pid);
      };
      if (await isReady(control)) return { pid, networkSource: `/proc/${pid}/ns/net`, [Symbol.asyncDispose]: release };
      await release();
      throw new EngineError(
        'RUNTIME_START_FAILED',
        'no user namespace could be made: the kernel or a limit of it forbids it',
      );
    } catch (error) {
      control.destroy();
      throw error;
    } finally {
      await processes.closeDescriptor(theirs);
    }
  }
}

/** False: it ended without a word. */
async function isReady(control: Socket): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  control.once('data', () => resolve(true));
  control.once('end', () => resolve(false));
  control.once('error', () => resolve(false));
  control.once('close', () => resolve(false));
  return promise;
}

function formatMap(ranges: readonly IdRange[]): string {
  return ranges.map(({ containerId, hostId, count }) => `${containerId} ${hostId} ${count}\n`).join('');
}
