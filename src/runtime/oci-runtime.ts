/**
 * The Runtime port over shims and an OCI runtime (crun, runc). A start spawns the shim, the shim spawns the runtime, and
 * nothing else is spawned; pausing, listing processes and changing limits go to the cgroup directly.
 *
 * What it knows of live containers is in memory only: after a restart of the daemon, recover() asks the shims.
 */
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { posix } from 'node:path';
import type { Duplex } from 'node:stream';

import { EngineError, messageOf } from '../core/engine-error.ts';
import type { Logger } from '../core/log.ts';
import type { Kernel } from '../kernel/port.ts';
import {
  connectShim,
  SHIM_EXEC_UNSUPPORTED,
  readInitPid,
  readShimExit,
  readShimProcess,
  ShimRuntimeError,
  spawnShim,
  type ShimSpawned,
} from '../shim/client.ts';
import type { ShimEvent, ShimExitRecord, ShimState } from '../shim/protocol.ts';
import type { ApparmorProfile } from './apparmor.ts';
import { isFrozen, updateCgroup } from './cgroup-update.ts';
import { adaptMountsForCrun } from './crun-mounts.ts';
import { isCrun } from './detect.ts';
import { formatDirectExec, type DirectPlace } from './direct-exec.ts';
import { readDirectPlace } from './direct-place.ts';
import { formatOciExec, recoverExecs, sizedProcess, writeExecFile } from './exec-file.ts';
import { killProcess } from './kill-process.ts';
import type {
  ExecLaunch,
  ExecStarted,
  Launch,
  PendingAttachment,
  Recovered,
  Runtime,
  RuntimeEvent,
  Started,
  StreamSelection,
} from './port.ts';
import { readOomMemory, type OomMemory } from './oom-memory.ts';
import { asksForRealtime, ensureRealtime, type RealtimeShare } from './realtime.ts';
import { hasFlags, SeccompCache } from './seccomp-cache.ts';
import { unitAssignments, updateUnit } from './systemd-unit.ts';
import { maskOf, ShimLink, type RunIdentity } from './shim-link.ts';
import type { OciResources } from './spec/resources.ts';
import { allowStart, claimOf, revokeStart, revokeStarts } from './start-claim.ts';
import { startError } from './start-error.ts';
import {
  argsOfConfig,
  cgroupPathOfConfig,
  makeStateDir,
  readBootId,
  readRecord,
  removeStateDir,
  seccompOf,
  stateDirOf,
  writeConfig,
} from './state-dir.ts';

const RUNTIME_ENV = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'];
const SIGKILL = 9;
/** A shim that was told to kill, and does not end within this, is killed itself. Above its own patience with `delete`. */
const RELEASE_MS = 70_000;

export interface OciRuntimeEntry {
  readonly path: string;
  /** Global options, before the command. */
  readonly options: readonly string[];
}

export interface OciRuntimeOptions {
  readonly execRoot: string;
  readonly kernel: Kernel;
  readonly shimPath: string;
  /** native/exec.c: starts execs without the runtime where it can. null: the runtime starts them all. */
  readonly execHelperPath: string | null;
  /** By the name that `--runtime` takes. */
  readonly runtimes: Readonly<Record<string, OciRuntimeEntry>>;
  /** A container's cgroup is a scope that systemd makes. */
  readonly systemdCgroup?: boolean;
  /** What real-time processes of all containers may have together, in microseconds (cgroup v1); 0: as it is. */
  readonly realtime?: RealtimeShare;
  /** Where AppArmor confines. */
  readonly apparmor?: ApparmorProfile;
  readonly logger: Logger;
}

export async function openRuntime(options: OciRuntimeOptions): Promise<Runtime> {
  await mkdir(`${options.execRoot}/shim`, { recursive: true, mode: 0o711 });
  return new OciRuntime(options, await readBootId());
}

class OciRuntime implements Runtime {
  readonly #options: OciRuntimeOptions;
  readonly #bootId: string;
  readonly #seccomp: SeccompCache;
  readonly #links = new Map<string, ShimLink>();
  onEvent: (event: RuntimeEvent) => void = () => {};

  constructor(options: OciRuntimeOptions, bootId: string) {
    this.#options = options;
    this.#bootId = bootId;
    this.#seccomp = new SeccompCache(options.kernel.seccomp, `${options.execRoot}/seccomp`);
  }

