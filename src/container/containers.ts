/**
 * The room as others see it: the use cases, and the resources of a start. The supervisor needs the resources and the
 * use cases need the supervisor, so it is handed over as a function that is called later.
 */
import { EngineError } from '../core/engine-error.ts';
import { rootOf } from '../core/id-map.ts';
import { cgroupPathOf, ociCgroupsPath } from '../runtime/spec/cgroup-path.ts';
import type { Container } from '../lifecycle/container.ts';
import type { Resources } from '../supervisor/port.ts';
import { archiveRead, archiveStat, archiveWrite, changes, exportTree } from './archive.ts';
import { attach } from './attach.ts';
import { openCounters, readHostCpu } from './cgroup-counters.ts';
import { commit } from './commit.ts';
import { causeOf, kill, remove, rename, restart, stop } from './control.ts';
import { createContainer } from './create.ts';
import { describe } from './details.ts';
import { checkExec, createExec, inspectExec, resizeExec, startExec } from './exec.ts';
import { listContainers } from './list.ts';
import { tendRemainders, readLogs } from './logs.ts';
import { Names } from './names.ts';
import { connect, disconnect, onNetwork } from './networks.ts';
import type { ContainerNeeds, Parts } from './parts.ts';
import type { Containers } from './port.ts';
import { prune } from './prune.ts';
import { Resolver } from './resolve.ts';
import { RootFiles } from './root-files.ts';
import { StartResources } from './start-resources.ts';
import { StatsHub } from './stats.ts';
import { watchStats } from './stats-request.ts';
import { liveOf } from './status.ts';
import { top } from './top.ts';
import { update } from './update.ts';
import { tellWhy } from './why.ts';

export function openContainers(needs: ContainerNeeds): {
  readonly containers: Containers;
  readonly resources: Resources;
  /** Boot, after the supervisor's recovery: sends what logs of containers that do not run have left for services. */
  readonly tendRemainders: () => void;
} {
  const parts = partsOf(needs);
  return {
    containers: containersOf(parts),
    resources: new StartResources(parts),
    tendRemainders: () => tendRemainders(parts),
  };
}

function containersOf(parts: Parts): Containers {
  const { resolver } = parts;
  return {
    create: (request, by) => createContainer(parts, request, by),
    resolve: (ref) => resolver.resolve(ref),
    list: (options) => listContainers(parts, options),
    inspect: async (ref, options) => describe(parts, resolver.resolve(ref), options),
    why: (ref) => tellWhy(parts, ref),

    start: async (ref, by) => parts.supervisor.start(resolver.resolve(ref).id, causeOf(by)),
    stop: (ref, options, by) => stop(parts, ref, options, by),
    restart: (ref, options, by) => restart(parts, ref, options, by),
    kill: (ref, signal, by) => kill(parts, ref, signal, by),
    pause: async (ref, by) => parts.supervisor.pause(resolver.resolve(ref).id, causeOf(by)),
    unpause: async (ref, by) => parts.supervisor.unpause(resolver.resolve(ref).id, causeOf(by)),
    rename: (ref, name, by) => rename(parts, ref, name, by),
    update: (ref, change, by) => update(parts, ref, change, by),
    remove: (ref, options, by) => remove(parts, ref, options, by),
    prune: (filters, by) => prune(parts, filters, by),
    wait: (ref, condition, signal) => ({ result: parts.supervisor.wait(resolver.resolve(ref).id, condition, signal) }),
    resize: async (ref, rows, columns) => parts.supervisor.resize(resolver.resolve(ref).id, rows, columns),

    attach: (ref, options, signal) => attach(parts, ref, options, signal),
    logs: async (ref, options, signal) => readLogs(parts, resolver.resolve(ref), options, signal),
    top: (ref, psArgs) => top(parts, ref, psArgs),
    stats: async (ref, options, signal) => watchStats(parts, resolver.resolve(ref), options, signal),

    execCreate: (ref, config) => createExec(parts, ref, config),
    execInspect: (execId) => inspectExec(parts, execId),
    execCheck: (execId) => void checkExec(parts, execId),
    execStart: (execId, options) => startExec(parts, execId, options),
    execResize: (execId, rows, columns) => resizeExec(parts, execId, rows, columns),

    changes: (ref) => changes(parts, ref),
    archiveStat: (ref, path) => archiveStat(parts, ref, path),
    archiveRead: (ref, path) => archiveRead(parts, ref, path),
    archiveWrite: (ref, path, tar, options) => archiveWrite(parts, ref, path, tar, options),
    exportTree: (ref) => exportTree(parts, ref),
    commit: (ref, options, by) => commit(parts, ref, options, by),

    connect: (network, ref, endpoint, by) => connect(parts, network, ref, endpoint, by),
    disconnect: (network, ref, force, by) => disconnect(parts, network, ref, force, by),
    onNetwork: (network) => onNetwork(parts, network),
    usingImage: (imageId) => usingImage(parts, imageId),
  };
}

function usingImage(parts: Parts, imageId: string): ReturnType<Containers['usingImage']> {
  const isMounted = ({ mounts }: Container): boolean =>
    mounts.some(({ type, source }) => type === 'image' && source === imageId);
  const using = parts.supervisor.list().filter((one) => one.imageId === imageId || isMounted(one));
  const running = using.find((container) => liveOf(container) !== null);
  const chosen = running ?? using[0];
  return chosen === undefined ? null : { containerId: chosen.id, running: running !== undefined };
}

function partsOf(needs: ContainerNeeds): Parts {
  const { supervisor, images, networks, logger } = needs;
  const lookup = { get: (id: string) => supervisor().get(id), list: () => supervisor().list() };
  const names = new Names(lookup);
  return {
    ...needs,
    get supervisor() {
      return supervisor();
    },
    names,
    resolver: new Resolver(lookup, names),
    rootFiles: new RootFiles(needs.files, rootOf(needs.daemon.ids)),
    stats: new StatsHub({
      clock: needs.clock,
      find: (id) => supervisor().get(id),
      readHost: readHostCpu,
      open: async (container, pid) =>
        openCounters(needs.cgroups, cgroupOf(needs, container.id, container.spec.host.resources.cgroupParent), pid),
      onError: (id, error) => logger.debug({ container: id, error }, 'the counters of a container cannot be read'),
    }),
    namespacePaths: new Map(),
    imageOf: (ref) => orNull(() => images.resolve(ref)),
    networkOf: (ref) => orNull(() => networks.resolve(ref)),
  };
}

function cgroupOf({ daemon }: ContainerNeeds, id: string, parent: string): string {
  return cgroupPathOf(ociCgroupsPath({ id, parent, daemonParent: daemon.cgroupParent, driver: daemon.cgroupDriver }));
}

/** What cannot be found, or means several things, is not there for those who ask this way. */
function orNull<T>(find: () => T): T | null {
  try {
    return find();
  } catch (error) {
    if (error instanceof EngineError) return null;
    throw error;
  }
}
