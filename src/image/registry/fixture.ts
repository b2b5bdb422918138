/** What this room's tests share: stores in a scratch directory, and Debian's docker-registry beside them. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import { systemClock } from '../../core/clock.ts';
import { silent } from '../../core/log.ts';
import { openKernel } from '../../kernel/kernel.ts';
import type { Kernel } from '../../kernel/port.ts';
import { openStore } from '../../store/store.ts';

import { openImages } from '../images.ts';
import type { Images, Progress } from '../port.ts';
import type { RegistryOptions } from './endpoint.ts';
import { tarOf } from './fake-registry.ts';

export class Fixture implements AsyncDisposable {
  readonly scratch: string;
  readonly #kernel: Kernel;
  readonly #registries: ChildProcess[] = [];

  private constructor(scratch: string, kernel: Kernel) {
    this.scratch = scratch;
    this.#kernel = kernel;
  }

  static async make(): Promise<Fixture> {
    return new Fixture(await mkdtemp(join(tmpdir(), 'image-registry-')), await openKernel());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const registry of this.#registries) registry.kill('SIGKILL');
    await this.#kernel[Symbol.asyncDispose]();
    await rm(this.scratch, { recursive: true, force: true });
  }

  /** A store of its own under this name. */
  async open(name: string, registry: Partial<RegistryOptions> = {}): Promise<Images> {
    const dataRoot = join(this.scratch, name);
    const store = openStore({ path: join(dataRoot, 'state.db'), clock: systemClock, logger: silent });
    const events = { publish: () => {} };
    return await openImages({
      dataRoot,
      kernel: this.#kernel,
      store,
      events,
      clock: systemClock,
      logger: silent,
      registry,
    });
  }

  /** Its port on 127.0.0.1. `more` goes into its configuration. */
  async startRegistry(name: string, more: string): Promise<number> {
    const probe = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => probe.once('listening', resolve));
    const { port } = probe.address() as AddressInfo;
    await new Promise((resolve) => probe.close(resolve));
    const file = join(this.scratch, `${name}.yml`);
    const storage = `storage: {filesystem: {rootdirectory: ${this.scratch}/${name}}, delete: {enabled: true}}`;
    await writeFile(
      file,
      `version: 0.1\nlog: {level: error}\n${storage}\nhttp: {addr: "127.0.0.1:${port}"}\n${more}\n`,
    );
    this.#registries.push(spawn('docker-registry', ['serve', file], { stdio: 'ignore' }));
    for (let i = 0; i < 100; i++) {
      const isUp = await new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
        socket.on('connect', () => socket.destroy());
      });
      if (isUp) return port;
      await sleep(50);
    }
    throw new Error('docker-registry did not start');
  }
}

/** Of pulls and pushes. */
export const DEFAULTS = { allTags: false, platform: null, auth: null, signal: new AbortController().signal };

/** "id: text" without figures, repeats left out. */
export async function linesOf(progress: AsyncIterable<Progress>): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of progress) {
    if (line.kind !== 'status') continue;
    const text = line.id === undefined ? line.text : `${line.id}: ${line.text}`;
    if (lines.at(-1) !== text) lines.push(text);
  }
  return lines;
}

/** An image of one file. Its ID. */
export async function importFile(images: Images, reference: string, content: string | Buffer): Promise<string> {
  const source = Readable.from([tarOf('f', Buffer.from(content))]);
  return (await images.importTar({ source, reference, message: '', changes: [], platform: null })).id;
}
