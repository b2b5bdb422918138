/**
 * The user namespace of a start, where the daemon remaps (`--userns-remap`). Who shares a network, process or IPC namespace
 * shares the user namespace too: nothing else would have a say in it. Source: moby daemon/oci_linux.go WithNamespaces (v28).
 */
import { rootOf, type Owner } from '../core/id-map.ts';
import type { Container } from '../lifecycle/container.ts';
import { idsOf, isInUserNamespace } from '../runtime/spec/input.ts';
import type { HeldNamespaces } from '../runtime/user-namespaces.ts';
import { donorPid, networkDonor } from './joined.ts';
import type { Parts } from './parts.ts';
import { liveOf } from './status.ts';

export interface TakenNamespace {
  /** null: the host's, or one that the runtime makes. */
  readonly path: string | null;
  /** What a network namespace is to be taken from before it is disposed of; null: the network room makes its own. */
  readonly held: HeldNamespaces | null;
}

export async function takeUserNamespace(
  parts: Parts,
  container: Container,
  stack: AsyncDisposableStack,
): Promise<TakenNamespace> {
  const { host, process } = container.spec;
  if (!isInUserNamespace(host, parts.daemon)) return { path: null, held: null };
  const donor = networkDonor(parts, container);
  const pid =
    donorPid(parts, container, 'PID') ??
    donorPid(parts, container, 'IPC') ??
    (donor === null ? null : (liveOf(donor)?.pid ?? null));
  const needsNetwork = donor === null && !process.networkDisabled;
  if (pid !== null) {
    const path = `/proc/${pid}/ns/user`;
    return { path, held: needsNetwork ? await parts.userNamespaces.join(path) : null };
  }
  if (!needsNetwork) return { path: null, held: null };
  const held = await parts.userNamespaces.create(container.id, idsOf(host, parts.daemon));
  stack.defer(async () => parts.userNamespaces.remove(container.id));
  return { path: parts.userNamespaces.path(container.id), held };
}

export async function releaseUserNamespace(parts: Parts, container: Container): Promise<void> {
  if (isInUserNamespace(container.spec.host, parts.daemon)) await parts.userNamespaces.remove(container.id);
}

/** Of the container's pipes, where it is not the daemon's user. */
export function stdioOwner(parts: Parts, container: Container): { readonly stdioOwner?: Owner } {
  const { host } = container.spec;
  return isInUserNamespace(host, parts.daemon) ? { stdioOwner: rootOf(idsOf(host, parts.daemon)) } : {};
}
