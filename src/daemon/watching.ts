/**
 * Puts metrics and traces around the rooms: their ports are wrapped here, so that no room knows of it, and nothing is
 * wrapped (or loaded) when nobody asked for figures or spans.
 */
import { statusOf } from '../container/status.ts';
import type { Containers } from '../container/port.ts';
import type { Builder } from '../build/port.ts';
import type { BusLoad } from '../event/event-bus.ts';
import type { Images } from '../image/port.ts';
import type { Container } from '../lifecycle/container.ts';
import type { StoryEntry } from '../lifecycle/story.ts';
import type { Networks } from '../network/port.ts';
import type { Runtime } from '../runtime/port.ts';
import type { History } from '../store/port.ts';
import { isProbeId } from '../supervisor/probe.ts';
import type { Resources, Supervisor } from '../supervisor/port.ts';
import { openMetrics, type MetricSources, type Metrics } from '../telemetry/metrics.ts';
import { openMetricsServer } from '../telemetry/metrics-server.ts';
import { observePort, watchAll, type Instead, type WorkOf } from '../telemetry/observe-port.ts';
import type { Attributes, WatchRequest, Work } from '../telemetry/port.ts';
import { openTracing } from '../telemetry/tracing.ts';
import type { System } from '../api/port.ts';
import { VERSION } from './version.ts';

export interface Watching extends AsyncDisposable {
  readonly runtime: (runtime: Runtime) => Runtime;
  readonly resources: (resources: Resources) => Resources;
  readonly history: (history: History) => History;
  readonly containers: (containers: Containers) => Containers;
  readonly images: (images: Images) => Images;
  readonly networks: (networks: Networks) => Networks;
  readonly builder: (builder: Builder) => Builder;
  readonly request: WatchRequest | null;
  /** Once all rooms are open: what metrics read, and their address. Returns where they are served; null: nowhere. */
  serve(sources: {
    readonly supervisor: Pick<Supervisor, 'list' | 'get'>;
    readonly events: { load(): BusLoad };
    readonly logs: MetricSources['logs'];
    readonly system: System;
  }): Promise<string | null>;
}

