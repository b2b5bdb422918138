/** What a start acquires, in three steps that may fail; held on the host until released. */
import { EngineError } from '../src/core/engine-error.ts';
import type { Container } from '../src/lifecycle/container.ts';
import type { ExecLaunch, Launch } from '../src/runtime/port.ts';
import type { ExecConfig, Resources } from '../src/supervisor/port.ts';
import type { Kernel } from './kernel.ts';
import { never, type Alive } from './runtime.ts';

const STEPS = ['rootfs', 'volumes', 'network'] as const;

export class SimResources implements Resources {
  readonly #kernel: Kernel;
  readonly #alive: Alive;
  /** Containers whose files are there. */
  readonly files: Set<string>;

  constructor(kernel: Kernel, alive: Alive, files: Set<string>) {
    this.#kernel = kernel;
    this.#alive = alive;
    this.files = files;
  }

  async acquire({ id, run }: Container, stack: AsyncDisposableStack): Promise<Launch> {
    const { held, random, quiet } = this.#kernel;
    if (!this.#alive()) return await never();
    if ((held.get(id)?.size ?? 0) > 0)
      this.#kernel.violate('release', `${id} is acquired while an earlier run holds it`);
    const mine = new Set<string>();
    held.set(id, mine);
    for (const step of STEPS) {
      await this.#wait(random.pick([0, 0, 1, 15]));
      if (!quiet && random.oneIn(40)) throw new EngineError('RUNTIME_FAILED', `no ${step}`);
      mine.add(step);
      stack.defer(async () => {
        await this.#wait(random.below(3));
        mine.delete(step);
      });
    }
    return { id, run, runtime: 'sim', oci: {}, tty: false, stdin: 'none', consoleSize: [0, 0], log: null };
  }

  leaving(): void {}

  async release({ id }: Container): Promise<void> {
    await this.#wait(this.#kernel.random.pick([0, 1, 20]));
    this.#kernel.held.delete(id);
  }

  async adopt(): Promise<void> {
    await this.#wait(0);
  }

  async destroy({ id }: Container): Promise<void> {
    await this.#wait(this.#kernel.random.pick([0, 5, 50]));
    const live = this.#kernel.live(id);
    if (live.length > 0) this.#kernel.violate('removal', `${id} is destroyed while pid ${live[0]?.pid} lives`);
    if (!this.#kernel.quiet && this.#kernel.random.oneIn(40))
      throw new EngineError('RUNTIME_FAILED', 'directory not empty');
    this.files.delete(id);
  }

  async execLaunch(_container: Container, execId: string, exec: ExecConfig): Promise<ExecLaunch> {
    return { execId, process: {}, tty: exec.tty, consoleSize: [0, 0], record: JSON.stringify(exec) };
  }

  limits(): object {
    return {};
  }

  eventAttributes({ name }: Container): Record<string, string> {
    return { name };
  }

  async #wait(ms: number): Promise<void> {
    if (!this.#alive()) return await never();
    if (ms > 0) await new Promise<void>((resolve) => this.#kernel.later(ms, resolve));
    if (!this.#alive()) return await never();
  }
}
