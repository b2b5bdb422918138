/**
 * What a start takes and an end gives back: rootfs, volumes, networks, files, and the OCI configuration made of them.
 * Steps that do not depend on each other overlap; they are given back in order. Source: moby daemon/start.go,
 * daemon/oci_linux.go, daemon/container_operations_unix.go (v28).
 */
import { mkdir, readFile } from 'node:fs/promises';

import type { ResourceSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { Container } from '../lifecycle/container.ts';
import type { Attached, AttachRequest } from '../network/port.ts';
import { resolveCdiRequests } from '../runtime/cdi/cdi-registry.ts';
import { readBlockDevices, readHostDevices, readMappedDevices } from '../runtime/host-devices.ts';
import type { ExecLaunch, Launch } from '../runtime/port.ts';
import { buildOciSpec, type OciSpec } from '../runtime/spec/build-oci-spec.ts';
import type { OciInput, ResolvedUser, SpecMount } from '../runtime/spec/input.ts';
import { buildExecProcess } from '../runtime/spec/process.ts';
import { buildResources } from '../runtime/spec/resources.ts';
import type { ExecConfig, Resources } from '../supervisor/port.ts';
import { accountOf } from './account.ts';
import { acquireAll, releaseAll, type Undo } from './acquire-all.ts';
import { containerDirectory } from './details.ts';
import { eventAttributes } from './events.ts';
import { donorPid, ipcDonor, networkDonor } from './joined.ts';
import { linkEnv, resolveLinks, type ResolvedLink } from './links.ts';
import { tendLog, logFileFor } from './logs.ts';
import type { ContainerSettings, Parts } from './parts.ts';
import { ensureMountPoints, ensureWorkingDirectory, RunMounts } from './rootfs.ts';
import {
  acquireMount,
  fileMounts,
  imageMountKey,
  mountShm,
  releaseMount,
  sharesMounts,
  shmDirectory,
  snapshotsOf,
  volumeUse,
} from './start-mounts.ts';
import { releaseUserNamespace, stdioOwner, takeUserNamespace } from './start-namespaces.ts';

const NO_CONSOLE = [0, 0] as const;

export class StartResources implements Resources {
  readonly #parts: Parts;
  readonly #runMounts: RunMounts;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#runMounts = new RunMounts(parts.images.snapshots);
  }

  async acquire(container: Container, stack: AsyncDisposableStack): Promise<Launch> {
    const parts = this.#parts;
    const { spec, id } = container;
    const donor = networkDonor(parts, container);
    const links = resolveLinks(parts, container);
    const user = await takeUserNamespace(parts, container, stack);
    await using held = user.held;
    const taken: Taken = { rootfs: '', account: null, attached: null, mounts: [] };
    await acquireAll(stack, [
      () => this.#takeRootfs(container, taken),
      ...(spec.process.networkDisabled
        ? []
        : [() => this.#takeNetwork(container, donor, { links, source: held?.networkSource }, taken)]),
      ...container.mounts.map((_, index) => async (): Promise<Undo> => {
        const { mount: ready, undo } = await acquireMount(this.#run(container), index);
        taken.mounts[index] = ready;
        return undo;
      }),
    ]);
    parts.networks.tellConnected(id); // behind the mounts, as dockerd
    const shmPath = await this.#takeShm(container, stack);
    const { rootfs, account, attached } = taken;
    if (account === null) throw new Error('the rootfs was taken without its user');
    await ensureMountPoints(parts, container, rootfs, taken.mounts);
    const files =
      attached === null
        ? {}
        : {
            '/etc/resolv.conf': attached.resolvConfPath,
            '/etc/hostname': attached.hostnamePath,
            '/etc/hosts': attached.hostsPath,
          };
    // Who joins another's network is known by that one's name there.
    const process =
      donor === null
        ? spec.process
        : { ...spec.process, hostname: donor.spec.process.hostname, domainname: donor.spec.process.domainname };
    const [devices, hostDevices, blockDevices, cdiEdits, mountinfo] = await Promise.all([
      readMappedDevices(spec.host.resources.devices),
      spec.host.privileged ? readHostDevices() : [],
      readBlockDevices(spec.host.resources),
      resolveCdiRequests(parts.daemon.cdiSpecDirs, spec.host.resources.deviceRequests),
      taken.mounts.some(sharesMounts) ? readFile('/proc/self/mountinfo', 'utf8') : null,
    ]);
    const specInput = (): OciInput => ({
      id,
      spec: { ...spec, process },
      rootfsPath: rootfs,
      user: account,
      linkEnv: linkEnv(parts, container, links),
      mounts: [...fileMounts(files, taken.mounts, { readWrite: !spec.host.readonlyRootfs }), ...taken.mounts],
      userNamespacePath: user.path,
      networkNamespacePath: attached?.namespacePath ?? null,
      pidModePid: donorPid(parts, container, 'PID'),
      ipcModePid: donorPid(parts, container, 'IPC'),
      shmPath,
      devices,
      hostDevices,
      blockDevices,
      cdiEdits,
      ...(mountinfo === null ? {} : { mountinfo }),
      host: parts.host,
      daemon: parts.daemon,
    });
    const oci = specOf(specInput);
    tendLog(parts, container);
    stack.defer(async () => parts.logTending.end(id));
    return {
      id,
      run: container.run,
      runtime: spec.host.runtime,
      oci,
      tty: spec.process.tty,
      stdin: spec.process.openStdin ? (spec.process.stdinOnce ? 'once' : 'open') : 'none',
      consoleSize: spec.host.consoleSize,
      ...stdioOwner(parts, container),
      log: logFileFor(parts, container),
    };
  }

  leaving(container: Container): void {
    this.#parts.networks.tellDisconnected(container.id);
    for (const mount of container.mounts) {
      if (mount.type === 'volume') this.#parts.volumes.tellReleased(mount.name, volumeUse(container, mount));
    }
  }

  async release(container: Container): Promise<void> {
    const parts = this.#parts;
    parts.logTending.end(container.id);
    await releaseAll([
      async () => parts.networks.detach(container.id),
      async () => this.#releaseShm(container),
      ...container.mounts.map((_, index) => async () => releaseMount(this.#run(container), index)),
      async () => this.#runMounts.release(container.id),
      async () => releaseUserNamespace(parts, container),
    ]);
    parts.namespacePaths.delete(container.id);
  }

  async adopt(container: Container): Promise<void> {
    const { networks, volumes } = this.#parts;
    this.#runMounts.adopt(container.id);
    tendLog(this.#parts, container);
    await networks.adopt(container.id);
    for (const [index, mount] of container.mounts.entries()) {
      if (mount.type === 'volume') await volumes.adopt(mount.name, volumeUse(container, mount));
      if (mount.type === 'image') this.#runMounts.adopt(imageMountKey(container.id, index));
    }
  }

  async destroy(container: Container, options: { readonly volumes: boolean }): Promise<void> {
    const parts = this.#parts;
    const { id } = container;
    await parts.logTending.remove(id);
    await releaseAll([
      ...snapshotsOf(container).map((key) => async () => parts.images.snapshots.remove(key)),
      async () => parts.files.removeTree(containerDirectory(parts.settings.dataRoot, id)),
      ...container.mounts.map((mount) => async () => this.#dropVolume(container, mount, options.volumes)),
    ]);
    for (const key of snapshotsOf(container)) this.#runMounts.forget(key);
    parts.names.forget(container.name);
  }

  async execLaunch(container: Container, execId: string, exec: ExecConfig): Promise<ExecLaunch> {
    const parts = this.#parts;
    const rootfs = parts.images.snapshots.path(container.id);
    const user = await accountOf(parts, container, rootfs, exec.user || container.spec.process.user);
    const { spec } = container;
    const process = buildExecProcess(
      { spec, user, host: parts.host, daemon: parts.daemon },
      {
        args: exec.cmd,
        env: exec.env,
        workingDir: exec.workingDir,
        tty: exec.tty,
        privileged: exec.privileged,
        linkEnv: this.#linkEnvNow(container),
        consoleSize: null,
      },
    );
    return { execId, process, tty: exec.tty, consoleSize: NO_CONSOLE, record: JSON.stringify(exec) };
  }

  limits(resources: ResourceSpec): object {
    // As dockerd: limits of devices are set with the start alone, and an update cannot change them.
    return buildResources({
      ...resources,
      blkioWeightDevice: null,
      blkioDeviceReadBps: null,
      blkioDeviceWriteBps: null,
      blkioDeviceReadIops: null,
      blkioDeviceWriteIops: null,
    });
  }

  eventAttributes(container: Container): Record<string, string> {
    return eventAttributes(container);
  }

  #run(container: Container): Parameters<typeof acquireMount>[0] {
    return { parts: this.#parts, container, runMounts: this.#runMounts };
  }

  async #takeRootfs(container: Container, taken: Taken): Promise<Undo> {
    const { id } = container;
    const undo = async (): Promise<void> => this.#runMounts.release(id);
    taken.rootfs = await this.#runMounts.acquire(container);
    try {
      const [account] = await Promise.all([
        accountOf(this.#parts, container, taken.rootfs, container.spec.process.user),
        ensureWorkingDirectory(this.#parts, container, taken.rootfs),
      ]);
      taken.account = account;
    } catch (error) {
      await undo();
      throw error;
    }
    return undo;
  }

  async #takeNetwork(
    container: Container,
    donor: Container | null,
    { links, source }: { readonly links: readonly ResolvedLink[]; readonly source: string | undefined },
    taken: Taken,
  ): Promise<Undo> {
    const { networks, namespacePaths, settings } = this.#parts;
    const filesDir = containerDirectory(settings.dataRoot, container.id);
    await mkdir(filesDir, { recursive: true, mode: 0o710 });
    const request = attachRequest(container, donor, links, { filesDir, dns: settings.dns });
    const attached = await networks.attach(source === undefined ? request : { ...request, namespaceSource: source });
    taken.attached = attached;
    if (attached.namespacePath !== null) namespacePaths.set(container.id, attached.namespacePath);
    return async () => {
      namespacePaths.delete(container.id);
      await networks.detach(container.id);
    };
  }

  /** null: /dev/shm is the container's own or the host's. */
  async #takeShm(container: Container, stack: AsyncDisposableStack): Promise<string | null> {
    const { settings, mounts } = this.#parts;
    const { ipcMode } = container.spec.host;
    const donor = ipcDonor(this.#parts, container);
    if (donor !== null) {
      return donor.spec.host.ipcMode === 'host'
        ? '/dev/shm'
        : shmDirectory(containerDirectory(settings.dataRoot, donor.id));
    }
    if (ipcMode !== 'shareable') return null;
    const target = shmDirectory(containerDirectory(settings.dataRoot, container.id));
    await mountShm(this.#parts, container, target);
    stack.defer(async () => void (await mounts.unmount(target)));
    return target;
  }

  async #releaseShm(container: Container): Promise<void> {
    if (container.spec.host.ipcMode !== 'shareable') return;
    await this.#parts.mounts.unmount(shmDirectory(containerDirectory(this.#parts.settings.dataRoot, container.id)));
  }

  /** An exec in a container whose link has ended meanwhile still works. */
  #linkEnvNow(container: Container): string[] {
    if ((container.spec.host.links ?? []).length === 0) return [];
    try {
      return linkEnv(this.#parts, container, resolveLinks(this.#parts, container));
    } catch (error) {
      if (error instanceof EngineError) return [];
      throw error;
    }
  }

  async #dropVolume(container: Container, mount: Container['mounts'][number], removeAnonymous: boolean): Promise<void> {
    if (mount.type !== 'volume') return;
    const { volumes, logger } = this.#parts;
    volumes.unrefer(mount.name, container.id);
    if (!removeAnonymous || !mount.anonymous) return;
    try {
      await volumes.remove(mount.name, { force: false });
    } catch (error) {
      // Another container has it by --volumes-from, or it is gone: neither keeps this one from going.
      if (!(error instanceof EngineError)) throw error;
      logger.debug({ volume: mount.name, container: container.id, error: error.message }, 'an anonymous volume stays');
    }
  }
}

/**
 * Whatever keeps a start from being described is the host's business and not the request's, as in moby: what it depends on
 * may have changed since the container was made. Source: moby daemon/start.go containerStart (v28).
 */
function specOf(input: () => OciInput): OciSpec {
  try {
    return buildOciSpec(input());
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw new EngineError('RUNTIME_START_FAILED', error.message, { cause: error });
  }
}

interface Taken {
  rootfs: string;
  account: ResolvedUser | null;
  attached: Attached | null;
  readonly mounts: SpecMount[];
}

function attachRequest(
  container: Container,
  donor: Container | null,
  links: readonly ResolvedLink[],
  { filesDir, dns }: { readonly filesDir: string; readonly dns: ContainerSettings['dns'] },
): AttachRequest {
  const { process, host, endpoints } = container.spec;
  return {
    containerId: container.id,
    containerName: container.name,
    mode: donor === null ? host.networkMode : `container:${donor.id}`,
    endpoints,
    hostname: process.hostname,
    domainname: process.domainname,
    dns: ownOr(host.dns, dns.servers),
    dnsOptions: ownOr(host.dnsOptions, dns.options),
    dnsSearch: ownOr(host.dnsSearch, dns.search),
    extraHosts: host.extraHosts,
    links: links.map(({ child, alias }) => ({
      containerId: child.id,
      aliases: [...new Set([alias, child.spec.process.hostname, child.name])],
    })),
    exposedPorts: process.exposedPorts ?? [],
    portBindings: host.portBindings ?? {},
    publishAllPorts: host.publishAllPorts,
    filesDir,
    sysctls: host.sysctls ?? {},
  };
}

/** The daemon's servers and so on are for containers that ask for none. */
function ownOr(own: readonly string[] | null, daemon: readonly string[]): readonly string[] | null {
  if (own !== null && own.length > 0) return own;
  return daemon.length > 0 ? daemon : null;
}