  async start(launch: Launch, attachments: readonly PendingAttachment[]): Promise<Started> {
    const { id, run, runtime } = launch;
    const { cgroups } = this.#options.kernel;
    const entry = this.#entry(runtime);
    const directory = stateDirOf(this.#options.execRoot, id);
    const identity: RunIdentity = { id, run, runtime, directory, cgroupPath: cgroupPathOfConfig(launch.oci) };
    if (this.#links.has(id)) await this.release(id);
    await this.#makeDirectory(id, directory);
    // Until the caller has the start in hand, what happened since is kept back.
    const held: ShimEvent[] = [];
    let deliver = (event: ShimEvent): void => void held.push(event);
    let spawned: ShimSpawned;
    try {
      if (asksForRealtime(launch.oci)) await ensureRealtime(cgroups, identity.cgroupPath, this.#options.realtime);
      await this.#options.apparmor?.ensureFor((launch.oci as { readonly process?: object }).process);
      const filter = await this.#filter(entry, launch.oci);
      const oci = isCrun(entry.path) ? await adaptMountsForCrun(launch.oci) : launch.oci;
      await writeConfig(directory, oci, { run, bootId: this.#bootId, runtime }, filter);
      allowStart(directory, run);
      spawned = await this.#spawn(launch, identity, entry, attachments, (event) => deliver(event));
    } catch (error) {
      await this.#cleanUp(identity, error);
      if (!(error instanceof ShimRuntimeError)) throw error;
      const args = argsOfConfig(launch.oci);
      throw startError({ what: 'container', runtime, text: error.message, args }, { cause: error });
    }
    const link = this.#link(identity, spawned, false);
    attachments.forEach((attachment, i) => attachment.connect(spawned.streams[i] as Duplex));
    setImmediate(() => {
      deliver = (event) => link.receive(event);
      for (const event of held) link.receive(event);
    });
    return { pid: spawned.pid, startedAt: spawned.startedAt };
  }

  async recover(id: string, run: number): Promise<Recovered> {
    const directory = stateDirOf(this.#options.execRoot, id);
    const record = await readRecord(directory);
    if (record === null || record.run !== run) return { at: 'never-started' };
    // First the record: a shim that is still busy with deleting the container answers too.
    const over = await readShimExit(directory);
    if (over?.run === run) return exitedAs(over);
    if (record.bootId === this.#bootId) {
      const identity = { ...record, id, directory };
      // One that is not there yet never will be; one that came just now is.
      let state = await this.#connect(identity);
      if (state === null && (await revokeStart(directory, run))) return { at: 'never-started' };
      state ??= await this.#connect(identity);
      if (state === 'failed') return { at: 'never-started' };
      if (state !== null) {
        const paused = await isFrozen(this.#options.kernel.cgroups, record.cgroupPath);
        const { pid, startedAt, oomKilled } = state;
        return { at: 'running', pid, startedAt, paused, oomKilled, ...(await recoverExecs(directory, state)) };
      }
    }
    const exit = await readShimExit(directory);
    if (exit?.run === run) return exitedAs(exit);
    const pid = await readInitPid(directory);
    if (record.bootId !== this.#bootId) {
      return pid === null ? { at: 'never-started' } : { at: 'lost', because: 'reboot', pid: null };
    }
    // A shim that was killed just after the start has not noted the pid; what lives in the cgroup is the container.
    const pids = await this.#options.kernel.cgroups.processes(record.cgroupPath);
    if (pid === null && pids.length === 0) return { at: 'never-started' };
    return { at: 'lost', because: 'shim-died', pid: pid !== null && pids.includes(pid) ? pid : null };
  }

  signal(id: string, signal: number): Promise<boolean> {
    const link = this.#links.get(id);
    if (link === undefined || link.isOver) return Promise.resolve(false);
    link.connection.signal(signal);
    return Promise.resolve(true);
  }

  /** A frozen process dies once it is thawed; thawed after the kill, so that none of them runs on. */
  async killAll(id: string): Promise<void> {
    const { cgroups } = this.#options.kernel;
    const path = await this.#cgroupPath(id);
    if (path === null) return;
    for (const pid of await cgroups.processes(path)) killProcess(pid);
    await this.#thawQuietly(path);
    for (const pid of await cgroups.processes(path)) killProcess(pid); // forked while the list was read
  }

  async pause(id: string): Promise<void> {
    await this.#options.kernel.cgroups.freeze(this.#linkOf(id).identity.cgroupPath);
  }

  async resume(id: string): Promise<void> {
    await this.#options.kernel.cgroups.thaw(this.#linkOf(id).identity.cgroupPath);
  }

  resize(id: string, rows: number, columns: number): Promise<boolean> {
    const link = this.#links.get(id);
    if (link === undefined || link.isOver) return Promise.resolve(false);
    link.connection.resize(rows, columns);
    return Promise.resolve(true);
  }

  attach(id: string, streams: StreamSelection): Promise<Duplex> {
    return this.#linkOf(id).connection.attach(maskOf(streams));
  }

  async exec(id: string, exec: ExecLaunch, streams: StreamSelection | null): Promise<ExecStarted> {
    const link = this.#linkOf(id);
    await this.#options.apparmor?.ensureFor(exec.process);
    const place = await this.#directPlace(link);
    const { execId, tty, consoleSize, record } = exec;
    const process = sizedProcess(exec);
    const args = argsOfConfig({ process: exec.process });
    const { runtime } = link.identity;
    // In runc's words: crun and the shim have others.
    if (!('cwd' in process && String(process.cwd).startsWith('/')))
      throw startError({ what: 'exec', runtime, text: 'Cwd must be an absolute path', args });
    const request = place === null ? null : formatDirectExec(process, place, record);
    const content = request ?? formatOciExec(process, record);
    const processFile = writeExecFile(link.identity.directory, execId, content);
    link.execs.add(execId);
    try {
      const mask = streams === null ? 0 : maskOf(streams);
      const stdin = streams?.stdin ?? false;
      const direct = request !== null;
      return await link.connection.exec({ execId, processFile, direct, tty, stdin, mask, consoleSize });
    } catch (error) {
      link.execs.delete(execId);
      if (!(error instanceof ShimRuntimeError)) throw error;
      if (request !== null && error.status === SHIM_EXEC_UNSUPPORTED) {
        link.directPlace = Promise.resolve(null);
        return await this.exec(id, exec, streams);
      }
      throw startError({ what: 'exec', runtime, text: error.message, args }, { cause: error });
    }
  }

  signalExec(id: string, execId: string, signal: number): Promise<boolean> {
    const link = this.#links.get(id);
    if (link === undefined || !link.execs.has(execId)) return Promise.resolve(false);
    link.connection.signal(signal, execId);
    return Promise.resolve(true);
  }

  resizeExec(id: string, execId: string, rows: number, columns: number): Promise<boolean> {
    const link = this.#links.get(id);
    if (link === undefined || !link.execs.has(execId)) return Promise.resolve(false);
    link.connection.resize(rows, columns, execId);
    return Promise.resolve(true);
  }

  processes(id: string): Promise<number[]> {
    return this.#options.kernel.cgroups.processes(this.#linkOf(id).identity.cgroupPath);
  }

  update(id: string, resources: object): Promise<void> {
    const { cgroupPath } = this.#linkOf(id).identity;
    const { cgroups, processes } = this.#options.kernel;
    const limits = resources as OciResources;
    if (this.#options.systemdCgroup !== true) return updateCgroup(cgroups, cgroupPath, limits);
    return updateCgroup(cgroups, cgroupPath, limits, () =>
      updateUnit(processes, posix.basename(cgroupPath), unitAssignments(limits, cgroups.version)),
    );
  }

  logCompressed(id: string, inode: bigint): boolean {
    const link = this.#links.get(id);
    if (link === undefined || link.isOver) return false;
    link.connection.logCompressed(inode);
    return true;
  }

  async release(id: string): Promise<void> {
    const directory = stateDirOf(this.#options.execRoot, id);
    const link = this.#links.get(id);
    const record = link?.identity ?? (await readRecord(directory));
    if (link !== undefined) await this.#endShim(link);
    else if (record !== null) await this.#endUnknownShim({ ...record, id, directory });
    if (record !== null) {
      await this.#deleteRuntimeState(id, record.runtime);
      await this.#options.kernel.cgroups.remove(record.cgroupPath);
    }
    await removeStateDir(directory);
    if (link !== undefined && this.#links.get(id) === link) this.#links.delete(id);
  }

  // ---- execs

  #directPlace(link: ShimLink): Promise<DirectPlace | null> {
    if (this.#options.execHelperPath === null) return Promise.resolve(null);
    const entry = this.#entry(link.identity.runtime);
    const parts = { cgroups: this.#options.kernel.cgroups, seccomp: this.#seccomp };
    return (link.directPlace ??= readDirectPlace(link.identity, entry.path, parts).catch((error: unknown) => {
      const { id } = link.identity;
      this.#options.logger.warn({ id, error: messageOf(error) }, 'runtime: execs are left to the OCI runtime');
      return null;
    }));
  }

  // ---- starting

  #entry(name: string): OciRuntimeEntry {
    const entry = Object.hasOwn(this.#options.runtimes, name) ? this.#options.runtimes[name] : undefined;
    if (entry === undefined) throw new EngineError('RUNTIME_UNKNOWN', `unknown or invalid runtime name: ${name}`);
    return entry;
  }

  #runtimeRoot(name: string): string {
    return `${this.#options.execRoot}/${name}`;
  }

  #runtimeOptions(entry: OciRuntimeEntry): readonly string[] {
    return this.#options.systemdCgroup === true ? [...entry.options, '--systemd-cgroup'] : entry.options;
  }

  /** null: there is no filter, or the runtime compiles the profile itself. */
  async #filter(entry: OciRuntimeEntry, oci: object): Promise<string | null> {
    const profile = seccompOf(oci);
    if (profile === null || !this.#seccomp.available || !isCrun(entry.path) || hasFlags(profile)) return null;
    return this.#seccomp.filter(profile);
  }

  /** What a crashed daemon left of an earlier run is released first. */
  async #makeDirectory(id: string, directory: string): Promise<void> {
    try {
      await makeStateDir(directory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      await this.release(id);
      await makeStateDir(directory);
    }
  }

  #spawn(
    launch: Launch,
    identity: RunIdentity,
    entry: OciRuntimeEntry,
    attachments: readonly PendingAttachment[],
    onEvent: (event: ShimEvent) => void,
  ): Promise<ShimSpawned> {
    return spawnShim(this.#options.kernel.processes, {
      shimPath: this.#options.shimPath,
      id: launch.id,
      run: launch.run,
      stateDir: identity.directory,
      bundleDir: identity.directory,
      claim: claimOf(launch.run),
      runtimePath: entry.path,
      execHelperPath: this.#options.execHelperPath,
      runtimeRoot: this.#runtimeRoot(launch.runtime),
      runtimeOptions: this.#runtimeOptions(entry),
      cgroup: identity.cgroupPath,
      log: launch.log,
      tty: launch.tty,
      consoleSize: launch.consoleSize,
      stdin: launch.stdin,
      ...(launch.stdioOwner === undefined ? {} : { stdioOwner: launch.stdioOwner }),
      attachMasks: attachments.map((attachment) => maskOf(attachment.streams)),
      env: RUNTIME_ENV,
      onEvent,
    });
  }

  /** After a failed start. An error in here must not hide why it failed. */
  async #cleanUp(identity: RunIdentity, because: unknown): Promise<void> {
    try {
      await this.#deleteRuntimeState(identity.id, identity.runtime);
      await this.#options.kernel.cgroups.remove(identity.cgroupPath);
      await removeStateDir(identity.directory);
    } catch (error) {
      const fields = { id: identity.id, error: messageOf(error), because: messageOf(because) };
      this.#options.logger.warn(fields, 'runtime: clean-up of a failed start');
    }
  }

  #link(identity: RunIdentity, shim: Pick<ShimSpawned, 'pid' | 'connection'>, hadOom: boolean): ShimLink {
    const report = (event: RuntimeEvent): void => this.onEvent(event);
    const { logger, kernel } = this.#options;
    const memory = (): OomMemory | null => readOomMemory(kernel.cgroups, identity.cgroupPath);
    const link = new ShimLink(identity, shim.pid, shim.connection, { report, hadOom, logger, memory });
    this.#links.set(identity.id, link);
    return link;
  }

  // ---- recovery

  /** null: no shim (any more). A start that was under way is waited for; "failed" when it came to nothing. */
  async #connect(identity: RunIdentity): Promise<ShimState | 'failed' | null> {
    const { promise: started, resolve } = Promise.withResolvers<Started | 'failed' | null>();
    const held: ShimEvent[] = [];
    let deliver = (event: ShimEvent): void => void held.push(event);
    const found = await connectShim(identity.directory, (event) => {
      if (event.kind === 'started') resolve({ pid: event.pid, startedAt: event.at });
      if (event.kind === 'failed') resolve('failed');
      deliver(event);
    });
    if (found === null) return null;
    const link = this.#link(identity, { pid: found.state.pid, connection: found.connection }, found.state.oomKilled);
    for (const { execId } of found.state.execs) link.execs.add(execId);
    if (!found.state.directExec) link.directPlace = Promise.resolve(null);
    let { state } = found;
    if (state.pid === 0) {
      void link.gone.then(() => resolve(null));
      const outcome = await started;
      if (outcome === 'failed' || outcome === null) {
        link.dispose();
        this.#links.delete(identity.id);
        return outcome;
      }
      state = { ...state, ...outcome };
    }
    setImmediate(() => {
      deliver = (event) => link.receive(event);
      for (const event of held) link.receive(event);
    });
    return state;
  }

  // ---- releasing

  async #endShim(link: ShimLink): Promise<void> {
    if (!link.isOver) {
      link.connection.signal(SIGKILL);
      await this.#thawQuietly(link.identity.cgroupPath);
    }
    const late = Promise.withResolvers<'late'>();
    const timer = setTimeout(() => late.resolve('late'), RELEASE_MS);
    if ((await Promise.race([link.gone, late.promise])) === 'late') await this.#killShim(link.identity.directory);
    clearTimeout(timer);
    link.dispose();
  }

  /** Of a run that this daemon does not follow: it was started before a crash, and its record was lost. */
  async #endUnknownShim(identity: RunIdentity): Promise<void> {
    await revokeStarts(identity.directory);
    const shim = await readShimProcess(identity.directory);
    if (shim?.alive !== true) return;
    const found = await connectShim(identity.directory, () => {});
    if (found === null) {
      await this.#killShim(identity.directory);
      return;
    }
    const silent = { report: () => {}, hadOom: true, logger: this.#options.logger };
    await this.#endShim(new ShimLink(identity, found.state.pid, found.connection, silent));
  }

  /** A cgroup that is gone already has nothing frozen in it. */
  async #thawQuietly(cgroupPath: string): Promise<void> {
    await this.#options.kernel.cgroups.thaw(cgroupPath).catch(() => {});
  }

  async #killShim(directory: string): Promise<void> {
    const shim = await readShimProcess(directory);
    if (shim?.alive !== true) return;
    killProcess(shim.pid);
    await this.#options.kernel.processes.ended(shim.pid, AbortSignal.timeout(RELEASE_MS));
  }

  /** The shim deletes it; only where the shim was killed, the runtime is called from here. */
  async #deleteRuntimeState(id: string, runtime: string): Promise<void> {
    const entry = this.#options.runtimes[runtime];
    const root = this.#runtimeRoot(runtime);
    if (entry === undefined || !existsSync(`${root}/${id}`)) return;
    const { processes } = this.#options.kernel;
    const argv = [entry.path, ...this.#runtimeOptions(entry), '--root', root, 'delete', '--force', id];
    const { pid } = await processes.spawn({ path: entry.path, argv, env: RUNTIME_ENV, descriptors: [] });
    const { exitCode } = await processes.reap(pid);
    if (exitCode !== 0) this.#options.logger.warn({ id, exitCode }, 'runtime: delete --force failed');
    await rm(`${root}/${id}`, { recursive: true, force: true });
  }

  // ---- finding

  #linkOf(id: string): ShimLink {
    const link = this.#links.get(id);
    if (link === undefined || link.isOver) {
      throw new EngineError('CONTAINER_NOT_RUNNING', `container ${id} is not running`);
    }
    return link;
  }

  async #cgroupPath(id: string): Promise<string | null> {
    const link = this.#links.get(id);
    const record = link?.identity ?? (await readRecord(stateDirOf(this.#options.execRoot, id)));
    return record?.cgroupPath ?? null;
  }
}

function exitedAs({ pid, startedAt, exit }: ShimExitRecord): Recovered {
  return { at: 'exited', pid, startedAt, exit };
}
