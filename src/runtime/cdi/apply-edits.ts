/** What CDI devices do to a container's OCI configuration. Pure. Source: tags.cncf.io/container-device-interface pkg/cdi container-edits.go. */
import type { OciSpec } from '../spec/build-oci-spec.ts';
import type { OciDevice, OciDeviceRule } from '../spec/devices.ts';
import type { OciMount } from '../spec/mounts.ts';
import { replaceEnv } from '../spec/process.ts';
import { HOOKS, type CdiDeviceNode, type CdiEdits, type CdiHook, type CdiMount } from './cdi-spec.ts';

export interface OciHook {
  readonly path: string;
  readonly args?: readonly string[];
  readonly env?: readonly string[];
  readonly timeout?: number;
}

export type OciHooks = Readonly<Record<string, readonly OciHook[]>>;

export function applyCdiEdits(oci: OciSpec, all: readonly CdiEdits[]): OciSpec {
  if (all.length === 0) return oci;
  const { process, linux } = oci;
  const nodes = all.flatMap(({ deviceNodes }) => deviceNodes ?? []);
  const mounts = all.flatMap((edits) => edits.mounts ?? []);
  const gids = all.flatMap(({ additionalGids }) => additionalGids ?? []).filter((gid) => gid !== 0);
  const hooks = hooksOf(all.flatMap((edits) => edits.hooks ?? []));
  return {
    ...oci,
    process: {
      ...process,
      env: replaceEnv(
        process.env,
        all.flatMap(({ env }) => env ?? []),
      ),
      user: { ...process.user, additionalGids: [...new Set([...process.user.additionalGids, ...gids])] },
    },
    mounts: withMounts(oci.mounts, mounts),
    ...(hooks === null ? {} : { hooks }),
    linux: {
      ...linux,
      devices: withDevices(
        linux.devices,
        nodes.map((node) => ociDevice(node, process.user)),
      ),
      resources: { ...linux.resources, devices: [...linux.resources.devices, ...nodes.flatMap(rule)] },
    },
  };
}

/** The last of a destination counts; parents come before what is below them. */
function withMounts(own: readonly OciMount[], added: readonly CdiMount[]): OciMount[] {
  const byDestination = new Map(added.map((mount) => [mount.containerPath, mount]));
  const kept = own.filter(({ destination }) => !byDestination.has(destination));
  const mounts = [...byDestination.values()].map(({ hostPath, containerPath, type, options }): OciMount => {
    const isBind = (options ?? []).some((option) => option === 'bind' || option === 'rbind');
    return {
      destination: containerPath,
      type: type ?? 'bind',
      source: hostPath,
      options: [...(type === undefined && !isBind ? ['rbind'] : []), ...(options ?? [])],
    };
  });
  const depth = ({ destination }: OciMount): number => destination.split('/').filter((part) => part !== '').length;
  return [...kept, ...mounts].toSorted((a, b) => depth(a) - depth(b));
}

function withDevices(own: readonly OciDevice[], added: readonly OciDevice[]): OciDevice[] {
  const byPath = new Map([...own, ...added].map((device) => [device.path, device]));
  return [...byPath.values()];
}

/** Who is not root in the container owns the node, where the file names nobody. */
function ociDevice(node: CdiDeviceNode, user: OciSpec['process']['user']): OciDevice {
  const { path, type = 'c', major = 0, minor = 0, fileMode, uid = user.uid, gid = user.gid } = node;
  return { path, type, major, minor, fileMode: fileMode ?? 0o666, uid, gid };
}

function rule({ type = 'c', major = 0, minor = 0, permissions = '' }: CdiDeviceNode): OciDeviceRule[] {
  if (type !== 'b' && type !== 'c') return [];
  return [{ allow: true, type, major, minor, access: permissions || 'rwm' }];
}

function hooksOf(hooks: readonly CdiHook[]): OciHooks | null {
  if (hooks.length === 0) return null;
  const byName = HOOKS.map(
    (name) =>
      [
        name,
        hooks
          .filter(({ hookName }) => hookName === name)
          .map(({ path, args, env, timeout }): OciHook => ({
            path,
            ...(args === undefined ? {} : { args }),
            ...(env === undefined ? {} : { env }),
            ...(timeout === undefined ? {} : { timeout }),
          })),
      ] as const,
  );
  return Object.fromEntries(byName.filter(([, list]) => list.length > 0));
}
