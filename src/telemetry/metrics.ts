/**
 * Figures in Prometheus form. Those that dockerd has too bear its names (engine_daemon_..., builder_...), so that
 * dashboards made for it work; the others begin with longshore_. What can be read is read when it is asked for.
 * Source: moby daemon/metrics.go, builder/dockerfile/metrics.go (v28). docs/metrics.md lists them all.
 */
import { performance } from 'node:perf_hooks';

import type * as Prom from 'prom-client';
import type { Counter, Gauge, Histogram, Registry } from 'prom-client';

import type { Watcher } from './port.ts';
import { whenEnded } from './observe-port.ts';

/** Upper bounds in seconds: a stop takes up to its timeout, an API read less than a millisecond. */
const BUCKETS_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** What is read at the time of a scrape. */
export interface MetricSources {
  /** Docker's status ("running") → containers. */
  readonly containers: () => ReadonlyMap<string, number>;
  /** As EventBus counts them: `waiting` is what the slowest subscriber has not taken yet. */
  readonly events: () => {
    readonly published: number;
    readonly subscribers: number;
    readonly waiting: number;
    readonly fallenBehind: number;
  };
  /** By driver of a log service, since the daemon's start. */
  readonly logs: () => readonly {
    readonly driver: string;
    readonly sentLines: number;
    readonly sentBytes: number;
    readonly refusedLines: number;
    readonly droppedBytes: number;
    readonly failures: number;
  }[];
}

/** Labels of engine_daemon_engine_info, with dockerd's names. */
export type EngineLabels = Readonly<
  Record<
    | 'version'
    | 'commit'
    | 'architecture'
    | 'graphdriver'
    | 'kernel'
    | 'os'
    | 'os_type'
    | 'os_version'
    | 'daemon_id'
    | 'runtime',
    string
  >
>;

export interface Metrics extends Watcher {
  /** An automatic or asked-for restart, and why. */
  restarted(cause: string): void;
  ended(outcome: 'clean' | 'failed' | 'oom'): void;
  /** One that ran, and did not end well; one that could not be started is seen by watch(). */
  probeFailed(): void;
  engine(labels: EngineLabels, host: { readonly cpus: number; readonly memoryBytes: number }): void;
  readFrom(sources: MetricSources): void;
  /** The exposition format, and its content type. */
  text(): Promise<string>;
  readonly contentType: string;
}

/** Loads the library only now: a daemon without --metrics-addr never does. */
export async function openMetrics(): Promise<Metrics> {
  const prom = await import('prom-client');
  return new PrometheusMetrics(prom, new prom.Registry());
}

class PrometheusMetrics implements Metrics {
  readonly #registry: Registry;
  readonly #operations: Histogram<'operation' | 'outcome'>;
  readonly #containerActions: Histogram<'action'>;
  readonly #networkActions: Histogram<'action'>;
  readonly #requests: Histogram<'method' | 'route' | 'status'>;
  readonly #restarts: Counter<'cause'>;
  readonly #ends: Counter<'outcome'>;
  readonly #probes: Counter;
  readonly #probesFailed: Counter;
  readonly #probeStarts: Histogram;
  readonly #builds: Counter;
  readonly #buildsFailed: Counter;
  readonly #gauge: (name: string, help: string, labels?: readonly string[]) => Gauge;
  readonly #counter: (name: string, help: string, labels?: readonly string[]) => Counter;
  /** Each sets figures that are read, not counted, when somebody asks. */
  readonly #readers: (() => void)[] = [];
  readonly contentType: string;

  constructor(prom: typeof Prom, registry: Registry) {
    const registers = [registry];
    const counter = <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []): Counter<L> =>
      new prom.Counter({ name, help, labelNames, registers });
    const histogram = <L extends string = never>(
      name: string,
      help: string,
      labelNames: readonly L[] = [],
    ): Histogram<L> => new prom.Histogram({ name, help, labelNames, registers, buckets: BUCKETS_S });
    this.#gauge = (name, help, labelNames = []) => new prom.Gauge({ name, help, labelNames, registers });
    this.#counter = counter;
    this.#registry = registry;
    this.contentType = registry.contentType;

