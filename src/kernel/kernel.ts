/** The Kernel port over one worker thread. */
import { CgroupFiles, readCgroupLayout } from './cgroup.ts';
import type { Cgroups, FileOperation, Files, Kernel, LinkLayer, Mounts, Nftables, Processes, Seccomp } from './port.ts';
import { findLibrary } from './shared-library.ts';
import { WorkerClient } from './worker-client.ts';

const BATCH_SLICE = 4096;

export interface KernelOptions {
  /**
   * Told when the worker thread dies of a bug; every call fails from then on. Left out: it is thrown, so that the
   * process ends and is started again.
   */
  readonly onFatal?: (error: Error) => void;
}

/** Does not wait for the worker: it starts beside whatever comes next, and calls queue. @throws {KernelError} without control groups. */
export async function openKernel(options: KernelOptions = {}): Promise<Kernel> {
  const cgroups = new CgroupFiles(readCgroupLayout());
  const worker = new WorkerClient(options.onFatal ?? throwLater);
  const hasSeccomp = findLibrary('libseccomp.so.2');
  worker.start();
  return new WorkerKernel(worker, cgroups, hasSeccomp);
}

class WorkerKernel implements Kernel {
  readonly mounts: Mounts;
  readonly network: LinkLayer;
  readonly nftables: Nftables;
  readonly processes: Processes;
  readonly cgroups: Cgroups;
  readonly files: Files;
  readonly seccomp: Seccomp;
  readonly #worker: WorkerClient;

  constructor(worker: WorkerClient, cgroups: Cgroups, hasSeccomp: boolean) {
    this.#worker = worker;
    this.cgroups = cgroups;
    this.mounts = mountsOver(worker);
    this.network = linkLayerOver(worker);
    this.nftables = { run: (script) => worker.call('runScript', script) };
    this.processes = processesOver(worker);
    this.files = filesOver(worker);
    this.seccomp = {
      available: hasSeccomp,
      compile: async (profile) => asBuffer(await worker.call('compileSeccomp', profile)),
    };
  }

  sendDatagrams(path: string, messages: readonly Uint8Array[], large: 'error' | 'memfd' = 'error'): Promise<number> {
    return this.#worker.call('sendDatagrams', path, messages, large);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker[Symbol.asyncDispose]();
  }
}

function mountsOver(worker: WorkerClient): Mounts {
  return {
    overlay: (options) => worker.call('overlay', options),
    mount: (options) => worker.call('mount', options),
    unmount: (target) => worker.call('unmount', target),
    below: (directory) => worker.call('mountsBelow', directory),
  };
}

function linkLayerOver(worker: WorkerClient): LinkLayer {
  return {
    createNamespace: (path, source) => worker.call('createNamespace', path, source),
    removeNamespace: (path) => worker.call('removeNamespace', path),
    ensureBridge: (options) => worker.call('ensureBridge', options),
    ensureVlanLink: (options) => worker.call('ensureVlanLink', options),
    connectVeth: (options) => worker.call('connectVeth', options),
    connectVlan: (options) => worker.call('connectVlan', options),
    removeLink: (name) => worker.call('removeLink', name),
    removeLinkIn: (namespace, name) => worker.call('removeLinkIn', namespace, name),
    setDefaultRoutes: (namespace, gateways) => worker.call('setDefaultRoutes', namespace, gateways),
    links: () => worker.call('links'),
    addresses: () => worker.call('addresses'),
    routes: () => worker.call('routes'),
    bindSocket: (options) => worker.call('bindSocket', options),
    forgetUdpFlows: (ports) => worker.call('forgetUdpFlows', ports),
    redirectPortIn: (namespace, options) => worker.call('redirectPortIn', namespace, options),
    setSysctlIn: (namespace, name, value) => worker.call('setSysctlIn', namespace, name, value),
  };
}

function processesOver(worker: WorkerClient): Processes {
  let nextToken = 1;
  return {
    spawn: (options) => worker.call('spawn', options),
    socketPair: () => worker.call('socketPair'),
    closeDescriptor: (fd) => worker.call('closeDescriptor', fd),
    reap: (pid) => worker.call('reap', pid),
    async ended(pid, signal) {
      signal.throwIfAborted();
      const token = nextToken++;
      // A failed forget() means that the worker is gone, which ended() reports itself.
      const forget = (): void => void worker.call('forget', token).catch(() => undefined);
      signal.addEventListener('abort', forget, { once: true });
      try {
        if (!(await worker.call('ended', pid, token)))
          throw signal.aborted ? signal.reason : new Error('the kernel is closed');
      } finally {
        signal.removeEventListener('abort', forget);
      }
    },
  };
}

function filesOver(worker: WorkerClient): Files {
  return {
    async getXattr(path, name) {
      const value = await worker.call('getXattr', path, name);
      return value === null ? null : asBuffer(value);
    },
    setXattr: (path, name, value) => worker.call('setXattr', path, name, value),
    listXattr: (path) => worker.call('listXattr', path),
    makeNode: (path, mode, major, minor) => worker.call('makeNode', path, mode, major, minor),
    setTimes: (path, accessNs, modifyNs) => worker.call('setTimes', path, accessNs, modifyNs),
    openInRoot: (root, path, flags, mode, escapes) => worker.call('openInRoot', root, path, flags, mode, escapes),
    removeTree: (path) => worker.call('removeTree', path),
    async batch(operations, root) {
      // In slices: the worker's heap is small, and other calls pass between them.
      for (let at = 0; at < operations.length; at += BATCH_SLICE) {
        const slice = operations.slice(at, at + BATCH_SLICE);
        await worker.callWith(ownContents(slice), 'applyBatch', slice, root ?? null);
      }
    },
  };
}

/** Contents that fill their memory; of one that is part of a larger buffer a copy goes. */
function ownContents(operations: readonly FileOperation[]): ArrayBuffer[] {
  const own = new Set<ArrayBuffer>();
  for (const operation of operations) {
    if (operation.kind !== 'file' || operation.content.byteLength === 0) continue;
    const { buffer, byteLength } = operation.content;
    if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) own.add(buffer);
  }
  return [...own];
}

/** Structured clone turns a Buffer into the Uint8Array that it is. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function throwLater(error: Error): void {
  process.nextTick(() => {
    throw error;
  });
}
