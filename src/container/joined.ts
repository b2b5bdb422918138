/**
 * The other container of a "container:ID" namespace mode: at creation names become IDs, at start it must run.
 * Source: moby daemon/daemon_unix.go adaptSharedNamespaceContainer, daemon/container_operations*.go (v28).
 */
import type { HostSpec } from '../core/container-spec.ts';
import { EngineError } from '../core/engine-error.ts';
import type { Container, Live } from '../lifecycle/container.ts';
import { notRunning, restarting, type Refusal } from '../lifecycle/words.ts';
import type { Parts } from './parts.ts';
import { liveOf, statusOf } from './status.ts';

const PREFIX = 'container:';

/**
 * A network's owner that does not resolve stays as it is, and fails at start: it may be made later. For PID and IPC it
 * must be there, as in moby. @throws {EngineError} CONTAINER_SPEC_INVALID
 */
export function withFullIds(parts: Parts, host: HostSpec): HostSpec {
  const full = (mode: string, { required }: { readonly required: boolean }): string => {
    if (!mode.startsWith(PREFIX)) return mode;
    const ref = mode.slice(PREFIX.length);
    const other = parts.resolver.tryResolve(ref);
    if (other !== undefined) return PREFIX + other.id;
    // moby answers 400 here: what is missing is not what the request is about.
    if (required) throw new EngineError('CONTAINER_SPEC_INVALID', `No such container: ${ref}`);
    return mode;
  };
  return {
    ...host,
    networkMode: full(host.networkMode, { required: false }),
    ipcMode: full(host.ipcMode, { required: true }),
    pidMode: full(host.pidMode, { required: true }),
  };
}

/** null: the network namespace is no other container's. */
export function networkDonor(parts: Parts, container: Container): Container | null {
  const ref = refOf(container.spec.host.networkMode);
  if (ref === null) return null;
  const other = parts.resolver.tryResolve(ref);
  if (other === undefined) {
    // Not 404: the container that is to start does exist.
    throw new EngineError('RUNTIME_START_FAILED', `joining network namespace of container: No such container: ${ref}`);
  }
  if (other.id === container.id) throw new EngineError('RUNTIME_START_FAILED', 'cannot join own network namespace');
  if (statusOf(other) === 'restarting') {
    throw prefixed('cannot join network namespace of container', restarting(ref));
  }
  if (liveOf(other) === null) {
    const why = `container ${other.name} is ${statusOf(other)}`;
    throw new EngineError('CONTAINER_NOT_RUNNING', `cannot join network namespace of a non running container: ${why}`);
  }
  return other;
}

/** Pid of the container whose namespace is joined; null: none is. */
export function donorPid(parts: Parts, container: Container, kind: 'PID' | 'IPC'): number | null {
  return donorOf(parts, container, kind)?.live.pid ?? null;
}

/** The container whose /dev/shm is shared too; null: none. */
export function ipcDonor(parts: Parts, container: Container): Container | null {
  const donor = donorOf(parts, container, 'IPC');
  if (donor === null) return null;
  if (!['shareable', 'host'].includes(donor.other.spec.host.ipcMode)) {
    const why = `container ${donor.ref}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`;
    throw new EngineError('CONTAINER_SPEC_INVALID', `failed to join IPC namespace: ${why}`);
  }
  return donor.other;
}

function donorOf(
  parts: Parts,
  container: Container,
  kind: 'PID' | 'IPC',
): { ref: string; other: Container; live: Live } | null {
  const { pidMode, ipcMode } = container.spec.host;
  const ref = refOf(kind === 'PID' ? pidMode : ipcMode);
  if (ref === null) return null;
  const prefix = `failed to join ${kind} namespace`;
  const other = parts.resolver.tryResolve(ref);
  if (other === undefined) throw new EngineError('CONTAINER_SPEC_INVALID', `${prefix}: No such container: ${ref}`);
  if (statusOf(other) === 'restarting') throw prefixed(prefix, restarting(ref));
  const live = liveOf(other);
  if (live === null) throw prefixed(prefix, notRunning(ref));
  return { ref, other, live };
}

function refOf(mode: string): string | null {
  return mode.startsWith(PREFIX) ? mode.slice(PREFIX.length) : null;
}

function prefixed(prefix: string, { code, message }: Refusal): EngineError {
  return new EngineError(code, `${prefix}: ${message}`);
}