    this.#operations = histogram('longshore_operation_seconds', 'Time of a piece of work, by its outcome', [
      'operation',
      'outcome',
    ]);
    this.#requests = histogram(
      'longshore_api_request_seconds',
      'Time from an API request to the first byte of its answer',
      ['method', 'route', 'status'],
    );
    this.#containerActions = histogram(
      'engine_daemon_container_actions_seconds',
      'The number of seconds it takes to process each container action',
      ['action'],
    );
    this.#networkActions = histogram(
      'engine_daemon_network_actions_seconds',
      'The number of seconds it takes to process each network action',
      ['action'],
    );
    this.#restarts = counter('longshore_container_restarts_total', 'Restarts of containers, by their cause', ['cause']);
    this.#ends = counter('longshore_container_ends_total', 'Ended runs of containers', ['outcome']);
    this.#probes = counter('engine_daemon_health_checks_total', 'The total number of health checks');
    this.#probesFailed = counter(
      'engine_daemon_health_checks_failed_total',
      'The total number of failed health checks',
    );
    this.#probeStarts = histogram(
      'engine_daemon_health_check_start_duration_seconds',
      'The number of seconds it takes to prepare to run health checks',
    );
    this.#builds = counter('builder_builds_triggered_total', 'Number of triggered image builds');
    this.#buildsFailed = counter('builder_builds_failed_total', 'Number of failed image builds');
    this.#ownProcess();
  }

  readonly watch: Watcher['watch'] = ({ operation }, run) => {
    const startedMs = performance.now();
    if (operation === 'runtime.probe') this.#probes.inc();
    return whenEnded(run, (error) => {
      const seconds = (performance.now() - startedMs) / 1000;
      this.#operations.observe({ operation, outcome: error === null ? 'ok' : 'failed' }, seconds);
      const [room, action = ''] = operation.split('.');
      if (room === 'image' && action === 'build') {
        this.#builds.inc();
        if (error !== null) this.#buildsFailed.inc();
      }
      if (operation === 'runtime.probe') {
        this.#probeStarts.observe(seconds);
        if (error !== null) this.#probesFailed.inc();
      }
      if (error !== null) return;
      if (room === 'container') this.#containerActions.observe({ action }, seconds);
      if (room === 'network') this.#networkActions.observe({ action }, seconds);
    });
  };

  readonly watchRequest: Watcher['watchRequest'] = async ({ method, route }, serve) => {
    const startedMs = performance.now();
    await serve((status) => {
      // A path that is no route would make a series for each text that a client tries.
      const labels = { method, route: route === '' ? 'unknown' : route, status: String(status) };
      this.#requests.observe(labels, (performance.now() - startedMs) / 1000);
    });
  };

  restarted(cause: string): void {
    this.#restarts.inc({ cause });
  }

  ended(outcome: 'clean' | 'failed' | 'oom'): void {
    this.#ends.inc({ outcome });
  }

  probeFailed(): void {
    this.#probesFailed.inc();
  }

  engine(labels: EngineLabels, { cpus, memoryBytes }: { readonly cpus: number; readonly memoryBytes: number }): void {
    this.#gauge(
      'engine_daemon_engine_info',
      'The information related to the engine and the OS it is running on',
      Object.keys(labels),
    ).set(labels, 1);
    this.#gauge('engine_daemon_engine_cpus_cpus', 'The number of cpus that the host system of the engine has').set(
      cpus,
    );
    this.#gauge(
      'engine_daemon_engine_memory_bytes',
      'The number of bytes of memory that the host system of the engine has',
    ).set(memoryBytes);
  }

  readFrom({ containers, events, logs }: MetricSources): void {
    const states = this.#gauge(
      'engine_daemon_container_states_containers',
      'The count of containers in various states',
      ['state'],
    );
    const statuses = this.#gauge('longshore_containers', "Containers by Docker's status", ['status']);
    this.#readers.push(() => {
      statuses.reset();
      const found = containers();
      for (const [status, count] of found) statuses.set({ status }, count);
      // dockerd knows three: what waits for its restart is running there, all that does not run is stopped.
      const running = (found.get('running') ?? 0) + (found.get('restarting') ?? 0);
      const paused = found.get('paused') ?? 0;
      const all = [...found.values()].reduce((sum, count) => sum + count, 0);
      states.set({ state: 'running' }, running);
      states.set({ state: 'paused' }, paused);
      states.set({ state: 'stopped' }, all - running - paused);
    });

    const published = this.#counter('engine_daemon_events_total', 'The number of events logged');
    const subscribers = this.#gauge(
      'engine_daemon_events_subscribers_total',
      'The number of current subscribers to events',
    );
    const waiting = this.#gauge('longshore_events_waiting', 'Events that the slowest subscriber has not taken yet');
    const behind = this.#counter(
      'longshore_events_fallen_behind_total',
      'Times that a subscriber went back to the journal',
    );
    this.#readers.push(() => {
      const now = events();
      published.reset();
      published.inc(now.published);
      subscribers.set(now.subscribers);
      waiting.set(now.waiting);
      behind.reset();
      behind.inc(now.fallenBehind);
    });

    const logFigures = [
      ['sentBytes', 'longshore_log_sent_bytes_total', 'Container output that log services took, in bytes'],
      ['sentLines', 'longshore_log_sent_lines_total', 'Lines that log services took'],
      ['refusedLines', 'longshore_log_refused_lines_total', 'Lines that a log service refused for good'],
      ['droppedBytes', 'longshore_log_dropped_bytes_total', 'Output that rotation took before a log service got it'],
      ['failures', 'longshore_log_failures_total', 'Batches that could not be sent at the first try'],
    ] as const;
    const logCounters = logFigures.map(([key, name, help]) => ({
      key,
      counter: this.#counter(name, help, ['driver']),
    }));
    this.#readers.push(() => {
      const found = logs();
      for (const { key, counter } of logCounters) {
        counter.reset();
        for (const { driver, ...figures } of found) counter.inc({ driver }, figures[key]);
      }
    });
  }

  async text(): Promise<string> {
    for (const read of this.#readers) read();
    return await this.#registry.metrics();
  }

  /** The daemon itself, under the names that every Prometheus client library uses. */
  #ownProcess(): void {
    const rss = this.#gauge('process_resident_memory_bytes', 'Resident memory of the daemon in bytes');
    const heap = this.#gauge('nodejs_heap_size_used_bytes', 'Used JavaScript heap of the main thread in bytes');
    const external = this.#gauge(
      'nodejs_external_memory_bytes',
      'Buffers and other memory outside of the heap in bytes',
    );
    const cpu = this.#counter('process_cpu_seconds_total', 'User and system CPU time of the daemon in seconds');
    const busy = this.#gauge(
      'nodejs_eventloop_utilization',
      'Part of the time since the last scrape that the main loop was busy',
    );
    this.#gauge('process_start_time_seconds', 'Start of the daemon, seconds since 1970').set(
      performance.timeOrigin / 1000,
    );
    let last = performance.eventLoopUtilization();
    this.#readers.push(() => {
      const memory = process.memoryUsage();
      rss.set(memory.rss);
      heap.set(memory.heapUsed);
      external.set(memory.external);
      const { user, system } = process.cpuUsage();
      cpu.reset();
      cpu.inc((user + system) / 1e6);
      const now = performance.eventLoopUtilization();
      busy.set(performance.eventLoopUtilization(now, last).utilization);
      last = now;
    });
  }
}
