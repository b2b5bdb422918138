/**
 * The composition root, and what an embedding program imports: opens every room in order, connects their ports, and
 * closes them in reverse. What fails half-way closes what was opened.
 */
import { mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';

import { parseListener, type Listener } from '../api/listen.ts';
import { openApi } from '../api/open-api.ts';
import { parseScopedHost, type Scope } from '../api/scope.ts';
import { createBuilder } from '../build/builder.ts';
import { openContainers } from '../container/containers.ts';
import type { Containers } from '../container/port.ts';
import { systemClock } from '../core/clock.ts';
import { isRemapped } from '../core/id-map.ts';
import type { Logger } from '../core/log.ts';
import { EventBus } from '../event/event-bus.ts';
import { openImages } from '../image/images.ts';
import type { Images } from '../image/port.ts';
import type { RegistryOptions } from '../image/registry/endpoint.ts';
import { openRegistries } from '../image/registry/registries.ts';
import { treeArchive } from '../image/tree-archive.ts';
import { openKernel } from '../kernel/kernel.ts';
import { decodeContainer } from '../lifecycle/created.ts';
import { isLive } from '../lifecycle/state.ts';
import { checkDefaultLog } from '../log/log-options.ts';
import { openLogTending } from '../log/log-tending.ts';
import { readLog } from '../log/read-log.ts';
import { openNetworks } from '../network/open-networks.ts';
import type { Networks } from '../network/port.ts';
import { findInit } from '../runtime/detect.ts';
import { openApparmor } from '../runtime/apparmor.ts';
import { readHostFacts as readRuntimeFacts } from '../runtime/host-facts.ts';
import { openRuntime } from '../runtime/oci-runtime.ts';
import { UserNamespaces } from '../runtime/user-namespaces.ts';
import { openStore } from '../store/store.ts';
import { openSupervisor } from '../supervisor/supervisor.ts';
import { openVolumes } from '../volume/volumes.ts';
import type { Volumes } from '../volume/port.ts';
import { isLoopback, type DaemonOptions } from './daemon-options.ts';
import { remappedDataRoot, resolveRemap } from './remap.ts';
import { describeStuck } from './stuck.ts';
import { loadedOnce, recoverEngine } from './recovery.ts';
import { openSystem } from './system.ts';
import { adjustOomScore, decideCgroupDriver, readSeccompProfile } from './host-settings.ts';
import { tlsFiles } from './tls.ts';
import { chooseRuntimes } from './runtimes.ts';
import { nativeProgram } from './native-program.ts';
import { createOwnerLookup } from './owner-lookup.ts';
import { VERSION } from './version.ts';
import { openWatching } from './watching.ts';

export interface Engine extends AsyncDisposable {
  /** Where the API listens, in --host's form. */
  readonly addresses: readonly string[];
  readonly containers: Containers;
  readonly images: Images;
  readonly networks: Networks;
  readonly volumes: Volumes;
  readonly events: EventBus;
}

export async function openEngine({
  options: given,
  logger,
}: {
  readonly options: DaemonOptions;
  readonly logger: Logger;
}): Promise<Engine> {
  await using opening = new AsyncDisposableStack();
  const clock = systemClock;
  const ids = await resolveRemap(given.usernsRemap, logger);
  const options = { ...given, dataRoot: await remappedDataRoot(given.dataRoot, ids) };
  const { dataRoot, execRoot } = options;
  checkDefaultLog({ driver: options.logDriver, options: options.logOptions });
  await Promise.all([
    mkdir(dataRoot, { recursive: true, mode: 0o710 }),
    mkdir(execRoot, { recursive: true, mode: 0o711 }),
    mkdir(join(dataRoot, 'tmp'), { recursive: true, mode: 0o700 }),
  ]);

  const kernel = opening.use(await openKernel());
  const cgroupDriver = decideCgroupDriver(options, kernel.cgroups);
  const seccompProfile = await readSeccompProfile(options.seccompProfile);
  await adjustOomScore(options.oomScoreAdjust);
  const store = opening.use(openStore({ path: join(dataRoot, 'longshore.db'), clock, logger }));
  const events = new EventBus({ clock, journal: store.journal });
  const watching = opening.use(await openWatching({ metricsAddress: options.metricsAddress, env: process.env }));
  const [facts, runtimes, plainImages, plainNetworks, volumes] = await Promise.all([
    readRuntimeFacts(kernel),
    chooseRuntimes(options, logger),
    openImages({
      dataRoot,
      kernel,
      ids,
      store,
      events,
      clock,
      logger,
      dockerVersion: VERSION,
      registry: registryOptions(options),
    }),
    openNetworks({
      execRoot,
      kernel,
      store,
      events,
      clock,
      logger,
      ...options.network.networks,
      ids,
    }),
    openVolumes({ dataRoot, kernel, store, events, clock, logger, ids }),
  ]);
  const images = watching.images(plainImages);
  const networks = watching.networks(plainNetworks);
  // networks.recover() switches it on; the warnings of new containers should know.
  const host = { ...facts, ipv4Forwarding: facts.ipv4Forwarding || (options.network.networks.ipForward ?? true) };
  const runtime = watching.runtime(
    await openRuntime({
      execRoot,
      kernel,
      shimPath: nativeProgram('shim'),
      execHelperPath: nativeProgram('exec-helper'),
      runtimes: runtimes.table,
      systemdCgroup: cgroupDriver === 'systemd',
      realtime: options.cpuRealtime,
      ...(facts.apparmor ? { apparmor: openApparmor(execRoot, logger) } : {}),
      logger,
    }),
  );
  const archive = treeArchive(kernel, ids);
  const initPath = options.initPath || (await findInit(dirname(nativeProgram('shim'))));
  const logTending = opening.use(
    openLogTending({
      host: {
        hostname: hostname(),
        env: process.env,
        sendDatagrams: (path, messages, large) => kernel.sendDatagrams(path, messages, large),
      },
      replace: (id, inode) => runtime.logCompressed?.(id, inode) ?? false,
      clock,
      logger,
    }),
  );
  const supervisorOf = (): typeof supervisor => supervisor;
  const {
    containers: plainContainers,
    resources,
    tendRemainders,
  } = openContainers({
    supervisor: supervisorOf,
    images,
    networks,
    volumes,
    treeArchive: archive,
    events,
    history: store.history,
    readLog,
    logTending,
    clock,
    logger,
    files: kernel.files,
    mounts: kernel.mounts,
    cgroups: kernel.cgroups,
    userNamespaces: new UserNamespaces({ kernel, holder: isRemapped(ids) ? nativeProgram('holder') : '', execRoot }),
    host,
    daemon: {
      ids,
      cdiSpecDirs: options.cdiSpecDirs,
      cgroupParent: options.cgroupParent,
      cgroupDriver,
      init: options.init,
      initPath,
      noNewPrivileges: options.noNewPrivileges,
      seccompProfile,
      ulimits: options.defaultUlimits,
      ipcMode: options.defaultIpcMode,
      cgroupnsMode: options.defaultCgroupnsMode,
      shmSizeBytes: options.defaultShmSizeBytes,
      runtimes: Object.keys(runtimes.table),
      defaultRuntime: runtimes.fallback,
    },
    settings: {
      dataRoot,
      hostname: hostname(),
      defaultLog: { driver: options.logDriver, options: options.logOptions },
      platform: { os: 'linux', architecture: host.architecture, variant: '' },
      dns: {
        servers: options.network.dns,
        options: options.network.dnsOptions,
        search: options.network.dnsSearch,
      },
    },
  });
  const records = loadedOnce(store.collection('containers', decodeContainer));
  const supervisor = openSupervisor({
    clock,
    logger,
    records,
    runtime,
    resources: watching.resources(resources),
    events,
    history: watching.history(store.history),
    stuck: describeStuck,
  });
  opening.use(supervisor);
  await recoverEngine({
    records,
    images,
    networks,
    volumes,
    supervisor,
    setAside: () => store.setAside(),
    dataRoot,
    files: kernel.files,
    logger,
  });
  tendRemainders();
  // While containers run, their network stays; else nothing of ours is left on the host.
  opening.defer(() => networks.shutdown({ keep: supervisor.list().some(({ state }) => isLive(state)) }));
  opening.defer(() =>
    supervisor.shutdown({ stopContainers: !options.liveRestore, timeoutS: options.shutdownTimeoutS }),
  );

  const containers = watching.containers(plainContainers);
  const builder = createBuilder({
    images,
    containers,
    treeArchive: archive,
    scratchDir: join(dataRoot, 'tmp'),
    logger,
    removeTree: (path) => kernel.files.removeTree(path),
    lookUpOwner: createOwnerLookup(kernel.files),
    fetch: (url) => fetch(url),
  });
  const system = openSystem({ options, host, cgroupDriver, runtimes, initPath, remapped: isRemapped(ids) });
  const registry = openRegistries(registryOptions(options));
  const tls = await tlsFiles(options);
  const listenerOf = (host: string, group: string, scope: Scope | null): Listener => {
    const open = host.startsWith('tcp://') && tls === null && !isLoopback(host);
    if (open) logger.warn({ host }, 'whoever reaches this address can become root on this host: it has no TLS');
    return parseListener(host, host.startsWith('tcp://') ? tls : null, group, scope);
  };
  const api = await openApi(
    {
      containers,
      images,
      networks,
      volumes,
      events,
      treeArchive: archive,
      system,
      builder: watching.builder(builder),
      registry,
      clock,
      logger,
    },
    {
      listeners: [
        ...options.hosts.map((text) => listenerOf(text, options.group, null)),
        ...options.scopedHosts.map((text) => {
          const { host, group, scope } = parseScopedHost(text);
          return listenerOf(host, group ?? options.group, scope);
        }),
      ],
      watch: watching.request ?? undefined,
    },
  );
  opening.use(api);
  const metricsAddress = await watching.serve({ supervisor, events, logs: () => logTending.counters(), system });
  if (metricsAddress !== null) logger.info({ address: metricsAddress }, 'metrics are served');
  const opened = opening.move();
  return {
    addresses: api.addresses,
    containers,
    images,
    networks,
    volumes,
    events,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

function registryOptions(options: DaemonOptions): Partial<RegistryOptions> {
  return {
    insecureRegistries: options.insecureRegistries,
    mirrors: options.registryMirrors,
    certsDirectory: options.registryCertsDir,
    proxies: options.proxies,
    concurrentDownloadsMax: options.maxConcurrentDownloads,
    concurrentUploadsMax: options.maxConcurrentUploads,
    downloadAttemptsMax: options.maxDownloadAttempts,
  };
}