/** @throws PARAMETER_INVALID for OTEL_* variables that cannot be honoured */
export async function openWatching({
  metricsAddress,
  env,
}: {
  /** "" for none. */
  readonly metricsAddress: string;
  readonly env: NodeJS.ProcessEnv;
}): Promise<Watching> {
  await using opening = new AsyncDisposableStack();
  const metrics = metricsAddress === '' ? null : await openMetrics();
  const tracing = await openTracing(env, { version: VERSION });
  if (tracing !== null) opening.use(tracing);
  const watchers = [tracing, metrics].filter((watcher) => watcher !== null);
  const watch = watchAll(watchers.map((watcher) => watcher.watch));
  // Known when the supervisor is: until then nothing runs.
  let find: (id: string) => Container | undefined = () => undefined;
  const attributes = (id: string) => (): Attributes => containerAttributes(id, find(id));
  const observed = <T extends object>(port: T, methods: WorkOf<T>, instead: Instead<T> = {}): T =>
    watch === null ? port : observePort(port, watch, methods, instead);
  const opened = opening.move();
  return {
    runtime: (runtime) =>
      observed(
        runtime,
        runtimeWork(attributes),
        metrics === null ? {} : { onEvent: (tell) => countProbes(tell, metrics) },
      ),
    resources: (resources) =>
      observed(resources, {
        acquire: ({ id }) => ({ operation: 'resources.acquire', attributes: attributes(id) }),
        release: ({ id }) => ({ operation: 'resources.release', attributes: attributes(id) }),
        destroy: ({ id }) => ({ operation: 'resources.destroy', attributes: attributes(id) }),
      }),
    history: (history) => (metrics === null ? history : countRestarts(history, metrics)),
    containers: (containers) => observed(containers, containerWork(containers)),
    images: (images) => observed(images, IMAGE_WORK),
    networks: (networks) => observed(networks, NETWORK_WORK),
    builder: (builder) =>
      observed(builder, {
        build: ({ tags }) => ({ operation: 'image.build', attributes: () => ({ 'image.tags': tags.join(',') }) }),
      }),
    request: watchAllRequests(watchers.map((watcher) => watcher.watchRequest)),
    serve: async ({ supervisor, events, logs, system }) => {
      find = (id) => supervisor.get(id);
      if (metrics === null) return null;
      await describeEngine(metrics, system);
      metrics.readFrom({ containers: () => statuses(supervisor.list()), events: () => events.load(), logs });
      return opened.use(await openMetricsServer(metricsAddress, metrics)).address;
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** OpenTelemetry's names for what is known of a container, and its labels. */
function containerAttributes(id: string, container: Container | undefined): Attributes {
  if (container === undefined) return { 'container.id': id };
  const { name, spec } = container;
  const labels = Object.entries(spec.process.labels).map(([key, value]) => [`container.label.${key}`, value]);
  return {
    'container.id': id,
    'container.name': name,
    'container.image.name': spec.process.image,
    ...(Object.fromEntries(labels) as Attributes),
  };
}

function runtimeWork(attributes: (id: string) => () => Attributes): WorkOf<Runtime> {
  const of =
    (operation: string) =>
    (id: string): Work => ({ operation, attributes: attributes(id) });
  return {
    start: ({ id }) => of('runtime.start')(id),
    exec: (id, { execId }) => of(isProbeId(execId) ? 'runtime.probe' : 'runtime.exec')(id),
    recover: of('runtime.recover'),
    signal: of('runtime.signal'),
    pause: of('runtime.pause'),
    resume: of('runtime.resume'),
    update: of('runtime.update'),
    release: of('runtime.release'),
  };
}

function containerWork(containers: Containers): WorkOf<Containers> {
  const of =
    (operation: string) =>
    (ref: string): Work => ({ operation, attributes: () => attributesOfRef(containers, ref) });
  return {
    create: ({ name, spec }) => ({
      operation: 'container.create',
      attributes: () =>
        name === '' ? { 'container.image.name': spec.process.image } : attributesOfRef(containers, name),
    }),
    start: of('container.start'),
    stop: of('container.stop'),
    restart: of('container.restart'),
    kill: of('container.kill'),
    pause: of('container.pause'),
    unpause: of('container.unpause'),
    rename: of('container.rename'),
    update: of('container.update'),
    remove: of('container.delete'),
    commit: of('container.commit'),
    changes: of('container.changes'),
    execStart: (execId) => ({ operation: 'container.exec', attributes: () => ({ 'container.exec.id': execId }) }),
  };
}

const IMAGE_WORK: WorkOf<Images> = {
  pull: ({ reference }) => ({ operation: 'image.pull', attributes: () => ({ 'container.image.name': reference }) }),
  push: ({ reference }) => ({ operation: 'image.push', attributes: () => ({ 'container.image.name': reference }) }),
  load: () => ({ operation: 'image.load', attributes: () => ({}) }),
  save: (names) => ({ operation: 'image.save', attributes: () => ({ 'container.image.name': names.join(',') }) }),
  remove: (name) => ({ operation: 'image.delete', attributes: () => ({ 'container.image.name': name }) }),
};

const NETWORK_WORK: WorkOf<Networks> = {
  create: ({ name }) => ({ operation: 'network.create', attributes: () => ({ 'network.name': name }) }),
  remove: (name) => ({ operation: 'network.delete', attributes: () => ({ 'network.name': name }) }),
  attach: () => ({ operation: 'network.attach', attributes: () => ({}) }),
  detach: () => ({ operation: 'network.detach', attributes: () => ({}) }),
  connect: (id, _, network) => ({
    operation: 'network.connect',
    attributes: () => ({ 'container.id': id, 'network.name': network.name }),
  }),
  disconnect: (id, network) => ({
    operation: 'network.disconnect',
    attributes: () => ({ 'container.id': id, 'network.name': network.name }),
  }),
};

function attributesOfRef(containers: Containers, ref: string): Attributes {
  try {
    const container = containers.resolve(ref);
    return containerAttributes(container.id, container);
  } catch {
    return { 'container.name': ref }; // It is gone, or never was.
  }
}

/** A probe that ran failed when it ended with anything but 0 (killed after its timeout is 137). */
function countProbes(tell: Runtime['onEvent'], metrics: Metrics): Runtime['onEvent'] {
  return (event) => {
    if (event.kind === 'exec-exited' && event.exitCode !== 0 && isProbeId(event.execId)) metrics.probeFailed();
    tell(event);
  };
}

/** What the story of a container tells is counted where it is written. */
function countRestarts(history: History, metrics: Metrics): History {
  return {
    append: (key, entry, timeNs) => {
      history.append(key, entry, timeNs);
      countEntry((entry as StoryEntry).what, metrics);
    },
    read: (key) => history.read(key),
    close: (key, label, timeNs) => history.close(key, label, timeNs),
    closed: () => history.closed(),
  };
}

function countEntry(what: StoryEntry['what'], metrics: Metrics): void {
  if (what.kind === 'ended') {
    const outcome = what.oomKilled ? 'oom' : what.code === 0 ? 'clean' : 'failed';
    metrics.ended(outcome);
    if (what.decision.kind === 'restart') metrics.restarted(`policy-${outcome}`);
  }
  if (what.kind === 'start-failed' && what.decision.kind === 'restart') metrics.restarted('policy-start-failed');
  if (what.kind === 'asked' && what.for === 'restart') metrics.restarted('asked');
  if (what.kind === 'daemon' && what.does === 'start') metrics.restarted('daemon-start');
}

function statuses(containers: readonly Container[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const container of containers) {
    const status = statusOf(container);
    counts.set(status, (counts.get(status) ?? 0) + 1);
  }
  return counts;
}

async function describeEngine(metrics: Metrics, system: System): Promise<void> {
  const { version } = system;
  const facts = await system.info();
  metrics.engine(
    {
      version: version.version,
      commit: version.gitCommit,
      architecture: facts.architecture,
      graphdriver: 'overlay2',
      kernel: facts.kernelVersion,
      os: facts.operatingSystem,
      os_type: facts.osType,
      os_version: facts.osVersion,
      daemon_id: facts.id,
      runtime: facts.defaultRuntime,
    },
    { cpus: facts.cpus, memoryBytes: facts.memoryBytes },
  );
}

function watchAllRequests(watches: readonly WatchRequest[]): WatchRequest | null {
  const [first, second] = watches;
  if (first === undefined || second === undefined) return first ?? null;
  return (request, serve) =>
    first(request, (tellFirst) =>
      second(request, (tellSecond) =>
        serve((status) => {
          tellFirst(status);
          tellSecond(status);
        }),
      ),
    );
}
