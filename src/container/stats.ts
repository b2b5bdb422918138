/**
 * `docker stats`. However many clients watch a container, it is sampled once a second: the first one starts that and
 * the last one ends it; one timer serves all containers. Source: moby daemon/stats/collector.go, daemon/stats.go (v28).
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Clock } from '../core/clock.ts';
import { formatTime, ZERO_TIME } from '../core/clock.ts';
import type { Container } from '../lifecycle/container.ts';
import type { CounterReader, Counters, HostCpu } from './cgroup-counters.ts';
import type { StatsSample } from './port.ts';
import { liveOf } from './status.ts';

const PERIOD_MS = 1000;
/** Containers that are sampled in one go; then others have their turn. */
const BATCH = 16;

export interface StatsNeeds {
  readonly clock: Clock;
  /** The latest snapshot; undefined when it was removed. */
  find(id: string): Container | undefined;
  readHost(): HostCpu;
  /** Opens the counters of a live container. */
  open(container: Container, pid: number): Promise<CounterReader>;
  onError(id: string, error: unknown): void;
}

type Watcher = (sample: StatsSample | null) => void;

interface Watched {
  readonly watchers: Set<Watcher>;
  /** null until there is a live process, and again when it ends. */
  reader: { readonly pid: number; readonly counters: CounterReader } | null;
  previous: Pick<StatsSample, 'read' | 'cpu'> | null;
}

export class StatsHub {
  readonly #needs: StatsNeeds;
  readonly #watched = new Map<string, Watched>();
  #timer: Disposable | null = null;

  constructor(needs: StatsNeeds) {
    this.#needs = needs;
  }

  get watchedCount(): number {
    return this.#watched.size;
  }

  /** One sample by itself, with none before it to compare with; empty when nothing runs. */
  async once(container: Container): Promise<StatsSample> {
    const live = liveOf(container);
    if (live === null) return emptySample(container);
    using reader = await this.#needs.open(container, live.pid);
    return sampleOf(container, formatTime(this.#needs.clock.wallNs()), reader.read(), this.#needs.readHost(), null);
  }

  /** A sample a second until `signal`, or until the container is gone. A slow client misses samples, never queues them. */
  async *watch(id: string, signal: AbortSignal): AsyncGenerator<StatsSample> {
    let latest: StatsSample | null | undefined;
    let wake = (): void => {};
    const watcher: Watcher = (sample) => {
      latest = sample;
      wake();
    };
    const abort = (): void => watcher(null);
    signal.addEventListener('abort', abort, { once: true });
    const release = this.#join(id, watcher);
    try {
      while (!signal.aborted) {
        if (latest === undefined) await new Promise<void>((resolve) => (wake = resolve));
        const sample = latest;
        latest = undefined;
        if (sample === null || signal.aborted) return;
        if (sample !== undefined) yield sample;
      }
    } finally {
      signal.removeEventListener('abort', abort);
      release();
    }
  }

  #join(id: string, watcher: Watcher): () => void {
    const known = this.#watched.get(id);
    const watched = known ?? { watchers: new Set<Watcher>(), reader: null, previous: null };
    watched.watchers.add(watcher);
    if (known === undefined) {
      this.#watched.set(id, watched);
      // The first sample at once, so that a client that wants a difference waits one period and not two.
      void this.#sample(id, watched, this.#needs.readHost());
    }
    this.#timer ??= this.#arm();
    return () => {
      watched.watchers.delete(watcher);
      if (watched.watchers.size > 0 || this.#watched.get(id) !== watched) return;
      this.#watched.delete(id);
      close(watched);
      if (this.#watched.size > 0) return;
      this.#timer?.[Symbol.dispose]();
      this.#timer = null;
    };
  }

  #arm(): Disposable {
    return this.#needs.clock.setTimer(PERIOD_MS, () => {
      this.#timer = this.#watched.size > 0 ? this.#arm() : null;
      void this.#sampleAll();
    });
  }

  async #sampleAll(): Promise<void> {
    const host = this.#needs.readHost();
    let count = 0;
    for (const [id, watched] of this.#watched) {
      void this.#sample(id, watched, host);
      if (++count % BATCH === 0) await nextTurn();
    }
  }

  async #sample(id: string, watched: Watched, host: HostCpu): Promise<void> {
    const container = this.#needs.find(id);
    if (container === undefined) {
      this.#tell(watched, null);
      return;
    }
    try {
      const live = liveOf(container);
      if (live === null || watched.reader?.pid !== live.pid) close(watched);
      if (live === null) {
        this.#tell(watched, emptySample(container));
        return;
      }
      if (watched.reader === null) {
        const counters = await this.#needs.open(container, live.pid);
        // While it was opened the last watcher may have left, or another sample may have opened it too.
        if (watched.watchers.size === 0 || watched.reader !== null) {
          counters[Symbol.dispose]();
          return;
        }
        watched.reader = { pid: live.pid, counters };
      }
      const read = formatTime(this.#needs.clock.wallNs());
      const counters = watched.reader.counters.read();
      const sample = sampleOf(container, read, counters, host, watched.previous);
      watched.previous = sample;
      this.#tell(watched, sample);
    } catch (error) {
      // The process may end between any two reads; the next round sees that.
      close(watched);
      this.#needs.onError(id, error);
    }
  }

  #tell(watched: Watched, sample: StatsSample | null): void {
    for (const watcher of watched.watchers) watcher(sample);
  }
}

function close(watched: Watched): void {
  watched.reader?.counters[Symbol.dispose]();
  watched.reader = null;
  watched.previous = null;
}

function sampleOf(
  container: Container,
  read: string,
  { cpu, ...counters }: Counters,
  host: HostCpu,
  previous: Watched['previous'],
): StatsSample {
  return {
    containerId: container.id,
    name: container.name,
    read,
    preRead: previous?.read ?? ZERO_TIME,
    preCpu: previous?.cpu ?? null,
    onlineCpus: host.onlineCpus,
    cpu: { ...cpu, systemNs: host.systemNs },
    ...counters,
  };
}

/** What Docker sends for a container that does not run: its name and nothing else. */
export function emptySample(container: Container): StatsSample {
  return {
    containerId: container.id,
    name: container.name,
    read: ZERO_TIME,
    preRead: ZERO_TIME,
    cgroupVersion: 'v1',
    onlineCpus: 0,
    cpu: null,
    preCpu: null,
    memory: null,
    pids: null,
    blkio: null,
    networks: null,
  };
}
